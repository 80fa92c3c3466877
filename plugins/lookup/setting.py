"""A public variable of any role of this collection."""

from __future__ import annotations

import os

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection

DOCUMENTATION = r"""
name: setting
short_description: A public variable, or its default in the role that owns it
version_added: 1.0.0
author: The Windsock contributors
description:
  - Returns the value of a public variable of a role, also in a play that does not have this role. Without a value in
    the
    inventory, it is the default of the role.
  - A name that no role of this collection owns stops the run.
options:
  _terms:
    description: Names of variables.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show where nginx listens
  ansible.builtin.debug:
    msg: "{{ lookup('windsock.airflow.setting', 'reverse_proxy_https_port') }}"
"""

RETURN = r"""
_raw:
  description: One value for each term, of the type of the variable.
  type: list
  elements: raw
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms, variables=None, **kwargs):
        """Return the values."""
        return [self.value(term, variables or {}) for term in terms]

    def value(self, name, variables):
        """Return one value."""
        if name in variables:
            return self._templar.template(variables[name])
        for role in sorted(os.listdir(os.path.join(collection.ROOT, "roles"))):
            path = os.path.join(collection.ROOT, "roles", role, "defaults/main.yml")
            # Most files do not name it, and need not be parsed.
            if os.path.exists(path) and f"\n{name}:" in self._loader.get_text_file_contents(path):
                defaults = self._loader.load_from_file(path, trusted_as_template=True)
                return self._templar.template(defaults[name])
        raise AnsibleError(f"setting: no role of this collection has a variable {name}.")
