"""The name that a file has until it is whole, and the name that it has then."""

from __future__ import annotations

import os
import re


def new_name(path: str) -> str:
    """Return a name beside the path that no other process uses, and remove what killed processes left under such names.

    A killed run leaves its module running for a moment. With one name for all, the next run's module would rename a
    file that the other module still writes.
    """
    directory, name = os.path.split(path)
    ours = re.compile(rf"\.{re.escape(name)}\.(?:(\d+)\.)?new")
    for entry in os.listdir(directory or "."):
        found = ours.fullmatch(entry)
        if found and (found[1] in (None, str(os.getpid())) or not os.path.exists(f"/proc/{found[1]}")):
            os.unlink(os.path.join(directory, entry))
    return os.path.join(directory, f".{name}.{os.getpid()}.new")


def flush(directory: str) -> None:
    """Have the names in a directory on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(new: str, path: str) -> None:
    """Give a file or directory its name for good. Without the flush, a loss of power may bring back the one before."""
    os.rename(new, path)
    flush(os.path.dirname(path) or ".")
