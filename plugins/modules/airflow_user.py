#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Keep one user of Airflow's FAB auth manager as declared."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_user
short_description: Keep a user of Airflow
version_added: 1.0.0
description:
  - Makes, changes or removes one user. The password is compared with the stored hash, so that the same one is no
    change.
options:
  name:
    description: The user name.
    type: str
    required: true
  email:
    description: Address, another one for each user. Needed unless O(state=absent).
    type: str
  roles:
    description: Names of roles, one at least. Needed unless O(state=absent).
    type: list
    elements: str
  password:
    description: Password. A new user needs one.
    type: str
  update_password:
    description: C(always) sets a password that was changed in the UI back; C(on_create) gives it to a new user only.
    type: str
    choices: [always, on_create]
    default: always
  first_name:
    description: First name.
    type: str
  last_name:
    description: Last name.
    type: str
  active:
    description: Whether the user may sign in.
    type: bool
    default: true
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
  - windsock.airflow.airflow_objects.state
seealso:
  - module: windsock.airflow.airflow_state
    description: All objects at once.
"""

EXAMPLES = r"""
- name: Ann may look at everything
  windsock.airflow.airflow_user:
    name: ann
    email: ann@example.com
    roles: [Viewer]
    password: "{{ vault_ann_password }}"
    update_password: on_create
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode. No values.
  returned: success
  type: list
  elements: dict
  sample: [{kind: user, name: ann, action: update, fields: [email]}]
"""

from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import one_object


def main():
    one_object("users", {
        "email": {"type": "str"},
        "roles": {"type": "list", "elements": "str"},
        "password": {"type": "str", "no_log": True},
        "update_password": {"type": "str", "choices": ["always", "on_create"], "default": "always", "no_log": False},
        "first_name": {"type": "str"},
        "last_name": {"type": "str"},
        "active": {"type": "bool", "default": True},
    })


if __name__ == "__main__":
    main()
