"""The last question of site.yml on hosts that are directories: whose components use the database."""

import json
import sys

import hosts_of_test
import pytest

pytestmark = pytest.mark.playbook

TASKS = [{"ansible.builtin.include_role": {"name": "windsock.airflow.airflow_services", "tasks_from": "verify.yml"}}]
FRESH = [{"id": 1, "job_type": "SchedulerJob", "hostname": "a.example.com"},
         {"id": 2, "job_type": "TriggererJob", "hostname": "b"}]
OLD = {"id": 3, "job_type": "SchedulerJob", "hostname": "old-host"}


@pytest.mark.parametrize(("fresh", "own", "limit", "named"), [
    (FRESH, [1, 2], "", False),
    ([*FRESH, OLD], [1, 2], "", True),
    # The name of a host has changed since its scheduler has started.
    ([*FRESH, OLD], [1, 3], "", False),
    # A host that this run does not ask has jobs too.
    ([*FRESH, OLD], [1], "a", False),
])
def test_a_component_of_a_host_that_the_inventory_does_not_have_is_named(tmp_path, fresh, own, limit, named):
    for name in "ab":
        (tmp_path / name / "opt/libexec/airflow_runtime").mkdir(parents=True)
        python = tmp_path / name / "opt/venv/bin/python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        said = json.dumps({"names": [name, f"{name}.example.com"], "own": own, "fresh": fresh})
        (tmp_path / name / "opt/libexec/airflow_runtime/run.py").write_text(
            f"print('ok   airflow-scheduler')\nprint({said!r})\n", encoding="utf-8")
    done = hosts_of_test.play(
        tmp_path, ["a", "b"], TASKS, {
            "airflow_install_dir": "/etc/airflow-of-test/opt", "airflow_config_dir": "/etc/airflow-of-test",
            "airflow_version": "3.3.2"
        }, limit)
    assert (done.rc != 0) is named, done.output
    assert ("Another host runs Airflow on the database of this inventory: old-host." in done.text) is named, done.output
