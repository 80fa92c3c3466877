"""Module database: an update that goes on when the command that began it has ended, and one that waits for it."""

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
# What the program imports of Airflow, alembic and psycopg2.
STAND_INS = {
    "psycopg2.py": """
        import types
        def connect(*_args, **_options):
            return types.SimpleNamespace(cursor=lambda: types.SimpleNamespace(execute=lambda *_: None))
        OperationalError = OSError
        """,
    **airflow_stand_ins.AIRFLOW,
    "airflow/providers/fab/auth_manager/cli_commands/utils.py": """
        import contextlib, os, pathlib, types
        def add_user(*arguments):
            return pathlib.Path(os.environ["AIRFLOW_HOME"], "user").write_text(" ".join(arguments))
        @contextlib.contextmanager
        def get_application_builder():
            manager = {"find_user": lambda _name: None, "find_role": lambda name: name, "add_user": add_user}
            yield types.SimpleNamespace(sm=types.SimpleNamespace(**manager))
        """,
    "airflow/cli/__init__.py": "",
    "airflow/cli/cli_parser.py": """
        import os, pathlib, time, types
        def migrate(_arguments):
            home = pathlib.Path(os.environ["AIRFLOW_HOME"])
            (home / "pid").write_text(str(os.getpid()))
            print("migrates", flush=True)
            while not (home / "go on").exists():
                time.sleep(0.02)
            # Airflow asks for the working directory in many places, and fails where there is none.
            os.getcwd()
            if "wrong" in (home / "go on").read_text():
                raise RuntimeError("a column is missing")
        def get_parser():
            return types.SimpleNamespace(parse_args=lambda _words: types.SimpleNamespace(func=migrate))
        """,
}


@pytest.fixture
def database(tmp_path):
    """Start the program with arguments and an input; its Airflow waits for a file in its home."""
    for name, text in STAND_INS.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "config/secrets").mkdir(parents=True)
    (tmp_path / "config/airflow.cfg").touch()
    (tmp_path / "config/secrets/sql_alchemy_conn").write_text("postgresql+psycopg2://x", encoding="utf-8")
    (tmp_path / "home").mkdir()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "lib"), "AIRFLOW_HOME": str(tmp_path / "home"),
           "AIRFLOW_CONFIG": str(tmp_path / "config/airflow.cfg")}

    def start(*arguments, given="", cwd=None):
        (tmp_path / "input").write_text(given, encoding="utf-8")
        with (tmp_path / "input").open() as file:
            return subprocess.Popen([sys.executable, RUN, "database", *arguments],
                                    stdin=file,
                                    stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE,
                                    text=True,
                                    env=env,
                                    cwd=cwd)

    yield start
    # What a failed test has left at work.
    (tmp_path / "home/go on").touch()


def ended(process):
    """Its exit code and what it said, within seconds."""
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_goes_on_and_is_waited_for(database, tmp_path):
    assert ended(database("begin", "admin", "a@example.com", given="geheim")) == (0, "", "")
    pid = tmp_path / "home/pid"
    until(pid.exists)
    assert "geheim" not in pathlib.Path(f"/proc/{pid.read_text(encoding='utf-8')}/cmdline").read_text(encoding="utf-8")
    waiting = database("wait")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    (tmp_path / "home/go on").touch()
    assert ended(waiting) == (0, "", "")
    assert ended(database("wait")) == (0, "", "")
    assert (tmp_path / "home/user").read_text(encoding="utf-8") == "admin admin  a@example.com Admin geheim"
    log = tmp_path / "home/database-update.log"
    assert log.stat().st_mode & 0o777 == 0o600 and "geheim" not in log.read_text(encoding="utf-8")


def test_it_does_not_need_the_directory_in_which_it_began(database, tmp_path):
    """Ansible removes the directory of a module when the module has ended."""
    module = tmp_path / "module"
    module.mkdir()
    assert ended(database("begin", "admin", "a@example.com", cwd=module))[0] == 0
    module.rmdir()
    (tmp_path / "home/go on").touch()
    assert ended(database("wait")) == (0, "", "")


def test_no_administrator_is_made_without_a_password(database, tmp_path):
    (tmp_path / "home/go on").touch()
    assert ended(database("begin", "admin", "a@example.com")) == (0, "", "")
    assert ended(database("wait")) == (0, "", "")
    assert not (tmp_path / "home/user").exists()


def test_its_last_words_are_told_where_it_failed(database, tmp_path):
    (tmp_path / "home/go on").write_text("wrong", encoding="utf-8")
    assert ended(database("begin", "admin", "a@example.com"))[0] == 0
    code, _out, said = ended(database("wait"))
    assert code == 1 and said.startswith("The database could not be brought up to date:\n") and said.endswith(
        "RuntimeError: a column is missing\n")


def test_one_that_was_killed_has_failed_whatever_was_before_and_the_next_one_begins_anew(database, tmp_path):
    (tmp_path / "home/go on").touch()
    assert ended(database("begin", "admin", "a@example.com"))[0] == 0
    assert ended(database("wait")) == (0, "", "")
    for name in ("go on", "pid"):
        (tmp_path / "home" / name).unlink()

    assert ended(database("begin", "admin", "a@example.com"))[0] == 0
    until(lambda: (tmp_path / "home/pid").exists() and "migrates" in
          (tmp_path / "home/database-update.log").read_text(encoding="utf-8"))
    os.kill(int((tmp_path / "home/pid").read_text(encoding="utf-8")), signal.SIGKILL)
    code, _out, said = ended(database("wait"))
    assert code == 1 and said.splitlines()[-1] == "migrates"
    (tmp_path / "home/go on").touch()
    assert ended(database("begin", "admin", "a@example.com"))[0] == 0
    assert ended(database("wait")) == (0, "", "")


def test_a_second_one_begins_when_the_first_has_ended(database, tmp_path):
    assert ended(database("begin", "admin", "a@example.com"))[0] == 0
    until((tmp_path / "home/pid").exists)
    second = database("begin", "admin", "a@example.com")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    (tmp_path / "home/go on").touch()
    assert second.wait(20) == 0
    assert ended(database("wait")) == (0, "", "")
