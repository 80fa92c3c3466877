#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Bring many files, directories and links of a host into their state in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: files
short_description: Bring many files, directories and links into their state at once
version_added: 1.0.0
description:
  - A role has a dozen small files, and C(template), C(copy) and C(file) take one to four round trips for each of them.
    This takes one for all.
  - A file is compared first, validated where it differs, and replaced by one rename. It has its owner and mode before
    it has its name, so it is
    never, at any moment, half written or readable by others.
  - A link is changed after all files and directories before it in the list are on the disk.
options:
  files:
    description: What there has to be, in the order in which it is made.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      state:
        description:
          - "C(file): has I(content). C(directory): is there, with its parents made like it. C(link): points at
          I(target), replaced by one rename.
            C(absent): is not there."
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: The whole file. Excludes I(template).
        type: str
      template:
        description: Name of the template that gives the content, looked for where C(ansible.builtin.template) does.
          Rendered on the controller.
        type: str
      template_vars:
        description: Variables for this template only.
        type: dict
      target:
        description: What a link points at. It need not be there.
        type: str
      owner:
        description: Owner of a file or directory.
        type: str
        default: root
      group:
        description: Group of a file or directory.
        type: str
        default: root
      mode:
        description: Mode of a file or directory, in octal digits; 0644 and 0755 where it is not given.
        type: str
      validate:
        description: Command that must accept new content before it is put in place. C(%s) is a file of the same name
          that holds it.
        type: str
      secret:
        description: Whether the content is not shown, not even with C(--diff).
        type: bool
        default: false
  absent:
    description:
      - Paths that must not be there, removed after I(files) are made. The same as I(state=absent).
      - A directory goes with all that is in it. A mount point is emptied and stays. A directory that has another file
        system mounted below it
        is refused, and nothing of it is removed.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    support: full
    description: Nothing is changed or validated. An owner or group that is not there yet counts as a change.
  diff_mode:
    support: full
    description: Shows the file before and after.
notes:
  - Contents are neither logged on the host nor returned.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Make the directory, the configuration and the link to it
  windsock.airflow.files:
    files:
      - {path: /etc/example, state: directory, mode: "0750"}
      - path: /etc/example/main.conf
        template: main.conf.j2
        validate: example --check %s
      - {path: /etc/main.conf, state: link, target: example/main.conf}
  register: result
"""

RETURN = r"""
changed_paths:
  description: Paths that were not as they should be.
  returned: always
  type: list
  elements: str
  sample: [/etc/example/main.conf]
"""

import grp
import os
import pwd
import re
import shlex
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.windsock.airflow.plugins.module_utils.new_file import flush, new_name, rename

KIND_OPTIONS = {"file": "content", "link": "target"}


def kind(path: str) -> str:
    """Return what is at path: file, directory, link, other, or absent."""
    if os.path.islink(path):
        return "link"
    if os.path.isdir(path):
        return "directory"
    if os.path.isfile(path):
        return "file"
    return "other" if os.path.lexists(path) else "absent"


def mounts() -> list[str]:
    """Return the directories that file systems are mounted on."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in file]


class Host:
    """The files of the host that the module runs on."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.diff: list[dict] = []

    def apply(self, item: dict) -> bool:
        """Bring one path into its state; return whether that was needed."""
        present = kind(item["path"])
        if present == item["state"] == "absent":
            return False
        if item["state"] in ("file", "link") and present in ("directory", "other"):
            self.fail(item, f"is a {present}; a {item['state']} belongs there. Move it away, then run again.")
        if item["state"] == "directory" and present not in ("directory", "absent"):
            self.fail(item, f"is a {present}; a directory belongs there. Move it away, then run again.")
        return getattr(self, item["state"])(item, present)

    def absent(self, item: dict, present: str) -> bool:
        """Remove what is there."""
        path = item["path"]
        if present == "directory":
            below = [mount for mount in mounts() if mount.startswith(os.path.realpath(path) + "/")]
            if below:
                self.fail(item,
                          f"was left as it is: {', '.join(below)} is another file system. Unmount it, then run again.")
            if os.path.ismount(path):
                return self.empty(item)
        self.tell(item, present, "absent")
        if not self.module.check_mode:
            if present == "directory":
                shutil.rmtree(path)
            else:
                os.unlink(path)
        return True

    def empty(self, item: dict) -> bool:
        """Remove what is on a file system of its own, whose mount point cannot go."""
        names = os.listdir(item["path"])
        if names:
            self.tell(item, "mount point with " + ", ".join(sorted(names)), "empty mount point")
        if not self.module.check_mode:
            for name in names:
                path = os.path.join(item["path"], name)
                if kind(path) == "directory":
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
        return bool(names)

    def directory(self, item: dict, present: str) -> bool:
        """Make the directory and those above it."""
        if present == "directory":
            return self.attributes(item)
        self.tell(item, "absent", "directory")
        if not self.module.check_mode:
            missing, above = [], item["path"]
            while not os.path.isdir(above):
                missing.append(above)
                above = os.path.dirname(above)
            for path in reversed(missing):
                os.mkdir(path, 0o700)
                self.attributes(item, path)
                flush(os.path.dirname(path))
        return True

    def link(self, item: dict, present: str) -> bool:
        """Point the link at its target. What this call has made is on the disk already: the link may lead there."""
        now = os.readlink(item["path"]) if present == "link" else present
        if now == item["target"]:
            return False
        self.tell(item, now, item["target"])
        if not self.module.check_mode:
            new = new_name(item["path"])
            os.symlink(item["target"], new)
            rename(new, item["path"])
        return True

    def file(self, item: dict, present: str) -> bool:
        """Give the file its content, owner and mode."""
        wanted, now = to_bytes(item["content"]), b""
        if present == "file":
            with open(item["path"], "rb") as file:
                now = file.read()
            if now == wanted:
                return self.attributes(item)
        self.tell(item, to_text(now, errors="replace"), item["content"])
        if self.module.check_mode:
            return True
        if item["validate"]:
            self.validate(item, wanted)
        new = new_name(item["path"])
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(wanted)
            file.flush()
            os.fsync(file.fileno())
        self.attributes(item, new)
        self.module.set_context_if_different(new, self.module.selinux_default_context(item["path"]), False)
        rename(new, item["path"])
        return True

    def validate(self, item: dict, wanted: bytes) -> None:
        """Stop where the file's own checker refuses the content."""
        # Some checkers look at the name: systemd-analyze wants that of a unit.
        with tempfile.TemporaryDirectory() as directory:
            copy = os.path.join(directory, os.path.basename(item["path"]))
            with open(copy, "wb") as file:
                file.write(wanted)
            command = [word.replace("%s", copy) for word in shlex.split(item["validate"])]
            rc, out, err = self.module.run_command(command)
        if rc:
            said = "" if item["secret"] else f" It said: {(out + err).strip()[-2000:]}"
            self.fail(item, f"was left as it is: {command[0]} refused the new content (exit code {rc}).{said}")

    def attributes(self, item: dict, path: str | None = None) -> bool:
        """Set owner, group and mode; return whether they differed."""
        new, path = path, path or item["path"]
        status = os.stat(path)
        ids = []
        for name, find in ((item["owner"], pwd.getpwnam), (item["group"], grp.getgrnam)):
            try:
                ids.append(find(name)[2])
            except KeyError:
                if self.module.check_mode:
                    return True
                self.fail(item, f"is to belong to {item['owner']}:{item['group']}, but the host does not know {name}.")
        now, wanted = (status.st_uid, status.st_gid, status.st_mode & 0o7777), (*ids, int(item["mode"], 8))
        if now == wanted:
            return False
        if not new:
            self.diff.append(
                {"header": item["path"], "prepared": "uid %d gid %d mode %04o, wanted %d %d %04o\n" % (*now, *wanted)})
        if not self.module.check_mode:
            os.chown(path, *ids)
            os.chmod(path, wanted[2])
        return True

    def tell(self, item: dict, before: str, after: str) -> None:
        """Note a difference for --diff."""
        if not item["secret"]:
            self.diff.append(
                {"before_header": item["path"], "after_header": item["path"], "before": before, "after": after})

    def fail(self, item: dict, why: str) -> None:
        """Stop the run."""
        self.module.fail_json(msg=f"{item['path']} {why}", invocation={})


class Module(AnsibleModule):
    """One that does not write its parameters, whole files, into the host's journal."""

    def _log_invocation(self) -> None:
        """Do nothing. The argument no_log would not help: AnsibleModule replaces it by that of the task."""


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
                    "content": {"type": "str"},
                    "target": {"type": "str"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str"},
                    "validate": {"type": "str"},
                    "secret": {"type": "bool", "default": False, "no_log": False},
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    nothing = {
        "content": None, "target": None, "owner": "root", "group": "root", "mode": None, "validate": None,
        "secret": False
    }
    items = module.params["files"] + [{**nothing, "path": path, "state": "absent"} for path in module.params["absent"]]
    for item in items:
        item["mode"] = item["mode"] or ("0755" if item["state"] == "directory" else "0644")
        needed = KIND_OPTIONS.get(item["state"])
        if needed and item[needed] is None:
            module.fail_json(msg=f"{item['path']}: state {item['state']} needs {needed}", invocation={})
    host = Host(module)
    changed = [item["path"] for item in items if host.apply(item)]
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=host.diff, invocation={})


if __name__ == "__main__":
    main()
