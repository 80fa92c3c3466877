# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Airflow's objects as plain data: what is wrong with a declaration, how it differs from what is there, and how to tell
that without secrets.

Declared is {kind: {name: fields}}. Nothing here needs Airflow or Ansible, so that the controller, the modules and the
host's virtualenv can all use it. Messages never hold the value of a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean

# {field: value} of an object; {kind: {name: fields}}; {kind: names}; what change() returns.
Fields = dict[str, Any]
Objects = Mapping[str, Mapping[str, Fields]]
Names = Mapping[str, Iterable[str]]
Change = dict[str, Any]

# In the order in which they are made; removed in the opposite one. The inventory's variable is airflow_<kind>.
KINDS = ("roles", "users", "pools", "connections", "variables", "dag_state")
SINGULAR = {
    "roles": "role", "users": "user", "pools": "pool", "connections": "connection", "variables": "variable",
    "dag_state": "DAG"
}

FIELDS = {
    "roles": {"permissions": "permissions"},
    "users": {
        "email": "text",
        "first_name": "text",
        "last_name": "text",
        "roles": "names",
        "active": "truth",
        "password": "secret",
        "update_password": "text",
    },
    "pools": {"slots": "number", "description": "text", "include_deferred": "truth"},
    "connections": {
        "uri": "secret",
        "conn_type": "text",
        "description": "text",
        "host": "text",
        "login": "text",
        "password": "secret",
        "schema": "text",
        "port": "number",
        "extra": "object",
    },
    "variables": {"value": "value", "json": "truth", "description": "text"},
    "dag_state": {"paused": "truth"},
}
REQUIRED = {
    "roles": ("permissions", ), "users": ("email", "roles"), "pools": ("slots", ), "variables": ("value", ),
    "dag_state": ("paused", )
}

# Names that Airflow itself takes, as far as a name is limited at all.
NAMES = {
    "connections": (r"[\w#!()\-.:/\\]{1,250}", "1 to 250 letters, digits and # ! ( ) - . : / \\ _"),
    "variables": (r"(?s).{1,250}", "1 to 250 characters"),
    "pools": (r"(?s).{1,256}", "1 to 256 characters"),
    "roles": (r"(?s).{1,64}", "1 to 64 characters"),
    "users": (r"\S(.{0,254}\S)?", "1 to 256 characters without a blank at an end"),
    "dag_state": (r"[\w.\-]{1,250}", "1 to 250 letters, digits and - . _"),
}
# Characters that Airflow's own columns hold of a field, and the largest number. The other texts have no limit.
LENGTHS = {
    "connections": {"conn_type": 500, "host": 500, "schema": 500},
    "users": {"email": 512, "first_name": 256, "last_name": 256},
}
LARGEST = 2**31 - 1
# Airflow writes their permissions anew at each start.
BUILT_IN_ROLES = ("Admin", "Viewer", "User", "Op")
DEFAULT_POOL = "default_pool"
# The variable that remembers what was made here: in the database, so that it is written in one transaction with the
# objects, and moves with them to another host.
RECORD = "airflow_state_made"

# What Airflow itself takes for a secret by its name (DEFAULT_SENSITIVE_FIELDS of 3.3; 2 has fewer).
SENSITIVE = re.compile(
    "access_key|access_token|api_?key|auth_header|authorization|bearer|connection_string|dsn|keyfile_dict|passphrase|passw|private_key|prox(y|ies)"
    "|secret|service_account|service_key|token|webhook_url", re.IGNORECASE)
HIDDEN = "***"
ANOTHER = " (another)"
# Stands for a value of the database that is not the declared one, and that nobody needs to know.
UNKNOWN = "\0unknown"


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def check(declared: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what is sound of a declaration, and all that is wrong with the rest, as far as that can be known without
    Airflow.
    """
    sound: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for kind, objects in declared.items():
        sound[kind] = {}
        for name, fields in objects.items():
            found = list(object_problems(kind, name, fields))
            problems += found
            if not found:
                sound[kind][name] = fields
    return sound, problems


def object_problems(kind: str, name: str, fields: Any) -> Iterator[str]:
    path = "airflow_{0}.{1}".format(kind, name)
    if not isinstance(name, str):
        yield "{0}: its name is {1}; put it in quotes.".format(path, type_name(name))
        return
    if not isinstance(fields, dict):
        yield "{0} is {1}; valid is a dictionary of {2}.".format(path, type_name(fields), ", ".join(FIELDS[kind]))
        return
    pattern, valid = NAMES[kind]
    if not re.fullmatch(pattern, name):
        yield "{0}: its name is not valid; valid are {1}.".format(path, valid)
    if kind == "variables" and name == RECORD:
        yield "{0}: this tool keeps its own record there. Take another name.".format(path)

    states = () if kind == "dag_state" else ("present", "absent")
    known = [*FIELDS[kind], *(["state"] if states else [])]
    for field in fields:
        if field not in known:
            yield "{0} has {1}; valid are {2}.{3}".format(path, field, ", ".join(known), did_you_mean(field, known))
    if states and fields.get("state", "present") not in states:
        yield "{0}.state is {1}; valid are {2}.".format(
            path, json.dumps(fields["state"], default=str), " and ".join(states)
        )
    if fields.get("state") == "absent":
        if kind == "pools" and name == DEFAULT_POOL:
            yield "{0}: Airflow needs this pool. Give it slots in place of state: absent.".format(path)
        return

    wrong = False
    for field, wanted in FIELDS[kind].items():
        value = fields.get(field)
        if value is None:
            if field in REQUIRED.get(kind, ()):
                wrong = True
                yield "{0} lacks {1}.".format(path, field)
            continue
        text = type_problem(wanted, value)
        if text:
            wrong = True
            yield "{0}.{1} {2}".format(path, field, text)
    if not wrong:
        yield from (path + text for text in [*length_problems(kind, fields), *CHECKS.get(kind, no_more)(name, fields)])


def type_problem(wanted: str, value: Any) -> str | None:
    if wanted in ("text", "secret"):
        if not isinstance(value, str):
            return "is {0}, where a string belongs. Put it in quotes.".format(type_name(value))
        if "\0" in value:
            return "holds a NUL character, which PostgreSQL can't store."
    elif wanted == "number" and (not isinstance(value, int) or isinstance(value, bool)):
        return "is {0}, where a whole number belongs.".format(type_name(value))
    elif wanted == "truth" and not isinstance(value, bool):
        return "is {0}, where true or false belongs.".format(type_name(value))
    elif wanted == "names" and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        return "is {0}, where a list of names belongs.".format(type_name(value))
    elif wanted == "permissions" and not (isinstance(value, dict) and all(
            isinstance(item, list) and all(isinstance(action, str) for action in item) for item in value.values())):
        return "must be a dictionary, resource to list of actions, such as {DAGs: [can_read, can_edit]}."
    elif wanted == "object" and not (isinstance(value, dict)
                                     or isinstance(value, str) and isinstance(parsed(value), dict) or value == ""):
        return "must be a dictionary, or a string that holds one in JSON."
    elif wanted == "value" and not isinstance(value, (str, int, float, list, dict)):
        return "is {0}, where a string, a number, true or false, a list or a dictionary belongs.".format(
            type_name(value))
    return None


def length_problems(kind: str, fields: Fields) -> Iterator[str]:
    """What PostgreSQL would refuse, halfway through and with the statement in its message."""
    for field, most in LENGTHS.get(kind, {}).items():
        if len(fields.get(field) or "") > most:
            yield ".{0} has {1} characters; valid are up to {2}.".format(field, len(fields[field]), most)


def connection_problems(_name: str, fields: Fields) -> Iterator[str]:
    if fields.get("uri"):
        others = [
            field for field in FIELDS["connections"]
            if field not in ("uri", "description") and fields.get(field) not in (None, "", {})
        ]
        if others:
            yield " has uri and {0}; a URI holds all of that. Keep one of the two.".format(", ".join(others))
        problem = uri_problem(fields["uri"])
        if problem:
            yield ".uri " + problem
    elif not fields.get("conn_type"):
        yield " lacks conn_type (such as postgres or http), or uri."
    if not 0 <= (fields.get("port") or 0) <= 65535:
        yield ".port is {0}; valid is 1 to 65535.".format(fields["port"])


def uri_problem(uri: str) -> str | None:
    """Why Airflow would not understand the URI, or lose a part of it. Never says the URI, which may hold a password."""
    valid = "Valid is type://login:password@host:port/schema?key=value."
    if not re.match(r"[a-z][a-z0-9+.-]*://", uri):
        return "is no URI: it must begin with a type in lower case, with - for _, and ://. " + valid
    if uri.count("://") > 2:
        return "has :// more than twice. " + valid
    if re.search(r"[\s#\x00-\x1f]", uri):
        return (
            "holds a blank, a new line or a #, which would be lost. Write %20, %0A and %23, or give the fields one by "
            "one."
        )
    rest = uri.split("://", 1)[1]
    try:
        parts = urlsplit(rest if "://" in rest else uri)
        port = parts.port
    except ValueError:
        return (
            "has a port that is no number up to 65535, or brackets that don't match. In a login or password / ? # [ ] "
            "are percent-encoded. " + valid
        )
    if "@" in parts.path and "@" not in parts.netloc:
        return "has its @ behind a /. A / in a login or password is written %2F. " + valid
    return None if port is None or port > 0 else "has port 0. " + valid


def variable_problems(_name: str, fields: Fields) -> Iterator[str]:
    if fields.get("json") and isinstance(fields["value"], str) and parsed(fields["value"], UNKNOWN) is UNKNOWN:
        yield ".value is no JSON, which json: true asks for. Write it as a list or dictionary, or remove json."
    if isinstance(fields["value"], str) and "\0" in fields["value"]:
        yield ".value holds a NUL character, which PostgreSQL can't store."


def pool_problems(_name: str, fields: Fields) -> Iterator[str]:
    if not -1 <= fields["slots"] <= LARGEST:
        yield ".slots is {0}; valid is 0 or more, or -1 for no limit, and {1} at most.".format(fields["slots"], LARGEST)


def user_problems(_name: str, fields: Fields) -> Iterator[str]:
    if not fields["roles"]:
        yield (".roles is empty; a user without a role can do nothing. Valid are Admin, Op, User, Viewer, Public and "
               "those of airflow_roles.")
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", fields["email"]):
        yield ".email is {0}, which is no address.".format(json.dumps(fields["email"]))
    if fields.get("password") == "":
        yield ".password is empty. Remove it to leave the password of an existing user alone."
    if fields.get("update_password", "always") not in ("always", "on_create"):
        yield ".update_password is {0}; valid are always and on_create.".format(json.dumps(fields["update_password"]))


def role_problems(name: str, _fields: Fields) -> Iterator[str]:
    if name in BUILT_IN_ROLES:
        yield ": Airflow itself keeps the permissions of this role. Take another name."


def no_more(_name: str, _fields: Fields) -> Iterable[str]:
    return ()


CHECKS = {
    "connections": connection_problems,
    "variables": variable_problems,
    "pools": pool_problems,
    "users": user_problems,
    "roles": role_problems,
}


def type_name(value: Any) -> str:
    names = (
        (bool, "a truth value"),
        ((int, float), "a number"),
        (str, "a string"),
        (dict, "a dictionary"),
        (list, "a list"),
    )
    return "nothing" if value is None else next(
        (text for kind, text in names if isinstance(value, kind)), "a " + type(value).__name__)


def parsed(text: Any, default: Any = None) -> Any:
    """The value that JSON text holds; the default where it holds none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return default


# ---- how it differs --------------------------------------------------------------------------------------------------


def present(fields: Fields) -> bool:
    return bool(fields.get("state", "present") == "present")


def canonical(kind: str, fields: Fields) -> Fields:
    """The fields of an object that is to be, in the form in which the database's are read. A field that is left out is
    empty there.
    """
    if kind == "connections":
        if fields.get("uri"):
            return {"uri": fields["uri"], "description": fields.get("description") or None}
        wanted = {field: fields.get(field) or None for field in FIELDS[kind] if field != "uri"}
        if isinstance(wanted["extra"], dict):
            wanted["extra"] = json.dumps(wanted["extra"])
        return wanted
    if kind == "variables":
        value = fields["value"]
        return {
            "value": value if isinstance(value, str) else json.dumps(value), "description": fields.get("description")
            or None
        }
    if kind == "pools":
        return {
            "slots": fields["slots"],
            "description": fields.get("description") or None,
            "include_deferred": bool(fields.get("include_deferred")),
        }
    if kind == "users":
        wanted = {
            "email": fields["email"], "first_name": fields.get("first_name") or "", "last_name": fields.get("last_name")
            or ""
        }
        wanted.update(roles=sorted(set(fields["roles"])), active=fields.get("active") is not False)
        if fields.get("password"):
            wanted["password"] = fields["password"]
        return wanted
    if kind == "roles":
        return {
            "permissions": sorted({
                "{0} on {1}".format(action, on)
                for on, actions in fields["permissions"].items()
                for action in actions
            })
        }
    return {"paused": fields["paused"]}


def same(field: str, old: Any, new: Any, as_json: bool) -> bool:
    if as_json:
        # Types count: 1 is not true. An empty object is no object.
        old, new = (json.dumps(parsed(text, text) or None if field == "extra" else parsed(text, text), sort_keys=True)
                    for text in (old, new))
    return bool(old == new)


def plan(declared: Objects, current: Objects, made: Names, purge: bool) -> list[Change]:
    """Return the changes that lead from the current objects to the declared ones: [{kind, name, action, before, after,
    fields}].

    made: {kind: names} of the objects that were made here; only these are purged.
    """
    changes, removals = [], []
    for kind in KINDS:
        objects, there = declared.get(kind, {}), current.get(kind, {})
        for name in sorted(objects):
            fields, old = objects[name], there.get(name)
            if not present(fields):
                if old is not None:
                    removals.append(change(kind, name, "delete", old, {}))
                continue
            new = canonical(kind, fields)
            if old is None:
                changes.append(change(kind, name, "create", {}, new))
                continue
            if fields.get("update_password") == "on_create":
                new.pop("password", None)
            texts = {"extra"} | ({"value"} if fields.get("json") or not isinstance(fields.get("value"), str) else set())
            different = [field for field in new if not same(field, old.get(field), new[field], field in texts)]
            if different:
                changes.append(
                    change(
                        kind,
                        name,
                        "update",
                        {field: old.get(field) for field in different},
                        {field: new[field] for field in different},
                    )
                )
        if purge:
            removals += [
                change(kind, name, "delete", there[name], {}) for name in sorted(made.get(kind, ()))
                if name in there and name not in objects
            ]
    return changes + sorted(removals, key=lambda removal: -KINDS.index(removal["kind"]))


def change(kind: str, name: str, action: str, before: Fields, after: Fields) -> Change:
    return {
        "kind": kind,
        "name": name,
        "action": action,
        "before": before,
        "after": after,
        "fields": sorted(after or before),
    }


def remembered(made: Names, current: Objects, changes: list[Change]) -> dict[str, list[str]]:
    """The record after the changes: what was made here and is still there. What somebody removed and makes again is
    theirs.
    """
    names = {kind: set(made.get(kind, ())) & set(current.get(kind, ())) for kind in KINDS if kind != "dag_state"}
    for item in changes:
        if item["action"] == "create" and item["kind"] in names:
            names[item["kind"]].add(item["name"])
        elif item["action"] == "delete":
            names[item["kind"]].discard(item["name"])
    return {kind: sorted(found) for kind, found in names.items() if found}


# ---- how to tell it --------------------------------------------------------------------------------------------------


def told(changes: list[Change]) -> list[Change]:
    """What a module returns of the changes: no values."""
    return [{"kind": SINGULAR[item["kind"]], "name": item["name"], "action": item["action"], "fields": item["fields"]}
            for item in changes]


def diff(changes: list[Change]) -> list[dict[str, str]]:
    """Ansible's diffs of the changes. Secrets, and what might be one, are veiled; that they differ is seen."""
    shown = []
    for item in changes:
        title = "{0} {1}".format(SINGULAR[item["kind"]], item["name"])
        before, after = ({
            field: line(veiled_field(item, field, value))
            for field, value in item[side].items() if value is not None
        } for side in ("before", "after"))
        for field in before.keys() & after.keys():
            after[field] += ANOTHER if before[field] == after[field] else ""
        text = ("".join("{0}: {1}\n".format(field, side[field]) for field in sorted(side)) for side in (before, after))
        shown.append({"before_header": title, "after_header": title, "before": next(text), "after": next(text)})
    return shown


def line(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def veiled_field(item: Change, field: str, value: Any) -> Any:
    if (
        item["kind"] == "connections"
        and field in ("password", "uri")
        or item["kind"] == "users"
        and field == "password"
    ):
        return HIDDEN
    if item["kind"] == "connections" and field == "extra" or item["kind"] == "variables" and field == "value":
        return veiled(parsed(value, value), field == "value" and SENSITIVE.search(item["name"]))
    return without_credentials(value) if isinstance(value, str) else value


def veiled(value: Any, sensitive: Any = None) -> Any:
    """Numbers and truth values are shown, unless their name is that of a secret. A string is not: nobody can tell by
    looking at it.
    """
    if isinstance(value, dict):
        return {key: veiled(inner, sensitive or SENSITIVE.search(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [veiled(inner, sensitive) for inner in value]
    return value if isinstance(value, (bool, int, float)) and not sensitive else HIDDEN


def without_credentials(text: str) -> str:
    """Text whose addresses have no login, and no path, which may be a token. What can't be told apart is veiled."""
    return re.sub(r"\S+", lambda word: without_login(word[0]), text)


def without_login(word: str) -> str:
    head, scheme, rest = word.partition("://")
    # A login is known by its colon: what has none is the address of an e-mail.
    head = re.sub(r"[^/@]*:.*@", HIDDEN + "@", head)
    if not scheme:
        return head
    parts = re.fullmatch(r"([^/?#@]*@)?((?:\[[^]@]*\]|[^/?#@:]*)(?::\d*)?)(/|[/?#][^@]+)?", rest)
    if not parts:
        return head + scheme + HIDDEN
    login, host, path = parts.groups(default="")
    return "".join([head, scheme, HIDDEN + "@" if login else "", host, "/" + HIDDEN if len(path) > 1 else path])
