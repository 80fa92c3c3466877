"""The collection's archive in use from the directory of a site, as a site's own repository uses it. The scenario has
installed the host with it.
"""

import os
import pathlib
import re

import pytest
from airflow_api import Api
from conftest import ROOT, host_name
from dag_project import DAG
from playbook import SITE, play


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """DAGs of the site. Afterwards the first ones are in place again."""
    path = tmp_path_factory.mktemp("source")
    for name, text in {"dags/mine.py": DAG.format(name="mine", task="answer"),
                       "include/lib.py": "VERSION = 5\n"}.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text, encoding="utf-8")
    yield path
    assert not play("deploy_dags", airflow_dags_source=str(ROOT / "files/dags"), airflow_dags_validation=False).failed


def test_every_task_comes_from_the_archive_and_nothing_was_written_into_it():
    installed = pathlib.Path(os.environ["ANSIBLE_COLLECTIONS_PATH"], "ansible_collections/windsock/airflow")
    before = {path: path.stat().st_mtime_ns for path in installed.rglob("*")}
    done = play("runbooks/check_health", "-vv")
    assert not done.failed, done.output
    paths = set(re.findall(r"task path: (\S+):\d+", done.output))
    assert paths and [path for path in paths if not path.startswith(f"{installed}/")] == []
    # Python's own cache apart.
    assert {path: path.stat().st_mtime_ns for path in installed.rglob("*") if "__pycache__" not in path.parts} == {
        path: time for path, time in before.items() if "__pycache__" not in path.parts}
    assert ROOT not in pathlib.Path(SITE).parents


def test_a_deploy(api, source):
    done = play("deploy_dags", airflow_dags_source=str(source))
    assert not done.failed, done.output
    assert "deployed as release" in done.text
    assert api.wait("mine", api.start_run("mine")) == "success"


def test_a_message_prints_a_command_in_the_form_in_which_the_run_was_started():
    asked = play("remove_airflow")
    assert asked.changed == 0
    (command,) = re.findall(r"To do it: (.*?) To see what would go:", asked.text)
    assert re.fullmatch(
        r"ansible-playbook -i \S+ (-e '\{\}' )?windsock\.airflow\.remove_airflow .*-e airflow_confirm=\S+",
        command), asked.output


def test_a_restore(host, api, source, tmp_path):
    assert api.ask("POST", "/variables", {"key": "kept", "value": "in the backup"})[0] in (200, 201)
    done = play("runbooks/back_up_database", airflow_fetch=str(tmp_path))
    assert not done.failed, done.output
    (backup,) = tmp_path.glob("*.tar")
    assert api.ask("PATCH", "/variables/kept", {"key": "kept", "value": "after the backup"})[0] == 200
    done = play("runbooks/restore_database", airflow_backup_file=str(backup), airflow_confirm=host_name(host))
    assert not done.failed, done.output
    assert api.get("/variables/kept")["value"] == "in the backup"
