"""The command of another playbook, as the user would type it."""

from __future__ import annotations

from ansible.plugins.lookup import LookupBase
from ansible_collections.windsock.airflow.plugins.plugin_utils import typed_command

DOCUMENTATION = r"""
name: typed_command
short_description: The command of another playbook, as the user would type it
description:
  - Returns C(ansible-playbook), the options of this run that say which hosts there are and how they are reached, a
    playbook of this repository, and more
    arguments.
  - Extra variables are repeated too. Secrets, the word of a confirmation and, for another playbook, the parameters of
    this
    run's playbook are left out.
options:
  _terms:
    description: Path of the playbook below the root of the repository, then its arguments, which may be more playbooks.
    required: true
"""

EXAMPLES = r"""
- name: Show what to do next
  ansible.builtin.debug:
    msg: "{{ lookup('windsock.airflow.typed_command', 'playbooks/runbooks/check_health.yml') }}"
"""

RETURN = r"""
_raw:
  description: The command as one line of a shell. A playbook has the form in which the playbook of this run was typed.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms, variables=None, **kwargs):
        """Return the command as one line of a shell."""
        return [typed_command.line(*terms)]
