"""airflow_database.py and airflow_metadata.py: what they ask PostgreSQL for besides data, locks and limits."""

import datetime
import sys
import time
import types

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_database, airflow_metadata
from cryptography.fernet import Fernet


class Connection:
    """A connection that notes its statements."""

    def __init__(self):
        self.said, self.broken, self.autocommit = [], "", False

    def cursor(self, **_options):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def execute(self, statement, _values=None):
        self.said.append(statement)
        if self.broken and self.broken in statement:
            raise ValueError("canceling statement due to statement timeout")

    def fetchall(self):
        return []


@pytest.fixture
def connection(monkeypatch):
    import psycopg2

    made = Connection()
    monkeypatch.setattr(psycopg2, "connect",
                        lambda *_arguments, **options: made.__dict__.update(options=options) or made)
    return made


def test_writers_hold_the_lock_of_the_installer_for_their_session(connection):
    airflow_database.Reader("postgresql+psycopg2://x", Fernet.generate_key().decode()).lock()
    # Without autocommit the transaction of hours would be open; a lock of a transaction would end with the first
    # statement.
    assert connection.autocommit is True and connection.said == [
        "SELECT pg_advisory_lock(hashtext('airflow-installer'))"
    ]


@pytest.mark.parametrize(("check", "calls"),
                         [(True, ["made", "read"]), (False, ["lock", "wait", "made", "read", "write"])])
def test_nothing_is_read_before_the_lock_is_there_and_a_dry_run_takes_none(monkeypatch, check, calls):
    noted = []

    def note(name, answer):
        return lambda *_arguments: noted.append(name) or answer

    change = {"kind": "pools", "name": "a", "action": "create", "after": {}}
    reader = types.SimpleNamespace(has=lambda _table: True,
                                   lock=note("lock", None),
                                   made=note("made", {}),
                                   read=note("read", {}))
    monkeypatch.setattr(airflow_database, "wait_for_dags", note("wait", None))
    monkeypatch.setattr(airflow_database, "write", note("write", None))
    monkeypatch.setattr(airflow_database, "refusals", lambda *_arguments: [])
    monkeypatch.setattr(airflow_database.objects, "plan", lambda *_arguments: [change])
    monkeypatch.setattr(airflow_database.objects, "remembered", lambda *_arguments: {})
    airflow_database.apply(
        reader,
        {"declared": {}, "check": check, "timeout": 0, "purge": False, "problems": [], "types": [], "role_names": []})
    assert noted == calls


@pytest.mark.parametrize("broken", ["", "SELECT 1"])
def test_a_question_changes_nothing_and_has_limits(connection, broken):
    connection.broken = broken
    database = airflow_metadata.Database("postgresql+psycopg2://x")
    if broken:
        with pytest.raises(ValueError, match="statement timeout"):
            database.rows("SELECT 1")
    else:
        database.rows("SELECT 1")
    limits = (
        f"SET LOCAL statement_timeout = {airflow_metadata.STATEMENT}; SET LOCAL lock_timeout = {airflow_metadata.LOCK}"
    )
    assert connection.said == ["BEGIN READ ONLY", limits, "SELECT 1", "ROLLBACK"]
    assert connection.options["connect_timeout"] == airflow_metadata.CONNECT and 0 < airflow_metadata.CONNECT < 10
    assert 0 < airflow_metadata.LOCK <= airflow_metadata.STATEMENT < 10_000


@pytest.mark.parametrize("fails", [False, True])
def test_all_changes_are_one_transaction(monkeypatch, tmp_path, fails):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/sql_alchemy_conn").write_text("postgresql+psycopg2://x", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "airflow.cfg"))
    done = []

    class Block:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            done.append(f"begin {self.name}")
            return self

        def __exit__(self, kind, *_error):
            done.append(f"{'fail' if kind else 'end'} {self.name}")

        def begin(self):
            return Block("transaction")

    stand_ins = {
        "airflow": {}, "airflow.models": {}, "airflow.models.variable": {"Variable": None},
        "sqlalchemy": {"create_engine": lambda url: url},
        "sqlalchemy.orm": {"Session": lambda _engine: Block("session")}
    }
    for name, content in stand_ins.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)

    def writer(_session, item):
        if item["name"] == "b" and fails:
            raise ValueError("no such role")
        done.append(item["name"])

    monkeypatch.setitem(airflow_database.WRITERS, "pools", writer)
    changes = [{"kind": "pools", "name": name} for name in "ab"]
    if fails:
        with pytest.raises(ValueError, match="no such role"):
            airflow_database.write(changes, None, None)
    else:
        airflow_database.write(changes, None, None)
    end = ["fail transaction", "fail session"] if fails else ["b", "end transaction", "end session"]
    assert done == ["begin session", "begin transaction", "a", *end]


CLOCKS = """
    DROP SCHEMA IF EXISTS clocks CASCADE; CREATE SCHEMA clocks; SET search_path = clocks;
    CREATE TABLE job (id int, job_type text, state text, latest_heartbeat timestamptz);
    CREATE TABLE dag (dag_id text, is_paused bool);
    CREATE TABLE slot_pool (pool text, slots int);
    CREATE TABLE task_instance (dag_id text, run_id text, task_id text, map_index int, try_number int, state text,
        hostname text, pool text,
        pool_slots int, job_id int, queued_by_job_id int, queued_dttm timestamptz, start_date timestamptz, updated_at
            timestamptz);
    INSERT INTO job VALUES (1, 'SchedulerJob', 'running', %(now)s), (2, 'LocalTaskJob', 'running', %(now)s);
    INSERT INTO task_instance VALUES ('d', 'r', 't', -1, 1, 'running', 'h', 'default_pool', 1, 2, 1, %(now)s, %(now)s,
        %(now)s);
"""


def test_the_clock_of_the_hosts_tells_the_age_of_a_heartbeat(postgresql, monkeypatch, tmp_path):
    """By a clock of the database that is 20 minutes ahead, no scheduler works and every task of Airflow 2 is silent."""
    import psycopg2

    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=20)
    with psycopg2.connect(postgresql.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(CLOCKS, {"now": now})
    connection.close()
    url = f"{postgresql}&options=-csearch_path%3Dclocks"
    monkeypatch.setattr(airflow_database, "datetime",
                        types.SimpleNamespace(now=lambda _zone: now, fromisoformat=datetime.datetime.fromisoformat))
    reader = airflow_database.Reader(url, Fernet.generate_key().decode())
    (task,) = reader.waiting()
    assert [
        abs(age) < 10 for age in (task["silent"], task["queued_by_silent"], task["age"], reader.scheduler_silent())
    ] == [True] * 4
    reader.connection.close()
    (tmp_path / "url").write_text(url, encoding="utf-8")
    monkeypatch.setattr(time, "time", now.timestamp)
    found = airflow_metadata.ask({"url_file": str(tmp_path / "url"), "key_file": "/nowhere"})
    assert [(row["task_id"], abs(row["silent"]) < 10, abs(row["seconds"]) < 10)
            for row in found["running"]] == [("t", True, True)], found["running"]
