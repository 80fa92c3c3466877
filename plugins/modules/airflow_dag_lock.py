#!/usr/bin/python
# Copyright the Airflow installer's contributors
# Apache License 2.0 (see LICENSE)

"""Let one deploy of DAGs at a time through."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_dag_lock
short_description: Let one deploy of DAGs at a time through
version_added: 0.1.0
description:
  - The lock is a file on the host that says who deploys, from which machine and process, and since when.
  - It is taken over from a holder whose process is gone, where that process ran on the same controller, and from one that has not renewed it for
    I(lease) seconds. So a deploy that was killed does not stop the next one.
options:
  root:
    description: Directory of the releases, where the file lies.
    type: path
    required: true
  state:
    description: C(present) takes the lock, or renews it where it is this run's. C(absent) gives it back, where it is this run's.
    type: str
    choices: [present, absent]
    default: present
  purpose:
    description: What the run does, told to others.
    type: str
    default: ""
  lease:
    description: Seconds after which a lock that was not renewed is nobody's.
    type: int
    default: 900
  holder:
    description: Filled in by the action plugin.
    type: dict
    default: {}
  gone:
    description: Token of a holder that is known to be gone. Filled in by the action plugin.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: A dry run takes no lock.
  diff_mode:
    support: none
author:
  - The Airflow installer's contributors
"""

EXAMPLES = r"""
- name: Take the lock
  airflow_dag_lock:
    root: /opt/airflow/dags
    purpose: deploy of v1.4.0

- name: Give it back
  airflow_dag_lock:
    root: /opt/airflow/dags
    state: absent
"""

RETURN = r"""
holder:
  description: Who holds the lock now.
  returned: always
  type: dict
taken_from:
  description: Who held it before and was gone, where that was so.
  returned: when it was taken over
  type: dict
by:
  description: This run's user and machine.
  returned: always
  type: str
"""

import fcntl
import json
import os
import time

from ansible.module_utils.basic import AnsibleModule


def decide(there: dict, mine: dict, gone: str, age: float, lease: int) -> str:
    """Return what to do about the lock: take, renew, take over or refuse."""
    if not there:
        return "take"
    if there["token"] == mine["token"]:
        return "renew"
    return "take over" if there["token"] == gone or age > lease else "refuse"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purpose": {"type": "str", "default": ""},
            "lease": {"type": "int", "default": 900},
            "holder": {"type": "dict", "default": {}},
            "gone": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    args = module.params
    mine = {**args["holder"], "purpose": args["purpose"]}
    result = {"changed": False, "holder": mine, "by": mine["by"]}
    if module.check_mode:
        module.exit_json(**result)
    path = os.path.join(args["root"], "deploy.lock")
    os.makedirs(args["root"], mode=0o750, exist_ok=True)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o640), "r+", encoding="utf-8") as file:
        # Held for this moment only: the lock itself is what stands in the file.
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            there = json.loads(file.read() or "{}")
        except ValueError:
            # Half a line, of a write that a power cut ended.
            there = {}
        todo = decide(there, mine, args["gone"], time.time() - os.fstat(file.fileno()).st_mtime, args["lease"])
        if args["state"] == "present" and todo == "refuse":
            module.fail_json(
                msg=f"{there['by']} is at work since {there['since']} (process {there['pid']} on {there['host']}): {there['purpose']}. Wait until it has ended."
                f" If that machine is gone, the lock is free {args['lease']} s after its last sign of life; to free it now, remove {path} on this host.",
                holder=there,
            )
        if todo == "take over":
            result["taken_from"] = there
        mine["since"] = there["since"] if todo == "renew" else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if args["state"] == "present" or todo == "renew":
            file.seek(0)
            file.truncate()
            file.write(json.dumps(mine) if args["state"] == "present" else "")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
