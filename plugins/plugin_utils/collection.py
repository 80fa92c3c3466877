"""Where the files of this collection are on the controller: in a clone, or where ansible-galaxy has installed them."""

from __future__ import annotations

import os

# Directories are links in a clone, so this is the clone itself. Nothing is written below it.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

# What begins the full name of a playbook.
NAME = "windsock.airflow."


def path(*parts: str) -> str:
    """Return the absolute path of a file of the collection."""
    return os.path.join(ROOT, *parts)


def playbook(typed: str) -> str:
    """Return the path below playbooks/, without its ending, of a playbook that is typed as a path or as a full name.

    Nothing stands for a file that is no playbook of this collection.
    """
    if typed.startswith(NAME):
        return typed.removeprefix(NAME).replace(".", "/")
    name, ending = os.path.splitext(os.path.relpath(os.path.realpath(typed), ROOT))
    ours = ending in (".yml", ".yaml") and not name.startswith("..") and os.path.isfile(typed)
    return name.removeprefix("playbooks/") if ours else ""
