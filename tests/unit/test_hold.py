"""Module hold, and what `components reach` says of it: no component starts while a run changes the database."""

import fcntl
import json
import os
import pathlib
import re
import select
import socket
import subprocess
import sys
import time

import pytest
from airflow_runtime import components
from ansible_collections.windsock.airflow.plugins.action import airflow_environment_lock as action
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_environment_lock as environment_lock

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"
RUN = ROLES / "airflow_runtime/files/run.py"
MINE = {"token": "mine", "by": "ann@laptop", "command": "ansible-playbook site.yml"}
LEASE = 60


@pytest.fixture
def lock(tmp_path):
    """The file of the lock of the environment, which a run has."""
    path = tmp_path / "lock"
    path.write_text(json.dumps(MINE), encoding="utf-8")
    return path


@pytest.fixture
def address(host_settings, postgresql):
    """The file with the address of a real database, as a host has it."""
    path = host_settings / "config/secrets/sql_alchemy_conn"
    path.write_text(postgresql, encoding="utf-8")
    return path


@pytest.fixture
def hold(tmp_path, lock, address):
    """hold(): begin it as systemd does, and return the process once it has said that it is ready, or has ended."""
    begun = []

    def begin():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(tmp_path / "notify"))
            process = subprocess.Popen(
                [sys.executable, RUN, "hold", address.parents[1], lock, str(LEASE)],
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            )
            begun.append(process)
            end = time.monotonic() + 30
            while not select.select([told], [], [], 0.05)[0] and process.poll() is None:
                assert time.monotonic() < end
        (tmp_path / "notify").unlink()
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def superuser(url, statement):
    import psycopg2

    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def test_a_component_waits_while_the_run_lives_and_says_for_what(hold, lock, monkeypatch, capsys):
    assert components.being_changed() == ""
    process = hold()
    assert process.poll() is None
    said = components.being_changed()
    assert re.match(
        r"a migration or a restore changes the metadata database, and holds it by airflow-hold \(session \d+\)\. "
        r"Airflow starts when",
        said,
    )
    monkeypatch.setattr(components, "load", lambda: {"heartbeat_timeout": 30})
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            # The run has ended, and has given its lock back.
            lock.write_text("", encoding="utf-8")
            process.wait(20)

    monkeypatch.setattr(components.time, "sleep", sleep)
    components.reach()
    # Once, and not at each look.
    assert len(slept) >= 3 and capsys.readouterr().out == f"waiting: {said}\n"
    out, _err = process.communicate()
    assert (
        process.returncode == 0
        and "until ann@laptop has changed the database: ansible-playbook site.yml" in out
        and "The run has ended" in out
    )


@pytest.mark.parametrize("end", ["no renewal", "another run", "no file"])
def test_it_ends_by_itself_if_the_run_dies(hold, lock, end):
    process = hold()
    if end == "no renewal":
        os.utime(lock, (time.time() - LEASE - 1,) * 2)
    elif end == "another run":
        lock.write_text(json.dumps({**MINE, "token": "theirs"}), encoding="utf-8")
    else:
        lock.unlink()
    assert process.wait(20) == 0
    until(lambda: components.being_changed() == "")


def test_a_renewal_that_is_being_written_is_no_end(hold, lock):
    process = hold()
    with open(lock, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate()
        file.flush()
        time.sleep(2.5)
        file.seek(0)
        json.dump(MINE, file)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
    time.sleep(2.5)
    assert process.poll() is None and components.being_changed()


def test_a_session_that_is_lost_is_made_anew(hold, postgresql):
    """A restore restarts PostgreSQL while the lock is held."""
    process = hold()
    before = components.being_changed()
    superuser(
        postgresql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'airflow-hold'"
    )
    until(lambda: components.being_changed() not in ("", before))
    assert process.poll() is None


def test_without_a_run_or_a_database_nothing_is_held_and_the_reason_is_told(hold, lock, address, tmp_path):
    address.write_text(f"postgresql+psycopg2://airflow@/postgres?host={tmp_path}", encoding="utf-8")
    process = hold()
    assert (
        process.returncode == 1
        and "The metadata database cannot be told that it will change: " in process.communicate()[1]
    )
    lock.unlink()
    process = hold()
    assert process.returncode == 1 and "No run has the lock of this environment" in process.communicate()[1]


def test_the_lock_of_another_database_of_the_server_is_no_reason_to_wait(address, postgresql):
    import psycopg2

    other = psycopg2.connect(postgresql.replace("+psycopg2", "").replace("/postgres?", "/template1?"))
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(hashtext('airflow-schema'))")
        assert components.being_changed() == ""
    other.close()


def test_the_role_names_the_file_and_the_lease_of_the_lock_of_the_environment():
    text = (ROLES / "airflow_services/tasks/steps/hold.yml").read_text(encoding="utf-8")
    assert f"{environment_lock.PATH} {action.LEASE} ||" in text
