"""Refuses a command that cannot work, before Ansible parses a role, with one sentence that says what to type instead.

Ansible loads it for playbooks beside this directory, whatever ansible.cfg says. An Ansible that is too old loads it
too, so it uses little of Ansible.
"""

from __future__ import annotations

import functools
import os
import re
import sys

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.vars import BaseVarsPlugin
from ansible.release import __version__ as ansible_version
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import controller
from ansible_collections.windsock.airflow.plugins.plugin_utils import parameters
from ansible_collections.windsock.airflow.plugins.plugin_utils.collection import ROOT

DOCUMENTATION = r"""
name: command_can_work
short_description: Refuse a command that cannot work
version_added: 1.0.0
author: The Windsock contributors
description:
  - Refuses an Ansible of another release or without the collections, an environment from before an update, a command
    without an inventory where
    there is no sandbox, an inventory that does not exist, and parameters (C(-e)) that the playbook does not have or
    that are not valid. Brings no variables.
options:
  stage:
    description: When it runs. This is before Ansible parses a playbook.
    type: str
    default: inventory
"""

# The letters are the short options without a value, which may stand before -i in one word.
NAMES_INVENTORY = re.compile(r"-(-|[CDJKbhkv]*)i")


@functools.lru_cache(maxsize=None)
def problem(loader):
    """The first thing that is wrong with this command. Looked for once, although Ansible asks for the variables of each
    group and host.
    """
    return next(find_problems(loader), None)


def find_problems(loader):
    """Yield what is wrong with this command."""
    yield from controller.check_ansible(ROOT, ansible_version)
    yield from controller.check_environment(ROOT, sys.prefix)
    yield from controller.check_collections(ROOT)
    # Ansible's own options do not tell: it puts the inventory of ansible.cfg there.
    named = os.environ.get("ANSIBLE_INVENTORY") or [word for word in sys.argv[1:] if NAMES_INVENTORY.match(word)]
    if not any(context.CLIARGS.get(name) for name in ("syntax", "listtasks", "listtags")):
        yield from controller.check_sandbox(ROOT, context.CLIARGS["inventory"], bool(named))
        yield from controller.check_inventory(context.CLIARGS["inventory"])
        if not context.CLIARGS.get("listhosts"):
            yield from parameters.check_command(loader)


class VarsModule(BaseVarsPlugin):
    """The plugin."""

    def get_vars(self, loader, path, entities, cache=True):
        """Stop at a problem."""
        super().get_vars(loader, path, entities)
        if problem(loader):
            raise AnsibleError(problem(loader))
        return {}
