"""What tells whether a component is well. Its unit, site.yml and check_health all judge by this.

plugins/module_utils has a link to this file: check_health also asks hosts that have no airflow_runtime, or another
version of the package, with the host's own Python. So this file imports no other module of ours, and runs on Python
3.9.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

FROZEN = "its process is stopped (SIGSTOP)"


def answer_of(url: str, timeout: float) -> dict[str, Any]:
    """Return what an endpoint says: {status, body: of JSON} or {error}. timeout: seconds."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            status, body = response.status, response.read(10000)
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read(1000)
    except (OSError, http.client.HTTPException) as error:
        return {"error": str(getattr(error, "reason", error))}
    try:
        return {"status": status, "body": json.loads(body)}
    except ValueError:
        return {"status": status}


def answer_problem(check: dict[str, Any], answer: dict[str, Any]) -> str:
    """Return what is wrong with the answer of a component's endpoint, or nothing.

    check: url; kind: "status", or "body", where the value at this path in the body must be this one. The status of the
    API server is always 200.
    """
    if "error" in answer:
        return "does not answer at {0}: {1}".format(check["url"], answer["error"])
    if answer["status"] >= 400:
        return "{0} answers {1}".format(check["url"], answer["status"])
    if check["kind"] == "body":
        value = answer.get("body")
        for key in check["path"]:
            value = value.get(key) if isinstance(value, dict) else None
        if value != check["value"]:
            return "says that {0} is {1}".format(".".join(check["path"]), value)
    return ""


def beats(age: float | None, limit: float) -> bool:
    """Return whether a heartbeat of this age is good. age: seconds by the clock of the component's host; None: no
    heartbeat.

    One in the future was written before the clock was set back.
    """
    return age is not None and abs(age) <= limit


def process(pid: int | str) -> tuple[str, int]:
    """Return (state, parent) of a process as the kernel has them; ("", 0) once it is gone."""
    try:
        with open("/proc/{0}/stat".format(pid), encoding="utf-8", errors="replace") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)


def frozen(pid: int | str) -> bool:
    """Return whether a signal has stopped the process, or a debugger holds it."""
    return process(pid)[0] in ("t", "T")
