#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Documentation of action airflow_environment_lock. On the host it runs
plugins/module_utils/airflow_environment_lock.py.
"""

DOCUMENTATION = r"""
---
module: airflow_environment_lock
short_description: Let one run at a time change an environment
version_added: 1.0.0
description:
  - Takes the lock of an environment on the host of the task. A second run fails, and is told who holds the lock, where,
    since when and with which command.
  - A process on the controller renews the lock while C(ansible-playbook) lives, also during a task that takes hours. It
    gives the lock back when C(ansible-playbook) ends, fails or is killed. A run that has lost its lock is ended.
  - The lock is taken over from a holder whose process is gone, if that process ran on the same controller, and from a
    holder that has not renewed it for five minutes.
  - A task of a run that has the lock already renews it.
options: {}
attributes:
  check_mode:
    support: full
    description: A dry run takes no lock.
  diff_mode:
    support: none
    description: Shows no difference.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Take the lock
  windsock.airflow.airflow_environment_lock:
  delegate_to: "{{ groups['airflow'] | sort | first }}"
  run_once: true
"""

RETURN = r"""
holder:
  description: Who holds the lock now (by, host, pid, since, command).
  returned: always
  type: dict
taken_from:
  description: The holder before this run, which was gone.
  returned: when the lock was taken over
  type: dict
by:
  description: This run's user and machine.
  returned: always
  type: str
"""
