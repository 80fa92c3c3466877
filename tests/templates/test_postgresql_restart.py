"""playbooks/postgresql.yml restarts PostgreSQL only while no part of Airflow runs. Run by Ansible, with roles that only
say what they would do.
"""

import os
import pathlib
import re
import shutil

import forks
import pytest
import yaml
from collection_of_test import collection

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTS = """
all:
  vars: {ansible_connection: local, ansible_become: false, __airflow_database_external: false, __airflow_major: 3}
  children:
    airflow: {hosts: {a: {}, b: {}}}
    airflow_postgres: {hosts: {db: {}}}
"""
# What each host would do, as one line in a file of its own.
SAYS = """
- name: {0} | Say so
  ansible.builtin.lineinfile:
    {{path: "{{{{ said }}}}", line: "{{{{ inventory_hostname }}}} {0}", create: true, mode: "0644"}}
  throttle: 1
"""
FAILS = """
- name: stop | Refuse
  ansible.builtin.fail: {msg: a person is connected}
  when: inventory_hostname == "b"
"""
# As the server's answer: the settings of its files that it takes over at a restart only. The role restarts it unless it
# is told not to.
ASKS = """
- name: service | Ask
  ansible.builtin.set_fact: {postgresql_restart_for: "{{ due }}"}
- name: service | Restart it
  ansible.builtin.include_tasks: operations/restart.yml
  when: due | length > 0 and not postgresql_restart_by_caller | default(false)
"""


@pytest.fixture
def project(tmp_path):
    """The real playbook and its order of tasks, with stand-ins for all that touches a host."""
    (tmp_path / "playbooks").mkdir()
    text = (ROOT / "playbooks/postgresql.yml").read_text(encoding="utf-8")
    (tmp_path / "playbooks/postgresql.yml").write_text(
        text.replace("gather_facts: true", "gather_facts: false"), encoding="utf-8"
    )
    (tmp_path / "hosts.yml").write_text(HOSTS, encoding="utf-8")
    stand_ins = {
        "airflow_common": ["steps/start"], "airflow_secrets": ["main"],
        "airflow_services": ["operations/stop", "operations/revert_stop", "steps/start_stopped"], "postgresql": [
            "steps/load_vars", "validate", "install", "configure", "operations/restart", "steps/create_databases",
            "verify"
        ]
    }
    for role, names in stand_ins.items():
        tasks = tmp_path / "roles" / role / "tasks"
        tasks.mkdir(parents=True)
        for name in names:
            (tasks / name).parent.mkdir(parents=True, exist_ok=True)
            silent = role == "airflow_common" or name in ("main", "steps/start_stopped")
            (tasks / f"{name}.yml").write_text("[]" if silent else SAYS.format(name.split("/")[-1]), encoding="utf-8")
    (tmp_path / "roles/postgresql/tasks/service.yml").write_text(ASKS, encoding="utf-8")
    variables = yaml.safe_load((ROOT / "roles/airflow_common/vars/main/main.yml").read_text(encoding="utf-8"))
    (tmp_path / "roles/airflow_common/vars").mkdir()
    (tmp_path / "roles/airflow_common/vars/main.yml").write_text(
        yaml.safe_dump({"__airflow_hidden_hosts": variables["__airflow_hidden_hosts"]}), encoding="utf-8")
    (tmp_path / "roles/airflow_services/vars").mkdir()
    for name in ("postgresql/tasks/main.yml", "airflow_services/tasks/operations/stop_around.yml",
                 "airflow_services/tasks/steps/note_failure.yml", "airflow_services/tasks/steps/start_again.yml",
                 "airflow_services/vars/main.yml"):
        if (ROOT / "roles" / name).exists():
            shutil.copy(ROOT / "roles" / name, tmp_path / "roles" / name)
    collection(tmp_path, tmp_path / "roles")
    return tmp_path


def run(project, due, *arguments):
    """Return what the hosts did, in this order, and the output."""
    said = project / "said"
    done = forks.run(
        [
            "ansible-playbook",
            "-i",
            "hosts.yml",
            "playbooks/postgresql.yml",
            "-e",
            f'{{"due": {due}, "said": "{said}"}}',
            *arguments,
        ],
        cwd=project,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(project / "collections"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        },
    )
    return (said.read_text(encoding="utf-8").splitlines() if said.exists() else []), done


def test_airflow_stops_on_all_hosts_before_the_restart_and_starts_after_it(project):
    found, done = run(project, '["max_connections"]')
    assert done.returncode == 0, done.stdout + done.stderr
    order = [
        line for line in found if line.split()[1] in ("stop", "restart", "create_databases", "verify", "revert_stop")
    ]
    assert sorted(order[:2]) == ["a stop", "b stop"]
    assert order[2:5] == ["db restart", "db create_databases", "db verify"]
    assert sorted(order[5:]) == ["a revert_stop", "b revert_stop"]


def test_without_a_restart_airflow_is_left_alone(project):
    """As on a bare host and in a second run."""
    found, done = run(project, "[]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in found if line.split()[0] != "db"] == []
    assert found[-2:] == ["db create_databases", "db verify"] and "db restart" not in found


def test_an_airflow_that_does_not_stop_keeps_its_database(project):
    (project / "roles/airflow_services/tasks/operations/stop.yml").write_text(
        SAYS.format("stop") + FAILS, encoding="utf-8"
    )
    found, done = run(project, '["max_connections"]')
    assert done.returncode != 0 and "a person is connected" in done.stdout
    assert "db restart" not in found
    assert {"a revert_stop", "b revert_stop"} <= set(found)


def test_a_host_that_limit_hides_keeps_its_database(project):
    """Also if no host of Airflow is in the run."""
    found, done = run(project, '["max_connections"]', "--limit", "db")
    assert done.returncode != 0, done.stdout
    assert "leaves out a, b, whose running tasks would fail" in " ".join(done.stdout.split()), done.stdout
    assert "db restart" not in found


FAILS_THERE = """
- name: {0} | Fail
  ansible.builtin.command: sh -c 'echo {1} >&2; exit 1'
  when: inventory_hostname == "{2}"
"""


def test_a_server_that_does_not_restart_is_named_and_airflow_is_started(project):
    (project / "roles/postgresql/tasks/operations/restart.yml").write_text(
        FAILS_THERE.format("restart", "no memory left", "db"), encoding="utf-8"
    )
    found, done = run(project, '["max_connections"]')
    assert done.returncode != 0 and {"a revert_stop", "b revert_stop"} <= set(found)
    last = " ".join(done.stdout.split("Report what has failed")[1].split())
    assert "The restart of PostgreSQL has failed. restart | Fail: no memory left" in last, done.stdout
    assert "Airflow runs again on a, b. Correct the reason, then run the same command again." in last, done.stdout


def test_a_host_that_does_not_start_again_is_named_and_keeps_no_other_stopped(project):
    (project / "roles/airflow_services/tasks/operations/revert_stop.yml").write_text(
        FAILS_THERE.format("revert_stop", "it waits for the database", "a") + SAYS.format("revert_stop"),
        encoding="utf-8")
    found, done = run(project, '["max_connections"]')
    assert done.returncode != 0 and "b revert_stop" in found and "a revert_stop" not in found
    last = " ".join(done.stdout.split("Report what has failed")[1].split())
    told = "Airflow runs again on b. Airflow does not run on a: revert_stop | Fail: it waits for the database."
    assert told in last, done.stdout


@pytest.mark.parametrize("tags", ["configure", "service"])
def test_the_restart_is_part_of_each_tag_that_may_make_it_due(project, tags):
    (project / "roles/postgresql/tasks/service.yml").write_text(ASKS, encoding="utf-8")
    found, done = run(project, '["port"]', "--tags", tags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found.count("db restart") == 1 and found.index("db restart") > found.index("b stop"), done.stdout


def test_a_play_that_leaves_the_restart_to_the_role_gets_it():
    """For applications that do not care: postgresql_restart_by_caller is false unless a play says so."""
    text = (ROOT / "roles/postgresql/defaults/main.yml").read_text(encoding="utf-8")
    assert re.search(r"(?m)^postgresql_restart_by_caller: false$", text)
    service = (ROOT / "roles/postgresql/tasks/service.yml").read_text(encoding="utf-8")
    assert "file: operations/restart.yml" in service and "not postgresql_restart_by_caller" in service
