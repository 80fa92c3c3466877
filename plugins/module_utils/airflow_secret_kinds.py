# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Kinds of secrets of an Airflow environment: how one is made, and what is wrong with one."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import string
from typing import Any

GENERATORS = {
    "fernet": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
    "token": lambda: secrets.token_urlsafe(48),
    "password": lambda: "".join(
        secrets.choice(string.ascii_letters + string.digits) for _unused in range(32)
    ),
}
SHORTEST = {"token": 16}

# What the modules that make secrets take alike; doc_fragments/airflow_secret_kinds.py documents it.
ARGUMENTS = {
    "generate": {"type": "dict", "default": {}},
    "renew": {"type": "list", "elements": "str", "default": []},
    # Not no_log, which would mask them in what is returned.
    "known": {"type": "dict", "default": {}},
}


def fernet_problem(value: str) -> str | None:
    """Return what is wrong with a Fernet key, or several of them."""
    for key in value.split(","):
        try:
            good = len(key) == 44 and len(base64.b64decode(key.encode(), altchars=b"-_", validate=True)) == 32
        except (binascii.Error, UnicodeEncodeError, ValueError):
            good = False
        if not good:
            return (
                "is no Fernet key: 32 bytes in URL-safe base64, which is 44 characters, or several of them with commas "
                "and no blanks between. "
                "Make one with: python3 -c 'import base64, os; "
                "print(base64.urlsafe_b64encode(os.urandom(32)).decode())'"
            )
    return None


def problem(kind: str, value: object) -> str | None:
    """Return what is wrong with a secret of this kind. Never says the value."""
    if not isinstance(value, str):
        return "is no text"
    if value != value.strip():
        return "begins or ends with a blank or a new line"
    if kind == "fernet":
        return fernet_problem(value)
    if len(value) < SHORTEST.get(kind, 1):
        return f"is too short: {SHORTEST.get(kind, 1)} characters or more"
    return None


def plan(generate: dict[str, str], renew: list[str], found: dict[str, str]) -> dict[str, str]:
    """Return the secrets named by generate: those that were found, new ones where there are none, and new ones where
    renew says so.
    """
    kept = {}
    for name, kind in generate.items():
        kept[name] = found.get(name) or ""
        if not kept[name] or name in renew:
            older = [kept[name]] if kept[name] and kind == "fernet" else []
            kept[name] = ",".join([GENERATORS[kind](), *older])
    return kept


def refuse(module: Any, generate: dict[str, str], renew: list[str]) -> None:
    """Fail where the arguments that the modules share contradict each other."""
    for name, kind in generate.items():
        if kind not in GENERATORS:
            module.fail_json(msg=f"generate: {name}: {kind!r} is no kind of secret; valid: {', '.join(GENERATORS)}")
    for name in renew:
        if name not in generate:
            module.fail_json(msg=f"renew: {name!r} is not one of generate; valid: {', '.join(generate)}")
