"""Which name was meant: a slip of the pen is found, a name that only begins alike is not."""

import pathlib

import pytest
import yaml
from ansible_collections.windsock.airflow.plugins.module_utils import spelling

ROOT = pathlib.Path(__file__).resolve().parents[2]
VARIABLES = [
    name for path in ROOT.glob("roles/*/defaults/main.yml")
    for name in yaml.safe_load(path.read_text(encoding="utf-8")) or {}
]


@pytest.mark.parametrize(("name", "meant"), [
    ("airflow_excutor", "airflow_executor"), ("airflow_vershun", "airflow_version"),
    ("airflow_parralelism", "airflow_parallelism"),
    ("airflow_database_prot", "airflow_database_port"), ("airflow_dag_source", "airflow_dags_source"),
    ("postgres_port", "postgresql_port"),
    ("airflow_admin_passwrod", "airflow_admin_password"), ("Airflow_Version", "airflow_version"),
    ("airflow_timezone", ""), ("airflow_port", ""), ("airflow_password", ""), ("airflow_dags_dir", ""),
    ("airflow_smtp_host", ""), ("airflow_home_page", ""),
    # Only the middle differs: the common last word says nothing about it.
    ("airflow_smtp_password", ""), ("airflow_secret_key", ""), ("airflow_dag_dir", ""), ("airflow_pasword", ""),
    ("smtp_password", ""),
    ("airflow_fernet", ""), ("airflow_workers", ""), ("airflow_log_level", ""), ("airflow_", ""), ("airflow", ""),
])
def test_variables(name, meant):
    assert spelling.nearest(name, VARIABLES) == meant


@pytest.mark.parametrize(("one", "other", "wrong"), [
    ("", "", 0), ("a", "", 1), ("port", "prot", 1), ("port", "sort", 1), ("abcd", "badc", 2), ("query", "qury", 1),
    # The first rows are worse than the last: two swaps, each of which pays off one row later.
    ("abcdxy", "badcxy", 2), ("kitten", "sitting", 3), ("port", "timezone", 7),
])
def test_distance(one, other, wrong):
    for limit in range(8):
        assert spelling.distance(one, other, limit) == spelling.distance(other, one, limit) == min(wrong, limit + 1)


def test_a_suggestion_follows_another_sentence():
    assert spelling.did_you_mean("airflow_excutor", VARIABLES) == " Did you mean airflow_executor?"
    assert spelling.did_you_mean("airflow_timezone", VARIABLES) == ""
