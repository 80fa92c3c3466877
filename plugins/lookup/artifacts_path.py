"""Where the controller keeps what a run leaves for a person."""

from __future__ import annotations

import os

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: artifacts_path
short_description: The path of a report or of evidence on the controller
version_added: 1.0.0
author: The Windsock contributors
description:
  - Returns a path below C(artifacts/) of the site, if the inventory has an C(airflow_site_id), else below C(artifacts/)
    of the directory in which the command
    was started. Makes no directory.
options:
  _terms:
    description: Path below C(artifacts/). The empty string is that directory itself.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show where the reports are
  ansible.builtin.debug:
    msg: "{{ lookup('windsock.airflow.artifacts_path', 'health.html') }}"
"""

RETURN = r"""
_raw:
  description: One absolute path for each term.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms, variables=None, **kwargs):
        """Return the paths."""
        site = self._templar.template((variables or {}).get("airflow_site_id") or "")
        base = self._templar.template(variables["inventory_dir"]) if site else os.getcwd()
        return [os.path.join(base, "artifacts", term).rstrip("/") for term in terms]
