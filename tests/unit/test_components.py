"""The tool that systemd stops the components with: it says so once, and again only to one that did not hear."""

import importlib
import json
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import types

import pytest

HEARS = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep({0}), sys.exit())); print('up', "
    "flush=True); time.sleep(60)"
)
DEAF_ONCE = """
import signal, sys
heard = []
def handler(*_):
    heard.append(1)
    if len(heard) == {0}:
        sys.exit()
signal.signal(signal.SIGTERM, handler)
print('up', flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def components(host_settings, tmp_path, monkeypatch):
    # Tests change the module, each its own.
    monkeypatch.delitem(sys.modules, "airflow_runtime.components", raising=False)
    module = importlib.import_module("airflow_runtime.components")
    monkeypatch.setattr(module, "BETWEEN_LOOKS", 0.2)
    scheduler = {"unit": "airflow-scheduler", "drains": True, "job_type": "SchedulerJob"}
    data = {
        "components": {"scheduler": scheduler}, "watchdog": [], "drain_timeout": 30, "stop_timeout": 1,
        "heartbeat_timeout": 30
    }
    module.really_load = module.load
    monkeypatch.setattr(module, "load", lambda: data)
    (tmp_path / "runtime").mkdir()
    monkeypatch.setattr(module, "runtime", lambda _component, name: tmp_path / "runtime" / name)
    monkeypatch.setattr(module, "running_tasks", lambda _component: ["dag a, run b, task c, try 1"])
    module.data = data
    return module


@pytest.fixture
def root(components, tmp_path, monkeypatch):
    """A host's root, with a server that has begun to start, and is well."""
    monkeypatch.setattr(components, "Path", lambda *parts: tmp_path / str(pathlib.Path(*parts)).lstrip("/"))
    monkeypatch.setattr(components, "ask", lambda *_: (True, "answers"))
    monkeypatch.setattr(components, "runtime", lambda component, name: tmp_path / "run" / component["unit"] / name)
    components.data.update(components={"api-server": {"unit": "airflow-api-server"}},
                           venv="/venv",
                           files=["/etc/airflow/airflow.cfg"],
                           plugins="/dags/current/PLUGINS")
    for path in ("venv", "etc/airflow/airflow.cfg", "etc/systemd/system/airflow-api-server.service"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("before", encoding="utf-8")
    # The file system's clock ticks a few hundred times a second.
    time.sleep(0.02)
    (tmp_path / "run/airflow-api-server").mkdir(parents=True)
    time.sleep(0.02)
    return tmp_path


def test_a_component_that_leaves_the_host_is_stopped_as_any_other(components):
    """Its unit is stopped after the file of the components was written without it."""
    components.data.update(elsewhere=components.data.pop("components"), components={})
    assert components.stop("scheduler", "0") is None
    assert components.runtime(None, "stopping").exists()
    assert components.ended("scheduler") is None


def test_a_database_that_is_away_is_waited_for(components, monkeypatch, capsys):
    answers = iter(
        [ConnectionError("refused"),
         ConnectionError("refused"),
         ConnectionError("starting up"), [[time.time()]], []])

    def rows(_sql, *_values):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(components, "rows", rows)
    monkeypatch.setattr(components.time, "sleep", lambda _seconds: None)
    components.reach()
    assert capsys.readouterr().out == "waiting: refused\nwaiting: starting up\n"
    assert next(answers, None) is None


@pytest.fixture
def process():
    """Start Python code that says when it is ready, reaped at once as systemd does."""
    started = []

    def start(code):
        # A process of somebody else's, as seen from here: a zombie of ours would count as alive.
        shell = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True);"
                " p.stdout.readline(); print(p.pid, flush=True); sys.exit(abs(p.wait()))",
                sys.executable,
                "-c",
                code,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(shell)
        shell.child = shell.stdout.readline().strip()
        return shell

    yield start
    for shell in started:
        shell.kill()
        shell.wait()


def test_one_that_drains_is_told_once(components, process, monkeypatch, capsys):
    monkeypatch.setattr(components, "beats_on", lambda _component, _since: False)
    told = process(HEARS.format(1))
    components.stop("scheduler", told.child)
    assert told.wait(5) == 0
    assert "told" not in capsys.readouterr().out


def test_one_that_beats_on_is_told_again(components, process, monkeypatch, capsys):
    monkeypatch.setattr(components, "beats_on", lambda _component, _since: True)
    told = process(DEAF_ONCE.format(2))
    components.stop("scheduler", told.child)
    assert told.wait(5) == 0
    assert capsys.readouterr().out.count("told again") == 1


def test_one_that_was_told_already_is_not_told_at_once(components, process, monkeypatch, capsys):
    """As it is where systemd stops a unit that still starts."""
    monkeypatch.setattr(components, "beats_on", lambda _component, since: time.time() > since + 1)
    told = process(DEAF_ONCE.format(1))
    begun = time.time()
    components.stop("scheduler", told.child, begun)
    assert told.wait(5) == 0
    assert time.time() > begun + 1
    assert capsys.readouterr().out.count("told again") == 1


def test_what_it_started_with_is_noted(components, root):
    components.wait("api-server")
    component = components.data["components"]["api-server"]
    assert components.noted(component) == components.current(components.data, component) == (components.fingerprint(
        components.data, component), "")


def test_one_that_ends_before_it_is_well_is_not_waited_for(components, root, monkeypatch, process):
    """As where the database is late: the next start is to come at once."""
    monkeypatch.setattr(components, "ask", lambda *_: (False, "refused"))
    dead = process("print('up', flush=True)")
    assert dead.wait(5) == 0
    monkeypatch.setenv("MAINPID", dead.child)
    with pytest.raises(SystemExit) as ended:
        components.wait("api-server")
    assert ended.value.code


@pytest.mark.parametrize("path", ["etc/airflow/airflow.cfg", "etc/systemd/system/airflow-api-server.service", "venv"])
def test_what_has_changed_while_it_started_leaves_doubt(components, root, path):
    """It may have been read before that or after it, so the next run restarts the server."""
    (root / path).unlink()
    (root / path).symlink_to(root / "etc") if path == "venv" else (root / path).write_text("after", encoding="utf-8")
    components.wait("api-server")
    assert components.noted(components.data["components"]["api-server"]) == ()


def test_a_stop_while_it_starts_is_heard_for_every_component(components, root, monkeypatch):
    """systemd runs no ExecStop then, so this process must see to it."""
    stopped = []
    handlers = {}
    monkeypatch.setattr(components.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(components, "stop", lambda name, pid, told: stopped.append((name, pid)) or 0)
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    components.wait("api-server")
    with pytest.raises(SystemExit):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert stopped == [("api-server", os.getpid())]


def stop_of_a_deaf_one(components, process, monkeypatch):
    """Stop what does not end by itself, and return the seconds that this took."""
    monkeypatch.setattr(components, "beats_on", lambda _component, _since: False)
    told = process(DEAF_ONCE.format(99))
    begin = time.monotonic()
    components.stop("scheduler", told.child)
    assert told.wait(5) == 9
    return time.monotonic() - begin


def test_one_that_takes_too_long_is_killed(components, process, monkeypatch, capsys):
    del components.data["components"]["scheduler"]["drains"]
    assert stop_of_a_deaf_one(components, process, monkeypatch) < 10
    assert "killed" in capsys.readouterr().out


def test_running_tasks_are_waited_for_up_to_their_limit(components, process, monkeypatch, capsys):
    components.data["drain_timeout"] = 3
    assert 3 < stop_of_a_deaf_one(components, process, monkeypatch) < 10
    said = capsys.readouterr().out
    assert said.count("waiting for 1 running tasks") == 1
    assert "killed" in said


def test_a_scheduler_that_hangs_without_a_task_is_not_waited_for(components, process, monkeypatch):
    monkeypatch.setattr(components, "running_tasks", lambda _component: [])
    assert stop_of_a_deaf_one(components, process, monkeypatch) < 10


def test_while_the_database_is_away_tasks_are_taken_to_run(components, process, monkeypatch):
    def away(*_):
        raise ConnectionError

    components.data["drain_timeout"] = 3
    monkeypatch.setattr(components, "running_tasks", away)
    assert stop_of_a_deaf_one(components, process, monkeypatch) > 3


def test_a_worker_without_a_row_in_table_job_drains_too(components, process):
    del components.data["components"]["scheduler"]["job_type"]
    told = process(HEARS.format(1))
    components.stop("scheduler", told.child)
    assert told.wait(5) == 0


# As Airflow 3's triggerer: if it is told while its child runs, it may wait for ten seconds. 70 stands for that here.
TRIGGERER_WITH_CHILD = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), os._exit(0)))
# Python drops a signal that comes before the fork is complete.
ready, begun = os.pipe()
child = os.fork()
if child == 0:
    os.write(begun, b".")
    time.sleep(60)
os.read(ready, 1)
def handler(*_):
    ended, status = os.waitpid(child, os.WNOHANG)
    sys.exit(0 if ended and status == 0 else 70)
signal.signal(signal.SIGTERM, handler)
helper = subprocess.Popen(["sleep", "60"])
print('up', flush=True)
try:
    time.sleep(60)
finally:
    sys.exit(71) if helper.poll() is not None else helper.kill()
"""


def test_the_child_of_a_triggerer_is_told_first_and_its_helper_is_not(components, process, monkeypatch):
    """So that Airflow's wait of ten seconds for a child that has ended cannot begin."""
    monkeypatch.setattr(components, "beats_on", lambda _component, _since: False)
    components.data["components"]["triggerer"] = {
        "unit": "airflow-triggerer", "job_type": "TriggererJob", "child_first": True
    }
    told = process(TRIGGERER_WITH_CHILD)
    components.stop("triggerer", told.child)
    assert told.wait(5) == 0


def test_a_child_that_does_not_stop_is_not_waited_for_longer_than_airflow_would(components, process, monkeypatch):
    monkeypatch.setattr(components, "beats_on", lambda _component, _since: False)
    monkeypatch.setattr(components, "CHILD_TIMEOUT", 0.5)
    components.data["components"]["triggerer"] = {
        "unit": "airflow-triggerer", "job_type": "TriggererJob", "child_first": True
    }
    told = process(TRIGGERER_WITH_CHILD.replace("time.sleep(0.3), ", "time.sleep(30), "))
    begin = time.monotonic()
    components.stop("triggerer", told.child)
    assert told.wait(5) == 70
    assert 0.5 < time.monotonic() - begin < 5


# As a gunicorn master: it closes its port, waits for its worker, which takes a second for its request, and then Python
# takes long to end.
SERVER = """
import os, signal, socket, sys, time
port = socket.create_server(("127.0.0.1", 0))
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), open({0!r}, "w").close(), os._exit(0)))
# Python drops a signal that comes before the fork is complete.
ready, begun = os.pipe()
worker = os.fork()
if worker == 0:
    os.write(begun, b".")
    time.sleep(60)
os.read(ready, 1)
def handler(*_):
    port.close()
    os.kill(worker, signal.SIGTERM)
    os.waitpid(worker, 0)
    time.sleep(60)
signal.signal(signal.SIGTERM, handler)
print('up', flush=True)
time.sleep(60)
"""


@pytest.fixture
def server(components, monkeypatch):
    """What a server's health endpoint answers: the test sets it."""
    made = components.data["components"]["api-server"] = {"unit": "airflow-api-server", "serves": True, "check": {}}
    components.data["stop_timeout"] = 10
    monkeypatch.setattr(components, "ask_http", lambda _check: (made.get("answers", False), ""))
    return made


def test_a_server_is_ended_once_its_last_request_is_finished(components, process, server, tmp_path):
    """The rest of its stop would be Python, which clears its memory for two seconds."""
    told = process(SERVER.format(str(tmp_path / "finished")))
    begin = time.monotonic()
    components.stop("api-server", told.child)
    assert told.wait(5) == signal.SIGALRM
    assert (tmp_path / "finished").exists()
    assert 1 < time.monotonic() - begin < 4


def test_a_server_with_an_open_connection_is_not_ended(components, process, server):
    components.data["stop_timeout"] = 2
    code = ("import socket; port = socket.create_server(('127.0.0.1', 0)); one = "
            "socket.create_connection(port.getsockname())\n") + DEAF_ONCE.format(
        99)
    told = process(code)
    components.stop("api-server", told.child)
    assert told.wait(5) == signal.SIGKILL


def test_a_server_that_was_told_while_it_started_and_did_not_hear_is_ended(components, process, server):
    """systemd waited for 100 s. It has no port yet, so nobody waits for an answer."""
    told = process(DEAF_ONCE.format(99))
    begin = time.monotonic()
    components.stop("api-server", told.child, time.time())
    assert told.wait(5) == signal.SIGALRM
    assert time.monotonic() - begin < 3


def test_a_server_that_did_not_hear_and_answers_is_told_again(components, process, server, capsys):
    server["answers"] = True
    told = process("import socket; port = socket.create_server(('127.0.0.1', 0))\n" + DEAF_ONCE.format(2))
    components.stop("api-server", told.child)
    assert told.wait(5) == 0
    assert capsys.readouterr().out.count("told again") == 1


def test_nothing_but_a_server_is_ended_while_it_stops(components, process, monkeypatch):
    """A scheduler without a connection at the moment still writes to the database."""
    monkeypatch.setattr(components, "beats_on", lambda _component, _since: False)
    told = process(HEARS.format(1.5))
    components.data["stop_timeout"] = 10
    components.stop("scheduler", told.child)
    assert told.wait(5) == 0


@pytest.mark.parametrize(("result", "says"), [("success", False), ("signal", True), ("exit-code", True)])
def test_tasks_that_were_killed_are_named_and_repeated(components, monkeypatch, tmp_path, capsys, result, says):
    asked = []
    monkeypatch.setattr(components, "rows", lambda sql, *values: asked.append((sql, values)))
    # One whose process is gone, one that never had any, and one of another component of the host.
    monkeypatch.setattr(
        components, "tasks_here", lambda: [("dag a", 2**22 + 1), ("dag b", None), ("dag c", os.getpid())]
    )
    monkeypatch.setenv("SERVICE_RESULT", result)
    (tmp_path / "runtime/beats").write_text("[1, 42]", encoding="utf-8")
    components.ended("scheduler")
    assert capsys.readouterr().out == ("<3>gave up on dag a\n<3>gave up on dag b\n" if says else "")
    assert [values for sql, values in asked if sql.startswith("UPDATE job")] == ([(42,)] if says else [])


def test_one_that_was_told_to_stop_is_no_matter_of_the_watchdog(components, tmp_path):
    scheduler = components.data["components"]["scheduler"]
    assert components.beating(scheduler) is None
    (tmp_path / "runtime/beats").write_text("[1, 42]", encoding="utf-8")
    assert components.beating(scheduler) == (1, 42)
    components.stop("scheduler")
    assert components.beating(scheduler) is None


@pytest.mark.parametrize(("configured", "names"),
                         [("", None), ("[core]\nhostname_callable = platform.system\n", ["Linux"])])
def test_the_host_has_the_name_that_airflow_gives_it(components, tmp_path, monkeypatch, configured, names):
    (tmp_path / "airflow.cfg").write_text(configured, encoding="utf-8")
    monkeypatch.setattr(components.settings, "config_dir", lambda: tmp_path)
    assert components.host_names() == names if names else socket.gethostname() in components.host_names()


def test_a_drained_component_is_neither_due_nor_ill(components, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(components.settings, "config_dir", lambda: tmp_path)
    states = {
        "ActiveState": "inactive", "SubState": "dead", "LoadState": "loaded", "NeedDaemonReload": "no", "MainPID": "0"
    }
    target = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
    monkeypatch.setattr(components, "properties", lambda unit, *_: target if unit == "airflow.target" else states)
    monkeypatch.setattr(components, "ask", lambda *_: (False, "no heartbeat"))
    monkeypatch.setattr(components, "clocks_differ", lambda _data: "")
    components.pending()
    assert components.health() == 1
    (tmp_path / "drained").write_text("by somebody", encoding="utf-8")
    components.pending()
    assert components.health() == 0
    assert capsys.readouterr().out.splitlines() == [
        '["airflow-scheduler.service"]', "FAIL airflow-scheduler: inactive (dead), no heartbeat", "[]",
        "--   airflow-scheduler: drained, by somebody"
    ]


def test_nothing_is_told_to_one_that_has_ended(components):
    components.stop("scheduler")


class Metadata:
    """The metadata database: its table job, and a clock that may differ from the host's."""

    def __init__(self, path):
        self.ahead, self.away, self.number = 0, False, 0
        self.connection = sqlite3.connect(path)
        self.connection.execute(
            "CREATE TABLE job (id integer PRIMARY KEY, job_type text, state text, hostname text, start_date real, "
            "latest_heartbeat real)"
        )

    def beats(self, hostname, age=1.0, started=1.0, job_type="TriggererJob"):
        """Add a row and return its number. age, started: seconds that the heartbeat and the start lie back, by the
        host's clock.
        """
        values = (job_type, "running", hostname, time.time() - started, time.time() - age)
        return self.connection.execute(
            "INSERT INTO job (job_type, state, hostname, start_date, latest_heartbeat) VALUES (?, ?, ?, ?, ?)",
            values).lastrowid

    def rows(self, sql, *values):
        """Answer a question that was written for PostgreSQL."""
        if self.away:
            raise ConnectionError("refused")
        if "pg_locks" in sql:
            return []
        names = next((value for value in values if isinstance(value, list)), [])
        marks = ", ".join("?" for _name in names)
        for old, new in ((r"= ANY\(%s\)", f"IN ({marks})"), ("%s", "?"), (r"extract\(epoch FROM ", "("),
                         ("::float8", ""), (r"(now|clock_timestamp)\(\)", str(time.time() + self.ahead))):
            sql = re.sub(old, new, sql)
        return self.connection.execute(
            sql, [each for value in values for each in (value if isinstance(value, list) else [value])]).fetchall()


TRIGGERER = {"unit": "airflow-triggerer", "job_type": "TriggererJob", "check": {"kind": "job"}}


@pytest.fixture
def metadata(components, tmp_path, monkeypatch):
    made = Metadata(tmp_path / "metadata")
    monkeypatch.setattr(components, "rows", made.rows)
    monkeypatch.setattr(components, "host_names", lambda: ["one", "one.example.com"])
    components.data["components"] = {"triggerer": TRIGGERER}
    yield made
    made.connection.close()


def note(tmp_path, number):
    (tmp_path / "runtime/beats").write_text(json.dumps([1, number]), encoding="utf-8")


@pytest.mark.parametrize("noted", [True, False])
def test_the_heartbeat_of_another_host_makes_no_component_well(components, metadata, tmp_path, noted):
    number = metadata.beats("one", age=600, started=900)
    metadata.beats("two")
    if noted:
        note(tmp_path, number)
    assert components.ask(TRIGGERER, components.data) == (False, "last heartbeat 600 s ago")


def test_a_component_that_beats_on_another_host_only_is_named(components, metadata):
    metadata.beats("two")
    assert components.ask(TRIGGERER, components.data) == (False, "no heartbeat of host one or one.example.com")


def test_a_second_process_of_the_host_makes_no_component_well(components, metadata, tmp_path):
    note(tmp_path, metadata.beats("one", age=600, started=900))
    metadata.beats("one.example.com")
    assert components.ask(TRIGGERER, components.data)[0] is False


def test_the_row_of_its_start_is_the_components_own_whatever_the_host_is_called(components, metadata, tmp_path):
    note(tmp_path, metadata.beats("named-by-a-function"))
    assert components.ask(TRIGGERER, components.data) == (True, "last heartbeat 1 s ago")


def test_started_is_said_of_the_own_row_only(components, metadata, monkeypatch, tmp_path):
    """Another host's component that starts at the same time, and the row of the process before, end no wait."""
    monkeypatch.setattr(components, "current", lambda *_: ("", ""))
    monkeypatch.setattr(components, "changed_since", lambda *_: False)
    monkeypatch.setattr(components.signal, "signal", lambda *_: None)
    metadata.beats("two", started=0)
    metadata.beats("one", age=4, started=900)
    own = []
    monkeypatch.setattr(components.time, "sleep", lambda _seconds: own.append(metadata.beats("one", started=0)))
    components.wait("triggerer")
    assert json.loads((tmp_path / "runtime/beats").read_text(encoding="utf-8")) == [0, *own]


def test_a_row_that_is_older_than_the_wait_ends_it_if_it_is_of_this_start(components, metadata, monkeypatch, tmp_path):
    """On a busy host the component may be ready long before the program that waits for it runs."""
    monkeypatch.setattr(components, "current", lambda *_: ("", ""))
    monkeypatch.setattr(components, "changed_since", lambda *_: False)
    monkeypatch.setattr(components.signal, "signal", lambda *_: None)
    monkeypatch.setattr(components.time, "sleep", lambda _seconds: pytest.fail("it waits"))
    ten_seconds_ago = time.time() - 10
    os.utime(tmp_path / "runtime", (ten_seconds_ago, ten_seconds_ago))
    metadata.beats("one", started=30)
    own = metadata.beats("one", started=8)
    components.wait("triggerer")
    assert json.loads((tmp_path / "runtime/beats").read_text(encoding="utf-8")) == [0, own]


def test_a_scheduler_whose_port_answers_has_to_beat_too(components, metadata, monkeypatch):
    """The port answers for the newest row of the host, which after a kill is for half a minute the row of the process
    before.
    """
    scheduler = {
        "unit": "airflow-scheduler", "job_type": "SchedulerJob",
        "check": {"kind": "status", "url": "http://127.0.0.1:8974/health"}
    }
    monkeypatch.setattr(components, "ask_http", lambda _check: (True, "answers"))
    metadata.beats("one", started=60, job_type="SchedulerJob")
    assert components.ask(scheduler, components.data, time.time() - 2)[0] is False
    metadata.beats("one", started=1, job_type="SchedulerJob")
    assert components.ask(scheduler, components.data, time.time() - 2)[0] is True


@pytest.mark.parametrize("ahead", [600, -600])
def test_the_databases_clock_ends_no_wait_and_makes_none_endless(components, metadata, tmp_path, ahead):
    metadata.ahead = ahead
    note(tmp_path, metadata.beats("one"))
    assert components.ask(TRIGGERER, components.data) == (True, "last heartbeat 1 s ago")
    note(tmp_path, metadata.beats("one", age=300))
    assert components.ask(TRIGGERER, components.data) == (False, "last heartbeat 300 s ago")


@pytest.mark.parametrize(("ahead", "said"), [
    (0, ""), (29, ""), (600, "the database's clock is 600 s ahead of this host's"),
    (-600, "the database's clock is 600 s behind this host's")])
def test_a_clock_that_differs_is_reported(components, metadata, tmp_path, monkeypatch, capsys, ahead, said):
    monkeypatch.setattr(components, "properties",
                        lambda *_: {"ActiveState": "active", "SubState": "running", "MainPID": str(os.getpid())})
    metadata.ahead = ahead
    note(tmp_path, metadata.beats("one"))
    components.reach()
    assert capsys.readouterr().out.startswith(f"<4>{said}" if said else "") and bool(said) == bool(
        components.clocks_differ(components.data))
    assert components.health() == int(bool(said))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok   airflow-triggerer: active (running), last heartbeat 1 s ago"
    assert [line.startswith(f"FAIL clock: {said}") for line in lines[1:]] == ([True] if said else [])
    # One component is not the host: its own runbook has nothing to mend here.
    assert components.health("triggerer") == 0


@pytest.mark.parametrize("ahead", [0, 29.5, -29.5])
def test_the_caller_sees_the_jobs_of_all_hosts_after_the_health(
    components, metadata, tmp_path, monkeypatch, capsys, ahead
):
    """Also with a clock of the database that just passes: a host wrote the heartbeat with its own."""
    metadata.ahead = ahead
    monkeypatch.setattr(components, "properties",
                        lambda *_: {"ActiveState": "active", "SubState": "running", "MainPID": str(os.getpid())})
    own, other = metadata.beats("former-name"), metadata.beats("two", job_type="SchedulerJob")
    metadata.beats("dead", age=31)
    metadata.beats("three", job_type="LocalTaskJob")
    note(tmp_path, own)
    assert components.health_and_jobs() == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "names": ["one", "one.example.com"],
        "own": [own],
        "fresh": [{"id": own, "job_type": "TriggererJob", "hostname": "former-name"},
                  {"id": other, "job_type": "SchedulerJob", "hostname": "two"}],
    }


def test_an_answer_that_takes_its_time_is_no_difference_of_clocks(components, metadata, monkeypatch):
    asked = time.time()
    clock = iter([asked, asked + 50])
    monkeypatch.setattr(components, "query", lambda _sql: asked + 45)
    monkeypatch.setattr(components.time, "time", lambda: next(clock))
    assert components.clock_ahead() == 0


@pytest.mark.parametrize(("latest", "answer"), [(None, False), (100.5, False), (102.0, True)])
def test_a_heartbeat_counts_after_the_signal_only(components, monkeypatch, latest, answer):
    monkeypatch.setattr(components, "own_job", lambda _component: latest and (1, latest))
    assert components.beats_on({"job_type": "SchedulerJob"}, 100) is answer


def test_a_second_process_that_beats_on_tells_nobody_to_stop_again(components, metadata, tmp_path):
    """A scheduler that drains drops its tasks if it is told twice."""
    note(tmp_path, metadata.beats("one", age=60, started=900))
    metadata.beats("one")
    assert components.beats_on(TRIGGERER, time.time() - 30) is False


def test_a_database_that_is_away_proves_nothing(components, metadata):
    metadata.away = True
    assert components.beats_on(TRIGGERER, 100) is False
    assert components.ask(TRIGGERER, components.data) == (False, "refused")


def test_a_function_for_the_hosts_name_is_found_where_airflow_finds_it(components, tmp_path, monkeypatch):
    """A person's shell has no PYTHONPATH; the components' environment may have one."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/our_names.py").write_text("def name():\n    return 'flow-1'\n", encoding="utf-8")
    (tmp_path / "airflow.cfg").write_text("[core]\nhostname_callable = our_names.name\n", encoding="utf-8")
    (tmp_path / "environment").write_text(f'PYTHONPATH="{tmp_path}/lib"\n', encoding="utf-8")
    (tmp_path / "components.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(components.settings, "config_dir", lambda: tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.delenv("PYTHONPATH")
    components.really_load()
    assert components.host_names() == ["flow-1"]


def test_only_the_component_that_reads_a_file_starts_with_another_one(components, tmp_path, monkeypatch):
    """Who may sign in is the server's matter: no scheduler is restarted for it."""
    for name in ("airflow.cfg", "webserver_config.py", "unit"):
        (tmp_path / name).write_text("before", encoding="utf-8")
    read = pathlib.Path.read_bytes
    monkeypatch.setattr(
        pathlib.Path, "read_bytes", lambda path: read(tmp_path / "unit" if path.suffix == ".service" else path)
    )
    data = {"venv": str(tmp_path), "files": [str(tmp_path / "airflow.cfg")]}
    parts = [{"unit": "airflow-scheduler"},
             {"unit": "airflow-api-server", "files": [str(tmp_path / "webserver_config.py")]}]

    def prints():
        return [components.fingerprint(data, part) for part in parts]

    before = prints()
    (tmp_path / "webserver_config.py").write_text("after", encoding="utf-8")
    assert [now == then for now, then in zip(prints(), before, strict=True)] == [True, False]
    (tmp_path / "airflow.cfg").write_text("after", encoding="utf-8")
    assert [now == then for now, then in zip(prints(), before, strict=True)] == [False, False]


def test_a_process_that_is_stopped_by_a_signal_is_not_well(components, monkeypatch, capsys):
    with subprocess.Popen(["sleep", "60"]) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        states = {"ActiveState": "active", "SubState": "running", "MainPID": str(process.pid)}
        monkeypatch.setattr(components, "properties", lambda *_: states)
        monkeypatch.setattr(components, "ask", lambda *_: (True, "answers"))
        monkeypatch.setattr(components, "clocks_differ", lambda _data: "")
        assert components.health() == 1
        process.send_signal(signal.SIGCONT)
        assert components.health() == 0
        process.kill()
    assert "SIGSTOP" in capsys.readouterr().out.splitlines()[0]


def test_the_database_is_asked_with_limits_and_under_a_name(components, host_settings, monkeypatch):
    (host_settings / "config/secrets/sql_alchemy_conn").write_text(
        "postgresql+psycopg2://airflow:p%40ss@db:5432/airflow?sslmode=require", encoding="utf-8")
    made = []

    class Error(Exception):
        pass

    def connect(url, **options):
        made.append((url, options))
        raise Error("no route to host\nmore")

    monkeypatch.setitem(sys.modules, "psycopg2", types.SimpleNamespace(connect=connect, Error=Error))
    with pytest.raises(ConnectionError, match="the metadata database can't be asked: no route to host$"):
        components.rows("SELECT 1")
    assert made == [("postgresql://airflow:p%40ss@db:5432/airflow?sslmode=require",
                     {"connect_timeout": 5, "tcp_user_timeout": 5000, "application_name": "airflow-components"})]
