"""The parameters of a playbook of this collection, from the command line."""

from __future__ import annotations

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import parameters as rules
from ansible_collections.windsock.airflow.plugins.plugin_utils import parameters

DOCUMENTATION = r"""
name: parameters
short_description: The parameters of a playbook of this collection, from the command line
description:
  - Returns a dictionary with all parameters of a playbook, each with its type and, without a value on the command line,
    its default.
  - A parameter counts on the command line only (C(-e)). Variables of an inventory have no effect.
  - A value that is not valid stops the run.
options:
  _terms:
    description: The playbook, by its path below C(playbooks/), without C(.yml).
    required: true
"""

EXAMPLES = r"""
- name: Show which release was asked for
  ansible.builtin.debug:
    msg: "{{ lookup('windsock.airflow.parameters', 'rollback_dags').airflow_release }}"
"""

RETURN = r"""
_raw:
  description: The parameters by their names.
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms, variables=None, **kwargs):
        """Return the parameters of each playbook."""
        given = dict(parameters.given(self._loader))
        for name in {name for playbook in terms for name in rules.names_of(playbook)} & set(given):
            given[name] = self._templar.template(given[name])
        for playbook in terms:
            # A command that names this playbook by its path was checked before (vars plugin command_can_work).
            problem = next(parameters.check(playbook, given), None)
            if problem:
                raise AnsibleError(problem)
        return [rules.values(playbook, given) for playbook in terms]
