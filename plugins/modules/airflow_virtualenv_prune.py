#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Remove the oldest virtualenvs of a host, but none that a process uses."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_virtualenv_prune
short_description: Remove the oldest virtualenvs of a host
version_added: 1.0.0
description:
  - Keeps the virtualenv that the link C(venv) points to, the newest I(keep) besides it, those that processes use, and
    the one that a failed
    migration would go back to.
  - A component that was not restarted since a switch uses its old virtualenv. A later switch removes it.
options:
  install_dir:
    description: Directory with C(venvs) and the link C(venv).
    type: path
    required: true
  keep:
    description: Virtualenvs to keep besides the linked one, for a way back.
    type: int
    required: true
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
- name: Remove the oldest virtualenvs
  windsock.airflow.airflow_virtualenv_prune:
    install_dir: /opt/airflow
    keep: 1
"""

RETURN = r"""
removed:
  description: Names of the virtualenvs that were removed.
  returned: success
  type: list
  elements: str
  sample: [3.3.1-py3.11-2d5535df]
in_use:
  description: Processes by the virtualenv that they use.
  returned: success
  type: dict
  sample: {"3.3.2-py3.11-a069a30a": [811, 812]}
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_virtualenvs import in_use, remove, way_back


def surplus(install_dir: str, keep: int, used: set) -> list:
    """Return the paths of the virtualenvs that are to go, the newest first."""
    directory = os.path.join(install_dir, "venvs")
    linked = os.path.basename(os.path.realpath(os.path.join(install_dir, "venv")))
    others = [entry for entry in os.scandir(directory) if entry.name != linked]
    others.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime, reverse=True)
    return [entry.path for entry in others[keep:] if entry.name not in used]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"install_dir": {"type": "path", "required": True}, "keep": {"type": "int", "required": True}},
        supports_check_mode=True,
    )
    args = module.params
    try:
        used = in_use(os.path.join(args["install_dir"], "venvs"))
        back = way_back(args["install_dir"])
    except OSError as error:
        module.fail_json(msg=f"No virtualenv was removed: nobody can tell which of them the processes use. {error}")
    paths = surplus(args["install_dir"], args["keep"], {*used, *back})
    if not module.check_mode:
        for path in paths:
            remove(path)
    module.exit_json(changed=bool(paths), removed=[os.path.basename(path) for path in paths], in_use=used)


if __name__ == "__main__":
    main()
