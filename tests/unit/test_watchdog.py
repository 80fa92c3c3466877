"""The watchdog: what it restarts, and above all what it leaves alone."""

import importlib
import json
import os
import signal
import subprocess
import sys

import pytest


class Host:
    """A host with one scheduler, whose heartbeat and database do as they are told."""

    def __init__(self, module, tmp_path, monkeypatch):
        self.watchdog, self.beat, self.away, self.readonly = module, 1, False, False
        self.tasks, self.killed, self.counted = 0, [], {}
        self.pid = os.getpid()
        self.data = {
            "components": {
                "api-server": {"unit": "airflow-api-server"},
                "scheduler": {"unit": "airflow-scheduler", "job_type": "SchedulerJob"}
            },
            "watchdog_timeout": 60,
            "watchdog_task_timeout": 0,
            "watchdog_restarts": 6,
            "watchdog_window": 3600,
        }
        components = module.components
        monkeypatch.setattr(module, "STATE_DIR", tmp_path)
        monkeypatch.setattr(module, "evidence", lambda name, _component: tmp_path / f"{name}.txt")
        monkeypatch.setattr(components, "beating", lambda component: (self.pid, 7) if "job_type" in component else None)
        monkeypatch.setattr(components, "waits_for", lambda _component: self.tasks)
        monkeypatch.setattr(components, "rows", self.rows)
        really = os.kill
        # Signal 0 asks whether the process is there.
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append((pid, number))
                            if number else really(pid, 0))

    def rows(self, sql, *_values):
        if self.away or self.readonly and sql.startswith("UPDATE"):
            raise ConnectionError("the metadata database can't be asked: gone")
        return [(7, self.beat)] if sql.startswith("SELECT") else []

    def look(self, times=1):
        for _time in range(times):
            self.counted = self.watchdog.look(self.data, self.counted)
        return len(self.killed)


@pytest.fixture
def watchdog(monkeypatch):
    # Tests change the modules, each its own.
    for name in ("components", "watchdog"):
        monkeypatch.delitem(sys.modules, f"airflow_runtime.{name}", raising=False)
    return importlib.import_module("airflow_runtime.watchdog")


@pytest.fixture
def host(watchdog, tmp_path, monkeypatch):
    state = tmp_path / "state"
    state.mkdir()
    return Host(watchdog, state, monkeypatch)


def test_one_that_beats_is_left_alone(host):
    for beat in range(30):
        host.beat = beat
        assert host.look() == 0


def test_one_that_beats_no_more_is_killed_once_the_limit_has_passed(host, tmp_path, capsys):
    # The first look sees the heartbeat, six more see the same one.
    assert host.look(6) == 0
    assert host.look() == 1
    assert host.killed == [(host.pid, signal.SIGKILL)]
    entry = json.loads((tmp_path / "state/restarts.jsonl").read_text(encoding="utf-8"))
    assert (entry["unit"], entry["reason"], entry["evidence"]) == (
        "airflow-scheduler.service",
        "no heartbeat for 60 s",
        f"{tmp_path}/state/scheduler.txt",
    )
    assert "no heartbeat for 60 s; killed" in capsys.readouterr().out
    # As long as the process is still there, it counts from the beginning.
    assert host.look(6) == 1


def test_a_database_that_is_away_restarts_nothing_and_the_count_begins_anew(host, capsys):
    host.look(6)
    host.away = True
    assert host.look(20) == 0
    assert capsys.readouterr().out.count("no heartbeat can be judged") == 1
    host.away = False
    assert host.look(6) == 0
    host.beat = 2
    assert host.look() == 0


def test_a_database_that_takes_no_heartbeat_restarts_nothing(host, capsys):
    host.readonly = True
    assert host.look(20) == 0
    assert "none could be written" in capsys.readouterr().out


def test_one_that_beats_again_while_the_evidence_is_taken_is_left_alone(host, monkeypatch, tmp_path):
    def late(*_):
        host.beat = 2
        return tmp_path / "x"

    monkeypatch.setattr(host.watchdog, "evidence", late)
    assert host.look(7) == 0
    assert not (tmp_path / "state/restarts.jsonl").exists()


@pytest.mark.parametrize(("what", "killed"), [("evidence", 1), ("note_restart", 0)])
def test_a_full_disk_costs_the_evidence_but_what_can_t_be_counted_is_not_restarted(host, monkeypatch, what, killed):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(host.watchdog, what, full)
    assert host.look(7) == killed


@pytest.mark.parametrize("note", [None, (1, None)], ids=["starts, stops or is drained", "of an unknown row"])
def test_one_that_is_not_to_be_judged_is_left_alone(host, monkeypatch, note):
    monkeypatch.setattr(host.watchdog.components, "beating", lambda _component: note)
    assert host.look(20) == 0


def test_one_that_is_dead_is_systemds_matter(host):
    host.pid = 2**22 + 1
    assert host.look(20) == 0


def test_a_hung_scheduler_may_be_left_to_its_tasks_for_longer(host):
    host.data["watchdog_task_timeout"], host.tasks = 60, 3
    assert host.look(12) == 0
    assert host.look() == 1
    # Without tasks there is nothing to wait for.
    host.tasks = 0
    assert host.look(7) == 2


def test_what_restarting_does_not_mend_ends_it(host, capsys):
    """Six restarts within the hour are made, so five hangs in a row are mended; at the seventh the unit fails."""
    assert host.look(7 * 6) == 6
    with pytest.raises(SystemExit) as ended:
        host.look(7)
    assert ended.value.code == 100
    assert len(host.killed) == 6
    assert "no component of this host is restarted any more" in capsys.readouterr().out


def test_restarts_of_other_units_and_other_hours_don_t_count(host, tmp_path):
    lines = [{"time": "2020-01-01T00:00:00+00:00", "unit": "airflow-scheduler.service"}] * 600
    lines += [{"time": "2999-01-01T00:00:00+00:00", "unit": "airflow-triggerer.service"}] * 10
    (tmp_path / "state/restarts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert host.look(7) == 1
    assert len(
        (tmp_path / "state/restarts.jsonl").read_text(encoding="utf-8").splitlines()) == host.watchdog.KEEP_RESTARTS


def test_evidence_is_kept_and_the_oldest_goes(watchdog, tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "STATE_DIR", tmp_path)
    monkeypatch.setattr(watchdog.components, "rows", lambda *_: [(7, "running")])
    for number in range(watchdog.KEEP_EVIDENCE + 3):
        (tmp_path / f"20200101T0000{number:02}Z-scheduler.txt").write_text("old", encoding="utf-8")
    with subprocess.Popen(["sleep", "60"]) as process:
        monkeypatch.setattr(watchdog.components, "beating", lambda _component: (process.pid, 7))
        path = watchdog.evidence("triggerer", {"unit": "airflow-triggerer", "job_type": "TriggererJob"})
        assert process.poll() is None
        process.kill()
    text = path.read_text(encoding="utf-8")
    assert "==== row in table job\n7 | running\n" in text
    assert f"==== wchan of process {process.pid}\n" in text
    assert f"==== thread {process.pid}\ncomm: sleep\n" in text
    assert path.stat().st_mode & 0o777 == 0o640
    assert len(list(tmp_path.glob("*.txt"))) == watchdog.KEEP_EVIDENCE
