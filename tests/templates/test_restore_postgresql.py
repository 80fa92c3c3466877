"""Which PostgreSQL a restored database will have, and whether it can take the backup: rendered by Ansible without a
host.
"""

import pathlib

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"


def load(name):
    return DataLoader().load_from_file(str(ROLES / name), trusted_as_template=True)


def facts(distribution, major):
    return {"ansible_facts": {"distribution": distribution, "distribution_major_version": major}}


def refused(manifest, *, now="", clients="", disks=("/dev/sda1 1000", "/dev/sda1 1000"), **given):
    """The message that stops a restore; nothing where none does. disks: device and free MB, for the backup and for the
    server.
    """
    manifest = {"files": {}, "database": {"bytes": 0}, **manifest}
    variables = {
        name: value
        for file in ("airflow_backup/defaults/main.yml", "airflow_backup/vars/main.yml")
        for name, value in load(file).items()
    }
    variables |= {
        "role_path": str(ROLES / "airflow_backup"), "airflow_database_url": "", "airflow_database_host": "",
        "__airflow_database_external": False, "__airflow_backup_host": "a", "groups": {"airflow_postgres": ["a"]},
        "hostvars": {"a": facts("Debian", "12"), "db": facts("Debian", "13")}
    }
    variables |= {
        "__airflow_backup_manifest": manifest, "__airflow_backup_asked_now": {"stdout": now},
        "__airflow_backup_clients": {"stdout": clients}
    } | given
    variables["hostvars"] = {name: {**host, "inventory_hostname": name} for name, host in variables["hostvars"].items()}
    places = Templar(loader=DataLoader(),
                     variables=variables).template(trust_as_template("{{ __airflow_backup_places }}"))
    variables["__airflow_backup_room"] = {
        "results": [{"item": place, "stdout": disk} for place, disk in zip(places, disks)]
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    for task in load("airflow_backup/tasks/steps/restore_postgresql.yml"):
        asserted = task.get("ansible.builtin.assert")
        if asserted and not templar.evaluate_conditional(asserted["that"]):
            return templar.template(asserted["fail_msg"])
    return ""


NEWER, SAME = {"postgresql": "17.6 (Debian 17.6-1)", "pg_dump": 17}, {"postgresql": "15.4", "pg_dump": 15}
BESIDE = {"groups": {"airflow_scheduler": ["a"], "airflow_postgres": ["db"]}}
EXTERNAL = {"__airflow_database_external": True, "airflow_database_host": "rds"}
HAS = "pg_restore (PostgreSQL) {0}.1 (Debian {0}.1-1)"


@pytest.mark.parametrize(
    ("manifest", "given", "told"),
    [
        (SAME, {}, None),
        (
            NEWER,
            {},
            'a will have PostgreSQL 15, which can\'t read it. Nothing was changed. Set postgresql_version: "17" in '
            "group_vars",
        ),
        (NEWER, {"hostvars": {"a": {**facts("Debian", "12"), "postgresql_version": "17"}}}, None),
        (
            SAME,
            {"hostvars": {"a": {**facts("Ubuntu", "24"), "postgresql_version": "14"}}},
            "a will have PostgreSQL 14, which",
        ),
        # What answers counts, whatever the inventory asks for.
        (
            NEWER,
            {"now": '{"postgresql": 15}', "hostvars": {"a": {**facts("Debian", "12"), "postgresql_version": "17"}}},
            "a has PostgreSQL 15, which can't read it. Nothing was changed. Move the databases of this host to "
            "PostgreSQL 17 "
            "first, or restore onto a new host",
        ),
        (NEWER, {"now": '{"postgresql": 17}', "clients": HAS.format(17)}, None),
        # A database host of its own.
        ({"postgresql": "17.6", "pg_dump": 15}, BESIDE, None),
        (
            {"postgresql": "18.1", "pg_dump": 18},
            BESIDE,
            'db will have PostgreSQL 17, which can\'t read it. Nothing was changed. Set postgresql_version: "18"',
        ),
        # An external server is asked by an Airflow that is there; nobody can ask it from a bare host.
        (
            NEWER,
            {**EXTERNAL, "now": '{"postgresql": 15}'},
            "the external server has PostgreSQL 15, which can't read it. Nothing was changed. Name a server",
        ),
        (SAME, EXTERNAL, None),
        # A manifest without the version: it is pg_dump's at most.
        ({"pg_dump": 17}, {}, "The backup is of PostgreSQL 17 and a will have PostgreSQL 15"),
        ({"pg_dump": 15}, {}, None),
        ({}, {}, None),
        # Archives of a newer pg_dump.
        (
            {"postgresql": "15.4", "pg_dump": 17},
            {},
            "The backup was made by pg_dump 17, and a will have pg_restore 15, which can't read it.",
        ),
        ({"postgresql": "15.4", "pg_dump": 17}, {"clients": HAS.format(15) + "\n" + HAS.format(17)}, None),
        ({"postgresql": "15.4", "pg_dump": 17}, {"airflow_backup_packages": ["gpg", "postgresql-client-17"]}, None),
        (
            {"postgresql": "15.4", "pg_dump": 17},
            {**EXTERNAL, "airflow_backup_packages": ["gpg", "postgresql-client"]},
            "a will have pg_restore 15",
        ),
        ({"postgresql": "15.4", "pg_dump": 17}, EXTERNAL, "a will have pg_restore 15"),
        ({"postgresql": "15.4", "pg_dump": 17}, {**EXTERNAL, "clients": HAS.format(17)}, None),
        # Without facts, nothing is judged by them.
        (
            NEWER,
            {"hostvars": {"a": {"ansible_facts": {}}}, "airflow_backup_packages": ["gpg", "postgresql-client-17"]},
            None,
        ),
        (NEWER, {"hostvars": {"a": {"ansible_facts": {}}}}, None),
    ],
)
def test_what_is_refused(manifest, given, told):
    message = refused(manifest, **given)
    assert told in message if told else message == ""
    assert "  " not in message and "\n" not in message


# 100 MB of a file with 800 MB of a database.
LARGE = {
    **SAME, "files": {"database.dump": {"bytes": 60 * 2**20}, "dags.tar.gz": {"bytes": 40 * 2**20}},
    "database": {"bytes": 800 * 2**20}
}


@pytest.mark.parametrize(
    ("disks", "given", "told"),
    [
        # One disk for both, with a quarter more for the database and what always has to be free (500 MB).
        (
            ["/dev/sda1 1599", "/dev/sda1 1599"],
            {},
            "a has 1599 MB free on /dev/sda1, and the restore needs 1600 MB. What is replaced is kept",
        ),
        (["/dev/sda1 1600", "/dev/sda1 1600"], {}, None),
        (["/dev/sdb1 600", "/dev/sda1 1499"], {}, "a has 1499 MB free on /dev/sda1, and the restore needs 1500 MB."),
        (
            ["/dev/sda1 600", "/dev/sda1 1499"],
            BESIDE,
            "db has 1499 MB free on /dev/sda1, and the restore needs 1500 MB.",
        ),
        (["/dev/sda1 599", "/dev/sda1 1500"], BESIDE, "a has 599 MB free on /dev/sda1, and the restore needs 600 MB."),
        # Nobody here knows the disk of an external server.
        (["/dev/sda1 600"], EXTERNAL, None),
    ],
)
def test_the_room_of_each_disk(disks, given, told):
    message = refused(LARGE, disks=disks, **given)
    assert told in message if told else message == ""


def test_a_database_that_may_not_be_replaced_is_refused_before_anything_changes():
    message = refused(SAME, now='{"postgresql": 15, "unfit": "Role airflow may not replace schema public."}')
    assert message == "Role airflow may not replace schema public. Nothing was changed."
