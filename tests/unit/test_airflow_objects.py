"""Airflow's objects as data: what is refused, what counts as a difference, and what a diff shows."""

import json

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_objects as objects

MARKER = "horse-battery"


def problems(kind, fields, name="x"):
    sound, found = objects.check({kind: {name: fields}})
    assert bool(sound[kind]) is not bool(found)
    return found


def differs(kind, fields, current):
    assert objects.check({kind: {"x": fields}})[1] == []
    return [(change["action"], change["fields"])
            for change in objects.plan({kind: {"x": fields}}, {kind: {"x": current}}, {}, False)]


CONNECTION = dict.fromkeys(("description", "host", "login", "schema", "port", "password", "extra"))


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        ("connections", {"conn_type": "http", "hots": "h"},
         "airflow_connections.x has hots; valid are uri, conn_type, description, host"),
        ("connections", {"conn_type": "http", "hots": "h"}, "Did you mean host?"),
        # Half of its letters are those of "schema", and it is another word.
        ("connections", {"conn_type": "http", "scope": "h"}, "port, extra, state."),
        ("connections", {"host": "h"}, "lacks conn_type"),
        ("connections", "postgres://" + MARKER, "airflow_connections.x is a string; valid is a dictionary of uri"),
        ("connections", {"conn_type": "http", "port": "80"}, ".port is a string, where a whole number belongs"),
        ("connections", {"conn_type": "http", "port": 65536}, ".port is 65536; valid is 1 to 65535"),
        ("connections", {"conn_type": "http", "password": 123},
         ".password is a number, where a string belongs. Put it in quotes."),
        ("connections", {"conn_type": "http", "password": "a\0b"}, "NUL"),
        ("connections", {"conn_type": "http", "extra": "[1]"}, ".extra must be a dictionary"),
        ("connections", {"conn_type": "http", "extra": MARKER}, ".extra must be a dictionary"),
        ("connections", {"conn_type": "t" * 501}, ".conn_type has 501 characters; valid are up to 500."),
        ("connections", {"conn_type": "http", "schema": MARKER * 50},
         ".schema has 650 characters; valid are up to 500."),
        ("connections", {"uri": "http://h", "login": MARKER}, "has uri and login"),
        ("connections", {"uri": f"postgres//me:{MARKER}@h"}, ".uri is no URI"),
        ("connections", {"uri": f"google_cloud://me:{MARKER}@h"}, "with - for _"),
        ("connections", {"uri": f"http://me:{MARKER} @h"}, "holds a blank"),
        ("connections", {"uri": f"http://me:{MARKER}#@h"}, "Write %20, %0A and %23"),
        ("connections", {"uri": f"http://me:{MARKER}/1@h"}, "percent-encoded"),
        ("connections", {"uri": f"http://me:1/{MARKER}@h"}, "written %2F"),
        ("connections", {"uri": f"http://https://ftp://me:{MARKER}@h"}, "more than twice"),
        ("variables", MARKER, "valid is a dictionary of value"),
        ("variables", {"description": "d"}, "lacks value"),
        ("variables", {"value": MARKER, "json": True}, ".value is no JSON"),
        ("variables", {"value": "a\0" + MARKER}, "NUL"),
        ("pools", {"slots": -5}, ".slots is -5; valid is 0 or more, or -1 for no limit"),
        ("pools", {"slots": 99999999999}, ".slots is 99999999999; valid is 0 or more, or -1 for no limit, and "
                                          "2147483647 at most."),
        ("pools", {"slots": True}, ".slots is a truth value"),
        ("pools", {}, "lacks slots"),
        ("pools", {"slots": 1, "state": "gone"}, '.state is "gone"; valid are present and absent'),
        ("users", {"email": "a@b.c", "roles": []}, ".roles is empty"),
        ("users", {"email": "a@b.c"}, "lacks roles"),
        ("users", {"email": "a@b.c", "roles": "Viewer"}, ".roles is a string, where a list of names belongs"),
        ("users", {"email": "nobody", "roles": ["Viewer"]}, ".email"),
        ("users", {"email": "a@b.c", "roles": ["Viewer"], "last_name": "x" * 257},
         ".last_name has 257 characters; valid are up to 256."),
        ("users", {"email": "a@b.c", "roles": ["Viewer"], "password": ""}, ".password is empty"),
        ("users", {"email": "a@b.c", "roles": ["Viewer"], "update_password": "never"},
         "valid are always and on_create"),
        ("roles", {"permissions": ["can_read"]}, "resource to list of actions"),
        ("dag_state", {"paused": "yes"}, ".paused is a string, where true or false belongs"),
        ("dag_state", {"paused": True, "state": "absent"}, "has state"),
    ],
)
def test_what_is_wrong_is_told_without_secrets(kind, fields, text):
    found = problems(kind, fields)
    assert len(found) == 1
    assert found[0].startswith(f"airflow_{kind}.x") and text in found[0]
    assert MARKER not in found[0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("connections", "a b"), ("connections", "a" * 251), ("variables", ""), ("variables", objects.RECORD),
     ("users", " ann"), ("roles", "Admin")],
)
def test_names_that_airflow_would_not_keep_are_refused(kind, name):
    fields = {
        "connections": {"conn_type": "http"}, "variables": {"value": 1}, "users": {"email": "a@b.c", "roles": ["Op"]},
        "roles": {"permissions": {}}
    }
    assert len(problems(kind, fields[kind], name)) == 1


def test_the_default_pool_may_be_resized_but_not_removed():
    assert problems("pools", {"slots": 8}, "default_pool") == []
    assert "needs this pool" in problems("pools", {"state": "absent"}, "default_pool")[0]


def test_all_problems_are_found_and_the_sound_is_kept():
    sound, found = objects.check(
        {"pools": {"a": {"slots": -5}, "b": {"slots": 5}}, "variables": {"c": {"value": None}}})
    assert sound == {"pools": {"b": {"slots": 5}}, "variables": {}}
    assert [text.split()[0] for text in found] == ["airflow_pools.a.slots", "airflow_variables.c"]


@pytest.mark.parametrize(
    ("kind", "fields", "current", "fields_that_differ"),
    [
        ("connections", {"conn_type": "http", "password": "new"},
         {**CONNECTION, "conn_type": "http", "password": "old"}, ["password"]),
        ("connections", {"conn_type": "http"}, {**CONNECTION, "conn_type": "http", "password": "old"}, ["password"]),
        ("connections", {"conn_type": "http", "password": "p"},
         {**CONNECTION, "conn_type": "http", "password": objects.UNKNOWN}, ["password"]),
        ("connections", {"conn_type": "http", "extra": {"a": True}},
         {**CONNECTION, "conn_type": "http", "extra": '{"a": 1}'}, ["extra"]),
        ("variables", {"value": True}, {"value": "1", "description": None}, ["value"]),
        ("variables", {"value": "a "}, {"value": "a", "description": None}, ["value"]),
        ("pools", {"slots": 3}, {"slots": 3, "description": "d", "include_deferred": True},
         ["description", "include_deferred"]),
        ("roles", {"permissions": {"DAGs": ["can_read"]}}, {"permissions": []}, ["permissions"]),
        ("dag_state", {"paused": True}, {"paused": False}, ["paused"]),
    ],
)
def test_a_difference_is_seen(kind, fields, current, fields_that_differ):
    assert differs(kind, fields, current) == [("update", fields_that_differ)]


@pytest.mark.parametrize(
    ("kind", "fields", "current"),
    [
        ("connections", {"conn_type": "http", "host": "", "extra": {}},
         {**CONNECTION, "conn_type": "http", "extra": "{}"}),
        ("connections", {"conn_type": "http", "extra": {"b": 1, "a": "é"}},
         {**CONNECTION, "conn_type": "http", "extra": '{"a":"\\u00e9","b":1}'}),
        ("variables", {"value": {"b": 1, "a": [True]}}, {"value": '{\n  "a": [true], "b": 1}', "description": None}),
        ("variables", {"value": "[1,2]", "json": True}, {"value": "[1, 2]", "description": None}),
        ("pools", {"slots": 3, "description": ""}, {"slots": 3, "description": None, "include_deferred": False}),
        ("roles", {"permissions": {"Pools": ["can_read"], "DAGs": ["can_read", "can_read"]}},
         {"permissions": ["can_read on DAGs", "can_read on Pools"]}),
    ],
)
def test_what_airflow_takes_for_the_same_is_no_difference(kind, fields, current):
    assert differs(kind, fields, current) == []


USER = {
    "email": "a@b.c", "first_name": "", "last_name": "", "active": True, "roles": ["Op"], "password": objects.UNKNOWN
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"password": "p"}, [("update", ["password"])]),
        ({"password": "p", "update_password": "on_create"}, []),
        ({"roles": ["Viewer", "Op"]}, [("update", ["roles"])]),
        ({"active": False}, [("update", ["active"])]),
    ],
)
def test_a_users_password_is_left_alone_unless_asked_for(given, expected):
    assert differs("users", {"email": "a@b.c", "roles": ["Op"], **given}, USER) == expected


POOL = {"slots": 3, "description": None, "include_deferred": False}


@pytest.mark.parametrize(("purge", "expected"), [(False, []), (True, ["made"])])
def test_purge_removes_what_was_made_here_and_nothing_else(purge, expected):
    current = {"pools": {"made": POOL, "found": POOL, "kept": POOL}}
    changes = objects.plan({"pools": {"kept": {"slots": 3}}}, current, {"pools": ["made", "kept", "gone"]}, purge)
    assert [(change["name"], change["action"]) for change in changes] == [(name, "delete") for name in expected]


def test_roles_come_before_their_users_and_go_after_them():
    declared = {
        "users": {"new": {"email": "a@b.c", "roles": ["New"], "password": "p"}, "old": {"state": "absent"}},
        "roles": {"New": {"permissions": {}}, "Old": {"state": "absent"}},
    }
    changes = objects.plan(declared, {"users": {"old": USER}, "roles": {"Old": {"permissions": []}}}, {}, False)
    assert [change["name"] for change in changes] == ["New", "new", "old", "Old"]


def test_the_record_holds_what_was_made_and_is_still_there():
    changes = [
        objects.change("pools", "new", "create", {}, POOL),
        objects.change("pools", "found", "update", {}, POOL),
        objects.change("pools", "old", "delete", POOL, {}),
        objects.change("dag_state", "dag", "update", {}, {"paused": True})
    ]
    current = {"pools": {"found": POOL, "old": POOL, "older": POOL}}
    assert objects.remembered({"pools": ["gone", "old", "older"]}, current, changes) == {"pools": ["new", "older"]}


def shown(declared, current):
    diffs = objects.diff(objects.plan(declared, current, {}, False))
    return [(item["before_header"], item["before"], item["after"]) for item in diffs]


def test_a_diff_shows_no_secret_but_that_it_differs():
    old = {**CONNECTION, "conn_type": "http", "host": f"https://me:{MARKER}@h/{MARKER}", "password": MARKER,
           "extra": json.dumps({"token": 5, "n": 5, "deep": {"s": MARKER}})}
    new = {"conn_type": "http", "host": f"https://me:{MARKER}2@h/{MARKER}",
           "password": MARKER + "2", "extra": {"token": 6, "n": 6, "deep": {"s": MARKER + "2"}}}
    found = shown({"connections": {"c": new}}, {"connections": {"c": old}})
    assert MARKER not in str(found)
    assert found == [(
        "connection c",
        'extra: {"deep": {"s": "***"}, "n": 5, "token": "***"}\nhost: https://***@h/***\npassword: ***\n',
        'extra: {"deep": {"s": "***"}, "n": 6, "token": "***"}\nhost: https://***@h/*** (another)\npassword: *** '
        '(another)\n',
    )]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://me:{MARKER}@h:8080/{MARKER}", "https://***@h:8080/***"),
        (f"https://me:{MARKER}/{MARKER}@h", "https://***"),
        (f"https://me:{MARKER}?{MARKER}@h/path", "https://***"),
        (f"https://me:{MARKER} {MARKER}x@h", f"https://*** {MARKER}x@h"),
        (f"https://h/path,https://me:{MARKER}@h", "https://***"),
        (f"me:{MARKER}@h", "***@h"),
        (f"me:{MARKER}/{MARKER}@h:5432/db", "***@h:5432/db"),
        (f"see me:{MARKER}@h first", "see ***@h first"),
        ("https://[::1]:80/ or https://h or h:9092,i:9092", "https://[::1]:80/ or https://h or h:9092,i:9092"),
        ("of team@example.com, at 10:30", "of team@example.com, at 10:30"),
    ],
)
def test_an_address_is_shown_without_its_login(text, expected):
    assert objects.without_credentials(text) == expected


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("days", 30, "value: 30\n"), ("switch", True, "value: true\n"), ("name", MARKER, "value: ***\n"),
        ("api_key", 1234, "value: ***\n"),
        ("config", {"on": True, "url": MARKER, "db_password": 7},
         'value: {"on": true, "url": "***", "db_password": "***"}\n'),
    ],
)
def test_of_a_variable_only_numbers_and_truth_values_are_shown(name, value, text):
    assert objects.diff(objects.plan({"variables": {name: {"value": value}}}, {}, {}, False))[0]["after"] == (
        text if "{" not in text else "value: " + json.dumps(json.loads(text[7:]), sort_keys=True) + "\n")


def test_what_is_returned_holds_names_only():
    changes = objects.plan({"connections": {"c": {"conn_type": "http", "password": MARKER}}}, {}, {}, False)
    assert MARKER not in json.dumps(objects.told(changes))
    assert objects.told(changes)[0] | {"fields": []} == {
        "kind": "connection", "name": "c", "action": "create", "fields": []
    }
