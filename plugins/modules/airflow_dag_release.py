#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep the DAG releases of a host: unpack, switch, remember, prune."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_dag_release
short_description: Keep the DAG releases of a host
version_added: 1.0.0
description:
  - A release is a directory C(releases/<id>) with C(dags/), C(plugins/), C(include/) and a file F(REVISION). It is
    complete once it has its name, and
    never changes afterwards. C(current) is a relative link to one of them.
  - F(history) tells, a JSON object a line, when which release was put in place, proven or given up.
  - Changes wait for each other, also for what a killed run left running on the host.
options:
  root:
    description: Directory of the releases.
    type: path
    required: true
  state:
    description:
      - C(queried) changes nothing and returns what is there, as every other state does too.
      - C(unpacked) unpacks the archive into C(incoming/<id>), where nobody looks for DAGs, and compares its content
        with I(revision).
      - C(shipped) gives it its place in C(releases).
      - C(current) lets the link point at the release. Its files get a new time of modification, which makes Airflow
        parse them soon.
      - C(recorded) adds I(event) to the history.
      - C(discarded) removes what is in C(incoming), and the archives that killed runs have left.
      - C(packed) writes all complete releases and the history into O(archive), for another host or another directory
        of this one. The archive is a temporary file, so this is no change.
      - C(adopted) takes the releases and the history out of such an archive, lets the link point at the release and
        removes the archive. The history is that of the host that packed it.
      - C(pruned) removes all releases but the last I(keep), those of I(in_use), the one in place and the one before it.
    type: str
    choices: [queried, unpacked, shipped, current, recorded, discarded, packed, adopted, pruned]
    default: queried
  id:
    description: The release, for C(current), C(recorded) and C(adopted).
    type: str
    default: ""
  revision:
    description: What becomes F(REVISION), for C(unpacked) and C(shipped). Its C(id) and C(hash) are required.
    type: dict
    default: {}
  archive:
    description:
      - The archive on the host, for C(unpacked), C(packed) and C(adopted).
      - It is removed after C(unpacked) and C(adopted).
    type: path
  sha256:
    description: Its checksum.
    type: str
  group:
    description: Group that may read the releases. Required where something is written.
    type: str
  event:
    description: What happened, for C(current) and C(recorded).
    type: str
    choices: [deployed, rolled back, switched back, verified, failed]
    default: deployed
  by:
    description: Who did it.
    type: str
    default: ""
  note:
    description: A sentence about it.
    type: str
    default: ""
  settle:
    description:
      - Seconds that the new time of modification lies ahead, for C(current).
      - A parse that was under way during the switch ends within them, and Airflow parses the file again.
    type: float
    default: 0
  keep:
    description: Releases to keep besides those that are needed, for C(pruned).
    type: int
    default: 5
  in_use:
    description: Ids that unfinished runs are pinned to, for C(pruned).
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Changes nothing and reports what it would change.
  diff_mode:
    support: none
    description: Shows no difference.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: See what is there
  windsock.airflow.airflow_dag_release:
    root: /opt/airflow/dags
  register: result

- name: Put a release in place
  windsock.airflow.airflow_dag_release:
    root: /opt/airflow/dags
    state: current
    id: 1f0c5b0a93de
    group: airflow
    by: jane@laptop
"""

RETURN = r"""
active:
  description: The release in place, or nothing. A directory without F(REVISION) is none.
  returned: always
  type: str
previous:
  description: The release that was in place before it and that a rollback goes to, or nothing.
  returned: always
  type: str
releases:
  description: All releases, newest first, with what F(REVISION) says and their C(status) (active, verified, failed or
    empty).
  returned: always
  type: list
  elements: dict
at:
  description: The host's clock at the end.
  returned: always
  type: float
removed:
  description: Releases that were removed.
  returned: state is pruned
  type: list
  elements: str
"""

import contextlib
import fcntl
import glob
import grp
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.new_file import flush, rename

ACTIVATIONS = ("deployed", "rolled back", "switched back")
HISTORY_LENGTH = 500


class Problem(Exception):
    """What is wrong, as an instruction."""


def read_json(path: str) -> dict:
    """Return the content of a JSON file, or nothing where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}


def digest(directory: str) -> str:
    """Return the hash that module airflow_dag_archive gives the same content."""
    names = [os.path.join(folder, name) for folder, folders, files in os.walk(directory) for name in [*files, *folders]]
    total = hashlib.sha256()
    for path in sorted(names, key=lambda path: os.path.relpath(path, directory)):
        name = os.path.relpath(path, directory)
        if os.path.islink(path):
            kind, content = "link", os.readlink(path).encode()
        elif os.path.isdir(path):
            continue
        else:
            kind = "exec" if os.stat(path).st_mode & 0o100 else "file"
            with open(path, "rb") as file:
                content = file.read()
        total.update(f"{kind} {hashlib.sha256(content).hexdigest()} {name}\n".encode())
    return total.hexdigest()


def upto(stack: list, name: str) -> list:
    """Return the stack without what came after the last time that the name was put on it."""
    return stack[: len(stack) - stack[::-1].index(name)] if name in stack else [*stack, name]


def previous(history: list, active: str, usable: set) -> str:
    """Return the release that a rollback from the active one goes to."""
    stack: list[str] = []
    for entry in history:
        if entry["event"] == "deployed" and (not stack or stack[-1] != entry["id"]):
            stack.append(entry["id"])
        elif entry["event"] in ("rolled back", "switched back"):
            # What was left by going back is not gone back to.
            stack = upto(stack, entry["id"])
    # A run that was killed between the history and the link.
    stack = upto(stack, active)
    return next((name for name in reversed(stack[:-1]) if name in usable and name != active), "")


def status(history: list, name: str) -> str:
    """Return what the history says of a release since it was last put in place: verified, failed or nothing."""
    said = ""
    for entry in history:
        if entry["id"] == name:
            said = "" if entry["event"] in ACTIVATIONS else entry["event"]
    return said


def flush_file_system(directory: str) -> None:
    """Have everything below a directory on the disk. One call for each file takes several times as long."""
    done = subprocess.run(["sync", "--file-system", directory], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"{directory} could not be written to the disk: {done.stderr.strip()}. "
                      "Mend the disk, then run the deploy again.")


class Releases:
    """The releases below a directory."""

    def __init__(self, root: str, group: str | None) -> None:
        self.root = root
        # Only root can give files away; tests are not root.
        self.gid = grp.getgrnam(group).gr_gid if group and os.geteuid() == 0 else -1

    def path(self, *names: str) -> str:
        """Return a path below the root."""
        return os.path.join(self.root, *names)

    @contextlib.contextmanager
    def alone(self):
        """Wait until no other process changes anything here."""
        self.directory(self.root)
        with open(self.path(".changing"), "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def directory(self, path: str) -> None:
        """Make a directory that the group may read."""
        os.makedirs(path, mode=0o750, exist_ok=True)
        self.own(path, 0o750)

    def own(self, path: str, mode: int) -> None:
        """Give a path to root and the group."""
        os.chown(path, 0 if os.geteuid() == 0 else -1, self.gid)
        os.chmod(path, mode)

    def write(self, path: str, text: str) -> None:
        """Replace a file by a whole one, which is on the disk before it has its name."""
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.own(f"{path}.new", 0o640)
        rename(f"{path}.new", path)

    # ---- what is there

    def history(self) -> list:
        """Return the history, oldest first."""
        try:
            with open(self.path("history"), encoding="utf-8") as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return []

    def active(self) -> str:
        """Return the release that the link points at."""
        try:
            name = os.path.basename(os.readlink(self.path("current")))
        except FileNotFoundError:
            return ""
        return name if os.path.isfile(self.path("releases", name, "REVISION")) else ""

    def names(self) -> list:
        """Return the directories below releases."""
        try:
            return sorted(os.listdir(self.path("releases")))
        except FileNotFoundError:
            return []

    def query(self) -> dict:
        """Return what is there."""
        history, active = self.history(), self.active()
        order = {entry["id"]: number for number, entry in enumerate(history) if entry["event"] in ACTIVATIONS}
        found = []
        for name in self.names():
            revision = read_json(self.path("releases", name, "REVISION"))
            if revision:
                found.append({**revision, "status": status(history, name), "active": name == active})
        found.sort(key=lambda revision: (order.get(revision["id"], -1), revision.get("when", "")), reverse=True)
        usable = {revision["id"] for revision in found if revision["status"] != "failed"}
        return {"active": active, "previous": previous(history, active, usable) if active else "", "releases": found}

    # ---- what changes it

    def unpack(self, archive: str, sha256: str, revision: dict) -> bool:
        """Unpack the archive into incoming/<id>, once it is proven to be whole."""
        name = revision["id"]
        with open(archive, "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
        if found != sha256:
            raise Problem(
                f"{archive} has the checksum {found}, not {sha256}: it was damaged on its way. Run the deploy again.")
        temporary = self.path("incoming", f".{name}")
        shutil.rmtree(self.path("incoming", name), ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
        self.directory(self.path("incoming"))
        for folder in ("", "dags", "plugins", "include"):
            self.directory(os.path.join(temporary, folder).rstrip("/"))
        with tarfile.open(archive) as tar:
            for info in tar:
                target = os.path.join(temporary, info.name)
                missing = os.path.dirname(target)
                while not os.path.isdir(missing):
                    missing = os.path.dirname(missing)
                for folder in os.path.relpath(os.path.dirname(target), missing).split("/"):
                    missing = os.path.join(missing, folder)
                    self.directory(missing)
                if info.issym():
                    os.symlink(info.linkname, target)
                else:
                    with open(target, "wb") as file:
                        content = tar.extractfile(info)
                        assert content is not None
                        shutil.copyfileobj(content, file)
                    self.own(target, info.mode)
        found = digest(temporary)
        if found != revision["hash"]:
            raise Problem(
                f"The files on this host have the hash {found}, not {revision['hash']}. Run the deploy again.")
        # DAGs import the modules of include/ by that name, whatever release Airflow reads them from; they are no DAG
        # files.
        if os.listdir(os.path.join(temporary,
                                   "include")) and not os.path.lexists(os.path.join(temporary, "dags", "include")):
            os.symlink("../include", os.path.join(temporary, "dags", "include"))
        self.write(os.path.join(temporary, "PLUGINS"), revision["plugins"] + "\n")
        os.rename(temporary, self.path("incoming", name))
        os.unlink(archive)
        return True

    def ship(self, revision: dict) -> bool:
        """Give an unpacked release its place."""
        name = revision["id"]
        if os.path.isfile(self.path("releases", name, "REVISION")):
            return False
        if not os.path.isdir(self.path("incoming", name)):
            raise Problem(f"{self.path('incoming', name)} is not there. Run the deploy again.")
        self.directory(self.path("releases"))
        self.write(self.path("incoming", name, "REVISION"), json.dumps(revision, indent=1, sort_keys=True) + "\n")
        # A release counts as complete once it has its name: a loss of power must leave no empty file in it.
        flush_file_system(self.path("incoming", name))
        rename(self.path("incoming", name), self.path("releases", name))
        return True

    def switch(self, name: str, event: str, by: str, settle: float) -> bool:
        """Let the link point at a release."""
        if not os.path.isfile(self.path("releases", name, "REVISION")):
            raise Problem(
                f"There is no release {name} on this host. playbooks/list_dag_releases.yml shows those that are.")
        if self.active() == name:
            return False
        soon = time.time() + settle
        for directory, _folders, files in os.walk(self.path("releases", name, "dags")):
            for file in files:
                os.utime(os.path.join(directory, file), (soon, soon), follow_symlinks=False)
        # Before the link: where a kill parts them, the link tells what is true.
        self.record(name, event, by)
        self.point_at(name)
        return True

    def point_at(self, name: str) -> None:
        """Replace the link, at once and for good."""
        temporary = self.path(".current.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(f"releases/{name}", temporary)
        rename(temporary, self.path("current"))

    def pack(self, archive: str) -> bool:
        """Write what another host needs to be as this one. It changes no release."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(archive)
        names = [f"releases/{name}" for name in self.names() if os.path.isfile(self.path("releases", name, "REVISION"))]
        with os.fdopen(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
                for name in [*names, *(["history"] if os.path.exists(self.path("history")) else [])]:
                    tar.add(self.path(name), name)
        return False

    def adopt(self, archive: str, name: str) -> bool:
        """Take over what another host, or another directory of this one, has packed."""
        incoming = self.path("incoming")
        shutil.rmtree(incoming, ignore_errors=True)
        self.directory(incoming)
        with tarfile.open(archive) as tar:
            # Hosts of one environment trust each other. Newer Pythons ask for the word.
            trust: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
            tar.extractall(incoming, **trust)
        for folder, folders, files in os.walk(incoming):
            for entry in [*folders, *files]:
                # The group may have another number here.
                os.chown(os.path.join(folder, entry), 0 if os.geteuid() == 0 else -1, self.gid, follow_symlinks=False)
        if not os.path.isfile(os.path.join(incoming, "releases", name, "REVISION")):
            raise Problem(f"{archive} has no release {name}. Run the same command again.")
        self.directory(self.path("releases"))
        # As for ship: a release counts as complete once it has its name.
        flush_file_system(incoming)
        for release in sorted(os.listdir(os.path.join(incoming, "releases"))):
            if not os.path.exists(self.path("releases", release)):
                os.rename(os.path.join(incoming, "releases", release), self.path("releases", release))
        if os.path.exists(os.path.join(incoming, "history")):
            os.rename(os.path.join(incoming, "history"), self.path("history"))
        flush(self.path("releases"))
        # Last: a run that is killed before begins anew.
        self.point_at(name)
        shutil.rmtree(incoming)
        os.unlink(archive)
        return True

    def record(self, name: str, event: str, by: str, note: str = "") -> bool:
        """Add a line to the history."""
        history = self.history()
        if event not in ACTIVATIONS and status(history, name) == event:
            return False
        history.append({
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, "id": name, "by": by, "note": note
        })
        self.write(self.path("history"), "".join(json.dumps(entry) + "\n" for entry in history[-HISTORY_LENGTH:]))
        return True

    def discard(self) -> bool:
        """Remove what was brought or unpacked and not shipped."""
        archives = glob.glob(self.path("*.tar.gz"))
        there = bool(os.path.isdir(self.path("incoming")) and os.listdir(self.path("incoming")))
        shutil.rmtree(self.path("incoming"), ignore_errors=True)
        for archive in archives:
            os.unlink(archive)
        return there or bool(archives)

    def surplus(self, keep: int, in_use: list) -> list:
        """Return the releases that nobody needs."""
        seen = self.query()
        needed = {seen["active"], seen["previous"], *in_use}
        return [revision["id"] for revision in seen["releases"][keep:] if revision["id"] not in needed] + [
            # Directories of an installation that knew no releases.
            name
            for name in self.names() if seen["active"] and not os.path.isfile(self.path("releases", name, "REVISION"))
        ]

    def prune(self, names: list[str]) -> bool:
        """Remove releases. Whole ones only are ever seen: each is moved away first. Return whether there was one."""
        self.directory(self.path("incoming"))
        for name in names:
            os.rename(self.path("releases", name), self.path("incoming", f".{name}.removed"))
        shutil.rmtree(self.path("incoming"))
        return bool(names)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": [
                    "queried", "unpacked", "shipped", "current", "recorded", "discarded", "packed", "adopted", "pruned",
                ],
                "default": "queried",
            },
            "id": {"type": "str", "default": ""},
            "revision": {"type": "dict", "default": {}},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "group": {"type": "str"},
            "event": {"type": "str", "choices": [*ACTIVATIONS, "verified", "failed"], "default": "deployed"},
            "by": {"type": "str", "default": ""},
            "note": {"type": "str", "default": ""},
            "settle": {"type": "float", "default": 0},
            "keep": {"type": "int", "default": 5},
            "in_use": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[
            ("state", "unpacked", ("archive", "sha256", "revision", "group")),
            ("state", "shipped", ("revision", "group")),
            ("state", "current", ("id", "group")),
            ("state", "recorded", ("id", "event", "group")),
            ("state", "discarded", ("group",)),
            ("state", "packed", ("archive",)),
            ("state", "adopted", ("archive", "id", "group")),
            ("state", "pruned", ("group",)),
        ],
        supports_check_mode=True,
    )
    args, state = module.params, module.params["state"]
    try:
        releases = Releases(args["root"], args["group"])
    except KeyError:
        # A dry run on a bare host; a real one has made the group.
        releases = Releases(args["root"], None)
    result: dict[str, Any] = {"changed": False}
    if state == "pruned":
        result["removed"] = releases.surplus(args["keep"], args["in_use"])
    if state != "queried" and not module.check_mode:
        steps = {
            "unpacked": lambda: releases.unpack(args["archive"], args["sha256"], args["revision"]),
            "shipped": lambda: releases.ship(args["revision"]),
            "current": lambda: releases.switch(args["id"], args["event"], args["by"], args["settle"]),
            "recorded": lambda: releases.record(args["id"], args["event"], args["by"], args["note"]),
            "discarded": releases.discard,
            "packed": lambda: releases.pack(args["archive"]),
            "adopted": lambda: releases.adopt(args["archive"], args["id"]),
            "pruned": lambda: releases.prune(result["removed"]),
        }
        try:
            with releases.alone():
                result["changed"] = steps[state]()
        except Problem as problem:
            module.fail_json(msg=str(problem))
    elif state != "queried":
        would = {"current": releases.active() != args["id"], "packed": False, "pruned": bool(result.get("removed"))}
        result["changed"] = would.get(state, True)
    module.exit_json(**{**result, **releases.query(), "at": time.time()})


if __name__ == "__main__":
    main()
