"""What the rotations decide before they change anything, worked out by Ansible's own engine without a host."""

import pathlib

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import airflow_secrets
from shared_variables import shared_variables

ROOT = pathlib.Path(__file__).resolve().parents[2]
FERNET, API = {"fernet_key": ["fernet_key"]}, {"api_secret_key": ["api_secret_key"], "jwt_secret": ["jwt_secret"]}


def value(name, held=None, other=None, **given):
    """The value of a variable where the first host has generated this Fernet key, and each host in other has these
    files with another content.
    """
    variables = shared_variables() | DataLoader().load_from_file(
        str(ROOT / "roles/airflow_secrets/vars/main.yml"), trusted_as_template=True
    )
    other = other or {"a": []}
    variables |= {
        "__airflow_secrets": {"secrets": {"fernet_key": held or "old"}},
        "groups": {"airflow": list(other)},
        "hostvars": {host: {"__airflow_secrets_seen": {"written": files}} for host, files in other.items()},
    }
    return Templar(loader=DataLoader(), variables=variables | given).template(trust_as_template("{{ " + name + " }}"))


@pytest.mark.parametrize(
    ("given", "due"),
    [
        ({"__airflow_secrets_rotated": FERNET}, ["fernet_key"]),
        ({"__airflow_secrets_rotated": API}, ["api_secret_key", "jwt_secret"]),
        # The inventory gives it: it is made by nobody.
        ({"__airflow_secrets_rotated": FERNET, "airflow_fernet_key": "old"}, []),
        ({"__airflow_secrets_rotated": API, "airflow_jwt_secret": "given"}, ["api_secret_key"]),
        # Killed before every host had it.
        ({"__airflow_secrets_rotated": FERNET, "other": {"a": [], "b": ["fernet_key"]}}, []),
        ({"__airflow_secrets_rotated": API, "other": {"a": [], "b": ["jwt_secret"]}}, ["api_secret_key"]),
        # Killed before the old key was dropped.
        ({"__airflow_secrets_rotated": FERNET, "held": "new,old"}, []),
        ({"__airflow_secrets_rotated": API, "held": "new,old"}, ["api_secret_key", "jwt_secret"]),
    ],
)
def test_what_is_made_anew(given, due):
    assert value("__airflow_secrets_due", **given) == due


def test_the_oldest_keys_are_what_is_dropped():
    assert value("__airflow_secrets_newest", held="new,old,older") == {"fernet_key": "new"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        ({"airflow_environment": {"AIRFLOW__CORE__FERNET_KEY_CMD": "x", "TZ": "UTC"}},
         ["airflow_environment.AIRFLOW__CORE__FERNET_KEY_CMD"]),
        ({"airflow_config": {"api_auth": {"jwt_secret": "x"}, "core": {"parallelism": 4}, "sentry": None}},
         ["airflow_config.api_auth.jwt_secret"]),
        ({"airflow_config": {"database": {"sql_alchemy_connect_args": "x"}},
          "airflow_environment": {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "x"}}, []),
        ({"airflow_config": {"database": {"sql_alchemy_conn_secret": "x"}}},
         ["airflow_config.database.sql_alchemy_conn_secret"]),
    ],
)
def test_what_airflow_would_take_from_elsewhere(given, found):
    assert [text for _name, text in airflow_secrets.check_rotation(given, None)] == found
