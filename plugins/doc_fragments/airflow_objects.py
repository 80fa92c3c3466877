# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What the documentation of the modules for Airflow's objects has in common."""


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  python:
    description: Python of the virtualenv in which Airflow is installed.
    type: path
    default: /opt/airflow/venv/bin/python
  user:
    description: User that the components run as. The work is done as this user.
    type: str
    default: airflow
  environment:
    description: >-
      Environment of the work. C(AIRFLOW_CONFIG) names the file beside which the directory of secrets lies, with the
      address of the database and the Fernet keys. A file C(environment) beside it, where there is one, is read as well,
      by a shell, and wins.
    type: dict
    default: {AIRFLOW_HOME: /var/lib/airflow, AIRFLOW_CONFIG: /etc/airflow/airflow.cfg}
attributes:
  check_mode:
    support: full
    description: The same plan is made as in a real run, and not carried out.
  diff_mode:
    support: full
    description: Passwords and what might be a secret are veiled.
notes:
  - Runs as root, or as O(user).
  - Needs a metadata database in PostgreSQL. Users and roles are kept there by the FAB auth manager only.
  - Each use starts one process of O(python). For many objects, M(windsock.airflow.airflow_state) takes them all at
    once.
author:
  - The Windsock contributors
"""

    STATE = r"""
options:
  state:
    description: Whether the object is to be there.
    type: str
    choices: [present, absent]
    default: present
"""
