# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What all parts of the report are made of: a line of it, its words, and the commands that mend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

OK, WARN, CRITICAL = "OK", "WARN", "CRITICAL"


class Result(NamedTuple):
    """A line of the report.

    section: where it stands in the report. what: the thing that was looked at. mend: what follows `ansible-playbook`.
    It is empty if no playbook can do it; then advice says what to do.
    """

    section: str
    host: str
    what: str
    status: str
    text: str
    cause: str
    evidence: tuple[str, ...]
    mend: tuple[str, ...]
    advice: str


# What a host has said, hosts by their names, or what the inventory says, as JSON has it.
Data = dict[str, Any]

CONFIGURE = ["playbooks/airflow.yml", "playbooks/services.yml"]
SERVICES = ["playbooks/services.yml"]
POSTGRES = ["playbooks/postgresql.yml"]


def duration(seconds: float | None) -> str:
    """A span of time, as people say it."""
    seconds = int(seconds or 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return "{0} {1}".format(seconds // size, unit)
    return "{0} s".format(seconds)


def size(number: float) -> str:
    """Bytes, as people say it."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if number >= 1000 ** power:
            return "{0:.1f} {1}".format(number / 1000 ** power, unit)
    return "{0} B".format(int(number))


def several(number: int, word: str) -> str:
    return "{0} {1}{2}".format(number, word, "" if number == 1 else "s")


def listed(items: Iterable[object], most: int = 3) -> str:
    texts = [str(item) for item in items]
    return ", ".join(texts[:most]) + (" and {0} more".format(len(texts) - most) if len(texts) > most else "")


def fine(section: str, host: str, what: str, text: str) -> Result:
    return Result(section, host, what, OK, text, "", (), (), "")


def wrong(
    section: str, host: str, what: str, status: str, text: str, cause: str, evidence: Iterable[Any] = (),
    mend: Iterable[str] = (), advice: str = "",
) -> Result:
    return Result(section, host, what, status, text, cause, tuple(line for line in evidence if line), tuple(mend),
                  advice)


def error_of(answer: object) -> str:
    """Why a question has no answer; nothing where it has one."""
    return answer.get("error", "") if isinstance(answer, dict) else ""


def restart(component_name: str, name: str) -> list[str]:
    return ["playbooks/runbooks/restart_airflow.yml", "-e", "airflow_component=" + component_name, "--limit", name]
