"""Module left: the processes and the sessions of Airflow that are left after its units have stopped."""

import json
import os
import pathlib
import pwd
import subprocess
import sys
import time

import pytest
from airflow_runtime import left
from ansible_collections.windsock.airflow.plugins.filter import airflow_runtime

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / "roles/airflow_runtime/files/run.py"
QUESTION = (ROOT / "roles/airflow_common/files/sessions.sql").read_text(encoding="utf-8")


@pytest.fixture
def sleeper(tmp_path):
    """A process that runs from a virtualenv below the directory, as `airflow dags backfill` of a person does."""
    program = tmp_path / "venvs/3.3.2/bin/airflow"
    program.parent.mkdir(parents=True)
    program.write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    with subprocess.Popen([sys.executable, program, "dags", "backfill"]) as process:
        yield process
        process.kill()


def test_a_process_of_the_virtualenv_is_named_with_its_pid_and_its_user(tmp_path, sleeper):
    found, _clients = left.left_processes("no-such-user", str(tmp_path))
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert [text for text in found if text.startswith(f"process {sleeper.pid} of user {name}: ")
            ] == found and len(found) == 1


def test_a_unit_that_was_started_meanwhile_is_named(monkeypatch, tmp_path):
    """Its process would come again after a kill."""
    one = (4711, 0, f"{tmp_path}/venv/bin/python run.py components reach", "python",
           "0::/system.slice/airflow-scheduler.service\n", 1)
    monkeypatch.setattr(left, "processes", lambda: [one])
    assert left.left_processes("no-such-user", str(tmp_path))[0] == [
        "process 4711 of user root of airflow-scheduler.service, which was started meanwhile (systemctl stop "
        "airflow-scheduler.service): "
        + one[2][:80]
    ]


def test_the_build_of_a_virtualenv_is_no_airflow(tmp_path):
    """site.yml lets one run while it sets up the database, which may stop Airflow for a restart."""
    script = tmp_path / "installers/build.sh"
    script.parent.mkdir()
    script.write_text(f"sh -c 'sleep 60; true' {tmp_path}/venvs/3.3.2/bin/python; true\n", encoding="utf-8")
    with subprocess.Popen(["sh", script], start_new_session=True) as build:
        try:
            begin = time.monotonic()
            while f"{tmp_path}/venvs" not in " ".join(process[2]
                                                      for process in left.processes()) and time.monotonic() < begin + 5:
                time.sleep(0.05)
            assert left.left_processes("no-such-user", str(tmp_path))[0] == []
        finally:
            os.killpg(build.pid, 9)


def test_what_keeps_airflow_from_starting_is_no_airflow(monkeypatch):
    """It begins before the stop, and runs from the virtualenv until the database has changed."""
    process = (10**7, 0, "/opt/airflow/venv/bin/python /run/airflow-hold.py", "python",
               "0::/system.slice/airflow-hold.service\n", 1)
    monkeypatch.setattr(left, "processes", lambda: [process])
    assert left.left_processes("no-such-user", "/opt/airflow") == ([], [])


def test_the_program_itself_and_what_has_started_it_are_no_processes_of_airflow(tmp_path):
    script = f"{sys.executable} - no-such-user {tmp_path} {tmp_path} '{{}}' ''; exit $?"
    program = airflow_runtime.runtime_program("left", "/opt/airflow/libexec/airflow_runtime")
    done = subprocess.run(["sh", "-c", script, f"{tmp_path}/venv"],
                          input=program,
                          text=True,
                          capture_output=True,
                          check=False)
    assert (done.returncode, done.stdout.partition("[")[0]) == (0, "not asked: "), done


def test_it_says_not_yet_while_something_is_left(tmp_path, sleeper):
    command = [sys.executable, RUN, "left", "no-such-user", tmp_path, tmp_path, "{}", ""]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 75 and f"process {sleeper.pid} of user" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(("row", "said"), [
    ((7, "airflow", "", "10.0.0.9", "own"),
     "session 7 of role airflow (no name) from 10.0.0.9, which is no Airflow host of this inventory"),
    ((7, "airflow", "psql", "10.0.0.5", "own"), "session 7 of role airflow (psql) from 10.0.0.5, which is worker-1"),
    ((7, "airflow", "psql", "", "own"), "session 7 of role airflow (psql) over the socket"),
    ((7, "postgres", "psql", "?", "superuser"),
     "session 7 of role postgres (psql) from an address that PostgreSQL hides from Airflow's role"),
])
def test_a_session_is_named_with_its_address_and_the_host_of_the_address(row, said):
    assert left.left_sessions([row], {"10.0.0.5": "worker-1"}) == [said]


def test_the_writer_of_the_logs_may_run_on(monkeypatch):
    """It has Airflow's user, and no part in the database."""
    number = os.geteuid()
    rows = [(4, number, "journal writer", "python3", "0::/system.slice/airflow-component-logs.service\n", 1),
            (5, number, "airflow scheduler", "airflow", "0::/system.slice/airflow-scheduler.service\n", 1)]
    monkeypatch.setattr(left, "processes", lambda: rows)
    found, _clients = left.left_processes(pwd.getpwuid(number).pw_name, "/opt/airflow")
    assert len(found) == 1 and "process 5 " in found[0]


def test_a_client_of_postgresql_is_named_only_beside_a_session(monkeypatch, capsys):
    monkeypatch.setattr(left, "left_processes", lambda _user, _directory: ([], ["process 9 of user bob: psql airflow"]))
    monkeypatch.setattr(left.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(left, "sessions", lambda _directory, _question: [])
    left.main("airflow", "/opt/airflow", "/etc/airflow", "{}", QUESTION)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(left, "sessions", lambda _directory, _question: [(7, "postgres", "psql", "", "superuser")])
    with pytest.raises(SystemExit) as end:
        left.main("airflow", "/opt/airflow", "/etc/airflow", json.dumps({}), QUESTION)
    assert end.value.code == 75 and "process 9 of user bob" in capsys.readouterr().out


def test_a_process_of_a_container_is_none_of_airflow(monkeypatch, tmp_path, sleeper):
    """Its user has a number of its own, which may be that of Airflow's user here."""
    kept = os.readlink

    def readlink(path, *arguments, **options):
        return "pid:[1]" if str(path) == f"/proc/{sleeper.pid}/ns/pid" else kept(path, *arguments, **options)

    monkeypatch.setattr(left.os, "readlink", readlink)
    assert left.left_processes("no-such-user", str(tmp_path)) == ([], [])


def gives(directory, url):
    """A host with this URL of its database."""
    (directory / "secrets").mkdir()
    (directory / "secrets/sql_alchemy_conn").write_text(url, encoding="utf-8")


@pytest.mark.parametrize(("said", "answer"), [
    ("connection to server failed: FATAL:  the database system is starting up", []),
    ("connection to server failed: FATAL:  the database system is in recovery mode", []),
    ('connection to server failed: FATAL:  database "airflow" does not exist', []),
    # A server that waits for its last sessions, and one whose database others may use.
    ("connection to server failed: FATAL:  the database system is shutting down", "refused: connection"),
    ('connection to server failed: FATAL:  role "airflow" does not exist', "refused: connection"),
    ('connection to server at "192.0.2.1", port 5432 failed: Connection refused', "connection to server at"),
    ('connection to server failed: FATAL:  password authentication failed for user "airflow"', "refused: connection"),
    ("connection to server failed: FATAL:  sorry, too many clients already", "refused: connection"),
])
def test_a_server_that_did_not_answer_is_no_proof(monkeypatch, tmp_path, said, answer):
    """On a host that has no server of its own to ask."""
    gives(tmp_path, "postgresql+psycopg2://airflow:x@db.example.com/airflow")
    psycopg2 = pytest.importorskip("psycopg2")

    def connect(*_arguments, **_options):
        raise psycopg2.OperationalError(said)

    monkeypatch.setattr(psycopg2, "connect", connect)
    found = left.sessions(tmp_path, QUESTION)
    assert found == [] if answer == [] else found.startswith(answer) and said in found


def test_a_host_that_cannot_ask_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(left, "left_processes", lambda _user, _directory: ([], []))
    left.main("airflow", "/opt/airflow", str(tmp_path), "{}", QUESTION)
    assert capsys.readouterr().out.startswith("not asked: ") and "sql_alchemy_conn" in left.sessions(tmp_path, QUESTION)
    gives(tmp_path, "postgresql+psycopg2://airflow:hush@db.example.com/airflow")
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    left.main("airflow", "/opt/airflow", str(tmp_path), "{}", QUESTION)
    said = capsys.readouterr().out
    assert said.startswith("not asked: ") and "psycopg2" in said and "hush" not in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become user postgres")
def test_without_psycopg2_the_superuser_of_this_hosts_server_is_told(monkeypatch, tmp_path, postgresql):
    """As where the virtualenv is broken."""
    gives(tmp_path, postgresql)
    directory = postgresql.partition("host=")[2]
    as_airflow = ["psql", "--no-psqlrc", "--host", directory, "--username=airflow", "--dbname=postgres", "--command"]
    subprocess.run([*as_airflow, "CREATE ROLE postgres SUPERUSER LOGIN"], check=True)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setattr(left, "SOCKETS", directory)
    assert left.sessions(tmp_path, QUESTION) == []
    with subprocess.Popen([*as_airflow, "SELECT pg_sleep(60)"]) as client:
        try:
            end = time.monotonic() + 30
            while not left.sessions(tmp_path, QUESTION) and time.monotonic() < end:
                time.sleep(0.1)
            ((pid, role, program, address, kind),) = left.sessions(tmp_path, QUESTION)
        finally:
            client.kill()
    assert pid.isdigit() and (role, program, address, kind) == ("airflow", "psql", "", "own")
