"""Modules of the daily runbooks: what they decide."""

import fcntl
import importlib.util
import json
import pathlib

import pytest
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"plugins/modules/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pause, stuck, disk, logs = (
    load(name) for name in ("airflow_dag_pause", "airflow_stuck_tasks", "airflow_disk_space", "airflow_logs")
)


def dag(name, paused=False, tags=(), running=0):
    return {"dag_id": name, "paused": paused, "tags": list(tags), "running": running}


class Airflow:
    """Stands in for the metadata database, and notes what it was told."""

    def __init__(self, *dags):
        self.dags, self.told = {one["dag_id"]: one for one in dags}, []

    def ask(self, _params, request):
        if request.get("question") == "dags":
            return {"dags": list(self.dags.values())}
        for name, state in request["declared"]["dag_state"].items():
            self.dags[name] = {**self.dags[name], **state}
        self.told.append(request["declared"]["dag_state"])
        return {"changes": []}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run airflow_dag_pause against these DAGs."""

    def call(airflow, check_mode=False, **arguments):
        monkeypatch.setattr(pause, "ask", airflow.ask)
        record = tmp_path / "sub/paused.json"
        with patch_module_args({
                **arguments, "record": str(record), "_ansible_check_mode": check_mode,
                "_ansible_remote_tmp": str(tmp_path)
        }):
            with pytest.raises(SystemExit):
                pause.main()
        result = json.loads(capsys.readouterr().out)
        return result, json.loads(record.read_text()) if record.exists() else None

    return call


def test_pausing_remembers_and_adds(run):
    airflow = Airflow(dag("a"), dag("b", paused=True), dag("c"))
    result, record = run(airflow, state="paused", dags=["a"])
    assert (result["changed"], result["dags"], set(record)) == (True, ["a"], {"a"})
    result, record = run(airflow, state="paused")
    assert (result["dags"], result["others"], set(record)) == (["c"], 1, {"a", "c"})
    result, _record = run(airflow, state="paused")
    assert (result["changed"], len(airflow.told)) == (False, 2)


def test_the_record_is_for_its_maker_and_on_the_disk_before_it_has_its_name(run, files_seen):
    run(Airflow(dag("a")), state="paused", dags=["a"])
    assert (
        files_seen.created["sub"] == 0o700
        and files_seen.named["paused.json"] == (0o600, True)
        and not files_seen.unflushed
    )


@pytest.mark.parametrize("state", ["paused", "resumed"])
def test_two_people_at_once_do_not_lose_each_others_names(run, tmp_path, state):
    """Between the reading and the writing of the record nobody else may do either."""
    held = []

    class Busy(Airflow):
        def ask(self, params, request):
            with open(f"{params['record']}.lock", encoding="utf-8") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held.append(True)
            return super().ask(params, request)

    run(Busy(dag("a")), state="paused")
    run(Busy(dag("a", paused=True)), state=state)
    assert len(held) == (3 if state == "paused" else 4)
    with open(tmp_path / "sub/paused.json.lock", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_resuming_takes_only_what_was_remembered(run):
    airflow = Airflow(dag("a"), dag("b", paused=True), dag("c"))
    run(airflow, state="paused")
    airflow.dags["new"] = dag("new", paused=True)
    del airflow.dags["c"]
    result, record = run(airflow, state="resumed")
    assert (result["dags"], result["gone"], result["others"], record) == (["a"], ["c"], 2, None)
    assert {name for name, one in airflow.dags.items() if one["paused"]} == {"b", "new"}


def test_resuming_one_keeps_the_others_remembered(run):
    airflow = Airflow(dag("a"), dag("c", tags=["x"]))
    run(airflow, state="paused")
    assert run(airflow, state="resumed", tag="x")[1].keys() == {"a"}


@pytest.mark.parametrize("state", ["paused", "resumed"])
def test_check_mode_writes_nothing(run, state):
    airflow = Airflow(dag("a"))
    if state == "resumed":
        run(airflow, state="paused")
    told = list(airflow.told)
    before = run(airflow, check_mode=True, state="paused")[1]
    result, record = run(airflow, check_mode=True, state=state)
    assert (result["changed"], result["dags"], record, airflow.told) == (True, ["a"], before, told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({"state": "paused", "dags": ["report"]}, "Did you mean reports?"),
     ({"state": "resumed", "dags": ["reports"]}, "not paused by pause_dags")],
)
def test_what_it_does_not_know_it_refuses_before_anything(run, arguments, told):
    airflow = Airflow(dag("reports"))
    result, record = run(airflow, **arguments)
    assert result["failed"]
    assert told in result["msg"]
    assert (airflow.told, record) == ([], None)


def test_it_waits_for_running_tasks_and_names_those_that_do_not_end(run, monkeypatch):
    monkeypatch.setattr(pause.time, "sleep", lambda seconds: None)
    ends = Airflow(dag("a", running=1))
    asked = []
    real = ends.ask

    def ask(params, request):
        asked.append(request)
        ends.dags["a"]["running"] = 0 if len(asked) > 4 else 1
        return real(params, request)

    ends.ask = ask
    assert not run(ends, state="paused", wait=60)[0].get("failed")
    assert len(asked) > 4
    clock = iter(range(0, 10000, 100))
    monkeypatch.setattr(pause.time, "monotonic", lambda: next(clock))
    assert "b (2)" in run(Airflow(dag("b", running=2)), state="paused", wait=60)[0]["msg"]


def task(**more):
    return {
        "dag_id": "a",
        "run_id": "r",
        "task_id": "t",
        "map_index": -1,
        "state": "running",
        "pool": "p",
        "hostname": "h",
        "paused": False,
        "slots": 4,
        "used": 1,
        "age": 3600,
        "silent": 3600,
        "queued_by_silent": 5,
        **more,
    }


@pytest.mark.parametrize(
    ("one", "scheduler", "told", "helps"),
    [
        (task(), 5, "its process on h has for 60 minutes not", True),
        (task(), 500, "no scheduler works", True),
        (task(state="queued", queued_by_silent=None), 5, "the scheduler that queued it is gone", True),
        (task(state="queued"), 5, "no free slot", True),
        (task(state="scheduled"), None, "recover_scheduler", False),
        (task(state="scheduled", paused=True), 5, "its DAG is paused", False),
        (task(state="scheduled", slots=None), 5, "there is no pool p", False),
        (task(state="scheduled", used=4), 5, "pool p is full (4 of 4", False),
        (task(state="scheduled"), 5, "max_active_tasks", False),
    ],
)
def test_what_is_stuck_is_told_why(one, scheduler, told, helps):
    (found,) = stuck.judged({"tasks": [one], "scheduler_silent": scheduler}, 15, "")
    assert told in found["why"]
    assert found["clearing_helps"] is helps


def test_what_beats_or_is_young_or_is_of_another_dag_is_not_stuck():
    young = [task(silent=10), task(state="queued", age=10), task(state="running", silent=None, age=10)]
    assert stuck.judged({"tasks": young, "scheduler_silent": 5}, 15, "") == []
    assert stuck.judged({"tasks": [task()], "scheduler_silent": 5}, 15, "b") == []
    assert len(stuck.judged({"tasks": [task(), task(silent=None)], "scheduler_silent": 5}, 15, "a")) == 2


@pytest.mark.parametrize(("three", "ids"), [(True, ["t", ["m", 0], ["m", 1]]), (False, ["t", "m"])])
def test_tasks_are_cleared_run_by_run(three, ids):
    calls = []

    class Api:
        def path(self, *parts):
            return "/".join(parts)

        def call(self, path, body):
            calls.append((path, body["dag_run_id"], body["task_ids"], body["dry_run"], body["only_failed"]))

    Api.three = three
    tasks = [{**task(), "name": "n"}, {**task(task_id="m", map_index=0), "name": "n"},
             {**task(task_id="m", map_index=1), "name": "n"}]
    assert len(stuck.clear(Api(), [*tasks, {**task(run_id="other"), "name": "n"}])) == 4
    assert calls == [("dags/a/clearTaskInstances", "r", ids, False, False),
                     ("dags/a/clearTaskInstances", "other", ["t"], False, False)]


def test_a_virtualenv_that_runs_or_is_being_built_stays(tmp_path, monkeypatch):
    for name in ("running", "old", "torn"):
        (tmp_path / "venvs" / name).mkdir(parents=True)
        (tmp_path / "venvs" / name / "file").write_text("x" * 5000)
    for name in ("running", "old"):
        (tmp_path / "venvs" / name / "release.json").touch()
    (tmp_path / "venv").symlink_to("venvs/running")
    (tmp_path / "installers").mkdir()
    monkeypatch.setattr(disk, "in_use", lambda _directory: {})
    space = disk.Space({"install_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "journal_mb": 500})
    # Nobody knows whether one is being built.
    assert space.incomplete() == []
    (tmp_path / "installers/lock").touch()
    assert space.incomplete() == [str(tmp_path / "venvs/torn")]
    with open(tmp_path / "installers/lock", "w", encoding="utf-8") as lock:
        disk.fcntl.flock(lock, disk.fcntl.LOCK_EX)
        assert space.incomplete() == []

    size, get = space.old_virtualenvs()
    assert size > 0
    get()
    assert (tmp_path / "venvs/running").exists()
    assert not (tmp_path / "venvs/old").exists()


def test_the_newest_attempt_of_each_task_of_the_last_run_is_shown(tmp_path):
    def wrote(path, at):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
        disk.os.utime(tmp_path / path, (at, at))

    for at, path in enumerate((
            "dag_id=a/run_id=first/task_id=x/attempt=1.log",
            "dag_id=a/run_id=last/task_id=x/attempt=1.log",
            "dag_id=a/run_id=last/task_id=x/attempt=2.log",
            "dag_id=a/run_id=last/task_id=y/map_index=3/attempt=1.log",
            "dag_id=b/run_id=last/task_id=x/attempt=1.log",
    ), 1000):
        wrote(path, at)
    args = {"log_dir": str(tmp_path), "dag_id": "a", "run_id": "", "task_id": "", "since": ""}

    def shown(**more):
        return [path[len(str(tmp_path)) + 1:] for path in logs.task_files({**args, **more})]

    assert shown() == [
        "dag_id=a/run_id=last/task_id=x/attempt=2.log", "dag_id=a/run_id=last/task_id=y/map_index=3/attempt=1.log"
    ]
    assert shown(run_id="first") == ["dag_id=a/run_id=first/task_id=x/attempt=1.log"]
    assert shown(task_id="y") == ["dag_id=a/run_id=last/task_id=y/map_index=3/attempt=1.log"]
    assert shown(dag_id="*") == []
