# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Takes secrets out of text that leaves the host: by the values that the host holds, in every encoding that they come
in, and by the names of settings.
"""

from __future__ import annotations

import base64
import json
import os
import re
import urllib.parse
from collections.abc import Iterable
from typing import Any

# Shorter ones would be found everywhere; where they have a telling name, that name gives them away.
SHORTEST = 6
HIDDEN = "<hidden>"

NAME = r"[\w.\-]*(?:passw|pwd|secret|token|keys?(?![a-z])|conn|credential|webhook|dsn|auth_header|cookie|salt)[\w.\-]*"
# A line of airflow.cfg, of an environment file, of Python, JSON or YAML.
SETTING = re.compile(r"""^(\s*(?:export\s+)?["']?(?:%s)["']?\s*[:=]\s*)(\S.*?)(,?)$""" % NAME,
                     re.IGNORECASE | re.MULTILINE)
# What tells where a secret is, or that there is none, is no secret.
HARMLESS = re.compile(r"""^(?:cat /[\w./-]+|["']?["']?|True|False|None|null|\d{1,5}|[{\[(])$""", re.IGNORECASE)
IN_TEXT = [
    # The password of an address, and its user.
    (re.compile(r"(\b[a-z][a-z0-9+.\-]*://)[^\s/@:]*:[^\s/@]+@", re.IGNORECASE), r"\1%s@" % HIDDEN),
    (re.compile(r"(\bhttps://hooks\.slack\.com/)[\w/]+", re.IGNORECASE), r"\1" + HIDDEN),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=\-]{8,}", re.IGNORECASE), r"\1 " + HIDDEN),
    (re.compile(r"\beyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]*"), HIDDEN),
    (re.compile(r"\b((?:A3T|AKIA|ASIA)[A-Z0-9]{12,})\b"), HIDDEN),
    (re.compile(r"\b((?:password|passwd|secret|token)\s*=\s*)[^\s,;&]+", re.IGNORECASE), r"\1" + HIDDEN),
]


def read(path: str) -> str:
    """Return the content of a file; nothing where it can't be had."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def telling(name: str) -> bool:
    """Return whether a setting of this name is a secret."""
    return bool(re.fullmatch(NAME, name, re.IGNORECASE))


def leaves(value: Any, told: bool = False) -> list[str]:
    """Return the strings inside a decoded JSON value that stand below a telling name."""
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in leaves(item, told or telling(name))]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item, told)]
    return [value] if isinstance(value, str) and told else []


def parts(text: str) -> list[str]:
    """Return what in a secret is one of its own: keys of a list, a URL's password, a webhook's end, values of a JSON
    object, lines of a key.
    """
    found = [text]
    if text.lstrip().startswith(("{", "[")):
        try:
            return [part for leaf in leaves(json.loads(text)) for part in parts(leaf)]
        except ValueError:
            pass
    if re.match(r"[a-z][a-z0-9+.\-]*://", text, re.IGNORECASE):
        try:
            address = urllib.parse.urlsplit(text)
            password, name = address.password, address.path.rpartition("/")[2]
        except ValueError:
            password = name = ""
        found += [password, urllib.parse.unquote(password)] if password else []
        # What a webhook is known by.
        found += [name] if text.startswith("http") and len(name) >= 12 else []
    elif "," in text:
        found += text.split(",")
    found += [line for line in text.splitlines() if len(line) >= 20]
    return found


def variants(value: str) -> set[str]:
    """Return the value in the encodings that logs and headers know, base64 also where it is only a part of what was
    encoded.
    """
    found = {
        value,
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote(value),
        urllib.parse.quote_plus(value),
        json.dumps(value)[1:-1],
        repr(value)[1:-1]
    }
    raw = value.encode()
    found.add(raw.hex())
    for before in range(3):
        # The characters that this value decides alone, whatever stands before and after it.
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        core = encoded[(0, 2, 3)[before]:]
        core = core if (before + len(raw)) % 3 == 0 else core[:-1]
        found |= {core, core.replace("+", "-").replace("/", "_")}
    return {text for text in found if len(text) >= SHORTEST}


def values_of(directory: str, *files: str) -> set[str]:
    """Return the secrets that the host holds: the files of a directory, and the settings of telling names in other
    files.
    """
    found = set()
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        found.update(parts(read(os.path.join(directory, name)).strip()))
    for path in files:
        for match in SETTING.finditer(read(path)):
            value = match[2].strip().strip("\"'")
            found.update(parts(value) if not HARMLESS.match(value) else ())
        for match in re.finditer(r"://[^\s/@:]*:([^\s/@]+)@", read(path)):
            found |= {match[1], urllib.parse.unquote(match[1])}
    return {value for value in found if len(value) >= SHORTEST}


def values_in_database(rows: Iterable[tuple[str, str, str]]) -> set[str]:
    """Return the secrets among rows of kind (password, extra or variable), name and decrypted value."""
    found = set()
    for kind, name, value in rows:
        if kind == "password" or kind == "variable" and telling(name):
            found.update(parts(value))
        elif kind == "extra":
            try:
                extra = json.loads(value)
            except ValueError:
                extra = {}
            found.update(part for leaf in leaves(extra) for part in parts(leaf))
    return {value for value in found if len(value) >= SHORTEST}


class Redaction:
    """Takes these secrets, and what looks like one, out of texts."""

    def __init__(self, values: Iterable[str]) -> None:
        # The longest first: one may be a part of another.
        self.texts = sorted({text for value in values for text in variants(value)}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """For logs and the output of commands."""
        for secret in self.texts:
            text = text.replace(secret, HIDDEN)
        for pattern, instead in IN_TEXT:
            text = pattern.sub(instead, text)
        return text

    def settings(self, text: str) -> str:
        """For configuration: settings of telling names lose their values too."""
        return self.text(
            SETTING.sub(lambda match: match[0]
                        if HARMLESS.match(match[2].strip()) else match[1] + HIDDEN + match[3], text))
