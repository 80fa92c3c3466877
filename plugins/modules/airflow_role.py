#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep one role of Airflow's FAB auth manager as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_role
short_description: Keep a role of Airflow
version_added: 1.0.0
description:
  - Makes, changes or removes one role. Admin, Op, User and Viewer are Airflow's own.
  - The role has exactly these permissions afterwards, except those of single DAGs (C(DAG:...)), which are left alone
    unless named.
options:
  name:
    description: The role's name.
    type: str
    required: true
  permissions:
    description: Resource to actions, with Airflow's names. Needed unless O(state=absent).
    type: dict
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
  - windsock.airflow.airflow_objects.state
seealso:
  - module: windsock.airflow.airflow_state
    description: All objects at once.
"""

EXAMPLES = r"""
- name: May look at DAGs and start runs
  windsock.airflow.airflow_role:
    name: Analyst
    permissions:
      DAGs: [can_read]
      DAG Runs: [can_read, can_create]
      Website: [can_read]
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode. No values.
  returned: success
  type: list
  elements: dict
  sample: [{kind: role, name: Analyst, action: update, fields: [permissions]}]
"""

from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import one_object


def main():
    one_object("roles", {
        "permissions": {"type": "dict"},
    })


if __name__ == "__main__":
    main()
