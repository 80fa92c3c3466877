"""Where a file of this collection is on the controller."""

from __future__ import annotations

from ansible.plugins.lookup import LookupBase
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection

DOCUMENTATION = r"""
name: collection_path
short_description: The path of a file of this collection on the controller
version_added: 1.0.0
author: The Windsock contributors
description:
  - Returns absolute paths. Links are followed, so that in a clone they are paths in the clone.
options:
  _terms:
    description: Paths from the root of the collection. The file can be absent.
    required: true
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Show the first DAGs
  ansible.builtin.debug:
    msg: "{{ lookup('windsock.airflow.collection_path', 'files/dags') }}"
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
        return [collection.path(term) for term in terms]
