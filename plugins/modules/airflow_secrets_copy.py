#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Find the controller's copy of the secrets by the id of a site."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_secrets_copy
short_description: Find the controller's copy of the secrets by the id of a site
version_added: 1.0.0
description:
  - Moves a copy that was made before the site had an id to the directory of the id, and notes the id in it.
  - Refuses a copy that carries another id, because a host would get the secrets of another Airflow from it.
  - Does nothing if there is no copy. Reads a secret only to compare it, and shows none.
options:
  directory:
    description: Directory of the copy.
    type: path
    required: true
  former:
    description: Directory that the copy had before. Empty for none.
    type: str
    default: ""
  fernet_key:
    description:
      - Fernet key of the host. The copy with this key is moved if no copy is at O(directory) or O(former). It is looked
        for in the directories beside
        O(directory) that have no id. Empty looks for none.
    type: str
    default: ""
  site_id:
    description: Id of the site.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Says whether it would move a copy or note the id.
  diff_mode:
    support: none
    description: Shows no difference.
"""

EXAMPLES = r"""
- name: Find the copy
  windsock.airflow.airflow_secrets_copy:
    directory: ~/.airflow-secrets/0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11
    former: ~/.airflow-secrets/home-ops-airflow-inventories-production
    site_id: 0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11
  delegate_to: localhost

- name: Find the copy of a site whose inventory has another path now
  windsock.airflow.airflow_secrets_copy:
    directory: ~/.airflow-secrets/0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11
    fernet_key: "{{ host_secrets.fernet_key }}"
    site_id: 0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11
  delegate_to: localhost
"""

RETURN = r"""
moved:
  description: Whether the copy was at its former place.
  returned: success
  type: bool
"""

import glob
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.new_file import new_name, rename

# The file that carries the id.
NAME = "site_id"


class Foreign(Exception):
    """The copy is not, or may not be, that of this site; the argument says why."""


def content(path: str) -> bytes | None:
    """Return what a file holds, or None without one."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def check_id(directory: str, site_id: str) -> bool:
    """Refuse a copy with another id. Return whether it has this one."""
    held = content(os.path.join(directory, NAME))
    if held is None:
        return False
    found = held.decode(errors="replace").strip()
    if found != site_id:
        raise Foreign(
            f"The copy of the secrets in {directory} on the controller belongs to the site with the id {found}, and "
            f"airflow_site_id of this site is {site_id}."
            " A host would get the secrets of another Airflow from it. If airflow_site_id was changed or copied from "
            "another site, put the right id back:"
            " it is in group_vars/all/main.yml of the site. If airflow_secrets_copy_dir names this directory, name "
            "another one. Nothing was changed."
        )
    return True


def compare(directory: str, former: str) -> None:
    """Refuse two copies if the former one has something that the other has not."""
    names = [
        name for name in sorted(os.listdir(former))
        if content(os.path.join(former, name)) != content(os.path.join(directory, name))
    ]
    if names:
        raise Foreign(
            f"The controller has two copies of the secrets of this site: {former}, from before it had an id, and "
            f"{directory}."
            f" They differ in {', '.join(names)}. Compare them with /etc/airflow/secrets on the first host in group "
            "airflow."
            " Keep the copy that has the host's fernet_key, and backup_key from"
            " the one that the backups were made with. Move the other directory away, then run this again. Nothing was "
            "changed."
        )


def with_key(directory: str, key: str) -> str:
    """Return the one copy beside this directory that has the key and no id, or ""."""
    found = [
        os.path.dirname(path)
        for path in sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(directory)), "*", "fernet_key")))
        if key and (content(path) or b"").decode(
            errors="replace").strip() == key and content(os.path.join(os.path.dirname(path), NAME)) is None
    ]
    if len(found) > 1:
        raise Foreign(
            "The controller has more than one copy of the secrets with the fernet_key of this site, and none of them "
            f"has an id: {', '.join(found)}."
            f" Choose the copy whose backup_key the backups were made with, then run: mv <copy> {directory}. Run this "
            "again. Nothing was moved."
        )
    return found[0] if found else ""


def note(directory: str, site_id: str) -> None:
    """Write the id into the copy, at once or not at all."""
    path = os.path.join(directory, NAME)
    new = new_name(path)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(site_id)
        file.flush()
        os.fsync(file.fileno())
    rename(new, path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "former": {"type": "str", "default": ""},
            "fernet_key": {"type": "str", "default": "", "no_log": True},
            "site_id": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    directory, site_id = module.params["directory"], module.params["site_id"]
    former = os.path.expanduser(module.params["former"])
    try:
        if check_id(directory, site_id):
            module.exit_json(changed=False, moved=False)
        if not os.path.isdir(directory) and not os.path.isdir(former):
            former = with_key(directory, module.params["fernet_key"].strip())
        moving = bool(former) and os.path.isdir(former)
        if moving:
            check_id(former, site_id)
        if moving and os.path.isdir(directory):
            compare(directory, former)
            moving = False
        changed = moving or os.path.isdir(directory)
        if changed and not module.check_mode:
            if moving:
                os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
                rename(former, directory)
            note(directory, site_id)
    except Foreign as foreign:
        module.fail_json(msg=str(foreign))
    except OSError as error:
        module.fail_json(
            msg=
            f"The copy of the secrets, {directory} on the controller (airflow_secrets_copy_dir), can't be read or "
            f"written: {error}."
        )
    module.exit_json(changed=changed, moved=moving)


if __name__ == "__main__":
    main()
