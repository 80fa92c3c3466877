"""The controller's copy of the secrets is found by the id of the site: as the module judges, and as the role uses it.
"""

import importlib.util
import json
import os
import pathlib
import re
import stat

import forks
import pytest
from ansible.module_utils.testing import patch_module_args
from shared_variables import FILES

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("airflow_secrets_copy", ROOT / "plugins/modules/airflow_secrets_copy.py")
copy = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(copy)
MINE, OTHER = "0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11", "5e0a4c52-54a3-4d8c-8e16-0c7c7f4be1a2"


def kept(directory):
    return {path.name: path.read_text(encoding="utf-8") for path in directory.iterdir()} if directory.exists() else None


def make(directory, **files):
    directory.mkdir(parents=True, mode=0o700)
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")


@pytest.fixture
def run(tmp_path, capsys):
    """Run the module with the directories `now` and `before`."""

    def call(check_mode=False, **arguments):
        given = {"directory": str(tmp_path / "now"), "former": str(tmp_path / "before"), "site_id": MINE, **arguments}
        with patch_module_args({**given, "_ansible_check_mode": check_mode,
                                "_ansible_remote_tmp": str(tmp_path)}), pytest.raises(SystemExit):
            copy.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_without_a_copy_nothing_is_made(run, tmp_path):
    assert not run()["changed"]
    assert kept(tmp_path / "now") is None


def test_a_former_copy_is_moved_and_gets_the_id(run, tmp_path, files_seen):
    make(tmp_path / "before", fernet_key="k", backup_key="b")
    assert run(check_mode=True) | {"changed": True, "moved": True} == run(check_mode=True)
    assert kept(tmp_path / "now") is None
    result = run()
    assert (result["changed"], result["moved"]) == (True, True)
    assert kept(tmp_path / "now") == {"fernet_key": "k", "backup_key": "b", "site_id": MINE}
    assert kept(tmp_path / "before") is None
    assert stat.S_IMODE((tmp_path / "now/site_id").stat().st_mode) == 0o600
    assert files_seen.named["site_id"] == (0o600, True) and not files_seen.unflushed
    assert not run()["changed"]


def test_a_run_that_was_killed_after_the_move_is_finished(run, tmp_path):
    make(tmp_path / "now", fernet_key="k")
    assert run()["changed"]
    assert kept(tmp_path / "now")["site_id"] == MINE


@pytest.mark.parametrize("place", ["now", "before"])
def test_a_copy_with_another_id_is_refused(run, tmp_path, place):
    make(tmp_path / place, fernet_key="secret-of-another", site_id=OTHER)
    result = run()
    assert result["failed"]
    for text in (str(tmp_path / place), OTHER, MINE, "airflow_site_id", "airflow_secrets_copy_dir"):
        assert text in result["msg"]
    assert "secret-of-another" not in result["msg"]
    assert kept(tmp_path / place) == {"fernet_key": "secret-of-another", "site_id": OTHER}


def test_two_copies_that_differ_are_refused(run, tmp_path):
    make(tmp_path / "before", fernet_key="secret-1", backup_key="b")
    make(tmp_path / "now", fernet_key="secret-2")
    result = run()
    assert result["failed"]
    assert "differ in backup_key, fernet_key" in result["msg"] and "secret-" not in result["msg"]
    assert kept(tmp_path / "now") == {"fernet_key": "secret-2"}


def test_a_former_copy_with_nothing_of_its_own_is_left_alone(run, tmp_path):
    make(tmp_path / "before", fernet_key="k")
    make(tmp_path / "now", fernet_key="k", backup_key="b")
    result = run()
    assert (result["changed"], result["moved"]) == (True, False)
    assert kept(tmp_path / "before") == {"fernet_key": "k"}


def test_the_copy_of_a_site_that_has_moved_is_found_by_the_key_of_the_host(run, tmp_path):
    make(tmp_path / "home-ann-old", fernet_key="mine\n", backup_key="b")
    make(tmp_path / "home-ann-other", fernet_key="theirs")
    make(tmp_path / OTHER, fernet_key="mine", site_id=OTHER)
    result = run(former="", fernet_key="mine")
    assert (result["changed"], result["moved"]) == (True, True) and "mine" not in str(
        result["invocation"]["module_args"]["fernet_key"])
    assert kept(tmp_path / "now") == {"fernet_key": "mine\n", "backup_key": "b", "site_id": MINE}
    assert not (tmp_path / "home-ann-old").exists() and kept(tmp_path / OTHER)["site_id"] == OTHER
    assert not run(former="", fernet_key="mine")["changed"]


def test_no_copy_is_taken_for_another_key_or_for_none(run, tmp_path):
    make(tmp_path / "home-ann-other", fernet_key="theirs")
    make(tmp_path / "home-ann-empty", backup_key="b")
    assert not run(former="", fernet_key="mine")["changed"] and not run(former="", fernet_key="")["changed"]
    assert kept(tmp_path / "now") is None


def test_two_copies_with_the_key_of_the_host_are_refused(run, tmp_path):
    make(tmp_path / "home-ann-old", fernet_key="secret-key")
    make(tmp_path / "home-ann-restored", fernet_key="secret-key")
    result = run(former="", fernet_key="secret-key")
    assert result["failed"] and "secret-key" not in result["msg"]
    for text in (str(tmp_path / "home-ann-old"), str(tmp_path / "home-ann-restored"), str(tmp_path / "now"), "mv"):
        assert text in result["msg"]
    assert kept(tmp_path / "now") is None


class Controller:
    """A controller with a home of its own, and the role on a host that is a directory."""

    def __init__(self, directory):
        self.home, self.host, self.directory = directory / "home", directory / "some/etc/secrets", directory
        self.home.mkdir()
        (directory / "some").mkdir()
        self.copies = self.home / ".airflow-secrets"

    def former(self, site):
        return self.copies / re.sub(r"^-", "", re.sub(r"[^A-Za-z0-9._]+", "-", str(site)))

    def run(self, site, *arguments, **variables):
        site.mkdir(exist_ok=True)
        (site / "hosts").write_text("[airflow]\nsome ansible_connection=below\n", encoding="utf-8")
        given = {
            "airflow_config_dir": str(self.host.parent),
            "__airflow_secrets_generated": {"fernet_key": "fernet"},
            "__airflow_database_has_users": True,
            # No database is asked for values that another key has encrypted.
            "__airflow_database_external": True,
            **variables
        }
        play = [{
            "hosts": "all",
            "gather_facts": False,
            "vars_files": list(map(str, FILES)),
            "tasks": [{
                "ansible.builtin.include_role": {
                    "name": "windsock.airflow.airflow_secrets", "tasks_from": "configure.yml"
                }
            }],
        }]
        (self.directory / "play.yml").write_text(json.dumps(play), encoding="utf-8")
        done = forks.run(
            [
                "ansible-playbook", "-i", site / "hosts", self.directory / "play.yml", "-e",
                json.dumps(given), *arguments
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "HOME": str(self.home),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/unit/connection_plugins"),
                # The command airflow of this machine, if it has one, is not that of the host.
                "HOSTS_OF_TEST": str(self.directory),
                "PATHS_OF_TEST": json.dumps({"/usr/local/bin/airflow": "command"})
            })
        output = done.stdout + done.stderr
        return done.returncode, int((re.findall(r"changed=(\d+)", output) or ["-1"])[0]), output

    def key(self):
        return (self.host / "fernet_key").read_text(encoding="utf-8")


@pytest.fixture
def controller(tmp_path):
    return Controller(tmp_path)


def test_without_an_id_the_copy_is_found_by_the_path_of_the_inventory(controller, tmp_path):
    code, _changed, output = controller.run(tmp_path / "site")
    assert code == 0, output
    assert kept(controller.former(tmp_path / "site")) == {"fernet_key": controller.key()}
    assert controller.run(tmp_path / "site")[:2] == (0, 0)


def test_with_an_id_the_directory_of_the_site_may_move(controller, tmp_path):
    code, _changed, output = controller.run(tmp_path / "site", airflow_site_id=MINE)
    assert code == 0, output
    before = controller.key()
    assert kept(controller.copies / MINE) == {"fernet_key": before, "site_id": MINE}
    assert controller.run(tmp_path / "site", airflow_site_id=MINE)[:2] == (0, 0)
    # A host that has lost its secrets gets them back, from a site that lies elsewhere.
    (controller.host / "fernet_key").unlink()
    code, _changed, output = controller.run(tmp_path / "elsewhere", airflow_site_id=MINE)
    assert (code, controller.key()) == (0, before), output


def test_a_site_that_gets_an_id_keeps_its_copy(controller, tmp_path):
    assert controller.run(tmp_path / "site")[0] == 0
    before = controller.key()
    (controller.host / "fernet_key").unlink()
    code, _changed, output = controller.run(tmp_path / "site", airflow_site_id=MINE)
    assert (code, controller.key()) == (0, before), output
    assert kept(controller.copies / MINE) == {"fernet_key": before, "site_id": MINE}
    assert not controller.former(tmp_path / "site").exists()
    assert controller.run(tmp_path / "site", airflow_site_id=MINE)[:2] == (0, 0)


def test_a_site_that_gets_an_id_and_another_directory_keeps_its_copy(controller, tmp_path):
    """bin/new-site makes both."""
    assert controller.run(tmp_path / "clone")[0] == 0
    (controller.former(tmp_path / "clone") / "backup_key").write_text("b", encoding="utf-8")
    before = controller.key()
    code, changed, output = controller.run(tmp_path / "site", "--check", airflow_site_id=MINE)
    assert code == 0 and changed > 0, output
    code, _changed, output = controller.run(tmp_path / "site", "-vvv", airflow_site_id=MINE)
    assert (code, controller.key()) == (0, before) and before not in output, output
    assert kept(controller.copies / MINE) == {"fernet_key": before, "backup_key": "b", "site_id": MINE}
    assert not controller.former(tmp_path / "clone").exists()
    assert controller.run(tmp_path / "site", airflow_site_id=MINE)[:2] == (0, 0)


def test_a_dry_run_moves_nothing(controller, tmp_path):
    assert controller.run(tmp_path / "site")[0] == 0
    code, changed, output = controller.run(tmp_path / "site", "--check", airflow_site_id=MINE)
    assert code == 0 and changed > 0, output
    assert controller.former(tmp_path / "site").exists() and not (controller.copies / MINE).exists()


def test_the_copy_of_another_site_stops_the_run_before_a_host_gets_its_secrets(controller, tmp_path):
    make(tmp_path / "shared", fernet_key="of-another", site_id=OTHER)
    code, _changed, output = controller.run(tmp_path / "site",
                                            airflow_site_id=MINE,
                                            airflow_secrets_copy_dir=str(tmp_path / "shared"))
    assert code != 0
    assert f"belongs to the site with the id {OTHER}" in output and "hidden due to" not in output
    assert not controller.host.exists()
