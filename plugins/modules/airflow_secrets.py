#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep the secrets of an Airflow environment in files: one file each, without a trailing newline."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_secrets
short_description: Keep the secrets of an Airflow environment in files
version_added: 1.0.0
description:
  - Keeps one file per secret in a directory. A file holds the secret and nothing else, no newline either, because
    Airflow takes
    what a C(*_cmd) option prints as it is.
  - Secrets under I(generate) are made once, where their file is absent, and not changed again unless I(renew) names
    them. Secrets under
    I(values) are written as given.
  - A file is replaced atomically, by one of the same owner, group and mode, and is never, at any moment, readable by
    others.
  - When the module ends, the files and their names are on the disk. A loss of power brings back no earlier secret.
  - A file that is made for I(generate) may be read by its maker only.
  - No Fernet key is lost. If the first key of file C(fernet_key), which encrypts, is not among the new keys, the
    content of the file is kept beside it as C(fernet_key.TIME), with the time in UTC, for its maker alone.
  - What I(renew) replaces is kept as C(NAME.before). It tells a host that has the secret of before from a host of
    another environment.
options:
  directory:
    description: Directory of the files. Created where absent.
    type: path
    required: true
  owner:
    description: Owner of the directory and the files of I(values). Without it, whoever made them.
    type: str
  group:
    description: Group that may read the files of I(values). Without it, or where it does not exist yet, only the owner
      may.
    type: str
  absent:
    description: Names of secrets whose file is removed.
    type: list
    elements: str
    default: []
notes:
  - Needs root, or the owner of the directory.
extends_documentation_fragment:
  - windsock.airflow.airflow_secret_kinds
"""

EXAMPLES = r"""
- name: Make what is absent
  windsock.airflow.airflow_secrets:
    directory: /etc/airflow/secrets
    group: airflow
    generate:
      fernet_key: fernet
      jwt_secret: token
  register: result
  no_log: true

- name: Make another one in its place
  windsock.airflow.airflow_secrets:
    directory: /etc/airflow/secrets
    generate:
      jwt_secret: token
    renew: [jwt_secret]
  no_log: true

- name: Write a secret from a vault
  windsock.airflow.airflow_secrets:
    directory: /etc/airflow/secrets
    group: airflow
    values:
      api_secret_key: "{{ vault_airflow_api_secret_key }}"
  no_log: true
"""

RETURN = r"""
secrets:
  description: The secrets named by I(generate), as they are in the files.
  returned: always
  type: dict
  sample: {"jwt_secret": "..."}
written:
  description: Names of the secrets whose file was written.
  returned: always
  type: list
  elements: str
  sample: [jwt_secret]
"""

import grp
import os
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_secret_kinds import ARGUMENTS, refuse
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_secret_kinds import plan as plan_secrets
from ansible_collections.windsock.airflow.plugins.module_utils.new_file import flush, new_name, rename


def read(path: str) -> str | None:
    """Return the content of the file at path, or None where there is none."""
    try:
        with open(path, "rb") as file:
            return to_text(file.read())
    except FileNotFoundError:
        return None


def write(path: str, value: str) -> None:
    """Replace the file at path atomically by one with its owner and mode; where there is none, only its maker may read
    it.
    """
    temporary = new_name(path)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        if os.path.exists(path):
            # Running components read it at any moment.
            before = os.stat(path)
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), before.st_mode & 0o777)
        file.write(to_bytes(value))
        file.flush()
        os.fsync(file.fileno())
    rename(temporary, path)


# The secret that nobody can make again: it opens what is in the database.
KEPT = "fernet_key"


def plan(directory: str, generate: dict, renew: list, known: dict, values: dict) -> tuple[dict, dict]:
    """Return the secrets named by generate, and all that have to be written."""
    files = {name: read(os.path.join(directory, name)) for name in [*generate, *values]}
    kept = plan_secrets(generate, renew, {name: known.get(name) or files[name] or "" for name in generate})
    return kept, {name: value for name, value in {**kept, **values}.items() if value != files[name]}


def lost(before: str, value: str) -> bool:
    """Return whether the key that has encrypted is not among those that take its place."""
    return before.split(",")[0] not in value.split(",")


def group_exists(name: str) -> bool:
    """Return whether the system knows the group."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            **ARGUMENTS,
            "values": {"type": "dict", "default": {}, "no_log": True},
            "absent": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    args = module.params
    names = [*args["generate"], *args["values"]]
    for name in [*names, *args["absent"]]:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or [*names, *args["absent"]].count(name) > 1:
            module.fail_json(msg=f"{name!r}: a secret's name is lower-case letters, digits and _, and stands in one of"
                                 " generate, values and absent")
    refuse(module, args["generate"], args["renew"])

    directory = args["directory"]
    values = {name: to_text(value) for name, value in args["values"].items()}
    kept, due = plan(directory, args["generate"], args["renew"], args["known"], values)
    absent = not os.path.isdir(directory)
    gone = [name for name in args["absent"] if os.path.lexists(os.path.join(directory, name))]
    changed = bool(due or gone) or absent
    if changed and not module.check_mode:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if absent:
            flush(os.path.dirname(os.path.abspath(directory)))
        for name, value in due.items():
            path = os.path.join(directory, name)
            before = read(path)
            if name == KEPT and before and lost(before, value):
                write(time.strftime(f"{path}.%Y%m%dT%H%M%SZ", time.gmtime()), before)
            if name in args["renew"] and before:
                write(f"{path}.before", before)
            write(path, value)
        for name in gone:
            os.unlink(os.path.join(directory, name))

    # What is only generated is for root: a secret that the components need stands in values.
    group = args["group"] if args["group"] and group_exists(args["group"]) else None
    owned = [(directory, 0o750), *((os.path.join(directory, name), 0o640)
                                   for name in args["values"])] if args["values"] else []
    for path, mode in owned:
        if os.path.exists(path):
            if args["owner"]:
                changed = module.set_owner_if_different(path, args["owner"], changed)
            if group:
                changed = module.set_group_if_different(path, group, changed)
            changed = module.set_mode_if_different(path, mode if group else mode & 0o700, changed)
    module.exit_json(changed=changed, secrets=kept, written=sorted(due))


if __name__ == "__main__":
    main()
