"""Lets Python look for garbage less often: Ansible makes little of it in cycles, and the search costs processor time.

Ansible loads it for playbooks beside this directory, before it parses a role.
"""

from __future__ import annotations

import gc

from ansible.plugins.vars import BaseVarsPlugin

DOCUMENTATION = r"""
name: fewer_collections
short_description: Let Python look for garbage less often
version_added: 1.0.0
author: The Windsock contributors
description:
  - Raises the thresholds of Python's garbage collector in C(ansible-playbook) and in its workers. Brings no variables.
options:
  stage:
    description: When Ansible asks it for variables. At this stage that is with the inventory, and not for each task.
    type: str
    default: inventory
"""

# Objects made since the last look, looks at the young, and looks at the middle-aged. Python's own are 700, 10 and 10.
gc.set_threshold(50_000, 20, 100)


class VarsModule(BaseVarsPlugin):
    """The plugin."""

    def get_vars(self, loader, path, entities, cache=True):
        """Bring no variables."""
        super().get_vars(loader, path, entities)
        return {}
