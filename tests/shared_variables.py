"""The variables that all roles of Airflow read, as Ansible loads them."""

import pathlib

from ansible.parsing.dataloader import DataLoader

ROLE = pathlib.Path(__file__).resolve().parents[1] / "roles/airflow_common"
FILES = [ROLE / "defaults/main.yml", *sorted((ROLE / "vars/main").glob("*.yml"))]
VERSIONS = {2: "2.11.2", 3: "3.3.2"}


def shared_variables(major=3):
    variables = {}
    for path in FILES:
        variables |= DataLoader().load_from_file(str(path), trusted_as_template=True)
    return variables | {"airflow_version": VERSIONS[major]}


def of_major(major):
    """What the file of a major holds."""
    return shared_variables()[f"__airflow_{major}"]
