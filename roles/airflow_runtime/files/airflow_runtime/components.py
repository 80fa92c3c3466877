"""Ask the Airflow components of this host how they are, and stop one. Reads components.json in the configuration
directory.

components reach        return once the metadata database answers and nobody changes it (systemd's ExecStartPre)
components wait NAME    return once the component's own signal is good (systemd's ExecStartPost; its TimeoutStartSec is
the limit) components stop NAME PID  tell the component to stop, and return once it has (systemd's ExecStop)
components ended NAME   say which tasks ended with a component that did not end by itself, and have them repeated
(systemd's ExecStopPost) components pending      print as JSON the units that are down, were started with other files
than those that lie there now, or are not enabled components plugins      print as JSON the units that run with other
plugins than those that lie there now components health [NAME]  print a line per component, and one if the clock of the
database differs; exit 1 if one is not well components health-and-jobs  the same, then as JSON this host's names and
rows of table job, and all rows with a fresh heartbeat components tasks        print as JSON the tasks that run on this
host, and those of the inventory's database whose scheduler is gone components database     exit 1 where a component's
heartbeat could not be written
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

from airflow_runtime import component_health, metadata, settings

UNITS = Path("/etc/systemd/system")
# Seconds. Airflow beats every five.
BETWEEN_LOOKS = 3
# Seconds after which Airflow holds a scheduler for dead ([scheduler] scheduler_health_check_threshold).
FRESH = 30
# Seconds that a child which is told to stop before its component may take. Airflow itself gives it as many.
CHILD_TIMEOUT = 10
# The sessions that hold the lock of hold, database or backup. The two halves of its number are two columns.
CHANGES = """
    SELECT pid, coalesce(application_name, 'a program'), coalesce(host(client_addr), '')
    FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND (classid::bigint << 32) | objid::bigint = hashtext('airflow-schema')
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY pid
"""
# Looks in a row, a tenth of a second apart, that must find a server idle before it is ended. Its last lines go to the
# journal meanwhile.
IDLE_LOOKS = 3


def load() -> dict[str, Any]:
    """Return the content of components.json, and take over the components' environment: it says how the database is
    verified.
    """
    for line in (settings.config_dir() / "environment").read_text().splitlines():
        for word in shlex.split(line, comments=True):
            os.environ.setdefault(*word.split("=", 1))
    # Python has read this variable already if systemd started it. A person's shell does not have it, and the function
    # of hostname_callable may need it.
    sys.path += [path for path in os.environ.get("PYTHONPATH", "").split(":") if path and path not in sys.path]
    data: dict[str, Any] = json.loads((settings.config_dir() / "components.json").read_text())
    return data


def known(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a component of this host, or one that leaves it for another."""
    component: dict[str, Any] = data["components"].get(name) or data["elsewhere"][name]
    return component


def ask_http(check: dict[str, Any]) -> tuple[bool, str]:
    """Return (well, what it said) of a health endpoint."""
    problem = component_health.answer_problem(check, component_health.answer_of(check["url"], 5))
    return not problem, problem or "answers"


def rows(sql: str, *values: Any) -> list[Any]:
    """Return what the metadata database answers."""
    import psycopg2

    try:
        connection = metadata.connect("airflow-components", tcp_user_timeout=5000)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = '5s'")
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()
    except psycopg2.Error as error:
        raise ConnectionError(f"the metadata database can't be asked: {str(error).partition(chr(10))[0]}") from error


def query(sql: str, *values: Any) -> Any:
    """Return the one value that the metadata database answers."""
    return rows(sql, *values)[0][0]


def clock_ahead() -> float:
    """Return the seconds that the database's clock is ahead of this host's; less than zero if it is behind."""
    asked = time.time()
    now: float = query("SELECT extract(epoch FROM clock_timestamp())::float8")
    # The database reads its clock somewhere between these two times, so a slow answer is no difference.
    return now - min(max(now, asked), time.time())


def clocks_differ(data: dict[str, Any]) -> str:
    """Return what there is to say of the database's clock; nothing if it agrees with this host's.

    A component's heartbeat is a time of its own host, and the other hosts compare it with theirs. At a difference of
    this size they take a component that works for dead, or one that is dead for alive.
    """
    ahead = clock_ahead()
    if abs(ahead) <= data["heartbeat_timeout"]:
        return ""
    side = "ahead of" if ahead > 0 else "behind"
    return f"the database's clock is {abs(ahead):.0f} s {side} this host's: synchronise both with NTP"


def ask_job(component: dict[str, Any], data: dict[str, Any], since: float | None = None) -> tuple[bool, str]:
    """Return (well, what it said) of a component that beats in the database."""
    try:
        job = own_job(component, since)
    except ConnectionError as error:
        return False, str(error)
    if job is None:
        return False, f"no heartbeat of host {' or '.join(host_names())}"
    # The component wrote this time with this host's clock, so only that clock tells its age.
    age = time.time() - job[1]
    return component_health.beats(age, data["heartbeat_timeout"]), f"last heartbeat {age:.0f} s ago"


def ask(component: dict[str, Any], data: dict[str, Any], since: float | None = None) -> tuple[bool, str]:
    """Return (well, what it said) of one component: first of its endpoint, then of its heartbeat, if it has both."""
    well, said = ask_http(component["check"]) if "url" in component["check"] else (True, "")
    return ask_job(component, data, since) if well and "job_type" in component else (well, said)


def files(data: dict[str, Any], component: dict[str, Any]) -> list[str]:
    """Return the paths of the files that the component starts with: configuration, secrets and unit."""
    return [*data["files"], *component.get("files", []), f"/etc/systemd/system/{component['unit']}.service"]


def fingerprint(data: dict[str, Any], component: dict[str, Any]) -> str:
    """Return a hash of all that the component starts with: these files and the virtualenv."""
    digest = hashlib.sha256(os.path.realpath(data["venv"]).encode())
    for path in files(data, component):
        digest.update(path.encode() + b"\0" + Path(path).read_bytes())
    return digest.hexdigest()


def changed_since(data: dict[str, Any], component: dict[str, Any], start: float) -> bool:
    """Return whether any of it has changed since then."""
    return any(Path(path).lstat().st_ctime > start for path in [data["venv"], *files(data, component)])


def plugins(data: dict[str, Any]) -> str:
    """Return the hash of the plugins in the DAG release in place; nothing before there is one."""
    path = Path(data["plugins"])
    return path.read_text().strip() if path.exists() else ""


def current(data: dict[str, Any], component: dict[str, Any]) -> tuple[str, str]:
    """Return what the component would be started with now: the fingerprint and, where it loads them, the plugins."""
    return fingerprint(data, component), plugins(data) if "command" in component else ""


def runtime(component: dict[str, Any], name: str) -> Path:
    """Return the path of a note about the running component. systemd makes the directory anew for each start."""
    return Path("/run", component["unit"], name)


def noted(component: dict[str, Any]) -> tuple[str, ...]:
    """Return what the component was started with; nothing where that is not known."""
    note = runtime(component, "started-with")
    return tuple(note.read_text().split("\n")) if note.exists() else ()


def host_names() -> list[str]:
    """Return the names that Airflow may know this host by: what the configured function says, or else what Airflow's
    own may have found.
    """
    config = configparser.RawConfigParser(strict=False)
    config.read(settings.config_dir() / "airflow.cfg")
    configured = os.environ.get("AIRFLOW__CORE__HOSTNAME_CALLABLE") or config.get(
        "core", "hostname_callable", fallback="")
    if configured:
        module, _, function = configured.rpartition(".")
        return [getattr(importlib.import_module(module), function)()]
    name = socket.gethostname()
    try:
        canonical = {
            address[3]
            for address in socket.getaddrinfo(name, None, 0, socket.SOCK_DGRAM, 0, socket.AI_CANONNAME)
        }
    except OSError:
        canonical = set()
    return sorted({name, socket.getfqdn(), *canonical} - {""})


def noted_job(component: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return (process, number of its row in table job) of a component that has become well, or nothing."""
    note = runtime(component, "beats")
    return tuple(json.loads(note.read_text())) if note.exists() else None


def own_job(component: dict[str, Any], since: float | None = None) -> Any:
    """Return (number, time of the heartbeat) of the component's row in table job, or nothing.

    Other hosts have rows of the same type, and so has a second process of this host. The start has noted which row it
    is. Until then it is the newest row of this host. since: the component's start, which leaves out the rows of earlier
    ones.
    """
    _process, number = noted_job(component) or (None, None)
    columns = "SELECT id, extract(epoch FROM latest_heartbeat)::float8 FROM job WHERE state = 'running'"
    if number is not None:
        found = rows(f"{columns} AND id = %s", number)
    else:
        found = rows(
            f"{columns} AND job_type = %s AND hostname = ANY(%s) AND extract(epoch FROM start_date) >= %s"
            " ORDER BY id DESC LIMIT 1",
            component["job_type"], host_names(), since or 0,
        )
    return found[0] if found else None


def beating(component: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return (process, row in table job) of a component that has become well and was not told to stop, or nothing."""
    return None if runtime(component, "stopping").exists() else noted_job(component)


def tasks_here() -> list[tuple[str, int | None]]:
    """Return [(what Airflow calls it, process)] of the tasks that the database holds for running on this host."""
    found = rows(
        "SELECT dag_id, run_id, task_id, map_index, try_number, pid FROM task_instance"
        " WHERE state = 'running' AND hostname = ANY(%s) ORDER BY dag_id, run_id, task_id, map_index", host_names(),
    )
    return [(f"dag {dag}, run {run}, task {task}{f' [{index}]' if index >= 0 else ''}, try {number}", pid)
            for dag, run, task, index, number, pid in found]


def runs_in(unit: str, pid: int | str | None) -> bool:
    """Return whether the process is there, and the unit's."""
    try:
        return f"/{unit}.service" in Path("/proc", str(pid), "cgroup").read_text()
    except OSError:
        return False


def running_tasks(component: dict[str, Any]) -> list[str]:
    """Return the tasks whose processes are the component's."""
    return [task for task, pid in tasks_here() if runs_in(component["unit"], pid)]


def being_changed() -> str:
    """Return what there is to say of a migration or a restore that changes the database; nothing if there is none."""
    found = rows(CHANGES)
    if not found:
        return ""
    places = [f"session {pid} from {address}" if address else f"session {pid}" for pid, _name, address in found]
    sessions = ", ".join(f"{name} ({place})" for (_pid, name, _address), place in zip(found, places))
    return (
        f"a migration or a restore changes the metadata database, and holds it by {sessions}. Airflow starts when this"
        " has ended. If its run died, airflow-hold ends within 5 minutes, or at once by systemctl stop airflow-hold on"
        " its host")


def reach() -> None:
    """Block until the metadata database answers and nobody changes it.

    Airflow would end without the database, and cost the host a new start every ten seconds. On a schema that changes,
    or on a database that is replaced, it would lose what it does. Nobody has stopped a host that boots meanwhile.
    """
    data = load()
    said = None
    while True:
        try:
            differ, why = clocks_differ(data), being_changed()
        except ConnectionError as error:
            why = str(error)
        if not why:
            break
        if why != said:
            said = why
            print(f"waiting: {said}", flush=True)
        time.sleep(1)
    if differ:
        print(f"<4>{differ}", flush=True)


def wait(name: str) -> None:
    """Block until the component is well, then note what it was started with."""
    data = load()
    component = data["components"][name]
    note = runtime(component, "started-with")
    main = int(os.environ.get("MAINPID", "0"))
    # A unit that is stopped while it starts has no ExecStop: systemd tells the component and this process, once, and
    # waits for both.
    def terminated(_number: int, _frame: Any) -> None:
        stop(name, main, time.time())
        sys.exit()

    signal.signal(signal.SIGTERM, terminated)
    # Taken before the wait: a file that changes meanwhile must make the note stale.
    started_with = "\n".join(current(data, component))
    # systemd has made the directory for this start. A server that tells when it is ready may have read its files long
    # before now, and on a busy host a component may have its row before this program runs.
    since = note.parent.stat().st_mtime
    in_doubt = changed_since(data, component, since)
    said = None
    while True:
        well, now_said = ask(component, data, since)
        if well:
            break
        if now_said != said:
            said = now_said
            print(f"waiting: {said}", flush=True)
        if main and not alive(main):
            # systemd would wait for this process until TimeoutStartSec, and start the component anew only then.
            sys.exit("it has ended before it was well")
        time.sleep(0.3)
    if not in_doubt:
        note.write_text(started_with)
    if "job_type" in component:
        job = own_job(component, since)
        runtime(component, "beats").write_text(json.dumps([main, job and job[0]]))


def alive(pid: int) -> bool:
    """Return whether the process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def tell(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Return the processes whose parent the process is, with those that have ended and that it has not noticed yet."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if component_health.process(path.name)[1] == pid]


def forks(pid: int) -> list[int]:
    """Return the children that run the program of their parent. Its helpers, such as multiprocessing's, run another."""
    def program(number: int) -> bytes:
        try:
            return Path("/proc", str(number), "cmdline").read_bytes()
        except OSError:
            return b""

    return [child for child in children(pid) if program(child) == program(pid) != b""]


def stop_child_first(pid: int) -> None:
    """Tell the child of a component to stop, and return once it has ended.

    Airflow's triggerer tells its child itself, then waits for the child's sockets and for its exit code. The sockets
    close a moment earlier. If the triggerer looks in this moment, it sleeps for the ten seconds of
    kill(escalation_delay=10). A triggerer that was not told yet looks every second. Events that the child has sent
    are stored as always. Triggers that run are rows in the database, and the next triggerer runs them.
    """
    told = forks(pid)
    for child in told:
        print(f"told its child {child} to stop first. It may log that this process has died", flush=True)
        tell(child, signal.SIGTERM)
    limit = time.monotonic() + CHILD_TIMEOUT
    while time.monotonic() < limit and any(component_health.process(child)[0] not in ("", "X", "Z") for child in told):
        time.sleep(0.05)


def connections(pid: int) -> set[str]:
    """Return the TCP sockets of a process, open or listening. Raise OSError where nobody can tell."""
    links = {os.readlink(path) for path in Path("/proc", str(pid), "fd").iterdir()}
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc", str(pid), "net", table)
        # A host may have no IPv6.
        found.update(line.split()[9] for line in (path.read_text().splitlines()[1:] if path.exists() else []))
    return links & {f"socket:[{inode}]" for inode in found}


def idle(component: dict[str, Any], pid: int) -> bool:
    """Return whether a server that was told to stop has nothing left to do: no worker, no port and no connection."""
    try:
        return bool(component.get("serves")) and not children(pid) and not connections(pid)
    except OSError:
        return False


def beats_on(component: dict[str, Any], since: float) -> bool:
    """Return whether the component of this host has beaten after that time."""
    if "job_type" not in component:
        return False
    try:
        job = own_job(component)
    except ConnectionError:
        return False
    return job is not None and job[1] > since + 1


def works_on(component: dict[str, Any], since: float) -> bool:
    """Return whether the component works as if it had not been told to stop. A server that was told closes its port."""
    return ask_http(component["check"])[0] if component.get("serves") else beats_on(component, since)


def waits_for(component: dict[str, Any]) -> int:
    """Return how many tasks the component waits for. A database that does not answer is no reason to kill one."""
    if not component.get("drains"):
        return 0
    try:
        return len(running_tasks(component))
    except ConnectionError:
        return 1


def stop(name: str, pid: int | str = "0", told: float | None = None) -> None:
    """Tell the component to stop and wait until it has. One that drains must hear it once only: at the second time it
    drops its tasks.
    told: when it was told already.

    Airflow's handler raises SystemExit wherever the main thread is. In a destructor or a weak reference's callback
    Python drops it, and the component works on as if nothing had been said. It gives itself away by its heartbeat,
    which one that drains has no more, and a server by an answer.

    It has the time of its tasks, up to the limit of those. With no task left it has the time of any other: one that
    hangs is not waited for.

    A server that has finished its requests is ended: Python would take two more seconds to clear its memory. The unit
    takes this signal for success.
    """
    pid = int(pid)  # systemd gives none where the component has ended by itself.
    data = load()
    component = known(data, name)
    runtime(component, "stopping").touch()
    if pid and told is None and component.get("child_first"):
        stop_child_first(pid)
    begun = busy = time.monotonic()
    said = looks = 0
    while pid and alive(pid):
        now = time.monotonic()
        if now - begun > data["drain_timeout"] or now - busy > data["stop_timeout"]:
            print("<4>killed: it did not stop in time", flush=True)
            tell(pid, signal.SIGKILL)
        elif told is None or works_on(component, told):
            if told:
                print("told again to stop: it works on as if it had not been told", flush=True)
            tell(pid, signal.SIGTERM)
            told = time.time()
        for _tenth in range(int(BETWEEN_LOOKS * 10)):
            if not alive(pid):
                return
            looks = looks + 1 if idle(component, pid) else 0
            if looks == IDLE_LOOKS:
                print("ended: it has finished its requests", flush=True)
                tell(pid, signal.SIGALRM)
            time.sleep(0.1)
        tasks = waits_for(component)
        if tasks:
            busy = time.monotonic()
            if tasks != said:
                said = tasks
                print(f"waiting for {tasks} running tasks, until {data['drain_timeout'] - busy + begun:.0f} s from now",
                      flush=True)


def ended(name: str) -> None:
    """Name the tasks that a component which was killed has taken with it. Airflow would notice within five minutes that
    its scheduler is gone, or that a task is; with its row in table job closed, the next scheduler has the tasks
    repeated as soon as it starts.
    """
    component = known(load(), name)
    note = runtime(component, "beats")
    # One that ends while it starts has no task yet.
    if os.environ.get("SERVICE_RESULT") == "success" or "job_type" in component and not note.exists():
        return
    try:
        for task, pid in tasks_here():
            if pid is None or not alive(pid):
                print(f"<3>gave up on {task}", flush=True)
        beats = noted_job(component)
        if beats:
            rows("UPDATE job SET state = 'failed', end_date = now() WHERE id = %s AND state = 'running'", beats[1])
    except ConnectionError as error:
        print(f"<3>gave up on tasks, if any ran: {error}", flush=True)


def properties(unit: str, *names: str) -> dict[str, str]:
    """Return systemd's properties of the unit."""
    output = subprocess.run(["systemctl", "show", unit, *(f"--property={name}" for name in names)],
                            capture_output=True,
                            text=True,
                            check=True).stdout
    return dict(line.partition("=")[::2] for line in output.splitlines())


def pending() -> None:
    """Print the units that have to be started or restarted."""
    data = load()
    due = []
    for component in [*data["components"].values(), *data["watchdog"]]:
        unit = f"{component['unit']}.service"
        state = properties(unit, "ActiveState", "LoadState", "NeedDaemonReload")
        if state["ActiveState"] != "active" and drained(component):
            continue
        # A unit whose file was away while systemd looked for it runs on, and is not loaded.
        running = (state["ActiveState"], state["LoadState"], state["NeedDaemonReload"]) == ("active", "loaded", "no")
        if not running or noted(component) != current(data, component):
            due.append(unit)
    target = properties("airflow.target", "ActiveState", "UnitFileState", "NeedDaemonReload")
    if target != {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}:
        due.append("airflow.target")
    # A stop that was followed by a new start of the components has stopped them too.
    for timer in sorted(UNITS.glob("airflow-*.timer")):
        if properties(timer.name, "ActiveState",
                      "UnitFileState") == {"ActiveState": "inactive", "UnitFileState": "enabled"}:
            due.append(timer.name)
    print(json.dumps(due))


def outdated_plugins() -> None:
    """Print the units that run with other plugins."""
    data = load()
    print(
        json.dumps([
            f"{part['unit']}.service" for part in data["components"].values()
            if noted(part)[1:] not in ((), (plugins(data), ))
        ]))


def drain_mark() -> Path:
    """Return the file by which an operator keeps tasks away from this host: what they run in does not start while it is
    there.
    """
    return settings.config_dir() / "drained"


def drained(component: dict[str, Any]) -> bool:
    """Return whether an operator keeps the component away from this host."""
    return bool(component.get("drains")) and drain_mark().exists()


def heartbeat_can_be_written() -> None:
    """Raise ConnectionError where it can't: the database only reads, or somebody holds the table. It changes no row."""
    rows("UPDATE job SET latest_heartbeat = latest_heartbeat WHERE false")


def database() -> int:
    """Return the exit code of that."""
    try:
        heartbeat_can_be_written()
    except ConnectionError as error:
        print(error)
        return 1
    return 0


def tasks() -> None:
    """Print which tasks run on this host, and which wait for a scheduler that is gone; null where the database does not
    answer.
    """
    try:
        orphans = rows(
            "SELECT t.dag_id, t.run_id, t.task_id, t.state FROM task_instance t JOIN job j ON j.id = t.queued_by_job_id"
            " JOIN dag_run r ON r.dag_id = t.dag_id AND r.run_id = t.run_id WHERE r.state = 'running'"
            " AND t.state IN ('queued', 'running', 'restarting') AND j.job_type = 'SchedulerJob' AND j.state IS "
            "DISTINCT FROM 'running'"
        )
        found: dict[str, Any] = {
            "running": [task for task, _pid in tasks_here()],
            "orphaned": [f"dag {dag}, run {run}, task {task}: {state}" for dag, run, task, state in orphans],
        }
    except ConnectionError as error:
        found = {"running": None, "orphaned": None, "error": str(error)}
    print(json.dumps(found))


def health(only: str | None = None) -> int:
    """Print a line per component and return the exit code."""
    data = load()
    worst = 0
    for name, component in data["components"].items():
        if only not in (None, name):
            continue
        state = properties(f"{component['unit']}.service", "ActiveState", "SubState", "MainPID")
        if drained(component) and state["ActiveState"] == "inactive":
            print(f"--   {component['unit']}: drained, {drain_mark().read_text().strip()}")
            continue
        # A child of it answers for half a minute more.
        stopped = component_health.frozen(state["MainPID"])
        well, said = (False, component_health.FROZEN) if stopped else ask(component, data)
        well = well and state["ActiveState"] == "active"
        print(f"{'ok  ' if well else 'FAIL'} {component['unit']}: {state['ActiveState']} ({state['SubState']}), {said}")
        worst = worst or int(not well)
    for watchdog in data["watchdog"] if only is None else []:
        state = properties(f"{watchdog['unit']}.service", "ActiveState", "SubState")
        well = state["ActiveState"] == "active"
        said = "" if well else f": journalctl -u {watchdog['unit']} says why"
        print(f"{'ok  ' if well else 'FAIL'} {watchdog['unit']}: {state['ActiveState']} ({state['SubState']}){said}")
        worst = worst or int(not well)
    if only is None:
        try:
            differ = clocks_differ(data)
        except ConnectionError as error:
            differ = str(error)
        if differ:
            print(f"FAIL clock: {differ}")
            worst = 1
    return worst


def jobs(data: dict[str, Any]) -> dict[str, Any]:
    """Return what of table job is this host's (names of the host, numbers of rows), and every row with a fresh
    heartbeat.
    """
    found = rows(
        "SELECT id, job_type, hostname FROM job WHERE state = 'running' AND job_type = ANY(%s)"
        " AND %s - extract(epoch FROM latest_heartbeat) < %s ORDER BY id",
        # A host wrote the heartbeat with its own clock, so this host's clock tells its age.
        ["SchedulerJob", "DagProcessorJob", "TriggererJob"], time.time(), FRESH,
    )
    own = [job[1] for job in map(noted_job, data["components"].values()) if job]
    return {
        "names": host_names(), "own": own, "fresh": [dict(zip(("id", "job_type", "hostname"), row)) for row in found]
    }


def health_and_jobs() -> int:
    """Print the lines of health, and as the last one the jobs as JSON, from which the caller sees hosts that it does
    not know.
    """
    code = health()
    if not code:
        print(json.dumps(jobs(load())))
    return code


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "reach": reach,
        "wait": wait,
        "stop": stop,
        "ended": ended,
        "pending": pending,
        "plugins": outdated_plugins,
        "health": health,
        "health-and-jobs": health_and_jobs,
        "tasks": tasks,
        "database": database,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
