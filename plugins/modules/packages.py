#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Documentation of action packages, which runs ansible.builtin.apt or ansible.builtin.dnf."""

DOCUMENTATION = r"""
---
module: packages
short_description: Install the distribution's packages, also where an earlier run was cut off
version_added: 1.0.0
description:
  - Makes sure that packages are there, with C(ansible.builtin.apt) or C(ansible.builtin.dnf). Recommended packages are
    not installed, and those that
    are there are not upgraded.
  - Where C(apt) fails, it is asked once more, after C(dpkg --configure -a) and with new package lists. A host that lost
    power during an
    install needs the first, an image that was made without lists the second. The second answer counts.
  - No service is restarted by C(needrestart), which Ubuntu runs after each use of C(apt).
  - In check mode it is skipped, because a dry run fetches no package lists and a bare host has none.
options:
  name:
    description: Names of packages. Excludes I(deb).
    type: list
    elements: str
  deb:
    description: Path of a C(.deb) on the host, for C(apt). A version older than the installed one is installed too.
    type: str
  manager:
    description: The system's package manager.
    type: str
    required: true
    choices: [apt, dnf]
  cache_valid_time:
    description: Seconds that lists of C(apt) are good for before new ones are fetched; 0 fetches them always. C(dnf)
      decides by itself.
    type: int
    default: 3600
  lock_timeout:
    description:
      - Seconds to wait for other uses of the package manager, such as the host's own upgrades in its first minutes.
        With C(apt), a line on the screen
        names the processes that are waited for, and so does the failure after this time.
      - Without it, C(airflow_package_lock_timeout), whose default is 900.
    type: int
attributes:
  check_mode:
    support: none
    description: Ansible skips the task in a dry run.
  diff_mode:
    support: none
    description: Shows no difference.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Install nginx
  windsock.airflow.packages:
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
