"""Module database: two hosts never update the metadata database at the same time."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import airflow_stand_ins
import pytest

RUN = pathlib.Path(__file__).resolve().parents[2] / "roles/airflow_runtime/files/run.py"
LOCK = "hashtext('airflow-installer')"
# The parts of Airflow and alembic that the program imports. Each step appends a line to the file of events.
AIRFLOW = {
    "events.py": """
        import os, pathlib
        def note(what):
            with open(os.environ["EVENTS"], "a", encoding="utf-8") as file:
                file.write(f"{pathlib.Path(os.environ['AIRFLOW_HOME']).name}: {what}\\n")
        """,
    **airflow_stand_ins.AIRFLOW,
    "airflow/providers/fab/auth_manager/cli_commands/utils.py": """
        import contextlib, types
        import events
        def add_user(*_arguments):
            events.note("created the user")
            return True
        @contextlib.contextmanager
        def get_application_builder():
            manager = {"find_user": lambda _name: None, "find_role": lambda name: name, "add_user": add_user}
            yield types.SimpleNamespace(sm=types.SimpleNamespace(**manager))
        """,
    "airflow/cli/__init__.py": "",
    "airflow/cli/cli_parser.py": """
        import os, pathlib, time, types
        import events
        def migrate(_arguments):
            home = pathlib.Path(os.environ["AIRFLOW_HOME"])
            (home / "pid").write_text(str(os.getpid()))
            events.note("migrates")
            while not (home / "go on").exists():
                time.sleep(0.02)
            events.note("migrated")
        def get_parser():
            return types.SimpleNamespace(parse_args=lambda _words: types.SimpleNamespace(func=migrate))
        """,
}
# A driver that records. A connection that nobody holds any more is closed, as that of the real driver.
DRIVER = """
import events
OperationalError = OSError
class Connection:
    def __setattr__(self, name, value):
        events.note(f"{name} {value}")
    def cursor(self):
        return self
    def execute(self, statement, *_values):
        events.note(statement)
    def __getattr__(self, name):
        events.note(name)
        return lambda *_arguments: None
    def __del__(self):
        events.note("close")
def connect(*_arguments, **_options):
    return Connection()
"""


def write(directory, files):
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


@pytest.fixture
def hosts(tmp_path):
    """hosts("one", url): a function that runs the program on a host of this name, with its own home and configuration.
    """
    write(tmp_path / "lib", AIRFLOW)
    begun = []

    def host(name, url="postgresql+psycopg2://x"):
        home, config = tmp_path / name, tmp_path / f"{name}-config"
        home.mkdir()
        write(config, {"airflow.cfg": "", "secrets/sql_alchemy_conn": url})
        begun.append(home)
        env = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "lib"), "AIRFLOW_HOME": str(home),
            "AIRFLOW_CONFIG": str(config / "airflow.cfg"), "EVENTS": str(tmp_path / "events")
        }

        def run(*arguments, code=0):
            command = [sys.executable, RUN, "database", *arguments]
            done = subprocess.run(command,
                                  input="geheim",
                                  capture_output=True,
                                  text=True,
                                  env=env,
                                  check=False,
                                  timeout=30)
            assert done.returncode == code, done.stderr
            return done.stdout

        return run

    yield host
    # A failed test may have left an update at work.
    for home in begun:
        (home / "go on").touch()


@pytest.fixture
def events(tmp_path):
    return lambda: (tmp_path / "events").read_text(encoding="utf-8").splitlines() if (tmp_path / "events").exists(
    ) else []


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_lock_is_taken_before_the_migration_and_held_until_all_is_done(hosts, events, tmp_path):
    write(tmp_path / "lib", {"psycopg2.py": DRIVER})
    host = hosts("one")
    (tmp_path / "one/go on").touch()
    host("begin", "admin", "a@example.com")
    host("wait")
    # A lock of a session, not of a transaction: nothing may end it but the end of the process.
    keepalives = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
    assert events() == [
        "one: autocommit True", f"one: SELECT pg_advisory_lock({LOCK})", f"one: {keepalives}",
        "one: SELECT pg_advisory_lock_shared(hashtext('airflow-schema'))", "one: migrates", "one: migrated",
        "one: created the user", "one: close"
    ]


def test_connections_of_airflow_itself_may_wait_in_a_transaction(hosts, events, tmp_path):
    """Airflow holds its own lock of a migration in a transaction that is idle until the end."""
    migrate = """
        import types
        import events, psycopg2
        from sqlalchemy import event
        def migrate(_arguments):
            [(target, name, connected)] = event.LISTENERS
            events.note(f"a {name} of {target}")
            connected(psycopg2.connect(), None)
            events.note("migrated")
        def get_parser():
            return types.SimpleNamespace(parse_args=lambda _words: types.SimpleNamespace(func=migrate))
        """
    write(tmp_path / "lib", {"psycopg2.py": DRIVER, "airflow/cli/cli_parser.py": migrate})
    host = hosts("one")
    host("begin", "admin", "a@example.com")
    host("wait")
    begin, end = events().index("one: a connect of Pool"), events().index("one: migrated")
    # Committed, as the rollback of a pool would undo it.
    assert [what for what in events()[begin + 1:end]
            if what != "one: close"] == ["one: SET idle_in_transaction_session_timeout = 0", "one: commit"]


@pytest.fixture
def free(postgresql):
    """Tell whether the lock of a real database is free."""
    import psycopg2

    connection = psycopg2.connect(postgresql.replace("+psycopg2", ""))
    connection.autocommit = True

    def ask():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_try_advisory_lock({LOCK})")
            taken = cursor.fetchone()[0]
            if taken:
                cursor.execute(f"SELECT pg_advisory_unlock({LOCK})")
            return taken

    yield ask
    connection.close()


@pytest.fixture
def impatient(postgresql):
    """A server that ends a session after 0.3 s in a transaction that does nothing."""
    import psycopg2

    connection = psycopg2.connect(postgresql.replace("+psycopg2", ""))
    connection.autocommit = True
    connection.cursor().execute("ALTER ROLE airflow SET idle_in_transaction_session_timeout = '300ms'")
    yield postgresql
    connection.cursor().execute("ALTER ROLE airflow RESET idle_in_transaction_session_timeout")
    connection.close()


def test_the_lock_outlives_the_servers_limit_for_idle_transactions(hosts, events, free, impatient, tmp_path):
    host = hosts("one", impatient)
    host("begin", "admin", "a@example.com")
    until(lambda: "one: migrates" in events())
    time.sleep(1.5)
    assert not free()
    (tmp_path / "one/go on").touch()
    host("wait")
    until(free)


def held(url):
    """Return the programs that keep components from starting, as each component asks."""
    import psycopg2
    from airflow_runtime import components

    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    with connection.cursor() as cursor:
        cursor.execute(components.CHANGES)
        found = {name for _pid, name, _address in cursor}
    connection.close()
    return found


def test_a_second_host_waits_until_the_first_has_updated(hosts, events, free, postgresql, tmp_path):
    first, second = hosts("one", postgresql), hosts("two", postgresql)
    (tmp_path / "two/go on").touch()
    assert free()
    assert held(postgresql) == set()
    first("begin", "admin", "a@example.com")
    until(lambda: "one: migrates" in events())
    assert not free()
    second("begin", "admin", "a@example.com")
    time.sleep(1)
    assert events() == ["one: migrates"]
    # Also if the run that began it has died.
    assert held(postgresql) == {"airflow-installer"}
    (tmp_path / "one/go on").touch()
    first("wait")
    second("wait")
    assert events() == [
        f"{name}: {what}" for name in ("one", "two") for what in ("migrates", "migrated", "created the user")
    ]
    until(free)


QUESTIONS = [("idle",), ("status", "admin", "0", "[]")]


@pytest.mark.parametrize("question", QUESTIONS, ids=["idle", "status"])
def test_a_question_is_answered_when_no_host_updates(hosts, events, free, postgresql, tmp_path, question):
    first, second = hosts("one", postgresql), hosts("two", postgresql)
    first("begin", "admin", "a@example.com")
    until(lambda: "one: migrates" in events())
    assert second(*question, code=75) == "waits for an update of the database that an earlier run has begun\n"
    (tmp_path / "one/go on").touch()
    first("wait")
    until(free)
    second(*question)


@pytest.mark.parametrize("question", QUESTIONS, ids=["idle", "status"])
def test_a_question_asks_for_the_lock_of_the_update(hosts, events, tmp_path, question):
    """Without a server."""
    busy = """
        import events
        OperationalError = OSError
        class Connection:
            def __enter__(self):
                return self
            def __exit__(self, *_error):
                pass
            def cursor(self):
                return self
            def execute(self, statement):
                events.note(statement)
            def fetchone(self):
                return [False]
        def connect(*_arguments, **_options):
            return Connection()
        """
    write(tmp_path / "lib", {"psycopg2.py": busy})
    assert hosts("one")(*question, code=75)
    assert events() == [f"one: SELECT pg_try_advisory_lock({LOCK})"]


def test_the_lock_of_a_killed_update_is_free(hosts, events, free, postgresql, tmp_path):
    first, second = hosts("one", postgresql), hosts("two", postgresql)
    first("begin", "admin", "a@example.com")
    until(lambda: "one: migrates" in events())
    os.kill(int((tmp_path / "one/pid").read_text(encoding="utf-8")), signal.SIGKILL)
    until(free)
    (tmp_path / "two/go on").touch()
    second("begin", "admin", "a@example.com")
    second("wait")
    assert events()[1:] == ["two: migrates", "two: migrated", "two: created the user"]
