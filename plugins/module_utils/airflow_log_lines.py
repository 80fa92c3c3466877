# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Log lines of Airflow 2 and 3, of components and of tasks, as text or as JSON: made readable, and chosen by level."""

from __future__ import annotations

import json
import re
from typing import Any

LEVELS = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "exception": 40, "critical": 50, "fatal": 50}
# Airflow 3: "2026-01-31T12:00:00Z [error    ] ..."; Airflow 2: "[2026-01-31T12:00:00] {file.py:1} ERROR - ...";
# gunicorn: "[2026-...] [1] [ERROR] ...".
WITH_LEVEL = re.compile(r"^(?:\S+ \[(\w+) *\]|\[[^\]]+\] \{[^}]+\} (\w+) - |\[[^\]]+\] \[\d+\] \[(\w+)\])")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SHOWN_APART = {
    "timestamp", "level", "event", "logger", "error_detail", "exception", "stack", "filename", "lineno", "loc", "chan"
}
SAYS_NOTHING = {"dag_id", "task_id", "run_id", "try_number", "map_index", "ti_id"}


def traceback(details: list[dict[str, Any]]) -> list[str]:
    """Return the lines of an exception that Airflow 3 has logged."""
    lines = []
    for detail in details:
        lines.append("Traceback (most recent call last):")
        lines += [
            f'  File "{frame.get("filename")}", line {frame.get("lineno")}, in {frame.get("name")}'
            for frame in detail.get("frames") or []
        ]
        lines += f"{detail.get('exc_type')}: {detail.get('exc_value')}".splitlines()
    return lines


def entry(line: Any) -> tuple[int | None, list[str]]:
    """Return (level, or nothing for what goes on from the line before; the lines to show)."""
    if isinstance(line, str):
        line = COLOUR.sub("", line.rstrip("\n"))
        found = {}
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                pass
        if not isinstance(found, dict) or "event" not in found:
            match = WITH_LEVEL.match(line)
            level = next((name for name in match.groups() if name), "") if match else ""
            return LEVELS.get(level.lower()), [line]
        line = found
    level = str(line.get("level") or "info").lower()
    more = "".join(
        f" {key}={value}" for key, value in line.items()
        if key not in SHOWN_APART | SAYS_NOTHING and not isinstance(value, (dict, list)) and value is not None)
    first, *rest = str(line.get("event", "")).splitlines() or [""]
    text = f"{str(line.get('timestamp') or '')[:23]} {level.upper():8}{first}{more}".strip()
    shown = [text, *rest, *traceback(line.get("error_detail") or [])]
    for key in ("exception", "stack"):
        shown += str(line[key]).splitlines() if line.get(key) else []
    return LEVELS.get(level, 20), shown


def readable(lines: list[Any], level: str = "debug", last: int = 0) -> list[str]:
    """Return the lines of this level and above, with what belongs to them; the last ones only where asked for."""
    wanted, keep, found = LEVELS[level], level == "debug", []
    for line in lines:
        at, shown = entry(line)
        if at is not None:
            keep = at >= wanted
        if keep:
            found += shown
    # Without the blanks at their ends, which would keep YAML from showing them as a block.
    found = [line.rstrip().expandtabs() for line in found]
    return found[-last:] if last else found
