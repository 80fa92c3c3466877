#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Pause or unpause one DAG."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_dag_state
short_description: Pause or unpause a DAG of Airflow
version_added: 1.0.0
description:
  - Pauses or unpauses one DAG, which Airflow must have read.
options:
  name:
    description: The DAG's id (C(dag_id)).
    type: str
    required: true
  paused:
    description: Whether it is to be paused.
    type: bool
    required: true
  timeout:
    description: Seconds that the DAG is waited for, where Airflow does not know it yet.
    type: int
    default: 0
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
seealso:
  - module: windsock.airflow.airflow_state
    description: All objects at once.
"""

EXAMPLES = r"""
- name: Let it run
  windsock.airflow.airflow_dag_state:
    name: daily_report
    paused: false
    timeout: 60
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode. No values.
  returned: success
  type: list
  elements: dict
  sample: [{kind: DAG, name: daily_report, action: update, fields: [paused]}]
"""

from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import one_object


def main():
    one_object("dag_state", {
        "paused": {"type": "bool", "required": True},
    }, timeout={"type": "int", "default": 0})


if __name__ == "__main__":
    main()
