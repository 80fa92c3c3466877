"""inventories/example_state works: its connections and variables are what Airflow gives back; and one object of each
other kind, in both majors.
"""

import json

import pytest
import yaml
from airflow_api import Api
from conftest import ROOT
from playbook import play

EXAMPLE = ROOT / "inventories/example_state"
FILES = ["-e", f"@{EXAMPLE}/vault.example.yml", "-e", f"@{EXAMPLE}/group_vars/all/state.yml"]
NAMES = {
    "connections": [
        "postgres_mlsp", "postgres_mlflow", "redis_default", "mlflow_tracking", "backend_api", "tmdb_default",
        "kafka_default", "mongodb_default", "spark_default"
    ],
    "variables": ["max_popular_pages", "quality_threshold", "data_retention_days", "enable_sentiment_analysis"],
}
MORE = {
    "airflow_pools": {"few": {"slots": 3, "description": "of few", "include_deferred": True}},
    "airflow_roles": {"Reads": {"permissions": {"DAGs": ["can_read"]}}},
    "airflow_users": {
        "reads": {"email": "reads@example.com", "roles": ["Reads"], "password": "marker of Who reads %40"}
    },
}


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def applied():
    return play("objects", *FILES, **MORE), play("objects", *FILES, **MORE)


def test_it_is_applied_and_the_second_run_changes_nothing(applied):
    first, second = applied
    assert (first.failed, first.changed) == (False, 1), first.output
    assert (second.failed, second.changed) == (False, 0), second.output


def test_connections_come_back_whole(applied, host, setting):
    secrets = yaml.safe_load((EXAMPLE / "vault.example.yml").read_text(encoding="utf-8"))
    path = f"{setting('airflow_home')}/exported.json"
    host.check_output(f"airflow connections export {path} --file-format json && chmod 0600 {path}")
    found = json.loads(host.file(path).content_string)
    host.check_output(f"rm {path}")
    assert found.keys() >= set(NAMES["connections"])
    assert found["postgres_mlsp"] == {
        "conn_type": "postgres", "description": "Main application database", "host": "db.example.com", "port": 5432,
        "schema": "mlsp", "login": "mlsp", "password": secrets["vault_postgres_mlsp_password"], "extra": None
    }
    mongodb = found["mongodb_default"]
    assert (mongodb["conn_type"], mongodb["host"], mongodb["port"], mongodb["schema"], mongodb["login"],
            mongodb["password"]) == ("mongo", "mongodb", 27017, "moviedb", "admin", secrets["vault_mongodb_password"])
    assert json.loads(mongodb["extra"]) == {"authSource": "admin", "database": "moviedb"}
    assert json.loads(
        found["backend_api"]["extra"]) == {"Authorization": "Bearer " + secrets["vault_backend_api_token"]}
    assert json.loads(found["tmdb_default"]["extra"]) == {"api_version": "3"}


def test_the_api_shows_them(applied, api):
    for name in NAMES["connections"]:
        assert api.get(f"/connections/{name}")["connection_id"] == name
    assert [api.get(f"/variables/{name}")["value"] for name in NAMES["variables"]] == ["3", "0.8", "30", "true"]


def test_pools_roles_and_users_too(applied, api, major):
    pool = api.get("/pools/few")
    assert {"few": {field: pool[field] for field in MORE["airflow_pools"]["few"]}} == MORE["airflow_pools"]
    status, user = api.ask("GET", "/users/reads", base="/auth/fab/v1" if major == 3 else None)
    assert (status, user["email"], user["roles"]) == (200, "reads@example.com", [{"name": "Reads"}])
    password = MORE["airflow_users"]["reads"]["password"]
    assert [api.ask("GET", path, user="reads", password=password)[0]
            for path in ("/dags", "/connections")] == [200, 403]


def test_a_dag_is_paused_and_unpaused(api):
    before = api.get("/dags/example_dag")["is_paused"]
    done = play("dag_state", airflow_dag_state={"example_dag": {"paused": not before}})
    assert not done.failed and done.changed == 1, done.output
    assert api.get("/dags/example_dag")["is_paused"] is not before
