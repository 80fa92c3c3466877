"""What has to outlive a loss of power."""

from __future__ import annotations

import os


def flush(path: str | os.PathLike[str]) -> None:
    """Have a file, or the names in a directory, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
