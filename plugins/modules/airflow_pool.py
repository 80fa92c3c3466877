#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep one pool of Airflow as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_pool
short_description: Keep a pool of Airflow
version_added: 1.0.0
description:
  - Makes, changes or removes one pool.
options:
  name:
    description: The pool's name. C(default_pool) can't be removed.
    type: str
    required: true
  slots:
    description: Task slots; -1 for no limit. Needed unless O(state=absent).
    type: int
  description:
    description: What it is for.
    type: str
  include_deferred:
    description: Whether deferred tasks take slots.
    type: bool
    default: false
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
  - windsock.airflow.airflow_objects.state
seealso:
  - module: windsock.airflow.airflow_state
    description: All objects at once.
"""

EXAMPLES = r"""
- name: Four tasks at once on the warehouse
  windsock.airflow.airflow_pool:
    name: warehouse
    slots: 4

- name: No such pool
  windsock.airflow.airflow_pool:
    name: warehouse
    state: absent
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode. No values.
  returned: success
  type: list
  elements: dict
  sample: [{kind: pool, name: warehouse, action: update, fields: [slots]}]
"""

from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import one_object


def main():
    one_object("pools", {
        "slots": {"type": "int"},
        "description": {"type": "str"},
        "include_deferred": {"type": "bool", "default": False},
    })


if __name__ == "__main__":
    main()
