"""Restart a component of this host that is alive and beats no more. Reads components.json in the configuration
directory.

watchdog watch          look at all components, for ever (the unit airflow-watchdog)
watchdog evidence NAME  keep what there is to see of a component, and print the file's path

A component is restarted where its heartbeat in the database stays the same at so many looks in a row that the limit has
passed. Looks are counted, and not the time, so that a host that stood still for an hour, or a clock that was set,
restarts nothing. A look that the database does not answer starts the count anew. A component that still starts, or that
was told to stop, is not looked at.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_runtime import components

STATE_DIR = Path("/var/lib/airflow-watchdog")
# Looks until the limit.
LOOKS = 6
KEEP_EVIDENCE = 20
KEEP_RESTARTS = 500
GAVE_UP = 100
# {name of a component: (its heartbeat, looks at which it was the same)}
Counted = dict[str, tuple[Any, int]]


def notify(state: str) -> None:
    """Tell systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(state.encode(), address.replace("@", "\0", 1))


def read(path: str | Path) -> str:
    """Return the content of a file, or why it can't be had."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"


def output(*command: str) -> str:
    """Return what a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({error})"
    return done.stdout + done.stderr


def answers(sql: str, *values: Any) -> str:
    """Return what the database answers, a line per row."""
    try:
        return "\n".join(" | ".join(map(str, row)) for row in components.rows(sql, *values))
    except ConnectionError as error:
        return f"({error})"


def processes(unit: str) -> list[int]:
    """Return the numbers of the unit's processes, the oldest first."""
    return sorted(int(path.name) for path in Path("/proc").glob("[0-9]*") if components.runs_in(unit, path.name))


def descriptors(pid: int) -> str:
    """Return what the process has open, a line each."""
    try:
        return "\n".join(f"{link.name} {os.readlink(link)}" for link in sorted(Path("/proc", str(pid), "fd").iterdir()))
    except OSError as error:
        return f"({error.strerror})"


def sections(component: dict[str, Any], pid: int, job: int | None) -> Iterator[tuple[str, str]]:
    """Yield (title, text) of all that may tell why the component hangs."""
    unit, proc = component["unit"], Path("/proc", str(pid))
    yield "row in table job", answers("SELECT * FROM job WHERE id = %s", job)
    yield "running tasks", answers(
        "SELECT dag_id, run_id, task_id, map_index, try_number, hostname, pid, start_date FROM task_instance WHERE "
        "state = 'running'"
    )
    yield "sessions of the database", answers(
        "SELECT pid, application_name, client_addr, state, wait_event_type, wait_event, pg_blocking_pids(pid), "
        "xact_start,"
        " left(regexp_replace(query, '\\s+', ' ', 'g'), 60)"
        " FROM pg_stat_activity WHERE datname = current_database() ORDER BY xact_start")
    yield "processes of the unit", "\n".join(
        f"{number} {read(f'/proc/{number}/wchan')} {read(f'/proc/{number}/stat').rpartition(')')[2][:12]} "
        + read(f"/proc/{number}/cmdline").replace("\0", " ")
        for number in processes(unit)
    )
    for name in ("status", "wchan", "stack", "syscall"):
        yield f"{name} of process {pid}", read(proc / name)
    for thread in sorted(proc.glob("task/[0-9]*")):
        yield f"thread {thread.name}", "\n".join(f"{name}: {read(thread / name)}"
                                                 for name in ("comm", "wchan", "stack", "syscall"))
    yield f"open files of process {pid}", descriptors(pid)
    sockets = output("ss", "-tanp").splitlines()
    yield f"TCP connections of process {pid}", "\n".join(line for line in sockets if f"pid={pid}," in line)
    for name in ("loadavg", "meminfo", "pressure/cpu", "pressure/io", "pressure/memory"):
        yield name, read(Path("/proc", name))
    yield "file systems", output("df", "-h")
    yield "journal", output("journalctl", "--no-pager", "--output=short-iso-precise", "--lines=300",
                            f"--unit={unit}.service")


def evidence(name: str, component: dict[str, Any]) -> Path:
    """Keep what there is to see of a component, and return the file's path. Of earlier ones, the newest are kept."""
    pid, job = components.beating(component) or (0, None)
    if pid and component.get("job_type") == "SchedulerJob":
        # It then logs its stack and what its executor holds, unless its main thread is stuck outside of Python.
        os.kill(pid, signal.SIGUSR2)
        time.sleep(2)
    now = datetime.datetime.now(datetime.timezone.utc)
    path = STATE_DIR / f"{now:%Y%m%dT%H%M%SZ}-{name}.txt"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
        for title, text in sections(component, pid, job):
            file.write(f"==== {title}\n{text}\n\n")
    for old in sorted(STATE_DIR.glob("*.txt"))[:-KEEP_EVIDENCE]:
        old.unlink()
    return path


def restarts() -> list[dict[str, str]]:
    """Return what was restarted, the oldest first."""
    path = STATE_DIR / "restarts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def note_restart(unit: str, reason: str, path: Path | str) -> None:
    """Remember a restart before it is made."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    entries = [*restarts(), {"time": now, "unit": f"{unit}.service", "reason": reason,
                             "evidence": str(path)}][-KEEP_RESTARTS:]
    new = STATE_DIR / "restarts.jsonl.new"
    new.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    new.replace(STATE_DIR / "restarts.jsonl")


def spent(data: dict[str, Any], unit: str) -> int:
    """Return how often the unit was restarted within the window of the budget."""
    since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=data["watchdog_window"])
    return sum(entry["unit"] == f"{unit}.service" and datetime.datetime.fromisoformat(entry["time"]) > since
               for entry in restarts())


def heartbeats(data: dict[str, Any]) -> dict[str, tuple[int, int, Any]]:
    """Return {name: (process, row, heartbeat)} of the components that are to beat."""
    noted = {name: components.beating(part) for name, part in data["components"].items() if "job_type" in part}
    found = {name: note for name, note in noted.items() if note and note[1] is not None and components.alive(note[0])}
    beats = dict(
        components.rows("SELECT id, latest_heartbeat FROM job WHERE id = ANY(%s)",
                        [job for _pid, job in found.values()]))
    return {name: (pid, job, beats[job]) for name, (pid, job) in found.items() if job in beats}


def mend(data: dict[str, Any], name: str, seen: tuple[int, int, Any]) -> None:
    """Kill a component that beats no more, for systemd to start it anew."""
    component = data["components"][name]
    unit, reason = component["unit"], f"no heartbeat for {data['watchdog_timeout']} s"
    try:
        components.heartbeat_can_be_written()
    except ConnectionError as error:
        print(f"<4>{unit}: {reason}, and none could be written: {error}", flush=True)
        return
    if spent(data, unit) >= data["watchdog_restarts"]:
        print(
            f"<2>{unit}: {reason}, again after {data['watchdog_restarts']} restarts within {data['watchdog_window']} "
            "s. Restarting does not mend"
            f" it, so no component of this host is restarted any more. Evidence: {STATE_DIR}. See "
            "docs/runbooks/recover_scheduler.md.",
            flush=True,
        )
        sys.exit(GAVE_UP)
    try:
        path: Path | str = evidence(name, component)
    except OSError as error:
        path = f"none, {error}"
    try:
        if heartbeats(data).get(name) != seen:
            return
    except ConnectionError:
        return
    try:
        note_restart(unit, reason, path)
    except OSError as error:
        print(
            f"<2>{unit}: {reason}, and is not restarted: restarts that can't be counted could go on for ever. {error}",
            flush=True)
        return
    print(f"<3>{unit}: {reason}; killed for systemd to start it anew. Evidence: {path}", flush=True)
    os.kill(seen[0], signal.SIGKILL)


def look(data: dict[str, Any], before: Counted | None) -> Counted | None:
    """Return {name: (heartbeat, looks at which it was the same)}, and mend what has not beaten for too long."""
    try:
        now = heartbeats(data)
    except ConnectionError as error:
        if before is not None:
            print(f"<4>no heartbeat can be judged: {error}", flush=True)
        return None
    counted: Counted = {}
    for name, seen in now.items():
        last, looks = (before or {}).get(name, (None, 0))
        counted[name] = (seen, looks + 1 if seen == last else 0)
    patience = LOOKS * data["watchdog_task_timeout"] / data["watchdog_timeout"]
    for name, (seen, looks) in list(counted.items()):
        if looks >= LOOKS + patience or looks >= LOOKS and not components.waits_for(data["components"][name]):
            del counted[name]
            mend(data, name, seen)
    return counted


def watch() -> None:
    """Look at all components for ever."""
    data = components.load()
    watchdog = data["watchdog"][0]
    components.runtime(watchdog, "started-with").write_text("\n".join(components.current(data, watchdog)))
    notify("READY=1")
    counted: Counted | None = {}
    while True:
        counted = look(data, counted)
        notify("WATCHDOG=1")
        time.sleep(data["watchdog_timeout"] / LOOKS)


if __name__ == "__main__":
    if sys.argv[1:] == ["watch"]:
        watch()
    elif len(sys.argv) == 3 and sys.argv[1] == "evidence":
        print(evidence(sys.argv[2], components.load()["components"][sys.argv[2]]))
    else:
        sys.exit(__doc__)
