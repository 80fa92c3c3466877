"""Units of one major version are never written, or started, for a virtualenv of the other one."""

import hosts_of_test
import pytest
from ansible.parsing.dataloader import DataLoader

pytestmark = pytest.mark.playbook

ROLE = {"name": "windsock.airflow.airflow_services", "tasks_from": "steps/check_major.yml"}
ROLES = hosts_of_test.ROOT / "roles"


def look(directory, link):
    """Run it with Airflow 3.3.2 in the inventory on a host with this virtualenv."""
    if link:
        (directory / "a/opt").mkdir(parents=True)
        (directory / "a/opt/venv").symlink_to(f"venvs/{link}")
    variables = {
        "airflow_version": "3.3.2", "airflow_install_dir": "/etc/airflow-of-test/opt",
        "airflow_config_dir": "/etc/airflow-of-test"
    }
    return hosts_of_test.play(directory, ["a"], [{"ansible.builtin.include_role": ROLE}], variables)


def test_a_virtualenv_of_the_other_major_is_refused(tmp_path):
    done = look(tmp_path, "2.11.2-py3.11-0a1b2c3d")
    assert done.rc != 0, done.output
    told = "airflow_version is 3.3.2, and a runs Airflow 2.11.2, which has other units. No unit was changed."
    assert told in done.text
    assert "set airflow_version: 2.11.2 in group_vars/all/main.yml" in done.text


@pytest.mark.parametrize("link", ["3.1.0-py3.12-0a1b2c3d", ""], ids=["an older minor version", "a bare host"])
def test_who_may_go_on(tmp_path, link):
    done = look(tmp_path, link)
    assert done.rc == 0, done.output


@pytest.mark.parametrize(("path", "change"), [
    ("airflow_services/tasks/main.yml", "configure.yml"),
    # Its last task starts the host with service.yml, which removes units that are not of the inventory's version.
    ("airflow_services/tasks/operations/undrain_host.yml", "service.yml"),
    ("airflow_secrets/tasks/steps/start_rotation.yml", "configure.yml"),
])
def test_it_is_asked_before_anything_changes(path, change):
    def files(tasks):
        for task in tasks:
            yield from files(task.get("block", []))
            yield task.get("ansible.builtin.import_tasks") or task.get("ansible.builtin.import_role", {}).get(
                "tasks_from"
            )

    found = list(files(DataLoader().load_from_file(str(ROLES / path))))
    assert found.index("steps/check_major.yml") < found.index(change)
