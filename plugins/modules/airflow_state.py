#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Bring all declared objects of an Airflow about, with one start of Python."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_state
short_description: Keep the objects of an Airflow as declared
version_added: 1.0.0
description:
  - Makes, changes and removes connections, variables, pools, roles, users and the pause state of DAGs, all in one
    process and one transaction.
  - Values are compared decrypted. What is the same is not written, and Airflow is not even imported where all is the
    same.
  - All that is wrong is told in one message, before anything is written.

options:
  objects:
    description: >-
      JSON, best made by C(to_json): C(connections), C(variables), C(pools), C(roles), C(users) and C(dag_state), each a
      dictionary of names to the options of the module for that kind. A string, so that Ansible hides it as a whole and
      not each word in it wherever it appears.
    type: str
    required: true
  purge:
    description: Remove what an earlier use of one of these modules made and what is not in O(objects).
    type: bool
    default: false
  timeout:
    description: Seconds that a DAG is waited for, where Airflow does not know it yet.
    type: int
    default: 0
  connection_types:
    description: Connection types that are valid besides those of the installed providers.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
seealso:
  - module: windsock.airflow.airflow_connection
    description: One connection.
  - module: windsock.airflow.airflow_variable
    description: One variable.
  - module: windsock.airflow.airflow_pool
    description: One pool.
  - module: windsock.airflow.airflow_role
    description: One role.
  - module: windsock.airflow.airflow_user
    description: One user.
  - module: windsock.airflow.airflow_dag_state
    description: One DAG.
"""

EXAMPLES = r"""
- name: Bring about what the inventory declares
  windsock.airflow.airflow_state:
    objects: "{{ {'connections': airflow_connections, 'pools': airflow_pools} | to_json }}"
    purge: true
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode. No values.
  returned: success
  type: list
  elements: dict
  sample: [{kind: pool, name: warehouse, action: update, fields: [slots]}]
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_objects import KINDS
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import (
    CONNECTION_TYPES,
    OPTIONS,
    bring_about,
)


def main():
    module = AnsibleModule(
        argument_spec={
            "objects": {"type": "str", "required": True, "no_log": True},
            "purge": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 0},
            **CONNECTION_TYPES,
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    declared = json.loads(module.params["objects"])
    wrong = sorted(kind for kind, objects in declared.items() if kind not in KINDS or not isinstance(objects, dict))
    if wrong:
        module.fail_json(msg="objects: {0}: valid are {1}, each a dictionary of names to fields".format(
            ", ".join(wrong), ", ".join(KINDS)))
    bring_about(module, declared, module.params["purge"], module.params["timeout"])


if __name__ == "__main__":
    main()
