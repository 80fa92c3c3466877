"""The addresses of the metadata database for both drivers, worked out by Ansible's own engine without a host."""

import pathlib
import urllib.parse

import psycopg2.extensions
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import airflow_common
from shared_variables import shared_variables

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"
VALID = airflow_common.DATABASE_URL_OPTIONS


def addresses(**given):
    """{file: address} as the hosts hold it."""
    variables = shared_variables() | {"groups": {"airflow_postgres": ["db"]}, "inventory_hostname": "db"}
    variables["__airflow_secrets"] = {
        "secrets": {"fernet_key": "f", "api_secret_key": "a", "jwt_secret": "j", "database_password": "p/w%"}
    }
    found = Templar(loader=DataLoader(),
                    variables=variables | given).template(trust_as_template("{{ __airflow_secrets_here }}"))
    sync, asynchronous = found["sql_alchemy_conn"], found["sql_alchemy_conn_async"]
    assert sync.startswith("postgresql+psycopg2://") and asynchronous.startswith("postgresql+asyncpg://")
    # libpq refuses an option that it does not know; asyncpg would be called with the options as they are.
    psycopg2.extensions.parse_dsn(sync.replace("+psycopg2", ""))
    assert set(dict(urllib.parse.parse_qsl(
        urllib.parse.urlsplit(asynchronous).query))) <= {"ssl", "target_session_attrs"}
    return sync.partition("://")[2], asynchronous.partition("://")[2]


@pytest.mark.parametrize(("given", "sync", "asynchronous"), [
    ({}, "airflow:p%2Fw%25@127.0.0.1:5432/airflow", "airflow:p%2Fw%25@127.0.0.1:5432/airflow"),
    ({"airflow_database_host": "rds", "airflow_database_password": "x"},
     "airflow:x@rds:5432/airflow?sslmode=verify-full", "airflow:x@rds:5432/airflow?ssl=verify-full"),
    # Without an sslmode, libpq would take a connection in clear for good enough.
    ({"airflow_database_url": "postgres://u:p@rds/db"}, "u:p@rds/db?sslmode=verify-full", "u:p@rds/db?ssl=verify-full"),
    ({"airflow_database_url": "postgresql://u:p@rds/db", "airflow_database_sslmode": "require"},
     "u:p@rds/db?sslmode=require", "u:p@rds/db?ssl=require"),
    ({"airflow_database_url": "postgresql+asyncpg://u:p@rds/db?sslmode=disable\n"}, "u:p@rds/db?sslmode=disable",
     "u:p@rds/db?ssl=disable"),
    # As role aws_rds writes it into Secrets Manager.
    ({"airflow_database_url": "postgresql+psycopg2://airflow:p@rds:5432/airflow?sslmode=verify-full"},
     "airflow:p@rds:5432/airflow?sslmode=verify-full", "airflow:p@rds:5432/airflow?ssl=verify-full"),
    ({"airflow_database_url": "postgresql://u:p@rds/db?connect_timeout=5&target_session_attrs=read-write"},
     "u:p@rds/db?connect_timeout=5&target_session_attrs=read-write&sslmode=verify-full",
     "u:p@rds/db?target_session_attrs=read-write&ssl=verify-full"),
])
def test_each_driver_gets_an_address_that_it_understands(given, sync, asynchronous):
    assert addresses(**given) == (sync, asynchronous)


@pytest.mark.parametrize("option", VALID)
def test_every_option_that_preflight_lets_through_is_understood_or_left_out(option):
    value = {"sslmode": "require", "target_session_attrs": "any", "application_name": "x"}.get(option, "5")
    addresses(airflow_database_url=f"postgresql://u:p@rds/db?{option}={value}")
