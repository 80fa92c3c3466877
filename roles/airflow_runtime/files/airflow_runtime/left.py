"""Report the processes and the database sessions of Airflow that are left after its units have stopped.

left USER INSTALL_DIR CONFIG_DIR ADDRESSES SESSIONS

ADDRESSES is a JSON object: {address: name of the host} of the hosts that stop together. SESSIONS is the text of
sessions.sql (role airflow_common), which says what counts as a session. The exit code is 0 if nothing is left. It is
75 ("not yet") if something is left; then the last line of standard output names each process and each session. A host
that has the server asks as its superuser if Airflow's role cannot: without psycopg2, as where the virtualenv is broken,
or if the server refuses. If nobody told this host who uses the database, a line begins with "not asked: " and has the
reason. It begins with "not asked: refused: " if there is a server and it refuses to answer.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from airflow_runtime import metadata

# This program's own sessions, which sessions.sql leaves out.
NAME = "airflow-left"
# Units of role logrotate, which run as Airflow's user, read the journal and never use the database, and the one of
# hold.yml.
APART = ("airflow-component-logs.service", "airflow-groom-logs.service", "airflow-hold.service")
# Where the superuser of the server, user postgres of the system, is let in.
SOCKETS = "/var/run/postgresql"
Process = tuple[int, int, str, str, str, int]


def in_a_container(path: Path) -> bool:
    """Return whether a process has a name space of its own. Its user id means another user there."""
    try:
        return os.readlink(path / "ns/pid") != os.readlink("/proc/self/ns/pid")
    except OSError:
        return False  # It ended meanwhile.


def processes(proc: str = "/proc") -> Iterator[Process]:
    """Yield (pid, user id, arguments, name of the program, control group, pid of the parent) of each process."""
    for path in Path(proc).iterdir():
        if not path.name.isdigit() or in_a_container(path):
            continue
        try:
            arguments = (path / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            status = dict(line.split(":\t", 1) for line in (path / "status").read_text().splitlines() if ":\t" in line)
            group = (path / "cgroup").read_text()
        except OSError:
            continue  # It ended meanwhile.
        text = " ".join(argument.decode(errors="replace") for argument in arguments)
        yield int(path.name), int(status["Uid"].split()[0]), text, status["Name"], group, int(status["PPid"])


def owner(number: int) -> str:
    """Return the name of a user."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def ancestors(found: dict[int, Process], pid: int) -> Iterator[int]:
    """Yield the process, its parent, the parent of that, and so on."""
    seen = set()
    while pid in found and pid not in seen:
        seen.add(pid)
        yield pid
        pid = found[pid][5]


def left_processes(user: str, install_dir: str) -> tuple[list[str], list[str]]:
    """Return (processes of Airflow, processes of psql), each as text."""
    try:
        number = pwd.getpwnam(user).pw_uid
    except KeyError:
        number = -1
    found = {process[0]: process for process in processes()}
    # What asks is no process of Airflow: this program, and what has started it.
    asking = set(ancestors(found, os.getpid()))
    # A build of a virtualenv runs no Airflow, and site.yml lets one run while it sets up the database.
    builds = {pid for pid, process in found.items() if f"{install_dir}/installers/build.sh" in process[2]}
    airflow, clients = [], []
    for pid, uid, text, name, group, _parent in sorted(found.values()):
        # A process without arguments is a thread of the kernel, or has ended.
        apart = builds.intersection(ancestors(found, pid)) or any(f"/{unit}" in group for unit in APART)
        if not text or pid in asking or apart:
            continue
        # All units had stopped before.
        unit = re.search(r"/(airflow-[^/\s]+\.service)", group)
        since = f" of {unit[1]}, which was started meanwhile (systemctl stop {unit[1]})" if unit else ""
        said = f"process {pid} of user {owner(uid)}{since}: {text[:80]}"
        if uid == number or f"{install_dir}/venv" in text:
            airflow.append(said)
        elif name in ("psql", "pg_dump", "pg_restore"):
            clients.append(said)
    return airflow, clients


def sessions(config_dir: str, question: str) -> list[Any] | str:
    """Return the rows of sessions.sql, or the reason for which nobody has told them."""
    try:
        url = metadata.url(config_dir)
    except OSError as error:
        return str(error)
    try:
        import psycopg2

        return ask(url, question)
    except ImportError as error:
        reason = str(error)
    except psycopg2.OperationalError as error:
        reason = str(error).strip()
        # A server that starts or recovers has no sessions. A server that shuts down may wait for its last ones.
        starts = "the database system is" in reason and "shutting down" not in reason
        if starts or re.search('database "[^"]*" does not exist', reason):
            return []
        # What a server says for itself begins with FATAL.
        reason = f"refused: {reason}" if "FATAL" in reason else reason
    try:
        return ask_as_superuser(url, question)
    except (OSError, ValueError, subprocess.SubprocessError):
        return reason


def ask(url: str, question: str) -> list[Any]:
    """Return the rows of sessions.sql."""
    connection = metadata.connect(NAME, url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(question)
            found: list[Any] = cursor.fetchall()
            return found
    finally:
        connection.close()


def ask_as_superuser(url: str, question: str) -> list[list[str]]:
    """The same by psql, which every server has, over the socket of this host's server."""
    address = urlsplit(url)
    host = parse_qs(address.query).get("host", [address.hostname or ""])[0]
    if host not in ("", "localhost", "127.0.0.1", "::1") and not host.startswith("/"):
        raise ValueError("another host's server")
    # Airflow's role is not the current user here.
    question = question.replace("current_user", ":'role'")
    command = [
        "runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "--no-align", "--tuples-only", "--field-separator=\t",
        "--set=ON_ERROR_STOP=1", f"--set=role={unquote(address.username or '')}", f"--host={SOCKETS}",
        f"--port={address.port or 5432}", f"--dbname={unquote(address.path[1:])}"
    ]
    answer = subprocess.run(command, input=question, text=True, capture_output=True, check=True, timeout=10, cwd="/",
                            env={**os.environ, "PGAPPNAME": NAME, "PGCONNECT_TIMEOUT": "5"})
    return [line.split("\t") for line in answer.stdout.splitlines()]


def left_sessions(rows: list[Any], addresses: dict[str, str]) -> list[str]:
    """Return the sessions as text."""
    said = []
    for pid, user, application, address, _kind in rows:
        place = {
            "": "over the socket",
            "?": "from an address that PostgreSQL hides from Airflow's role",
        }.get(address, f"from {address}, which is {addresses.get(address, 'no Airflow host of this inventory')}")
        said.append(f"session {pid} of role {user} ({application or 'no name'}) {place}")
    return said


def main(user: str, install_dir: str, config_dir: str, addresses: str, question: str) -> None:
    """Look once."""
    airflow, clients = left_processes(user, install_dir)
    found = sessions(config_dir, question)
    if isinstance(found, str):
        print("not asked: " + " ".join(found.split()))
        found = []
    rows = left_sessions(found, json.loads(addresses))
    left = airflow + rows + (clients if rows else [])
    if left:
        print("; ".join(left))
        # The caller asks again at once.
        time.sleep(2)
        sys.exit(75)


if __name__ == "__main__":
    main(*sys.argv[1:])
