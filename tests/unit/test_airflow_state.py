"""The modules for Airflow's objects: what they ask for, what they write, and what they leave alone."""

import importlib
import json
import pathlib
import sys
import types

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_database, airflow_objects, airflow_state

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARKER = "horse-battery"
NAMES = [
    "airflow_connection", "airflow_variable", "airflow_pool", "airflow_role", "airflow_user", "airflow_dag_state",
    "airflow_state"
]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"plugins/modules/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULES = {name: load(name) for name in NAMES}


class FakeReader(airflow_database.Reader):
    """A database of plain data, which notes what it is asked."""

    def __init__(self, current):
        self.current, self.calls = current, []

    def has(self, table):
        return True

    def lock(self):
        self.calls.append("lock")

    def rows(self, query, *args):
        columns = {
            "ab_role": [("Viewer", )], "ab_user": [], "ab_permission": [("can_read", )], "ab_view_menu": [("DAGs", )],
            "dag": [("d", )]
        }
        return columns[query.split(" FROM ")[1].split()[0]]

    def read(self, declared, made):
        self.calls.append("read")
        return self.current

    def made(self):
        return self.current.get("made", {})

    def dag_state(self, names, declared):
        return self.current.get("dag_state", {}).items()


@pytest.fixture
def host(monkeypatch):
    """A host whose database is host.current; host.written is what was written there."""
    here = types.SimpleNamespace(current={}, written=[], reader=None)

    def ask(params, request):
        here.reader = FakeReader(here.current)
        try:
            changes = airflow_database.apply(here.reader, json.loads(json.dumps(request)))
        except airflow_database.Refused as refused:
            return {"problems": refused.args[0]}
        return {"changes": airflow_objects.told(changes), "diff": airflow_objects.diff(changes)}

    providers = types.ModuleType("airflow.providers_manager")
    providers.ProvidersManager = lambda: types.SimpleNamespace(hooks={"http": None, "postgres": None})
    monkeypatch.setitem(sys.modules, "airflow.providers_manager", providers)
    monkeypatch.setattr(airflow_state, "ask", ask)
    monkeypatch.setattr(airflow_database, "write", lambda changes, record, hashes: here.written.append(
        (changes, record)))
    return here


@pytest.fixture
def run(capsys):
    def call(module, check_mode=False, /, *, diff=False, **arguments):
        with patch_module_args(
            {"python": sys.executable, **arguments, "_ansible_check_mode": check_mode, "_ansible_diff": diff}):
            with pytest.raises(SystemExit):
                MODULES[module].main()
        return json.loads(capsys.readouterr().out)

    return call


# kind of object: its module, a declaration, and the same in the database
OBJECTS = {
    "connections": ("airflow_connection", {"conn_type": "http", "host": "h", "password": MARKER, "extra": {"a": 1}},
                    {"conn_type": "http", "host": "h", "password": MARKER, "extra": '{"a": 1}'}, {"password": "old"}),
    "variables": ("airflow_variable", {"value": [1, "x"]}, {"value": '[1, "x"]', "description": None}, {"value": "[]"}),
    "pools": ("airflow_pool", {"slots": 3}, {"slots": 3, "description": None, "include_deferred": False}, {"slots": 4}),
    "roles": ("airflow_role", {"permissions": {"DAGs": ["can_read"]}}, {"permissions": ["can_read on DAGs"]},
              {"permissions": []}),
    "users": ("airflow_user", {"email": "a@b.c", "roles": ["Viewer"], "password": MARKER}, {
        "email": "a@b.c", "first_name": "", "last_name": "", "active": True, "roles": ["Viewer"], "password": MARKER
    }, {"active": False}),
}


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("there", ["absent", "differs", "same"])
@pytest.mark.parametrize("state", ["present", "absent"])
def test_writes_what_differs_and_only_outside_of_check_mode(host, run, kind, check_mode, there, state):
    module, declaration, row, difference = OBJECTS[kind]
    if there != "absent":
        host.current = {kind: {"x": {**row, **(difference if there == "differs" else {})}}}
    result = run(module, check_mode, name="x", state=state, **(declaration if state == "present" else {}))
    expected = {
        "present": {"absent": "create", "differs": "update", "same": None},
        "absent": {"absent": None, "differs": "delete", "same": "delete"},
    }[state][there]
    assert result["changed"] is (expected is not None)
    assert [change["action"] for change in result["changes"]] == ([expected] if expected else [])
    assert len(host.written) == (1 if expected and not check_mode else 0)
    assert ("lock" in host.reader.calls) is not check_mode


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_pauses_a_dag_that_is_not_paused_yet(host, run, check_mode, paused):
    host.current = {"dag_state": {"d": {"paused": False}}}
    assert run("airflow_dag_state", check_mode, name="d", paused=paused)["changed"] is paused
    assert len(host.written) == (1 if paused and not check_mode else 0)


def test_a_dag_that_airflow_does_not_know_is_named(host, run):
    result = run("airflow_dag_state", name="D", paused=True)
    assert result["failed"] and "airflow_dag_state.D: Airflow knows no DAG" in result[
        "msg"] and "Did you mean d?" in result["msg"]
    # In check mode it may be one of the DAGs that this very run brings.
    assert run("airflow_dag_state", True, name="D", paused=True)["changed"]
    assert host.written == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_all_problems_come_in_one_message_before_anything_is_written(host, run, check_mode):
    declared = {
        "connections": {"a": {"conn_type": "htpp"}, "b": {"uri": "postgres//" + MARKER}, "fine": {"conn_type": "http"}},
        "pools": {"c": {"slots": -2}},
        "roles": {"Reader": {"permissions": {"DAGs": "can_read"}}, "Other": {"permissions": {"Dags": ["can_raed"]}}},
        "users": {
            "d": {"email": "d@b.c",
                  "roles": []}, "e": {"email": "e@b.c", "roles": ["Reader", "Vewer"], "password": MARKER},
            "f": {"email": "E@b.c", "roles": ["Viewer"]}
        },
        "variables": {"g": {"value": MARKER, "json": True}},
    }
    result = run("airflow_state", check_mode, objects=json.dumps(declared))
    lines = result["msg"].splitlines()
    assert lines[0] == "11 problems. Nothing was changed."
    for text in ("airflow_connections.b.uri is no URI", "airflow_pools.c.slots is -2",
                 "airflow_roles.Reader.permissions must be", "airflow_users.d.roles is empty",
                 "airflow_variables.g.value is no JSON",
                 "airflow_connections.a.conn_type is htpp, which no installed provider knows", "Did you mean http?",
                 "airflow_users.e.roles has Vewer, which is no role", "airflow_users.e.email is that of user f",
                 "airflow_users.f lacks password", "airflow_roles.Other.permissions has Dags, which is no resource",
                 "airflow_roles.Other.permissions.Dags has can_raed"):
        assert any(text in line for line in lines), text
    assert MARKER not in json.dumps(result)
    assert host.written == []


def test_a_type_of_the_sites_own_is_taken(host, run):
    assert run("airflow_connection", name="x", conn_type="kafka")["failed"]
    assert run("airflow_connection", name="x", conn_type="kafka", connection_types=["kafka"])["changed"]


def test_purge_takes_the_record_from_the_database_and_brings_it_up_to_date(host, run):
    row = OBJECTS["pools"][2]
    host.current = {"made": {"pools": ["old"]}, "pools": {"old": row, "found": row}}
    result = run("airflow_state", objects=json.dumps({"pools": {"new": {"slots": 1}}}), purge=True)
    assert [(change["name"], change["action"]) for change in result["changes"]] == [
        ("new", "create"),
        ("old", "delete"),
    ]
    assert host.written[0][1] == {"pools": ["new"]}


def test_what_somebody_removed_and_made_again_is_no_longer_ours(host, run):
    """Every run notices that it is gone, also one that changes nothing."""
    row = OBJECTS["pools"][2]
    host.current = {"made": {"pools": ["mine", "theirs"]}, "pools": {"mine": row}}
    arguments = {"objects": json.dumps({"pools": {"mine": {"slots": 3}}})}
    assert not run("airflow_state", True, **arguments)["changed"] and host.written == []
    assert not run("airflow_state", **arguments)["changed"]
    assert host.written == [([], {"pools": ["mine"]})]
    host.current = {"made": host.written[0][1], "pools": {"mine": row, "theirs": row}}
    assert run("airflow_state", purge=True, **arguments)["changes"] == []


def test_the_record_is_left_alone_where_nothing_was_made(host, run):
    host.current = {"pools": {"found": OBJECTS["pools"][2]}, "dag_state": {"d": {"paused": False}}}
    run("airflow_pool", name="found", slots=8)
    run("airflow_dag_state", name="d", paused=True)
    assert [record for _changes, record in host.written] == [None, None]


@pytest.mark.parametrize("diff", [True, False])
def test_nothing_returned_holds_a_secret(host, run, diff):
    declared = {"connections": {"x": OBJECTS["connections"][1]}, "users": {"x": OBJECTS["users"][1]}}
    result = run("airflow_state", diff=diff, objects=json.dumps(declared))
    assert result["changed"] and ("diff" in result) is diff
    assert MARKER not in json.dumps(result)


def test_only_passwords_that_are_written_are_hashed(monkeypatch):
    security = types.ModuleType("werkzeug.security")
    security.generate_password_hash = lambda password: f"hash of {password}"
    monkeypatch.setitem(sys.modules, "werkzeug.security", security)
    monkeypatch.setitem(sys.modules, "werkzeug", types.ModuleType("werkzeug"))
    user = {"email": "a@b.c", "roles": ["Viewer"]}
    there = airflow_objects.canonical("users", user)
    users = {
        "new": {**user, "password": "n"}, "changed": {**user, "password": "c"}, "same": {**user, "password": "s"},
        "kept": {**user, "password": "k", "update_password": "on_create"}, "without": user, "gone": {"state": "absent"},
    }
    current = {"users": {
        "changed": {**there, "password": airflow_objects.UNKNOWN}, "same": {**there, "password": "s"},
        "kept": {**there, "password": airflow_objects.UNKNOWN}, "without": there, "gone": there,
    }}
    assert airflow_database.hashed_passwords(users, current) == {"new": "hash of n", "changed": "hash of c"}


def test_a_dry_run_on_a_bare_host_starts_nothing(monkeypatch, run):
    monkeypatch.setattr(airflow_state.subprocess, "run", None)
    result = run("airflow_state",
                 True,
                 python="/nonexistent/python",
                 objects=json.dumps({"pools": {"x": {"slots": 1}}}))
    assert [change["action"] for change in result["changes"]] == ["create"]


def test_secrets_go_by_standard_input_only(monkeypatch, run):
    seen = {}

    def start(argv, **options):
        seen.update(options, argv=argv)
        return types.SimpleNamespace(stdout='{"changes": [], "diff": []}', returncode=0, stderr="")

    monkeypatch.setattr(airflow_state.subprocess, "run", start)
    monkeypatch.setattr(airflow_state, "identity", lambda user: {})
    run("airflow_variable", name="x", value=MARKER)
    assert MARKER in seen.pop("input")
    assert MARKER not in repr(seen)


def test_the_program_reaches_another_python_and_its_answer_comes_back(monkeypatch, tmp_path, run):
    """Here it finds no secrets to read; that it says so shows that it ran."""
    monkeypatch.setattr(airflow_state, "identity", lambda user: {})
    environment = {"AIRFLOW_CONFIG": str(tmp_path / "airflow.cfg")}
    assert "FileNotFoundError" in run("airflow_pool", name="x", slots=1, environment=environment)["msg"]
    assert "ended with 1" in run("airflow_pool", name="x", slots=1, python="/bin/false")["msg"]


@pytest.mark.parametrize("name", NAMES)
def test_documentation_names_the_options_and_examples_are_playbooks(name, monkeypatch):
    documentation = yaml.safe_load(MODULES[name].DOCUMENTATION)
    fragments = load_fragments()
    options = dict(documentation["options"])
    for fragment in documentation["extends_documentation_fragment"]:
        options.update(fragments[fragment])
    seen = {}

    class Stop(Exception):
        pass

    def module(argument_spec, supports_check_mode):
        seen.update(argument_spec)
        raise Stop

    monkeypatch.setattr(airflow_state, "AnsibleModule", module)
    monkeypatch.setattr(MODULES[name], "AnsibleModule", module, raising=False)
    with pytest.raises(Stop):
        MODULES[name].main()
    keys = ("type", "default", "choices", "elements", "required")
    assert {option: {key: spec[key] for key in keys if key in spec} for option, spec in options.items()} == {
        option: {key: spec[key] for key in keys if key in spec} for option, spec in seen.items()}
    # The filter leaves a /, which ends the password of an address.
    assert "urlencode }}" not in MODULES[name].EXAMPLES
    for task in yaml.safe_load(MODULES[name].EXAMPLES.replace("!unsafe ", "")):
        module = f"windsock.airflow.{name}"
        assert set(task) == {"name", module} and set(task[module]) <= set(options)


def load_fragments():
    spec = importlib.util.spec_from_file_location("fragments", ROOT / "plugins/doc_fragments/airflow_objects.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fragment = module.ModuleDocFragment
    return {
        name: yaml.safe_load(text)["options"]
        for name, text in (("windsock.airflow.airflow_objects", fragment.DOCUMENTATION),
                           ("windsock.airflow.airflow_objects.state", fragment.STATE))
    }
