"""Where the files of this collection are on the controller: in a clone, or where ansible-galaxy has installed them."""

from __future__ import annotations

import os

# Directories are links in a clone, so this is the clone itself. Nothing is written below it.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def path(*parts):
    """Return the absolute path of a file of the collection."""
    return os.path.join(ROOT, *parts)
