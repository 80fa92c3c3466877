"""Types of values, strictly: templates do arithmetic and tests with them. Messages never hold the value of a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean

SECRET_NAME = re.compile(r"password|secret|key|url|token")
WANTED = {
    "str": "a string", "path": "a path", "int": "a whole number", "float": "a number", "bool": "true or false",
    "list": "a list", "dict": "a dictionary", "raw": "anything",
}


def hidden(name: str, spec: Mapping[str, Any]) -> bool:
    return bool(spec.get("no_log") or SECRET_NAME.search(name))


def shown(name: str, spec: Mapping[str, Any], value: object) -> str:
    return "(not shown)" if hidden(name, spec) else json.dumps(value, default=str)


def type_problem(name: str, spec: Mapping[str, Any], value: Any, path: str = "") -> str | None:
    """What is wrong with the type of a value, strictly: templates do arithmetic and tests with it."""
    path = path or name
    kind = spec.get("type", "str")
    text = isinstance(value, str)
    fine = {
        "str": text or (isinstance(value, int) and not isinstance(value, bool)),
        "path": text,
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "list": isinstance(value, (list, tuple)),
        "dict": isinstance(value, dict),
    }.get(kind, True)
    if value is None and not fine:
        return "{0} has no value; {1} belongs there{2}.".format(
            path, WANTED[kind], ', "" for none' if kind in ("str", "path") else ""
        )
    if not fine:
        hint = ""
        plain = as_plain(kind, value)
        if plain:
            hint = " Write it without quotes; on the command line -e '{{\"{0}\": {1}}}'.".format(name, plain)
        elif kind == "str" and isinstance(value, (float, bool)):
            hint = " Put it in quotes."
        return "{0} is {1}, {2}, where {3} belongs.{4}".format(
            path, shown(path, spec, value), type_text(value), WANTED[kind], hint
        )
    if spec.get("choices") and kind != "list" and value not in spec["choices"]:
        return "{0} is {1}; valid are {2}.{3}".format(
            path,
            shown(path, spec, value),
            ", ".join(map(str, spec["choices"])),
            did_you_mean(str(value), [str(c) for c in spec["choices"]]),
        )
    if kind == "list" and (spec.get("elements") or spec.get("options")):
        inner = {key: spec[key] for key in ("options", "no_log", "choices") if key in spec}
        inner["type"] = spec.get("elements", "dict")
        problems = (type_problem(name, inner, item, "{0}[{1}]".format(path, number))
                    for number, item in enumerate(value))
        return next(filter(None, problems), None)
    if kind == "dict" and spec.get("options"):
        for key, item in value.items():
            if key not in spec["options"]:
                return "{0} has the key {1}; valid are {2}.{3}".format(
                    path, key, ", ".join(sorted(spec["options"])), did_you_mean(str(key), list(spec["options"])))
            problem = type_problem(name, spec["options"][key], item, "{0}.{1}".format(path, key))
            if problem:
                return problem
        missing = sorted(key for key, option in spec["options"].items() if option.get("required") and key not in value)
        if missing:
            return "{0} lacks {1}.".format(path, ", ".join(missing))
    return None


def type_text(value: object) -> str:
    for kind, text in ((bool, "a yes/no"), ((int, float), "a number"), (str, "a string"), (dict, "a dictionary"),
                       ((list, tuple), "a list")):
        if isinstance(value, kind):
            return text
    return "a " + type(value).__name__


def as_plain(kind: str, value: object) -> str | None:
    """The number or truth value that a string was meant to be, as JSON has it; None where it was not."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if kind in ("int", "float") and re.fullmatch(r"-?\d+" if kind == "int" else r"-?\d+(\.\d+)?", text):
        return text
    if kind == "bool":
        return {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}.get(text)
    return None


def range_problem(name: str, value: Any, ranges: Mapping[str, Any]) -> str | None:
    """What is wrong with a number. A role that is used alone may get it as text."""
    if name not in ranges:
        return None
    low, high, *words = ranges[name]
    try:
        good = low <= float(value) and (high is None or float(value) <= high)
    except (TypeError, ValueError):
        good = False
    valid = words[0] if words else "{0} or more".format(low) if high is None else "{0} to {1}".format(low, high)
    return None if good else "{0} is {1}; valid is {2}.".format(name, value, valid)


def nested_secrets(name: str, spec: Mapping[str, Any], value: Any) -> Iterator[tuple[str, str]]:
    """Values inside of lists and dictionaries whose option is marked no_log."""
    if isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from nested_secrets("{0}[{1}]".format(name, number), spec, item)
    elif isinstance(value, dict):
        for key, option in (spec.get("options") or {}).items():
            if key in value:
                if option.get("no_log") and isinstance(value[key], str):
                    yield "{0}.{1}".format(name, key), value[key]
                yield from nested_secrets("{0}.{1}".format(name, key), option, value[key])
