"""The lock of an environment: a file that names its holder.

Action airflow_environment_lock runs this program on a host, so it imports nothing from Ansible. The file lies below
/run: a bare host has that directory, a full disk does not fill it, and a reboot empties it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from typing import Any

PATH = "/run/airflow-environment.lock"


def decide(there: dict[str, Any], mine: dict[str, Any], gone: str, age: float, lease: int) -> str:
    """Return what to do about the lock: take, renew, take over or refuse."""
    if not there:
        return "take"
    if there["token"] == mine["token"]:
        return "renew"
    return "take over" if there["token"] == gone or age > lease else "refuse"


def change(state: str, mine: dict[str, Any], lease: int, gone: str = "", path: str = PATH) -> dict[str, Any]:
    """Take, renew or give back the lock. Return {done, holder} and, after a takeover, taken_from.

    Args:
        state: "held" takes or renews the lock, "renewed" only renews it, "free" gives it back. None changes the lock of
            another holder that lives.
        mine: by, host, pid, machine, token and command of this run.
        lease: seconds after which a lock that was not renewed is nobody's.
        gone: token of a holder that is known to be gone.
        path: the file.
    """
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        # Held for this moment only: the lock itself is what stands in the file.
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            there = json.loads(file.read() or "{}")
        except ValueError:
            # Half a line, of a write that was killed.
            there = {}
        done = decide(there, mine, gone, time.time() - os.fstat(file.fileno()).st_mtime, lease)
        if done == "refuse" or (done != "renew" and state != "held"):
            return {"done": "refuse", "holder": there}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        mine = {**mine, "since": there["since"] if done == "renew" else now}
        file.seek(0)
        file.truncate()
        file.write("" if state == "free" else json.dumps(mine))
    return {"done": done, "holder": mine, **({"taken_from": there} if done == "take over" else {})}


if __name__ == "__main__":
    print(json.dumps(change(**json.loads(sys.argv[1]))))
