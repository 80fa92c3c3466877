# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Which processes use which virtualenv. One in use is never removed: its process would fail at the next import.

Modules import this file. The build of a virtualenv runs it as a program: airflow_virtualenvs.py VIRTUALENV [PROC].
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
import tarfile

# The build writes this file last: a virtualenv without it is incomplete.
MARKER = "release.json"


def read(path: str) -> bytes:
    """Return the content of a file of /proc; nothing where the process has ended."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def executable(process: str) -> bytes:
    """Return the path of the program that the process runs; nothing for a thread of the kernel."""
    try:
        return os.fsencode(os.readlink(os.path.join(process, "exe")))
    except (FileNotFoundError, ProcessLookupError):
        return b""


def in_use(directory: str, proc: str = "/proc") -> dict[str, list[int]]:
    """Return {name of a virtualenv in this directory: numbers of the processes that use it}.

    The mapped libraries name the virtualenv of a process that has changed its title. Arguments, environment and program
    name it if the process has loaded no library yet. A process that cannot be read raises OSError: it may use any.
    """
    # A mapped file has its real path; an argument has the path that somebody typed.
    roots = {os.fsencode(path) for path in (os.path.abspath(directory), os.path.realpath(directory))}
    named = re.compile(b"(?:" + b"|".join(map(re.escape, sorted(roots))) + rb")/([^/\0\s:;,'\"=]+)")
    found: dict[str, list[int]] = {}
    for process in glob.glob(os.path.join(glob.escape(proc), "[0-9]*")):
        number = int(os.path.basename(process))
        if number == os.getpid():
            continue
        texts = [executable(process), *(read(os.path.join(process, name)) for name in ("maps", "cmdline", "environ"))]
        for name in {os.fsdecode(name) for text in texts for name in named.findall(text)}:
            found.setdefault(name, []).append(number)
    return {name: sorted(numbers) for name, numbers in found.items()}


def way_back(install_dir: str) -> set[str]:
    """Return the names of the virtualenvs that a run would point Airflow at again if its migration failed.

    Role airflow_config keeps the link of before in this archive, from the switch until the database is up to date.
    """
    try:
        with tarfile.open(os.path.join(install_dir, "previous.tar")) as archive:
            links = [member.linkname for member in archive if member.issym()]
    except FileNotFoundError:
        return set()
    except (OSError, tarfile.TarError) as error:
        raise OSError(f"{install_dir}/previous.tar cannot be read: {error}") from error
    return {os.path.basename(link) for link in links if os.path.basename(os.path.dirname(link)) == "venvs"}


def remove(path: str) -> None:
    """Remove a virtualenv, the marker first: a removal that is cut short leaves no virtualenv that looks complete."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(path, MARKER))
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    shutil.rmtree(path)
    # What it was built from: a pin may name an index with its password.
    install_dir, name = os.path.dirname(os.path.dirname(path)), os.path.basename(path)
    for left in glob.glob(glob.escape(os.path.join(install_dir, "installers", name)) + ".*"):
        os.unlink(left)


def main(path: str, proc: str = "/proc") -> None:
    """Exit with 1 where a process uses the virtualenv, or may use it."""
    directory, name = os.path.split(os.path.normpath(path))
    try:
        numbers = in_use(directory, proc).get(name)
    except OSError as error:
        sys.exit(f"{path} is incomplete, and nobody can tell whether a process uses it: {error}. "
                 f"Remove it by hand if none does, then run the same command again.")
    if numbers:
        sys.exit(f"{path} is incomplete, and cannot be rebuilt while these processes use it: "
                 f"{', '.join(map(str, numbers))}. "
                 f"End them, then run the same command again. "
                 f"For the components of Airflow: systemctl stop airflow.target 'airflow*'")


if __name__ == "__main__":
    main(*sys.argv[1:])
