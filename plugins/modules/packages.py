#!/usr/bin/python
# Copyright the Airflow installer's contributors
# Apache License 2.0 (see LICENSE)

"""Documentation of action packages, which runs ansible.builtin.apt or ansible.builtin.dnf."""

DOCUMENTATION = r"""
---
module: packages
short_description: Install the distribution's packages, also where an earlier run was cut off
version_added: 0.1.0
description:
  - Makes sure that packages are there, with C(ansible.builtin.apt) or C(ansible.builtin.dnf). Recommended packages are not installed, and those that
    are there are not upgraded.
  - Where C(apt) fails, it is asked once more, after C(dpkg --configure -a) and with new package lists. A host that lost power during an
    install needs the first, an image that was made without lists the second. The second answer counts.
  - In check mode it is skipped, because a dry run fetches no package lists and a bare host has none.
options:
  name:
    description: Names of packages.
    type: list
    elements: str
    required: true
  manager:
    description: The system's package manager.
    type: str
    required: true
    choices: [apt, dnf]
  cache_valid_time:
    description: Seconds that lists of C(apt) are good for before new ones are fetched; 0 fetches them always. C(dnf) decides by itself.
    type: int
    default: 3600
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
notes:
  - Waits up to two minutes for another use of C(apt), such as the host's own upgrades.
author:
  - The Airflow installer's contributors
"""

EXAMPLES = r"""
- name: Install nginx
  packages:
    name: [nginx]
    manager: apt
"""

RETURN = r"""
changed:
  description: Whether packages were installed. The rest is what the package manager's module returns.
  returned: always
  type: bool
  sample: true
"""
