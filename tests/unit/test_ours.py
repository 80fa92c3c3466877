"""ours.py of role airflow_common: what a removal may delete below Airflow's directories. Files of others have names
that begin with "their".
"""

import importlib.util
import os
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("ours", ROOT / "roles/airflow_common/files/ours.py")
ours = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ours)
AIRFLOW = {"user": "airflow"}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """tree(paths): make them, a directory where the path ends in /; and look(rules): the answer with paths below the
    root.
    """
    lstat = os.lstat

    def owned(path):
        return types.SimpleNamespace(st_uid=1 if os.path.basename(path).startswith("their") else 2,
                                     st_mode=lstat(path).st_mode)

    def look(rules):
        found = ours.look({f"{tmp_path}/{path}": rule for path, rule in rules.items()})
        return [[path.removeprefix(f"{tmp_path}/") for path in found[kind]] for kind in ("ours", "others")]

    def make(*paths):
        for path in paths:
            (tmp_path / path if path.endswith("/") else (tmp_path / path).parent).mkdir(parents=True, exist_ok=True)
            if not path.endswith("/"):
                (tmp_path / path).touch()
        return look

    monkeypatch.setattr(ours, "os", types.SimpleNamespace(lstat=owned, path=os.path, listdir=os.listdir))
    monkeypatch.setattr(ours.pwd, "getpwnam", lambda name: types.SimpleNamespace(pw_uid={"airflow": 2}[name]))
    return make


@pytest.mark.parametrize(("paths", "gone", "stays"), [
    # Of Airflow alone, so it goes as a whole.
    (["logs/dag_id=a/1.log", "logs/scheduler.log"], ["logs"], []),
    (["logs/"], ["logs"], []),
    # Shared with others, at the top and below.
    (["logs/dag_id=a/1.log", "logs/their-shop/their.log", "logs/theirs.log"], ["logs/dag_id=a"],
     ["logs/their-shop", "logs/theirs.log"]),
    # Made by somebody else, for Airflow alone.
    (["logs/their-directory/1.log"], ["logs"], []),
    (["logs/dag_id=a/1.log", "logs/dag_id=a/theirs.log", "logs/b.log"], ["logs/b.log", "logs/dag_id=a/1.log"],
     ["logs/dag_id=a/theirs.log"]),
    (["logs/their-backups/"], [], ["logs/their-backups"]),
])
def test_where_airflow_writes_what_it_likes_its_user_tells(tree, paths, gone, stays):
    assert tree(*paths)({"logs": AIRFLOW}) == [gone, stays]


@pytest.mark.parametrize(("paths", "gone", "stays"), [
    (["opt/venv/bin/python", "opt/.venv.123.new", "opt/previous.tar.new"], ["opt"], []),
    (["opt/venv/bin/python", "opt/backups/a.tar", "opt/venv2/x"], ["opt/venv"], ["opt/backups", "opt/venv2"]),
    (["opt/backups/"], [], ["opt/backups"]),
])
def test_where_the_roles_write_the_names_tell(tree, paths, gone, stays):
    assert tree(*paths)({"opt": {"names": ["venv", "previous[.]tar"]}}) == [gone, stays]


def test_a_directory_in_another_one_keeps_its_own_rule(tree):
    look = tree("opt/venv/x", "opt/logs/a.log", "opt/logs/theirs.log", "opt/var/home/b", "opt/lib/keep/theirs")
    rules = {"opt": {"names": ["venv", "lib"]}, "opt/logs": AIRFLOW, "opt/var/home/": AIRFLOW, "opt/lib/keep": AIRFLOW}
    assert look(rules) == [["opt/logs/a.log", "opt/var", "opt/venv"], ["opt/lib", "opt/logs/theirs.log"]]


def test_links_are_not_followed_and_what_is_absent_is_no_error(tree, tmp_path):
    look = tree("home/a", "theirs/data")
    (tmp_path / "home/their-link").symlink_to(tmp_path / "theirs")
    (tmp_path / "home/link").symlink_to(tmp_path / "theirs")
    assert look({"home": AIRFLOW, "absent": AIRFLOW}) == [["home/a", "home/link"], ["home/their-link"]]


def test_nothing_belongs_to_a_user_that_does_not_exist(tree):
    assert tree("home/a")({"home": {"user": "nobody-of-test"}}) == [[], ["home/a"]]
