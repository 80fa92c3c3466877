#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Say what could be removed from a full disk, and remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_disk_space
short_description: Free disk space of an Airflow host, in the order of least regret
version_added: 1.0.0
description:
  - "Looks for what can be had back, in this order: caches of packages, what killed runs have left, old journal, logs
  past their declared limits, core
    dumps, and, where I(everything) is set, virtualenvs that don't run."
  - Nothing that a component, a running task or a rollback to the running release needs is among it.
  - In check mode, and without I(apply), it only says what that would bring.
options:
  apply:
    description: Whether to remove it.
    type: bool
    default: false
  everything:
    description: Also what may be missed, virtualenvs for a way back to another version of Airflow.
    type: bool
    default: false
  journal_mb:
    description: Size in MB that the journal is cut to.
    type: int
    default: 500
  install_dir:
    description: Directory of virtualenvs and DAG releases.
    type: path
    default: /opt/airflow
  log_dir:
    description: Directory of the logs.
    type: path
    default: /var/log/airflow
  cache_dir:
    description: Directory in which the installer keeps downloads.
    type: path
    default: /var/cache/airflow
attributes:
  check_mode:
    support: full
    description: Changes nothing and reports what it would change.
  diff_mode:
    support: none
    description: Shows no difference.
notes:
  - Writes no file. With C(TMPDIR) in memory and pipelining, Ansible doesn't either, so it works where nothing can be
    written any more.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Say what could be had
  windsock.airflow.airflow_disk_space:
  environment: {TMPDIR: /run}
"""

RETURN = r"""
found:
  description: What there is, in the order of least regret, with its size in bytes and what it is good for.
  returned: always
  type: list
  elements: dict
freed:
  description: Bytes that were got back, as the file systems tell it.
  returned: always
  type: int
disks:
  description: File systems that this is about, with their size and what is free, in bytes.
  returned: always
  type: list
  elements: dict
problems:
  description: What could not be removed, and why.
  returned: always
  type: list
  elements: str
"""

import fcntl
import glob
import os
import re
import shutil
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_virtualenvs import MARKER, in_use, way_back
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_virtualenvs import remove as remove_virtualenv

MB = 1000000


def size_of(path: str) -> int:
    """Return the bytes on disk of a file or directory."""
    total = 0
    if not os.path.isdir(path) or os.path.islink(path):
        return os.lstat(path).st_blocks * 512
    for where, _directories, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total


def output(*command: str) -> str:
    """Return what a command says; nothing where it can't."""
    try:
        done = subprocess.run(command,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              text=True,
                              errors="replace",
                              timeout=600,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def remove(paths: list) -> None:
    """Remove files and directories."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def groom() -> None:
    """Remove logs as the timer does."""
    if subprocess.run(["systemctl", "start", "airflow-groom-logs.service"], capture_output=True,
                      check=False).returncode:
        raise OSError("airflow-groom-logs.service has failed: journalctl -u airflow-groom-logs.service says why")


class Space:
    """What can be had back: methods that return (bytes, how to get them)."""

    def __init__(self, args: dict) -> None:
        self.args = args

    def paths(self, *patterns: str) -> tuple:
        """Return what lies there and how to remove it."""
        found = [path for pattern in patterns for path in glob.glob(pattern)]
        return sum(size_of(path) for path in found), lambda: remove(found)

    def package_caches(self) -> tuple:
        """Downloads of uv, pip, apt and dnf: fetched again when needed."""
        cache = glob.escape(self.args["cache_dir"])
        return self.paths(f"{cache}/uv", f"{cache}/pip", "/root/.cache/uv", "/root/.cache/pip", "/var/cache/apt/*.bin",
                          "/var/cache/apt/archives/*.deb", "/var/cache/apt/archives/partial/*", "/var/cache/dnf/*")

    def left_overs(self) -> tuple:
        """What killed runs have left: DAG releases on their way, virtualenvs that never got complete."""
        install = glob.escape(self.args["install_dir"])
        return self.paths(f"{install}/dags/incoming/*", f"{install}/dags/*.tar.gz",
                          *map(glob.escape, self.incomplete()))

    def unused_virtualenvs(self) -> list:
        """Return the virtualenvs that neither a process nor a way back needs, whatever the link says; none where nobody
        can tell.
        """
        directory = os.path.join(self.args["install_dir"], "venvs")
        try:
            used = {*in_use(directory), *way_back(self.args["install_dir"])}
        except OSError:
            return []
        paths = sorted(glob.glob(os.path.join(glob.escape(directory), "*")))
        return [path for path in paths if os.path.basename(path) not in used]

    def incomplete(self) -> list:
        """Return virtualenvs that no build is at work on and none has finished."""
        try:
            with open(os.path.join(self.args["install_dir"], "installers/lock"), encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return [path for path in self.unused_virtualenvs() if not os.path.exists(os.path.join(path, MARKER))]
        except OSError:
            # None was ever built, or one is being built now.
            return []

    def journal(self) -> tuple:
        """The journal beyond what is kept of it."""
        keep = self.args["journal_mb"]
        archived = sum(size_of(path) for path in glob.glob("/var/log/journal/*/*@*.journal*"))
        excess = sum(size_of(path) for path in glob.glob("/var/log/journal/*/*.journal*")) - keep * MB
        return max(min(archived, excess), 0), lambda: output("journalctl", "--quiet", f"--vacuum-size={keep}M")

    def logs(self) -> tuple:
        """Task logs and component logs past their declared limits (logrotate_*)."""
        unit = output("systemctl", "cat", "airflow-groom-logs.service")
        match = re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE)
        said = output(*match[1].split(), "--dry-run") if match else ""
        would = re.search(r"would free ([\d.]+) MB", said)
        return int(float(would[1]) * MB) if would else 0, groom

    def core_dumps(self) -> tuple:
        """Memory of programs that crashed."""
        return self.paths("/var/lib/systemd/coredump/*")

    def old_virtualenvs(self) -> tuple:
        """Virtualenvs that don't run: a way back to another version would have to build its own again."""
        linked = os.path.realpath(os.path.join(self.args["install_dir"], "venv"))
        # Without a linked virtualenv, nobody knows which of them Airflow starts from next.
        unused = self.unused_virtualenvs() if os.path.isdir(linked) else []
        old = [path for path in unused if os.path.realpath(path) != linked]

        def remove() -> None:
            for path in old:
                remove_virtualenv(path)

        return sum(size_of(path) for path in old), remove


STEPS = ["package_caches", "left_overs", "journal", "logs", "core_dumps"]
LAST = ["old_virtualenvs"]


def disks(args: dict) -> list:
    """Return the file systems that hold what may grow."""
    found = {}
    for path in ("/", args["install_dir"], args["log_dir"], args["cache_dir"], "/var/log/journal",
                 "/var/lib/postgresql", "/tmp"):  # noqa: S108
        if os.path.isdir(path) and os.stat(path).st_dev not in found:
            status = os.statvfs(path)
            found[os.stat(path).st_dev] = {
                "path": path, "size": status.f_blocks * status.f_frsize, "free": status.f_bavail * status.f_frsize,
                "inodes_free_percent": round(100 * status.f_favail / status.f_files) if status.f_files else 100,
            }
    return list(found.values())


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "apply": {"type": "bool", "default": False},
            "everything": {"type": "bool", "default": False},
            "journal_mb": {"type": "int", "default": 500},
            "install_dir": {"type": "path", "default": "/opt/airflow"},
            "log_dir": {"type": "path", "default": "/var/log/airflow"},
            "cache_dir": {"type": "path", "default": "/var/cache/airflow"},
        },
        supports_check_mode=True,
    )
    args, space = module.params, Space(module.params)
    apply, before = args["apply"] and not module.check_mode, disks(module.params)
    found, problems = [], []
    for step in STEPS + LAST:
        method = getattr(space, step)
        size, get = method()
        wanted = step not in LAST or args["everything"]
        found.append({"what": step.replace("_", " "), "bytes": size, "means": method.__doc__.strip(), "wanted": wanted})
        if apply and wanted and size:
            try:
                get()
            except OSError as error:
                problems.append(f"{step.replace('_', ' ')}: {error}")
    after = disks(args)
    freed = sum(max(now["free"] - then["free"], 0) for then, now in zip(before, after)) if apply else 0
    changed = bool(args["apply"] and any(item["bytes"] for item in found if item["wanted"]))
    module.exit_json(changed=changed, found=found, freed=freed, disks=after, problems=problems)


if __name__ == "__main__":
    main()
