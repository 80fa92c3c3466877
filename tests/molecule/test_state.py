"""Objects as code: what the inventory declares is what Airflow's API and command line give back, and nothing else
happens.
"""

import json
import os
import urllib.parse

import pytest
from airflow_api import Api
from conftest import ROOT
from playbook import play
from state_objects import MARKER, objects

DECLARED = objects()


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture
def exported(host, setting):
    """Connections as Airflow's own command reads them: the API shows no password."""

    def export():
        path = f"{setting('airflow_home')}/exported.json"
        host.check_output(f"airflow connections export {path} --file-format json && chmod 0600 {path}")
        found = json.loads(host.file(path).content_string)
        host.check_output(f"rm {path}")
        return found

    return export


def pages(api, path, key, base=None):
    """All objects of a list, which comes in pages of a hundred at most."""
    found = []
    while True:
        status, body = api.ask("GET", f"{path}?limit=100&offset={len(found)}", base=base)
        assert status == 200, body
        found += body[key]
        if len(found) >= body["total_entries"]:
            return found


def expected_connection(fields):
    if "uri" in fields:
        parts = urllib.parse.urlsplit(fields["uri"])
        number = parts.password.split("-")[2].split("%")[0]
        return {
            "conn_type": "http",
            "description": None,
            "login": "me",
            "password": f"{MARKER}-{number} @/",
            "host": f"https://h-{number}.example.com",
            "port": 443,
            "schema": "s",
            "extra": {"token": MARKER, "a": "&"},
        }
    return fields


def text_of(value):
    """A variable as text: what is no string is JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def test_connections_come_back_whole(api, exported):
    found = exported()
    assert found.keys() == DECLARED["connections"].keys()
    for name, fields in DECLARED["connections"].items():
        assert {**found[name], "extra": json.loads(found[name]["extra"])} == expected_connection(fields), name
    listed = {item["connection_id"]: item for item in pages(api, "/connections", "connections")}
    assert listed.keys() == DECLARED["connections"].keys()
    for name, fields in DECLARED["connections"].items():
        expected = expected_connection(fields)
        assert {key: listed[name][key] for key in ("conn_type", "description", "host", "login", "schema", "port")} == {
            key: expected[key] for key in ("conn_type", "description", "host", "login", "schema", "port")}


def test_passwords_and_extras_are_encrypted_in_the_database(host):
    stored = host.check_output(
        "runuser -u postgres -- psql -d airflow -Atc 'SELECT password, extra FROM connection UNION ALL SELECT val, "
        "NULL FROM variable'"
    )
    assert stored.count("gAAAAA") == 100 + 100 + 100
    assert MARKER not in stored


def test_variables_come_back_whole(api):
    found = {item["key"]: item for item in pages(api, "/variables", "variables")}
    assert found.keys() - {"airflow_state_made"} == DECLARED["variables"].keys()
    for name, fields in DECLARED["variables"].items():
        assert (found[name]["value"], found[name]["description"]) == (text_of(fields["value"]), fields["description"])


def test_pools_come_back_whole(api):
    found = {item["name"]: item for item in pages(api, "/pools", "pools")}
    assert found.keys() - {"default_pool"} == DECLARED["pools"].keys()
    for name, fields in DECLARED["pools"].items():
        assert {key: found[name][key] for key in fields} == fields


def test_users_come_back_and_can_sign_in(api, major):
    base = "/auth/fab/v1" if major == 3 else "/api/v1"
    found = {item["username"]: item for item in pages(api, "/users", "users", base)}
    assert found.keys() - {"admin"} == DECLARED["users"].keys()
    for name, fields in DECLARED["users"].items():
        assert {key: found[name][key]
                for key in ("email", "first_name", "last_name")
                } == {key: fields[key]
                      for key in ("email", "first_name", "last_name")}
        assert {role["name"] for role in found[name]["roles"]} == set(fields["roles"])
    for name in ("user-3", "user-5"):
        assert api.ask("GET", "/dags", user=name, password=DECLARED["users"][name]["password"])[0] == 200
        assert api.ask("GET", "/dags", user=name, password="another")[0] in (401, 403)
        # Reader and Viewer may not see connections.
        assert api.ask("GET", "/connections", user=name, password=DECLARED["users"][name]["password"])[0] == 403


def test_dags_are_paused_as_declared(api):
    assert api.get("/dags/example_dag")["is_paused"] is False
    assert api.get("/dags/tutorial")["is_paused"] is True


def test_another_fernet_key_in_front_changes_nothing(host, setting):
    """The first step of a rotation: what is stored is still encrypted with the old key."""
    path = f"{setting('airflow_config_dir')}/secrets/fernet_key"
    old = host.file(path).content_string
    host.check_output(f"printf %s 'bmV3LWtleS1vZi10aGUtc2NlbmFyaW8tc3RhdGUhISE=,{old}' > {path}")
    try:
        done = play("objects")
    finally:
        host.check_output(f"printf %s '{old}' > {path}")
    assert (done.failed, done.changed) == (False, 0), done.output


def ciphertexts(host):
    rows = host.check_output(
        "runuser -u postgres -- psql -d airflow -AtF '|' -c 'SELECT conn_id, password, extra FROM connection'")
    return dict(row.split("|", 1) for row in rows.splitlines())


def test_a_changed_password_changes_one_row_and_no_other(host, exported):
    connections = {**DECLARED["connections"]}
    connections["connection-7"] = {**connections["connection-7"], "password": f"{MARKER} another"}
    before = ciphertexts(host)
    done = play("objects", "--diff", airflow_connections=connections)
    after = ciphertexts(host)
    assert done.titles == ["connection connection-7"], done.output
    assert [name for name in before if before[name] != after[name]] == ["connection-7"]
    assert exported()["connection-7"]["password"] == f"{MARKER} another"


def test_a_dry_run_predicts_what_a_run_does_and_neither_shows_a_secret(host, api, exported):
    """It also puts connection-7 right again."""
    variables = {
        "airflow_connections": {
            **{
                name: fields
                for name, fields in DECLARED["connections"].items() if name not in ("connection-8", "connection-9")
            },
            "connection-8": {"state": "absent"},
            "new": {"conn_type": "http", "password": f"{MARKER} {{{{ new }}}}"},
        },
        "airflow_variables": {**DECLARED["variables"], "variable 3": {"value": {"regions": [MARKER], "limit": 6}}},
        "airflow_pools": {**DECLARED["pools"], "pool 1": {"slots": 100}},
        "airflow_roles": {"Reader": {"permissions": {"DAGs": ["can_read"]}}},
        "airflow_users": {
            **DECLARED["users"], "user-1": {"state": "absent"},
            "user-2": {**DECLARED["users"]["user-2"], "password": f"{MARKER} new"}
        },
        "airflow_state_purge": True,
    }
    before = ciphertexts(host)
    predicted = play("objects", "--check", "--diff", "-vvv", **variables)
    assert not predicted.failed, predicted.output
    assert ciphertexts(host) == before
    done = play("objects", "--diff", "-vvv", **variables)
    assert not done.failed, done.output
    assert done.diff == predicted.diff
    assert sorted(done.titles) == [
        "connection connection-7",
        "connection connection-8",
        "connection connection-9",
        "connection new",
        "pool pool 1",
        "role Reader",
        "user user-1",
        "user user-2",
        "variable variable 3",
    ]
    assert MARKER not in predicted.output + done.output
    found = exported()
    assert found.keys() == (DECLARED["connections"].keys() | {"new"}) - {"connection-8", "connection-9"}
    assert found["new"]["password"] == f"{MARKER} {{{{ new }}}}"
    # The administrator and default_pool were not made by this tool.
    assert api.get("/pools/default_pool")["slots"] == 128
    assert api.ask("GET", "/dags", user="user-1", password=DECLARED["users"]["user-1"]["password"])[0] in (401, 403)
    assert api.ask("GET", "/dags", user="user-2", password=f"{MARKER} new")[0] == 200
    again = play("objects", **variables)
    assert (again.failed, again.changed) == (False, 0), again.output


def test_bad_input_is_refused_in_one_message_before_anything_is_written(host):
    before = ciphertexts(host)
    done = play(
        "objects",
        "-vvv",
        airflow_connections={
            "one": {"conn_type": "htpp", "password": MARKER}, "two": {"uri": f"postgres//me:{MARKER}@h"},
            "fine": {"conn_type": "http"}
        },
        airflow_pools={"three": {"slots": -5}},
        airflow_users={"four": {"email": "four@example.com", "roles": [], "password": MARKER}},
        airflow_variables={"five": {"value": f"{MARKER}: {{", "json": True}},
    )
    assert done.failed and "5 problems. Nothing was changed." in done.output
    for text in ("one.conn_type is htpp, which no installed provider knows", "two.uri is no URI", "three.slots is -5",
                 "four.roles is empty", "five.value is no JSON"):
        assert text in done.output
    assert MARKER not in done.output
    assert ciphertexts(host) == before


def test_no_secret_is_left_behind(host):
    assert MARKER not in host.check_output("journalctl --no-pager -o cat")
    assert MARKER not in (ROOT / f"artifacts/logs/ansible-{os.environ['MOLECULE_SCENARIO_NAME']}.log").read_text(
        encoding="utf-8")
    logged = "SELECT count(*) FROM log WHERE log::text LIKE '%%%s%%'" % MARKER
    assert host.check_output(f'runuser -u postgres -- psql -d airflow -Atc "{logged}"') == "0"
