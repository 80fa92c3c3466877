"""Hold the lock for which each component waits before it starts (`components reach`), while a run changes the database.

hold CONFIG_DIR LOCK LEASE

LOCK is the file of the lock of the environment, which the run renews. The program holds its own lock in the database
until LOCK belongs to another run or to nobody, or was not renewed for LEASE seconds. So it ends by itself if the run
dies, and components may start again. It is a unit of its own, because a backup and a migration take longer than a task.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from typing import Any

import psycopg2

from airflow_runtime import metadata


def holder(lock: str, lease: int) -> dict[str, Any]:
    """Return the run that holds the lock of the environment; nothing if no run does."""
    try:
        with open(lock, encoding="utf-8") as file:
            # A renewal writes the file anew.
            fcntl.flock(file, fcntl.LOCK_SH)
            return json.load(file) if time.time() - os.fstat(file.fileno()).st_mtime <= lease else {}
    except (OSError, ValueError):
        return {}


def hold(config_dir: str) -> Any:
    """Return a connection that holds the lock while it is open. Several may: a run, a migration and a restore."""
    connection = metadata.connect("airflow-hold", metadata.url(config_dir))
    connection.autocommit = True
    with connection.cursor() as cursor:
        # Without them, the server would keep the session of a host that has lost its power for two hours.
        cursor.execute("SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3")
        cursor.execute("SELECT pg_advisory_lock_shared(hashtext('airflow-schema'))")
    return connection


def holds(connection: Any) -> bool:
    """Return whether the session is still there. PostgreSQL may have been restarted."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error:
        return False
    return True


def ready() -> None:
    """Tell systemd that the lock is held."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(b"READY=1", address.replace("@", "\0", 1))


def main(config_dir: str, lock: str, lease: str) -> None:
    """Hold the lock until the run has ended."""
    run = holder(lock, int(lease))
    if not run:
        sys.exit(f"No run has the lock of this environment ({lock}), so the database may not change. Use a playbook.")
    try:
        connection = hold(config_dir)
    except (OSError, psycopg2.Error) as error:
        sys.exit(
            f"The metadata database cannot be told that it will change: {error}"
            "Check that PostgreSQL runs, then run this again."
        )
    print(f"No component of Airflow starts until {run['by']} has changed the database: {run['command']}", flush=True)
    ready()
    while holder(lock, int(lease)).get("token") == run["token"]:
        time.sleep(1)
        if not holds(connection):
            with contextlib.suppress(OSError, psycopg2.Error):
                connection = hold(config_dir)
    print("The run has ended. Components of Airflow may start.", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
