"""What the hosts' answers about backups mean."""

import pytest
from ansible_collections.windsock.airflow.plugins.filter import airflow_backup as backup
from ansible_collections.windsock.airflow.plugins.filter import postgresql


def test_recipients_are_told_with_the_files_that_name_them():
    lines = (
        'config /a/backup.json {"recipients": ["k1"]}',
        "packages ok",
        'config /b/backup.json {"recipients": ["k2", "k3"]}',
        "config /c {}",
    )
    answers = [
        {"item": "one", "rc": 0, "stdout_lines": list(lines)},
        {"item": "two", "rc": 0, "stdout_lines": [lines[0]]},
    ]
    assert backup.of_hosts(answers) == {
        "silent": {},
        "former": {},
        "recipients": [
            {"recipients": ["k1"], "places": ["one:/a/backup.json", "two:/a/backup.json"]},
            {"recipients": ["k2", "k3"], "places": ["one:/b/backup.json"]},
        ],
    }


def test_a_host_that_does_not_answer_is_told_with_the_reason():
    answers = [
        {"item": "a", "unreachable": True, "msg": "no route"},
        {"item": "b", "rc": 2, "stderr": "no df", "msg": "non-zero"},
        {"item": "c"},
        {"item": "d", "rc": 0, "stdout_lines": ["unit x.timer", "unit y.service"]},
    ]
    assert backup.of_hosts(answers) == {
        "silent": {"a": "no route", "b": "no df", "c": "no reason"},
        "former": {"d": ["x.timer", "y.service"]},
        "recipients": [],
    }


HERE = "pg_restore (PostgreSQL) 15.4 (Debian)\npg_restore (PostgreSQL) 16.1\n"


@pytest.mark.parametrize(
    ("printed", "packages", "server", "system", "majors"),
    [
        (HERE, [], 0, 13, [15, 16]),
        (HERE, ["gpg", "postgresql-client-17", "postgresql"], 0, 13, [15, 16, 17, 13]),
        ("", [], 17, 13, [17]),
        ("", [], 0, 13, [13]),
        ("", [], 0, 0, []),
        ("", ["gpg"], 0, 13, []),
        ("", ["postgresql-client"], 0, 0, []),
    ],
)
def test_a_restore_finds_the_clients_that_are_there_and_those_that_it_installs(
    printed, packages, server, system, majors
):
    assert backup.clients(printed, packages, server, system) == majors


def test_one_disk_needs_room_for_all_that_lies_there():
    answers = [
        {"item": {"host": host, "needed": needed}, "stdout": f"/dev/sda  {free}"}
        for host, needed, free in [("a", 300, 1000), ("a", 201, 1000), ("b", 500, 1000)]
    ]
    assert backup.narrow(answers, 500) == ["a has 1000 MB free on /dev/sda, and the restore needs 1001 MB."]


@pytest.mark.parametrize(
    ("places", "found"),
    [
        (["/var/backups/airflow"], []),
        (["/opt/airflow/backups", "/opt"], ["/opt/airflow"]),
        (["/opt/airflow-backups", "/var/lib"], ["/var/lib/airflow"]),
        (["/var/lib/airflow", "/opt/airflow"], ["/var/lib/airflow", "/opt/airflow"]),
    ],
)
def test_a_directory_with_backups_is_told(places, found):
    assert backup.inside(["/opt/airflow/", "/var/lib/airflow"], places) == found


@pytest.mark.parametrize(
    ("lines", "changed", "due"),
    [
        (["timer airflow-backup.timer ok", "timer b.timer ok"], [], []),
        (["packages ok", "timer b.timer ok"], [], ["airflow-backup.timer"]),
        (
            ["timer airflow-backup.timer ok", "timer b.timer ok"],
            ["/etc/systemd/system/airflow-backup.service", "/etc/b.json"],
            ["airflow-backup.timer", "b.timer"],
        ),
    ],
)
def test_a_timer_is_due_if_it_is_not_as_wanted_or_has_a_new_unit(lines, changed, due):
    assert backup.overdue({"airflow-backup.timer": True, "b.timer": False}, lines, changed) == due


def test_the_postgresql_of_a_system_is_known_once_the_host_has_facts():
    facts = {"distribution": "Debian", "distribution_major_version": "12"}
    hosts = [{"inventory_hostname": "a", "ansible_facts": facts}, {"inventory_hostname": "b", "ansible_facts": {}}]
    assert {host: int(major) for host, major in postgresql.of_systems(hosts).items()} == {"a": 15}
