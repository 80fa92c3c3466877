#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep one variable of Airflow as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_variable
short_description: Keep a variable of Airflow
version_added: 1.0.0
description:
  - Makes, changes or removes one variable. Values are compared decrypted.
options:
  name:
    description: The variable's key.
    type: str
    required: true
  value:
    description: A string. A number, a truth value, a list or a dictionary becomes JSON. Needed unless O(state=absent).
    type: raw
  json:
    description: Whether a string must be JSON. It is then compared as JSON, whatever its spaces.
    type: bool
    default: false
  description:
    description: What it is for.
    type: str
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
  - windsock.airflow.airflow_objects.state
seealso:
  - module: windsock.airflow.airflow_state
    description: All objects at once.
"""

EXAMPLES = r"""
- name: A number
  windsock.airflow.airflow_variable:
    name: data_retention_days
    value: 30

- name: A structure
  windsock.airflow.airflow_variable:
    name: regions
    value: [eu-central-1, eu-west-1]

- name: No template of Ansible's
  windsock.airflow.airflow_variable:
    name: greeting
    value: !unsafe "Hello {{ ds }}"
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode. No values.
  returned: success
  type: list
  elements: dict
  sample: [{kind: variable, name: data_retention_days, action: update, fields: [value]}]
"""

from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import one_object


def main():
    one_object("variables", {
        "value": {"type": "raw", "no_log": True},
        "json": {"type": "bool", "default": False},
        "description": {"type": "str"},
    })


if __name__ == "__main__":
    main()
