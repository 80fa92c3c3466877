# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Runs on the host for action packages: prints the processes that hold a lock of apt or dpkg, as JSON.

The kernel names them, so no other program is needed.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")


def holders() -> list[list[str | int]]:
    """Return (pid, path of the lock, command line) of each process."""
    found = {}
    for path in LOCKS:
        try:
            with open(path, "r+b") as file:
                # struct flock of 64-bit Linux.
                asked = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError:
            continue
        kind, _whence, _start, _length, pid = struct.unpack("hhqqi4x", asked)
        if kind != fcntl.F_UNLCK and pid not in found:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as command:
                    name = " ".join(command.read().decode(errors="replace").split("\0"))[:80].strip()
            except OSError:
                name = ""
            found[pid] = [path, name or "a process that the host does not name"]
    return [[pid, *rest] for pid, rest in found.items()]


if __name__ == "__main__":
    print(json.dumps(holders()))
