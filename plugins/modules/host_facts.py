#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Gather the facts that roles here read."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_facts
short_description: Gather the facts that roles here read, and no slow one
version_added: 1.0.0
description:
  - The system, its Python, package and service manager, cores and memory, under the names of C(ansible.builtin.setup).
  - Named in C(ansible.cfg) as C(facts_modules), so it is what C(gather_facts) runs. C(setup) asks for each disk and
    mount too, and
    waits for a network file system that hangs.
options: {}
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: Shows no difference.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Gather facts anew
  windsock.airflow.host_facts:
"""

RETURN = r"""
ansible_facts:
  description: >-
    The facts, among them: distribution, distribution_version, os_family, python, memtotal_mb, processor_vcpus.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.host_facts import facts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(ansible_facts=facts(module))


if __name__ == "__main__":
    main()
