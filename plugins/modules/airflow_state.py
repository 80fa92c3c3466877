#!/usr/bin/python
# Copyright the Airflow installer's contributors
# Apache License 2.0 (see LICENSE)

"""Bring all declared objects of an Airflow about, with one start of Python."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_state
"""
import json

from ansible.module_utils.airflow_objects import KINDS
from ansible.module_utils.airflow_state import OPTIONS, bring_about
from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            "objects": {"type": "str", "required": True, "no_log": True},
            "purge": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 0},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    declared = json.loads(module.params["objects"])
    unknown = sorted(set(declared) - set(KINDS))
    if unknown:
        module.fail_json(msg="objects: {0}: no kind of object; valid are {1}".format(", ".join(unknown), ", ".join(KINDS)))
    bring_about(module, declared, module.params["purge"], module.params["timeout"])


if __name__ == "__main__":
    main()
