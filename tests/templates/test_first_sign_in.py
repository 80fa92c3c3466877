"""Where the last screen of site.yml sends a person for the first password: for each source of the secrets, and never
the password itself.
"""

import pathlib

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from shared_variables import shared_variables

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"


def where(**given):
    variables = shared_variables() | {"groups": {"airflow": ["one", "two"]}, "inventory_dir": "/home/ann/site"}
    for name in ("airflow_secrets/defaults/main.yml", "airflow_secrets/vars/main.yml"):
        variables |= DataLoader().load_from_file(str(ROLES / name), trusted_as_template=True)
    return Templar(loader=DataLoader(),
                   variables=variables | given).template(trust_as_template("{{ __airflow_first_sign_in }}"))


@pytest.mark.parametrize(("given", "answer"), [
    ({"airflow_secrets_copy_dir": "/home/ann/my copy"}, {"command": ["cat", "/home/ann/my copy/admin_password"]}),
    ({"airflow_secrets_copy_dir": ""},
     {"command": ["one", "-b", "-m", "ansible.builtin.command", "-a", "cat /etc/airflow/secrets/admin_password"],
      "on_host": True}),
    ({"airflow_secrets_source": "aws_ssm", "airflow_secrets_name": "/airflow/prod"},
     {"command": ["aws", "ssm", "get-parameter", "--with-decryption", "--name", "/airflow/prod/admin_password",
                  "--query", "Parameter.Value",
                  "--output", "text"]}),
    ({"airflow_secrets_source": "aws_secrets_manager", "airflow_secrets_name": "airflow/prod",
      "airflow_secrets_region": "eu-central-1"},
     {"command": ["aws", "secretsmanager", "get-secret-value", "--secret-id", "airflow/prod", "--query", "SecretString",
                  "--output", "text",
                  "--region", "eu-central-1"], "pipe": ["jq", "-r", ".admin_password"]}),
])
def test_it_is_a_command(given, answer):
    assert where(**given) == answer


def test_one_that_the_inventory_gives_is_not_shown():
    assert "hush" not in str(where(airflow_admin_password="hush")) and "airflow_admin_password" in where(
        airflow_admin_password="hush")["text"]
