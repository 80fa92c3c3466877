# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""The part that runs in the host's virtualenv, as the components' user: it reads the declared objects, plans, and
writes what differs.

It gets a request as JSON on standard input, to change something or to tell what is there, and answers with JSON on
standard output. Reading needs the database and the Fernet keys only, a tenth of a second; Airflow itself, which takes
one or two seconds to import, is loaded where something has to be written. All is written in one transaction.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils import airflow_objects as objects
from ansible_collections.windsock.airflow.plugins.module_utils import database_connection
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_objects import Change, Fields, Names, Objects
from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean


class Refused(Exception):
    """What was declared can't be; the argument is a list of reasons."""


# ---- read ------------------------------------------------------------------------------------------------------------


def secret(name: str) -> str:
    return Path(os.environ["AIRFLOW_CONFIG"]).parent.joinpath("secrets", name).read_text(encoding="utf-8")


class Reader:
    """Reads rows by SQL, and decrypts them as Airflow does. Both majors have the same columns."""

    def __init__(self, url: str, keys: str) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        self.connection = database_connection.connect("airflow-installer", url, connect_timeout=10)
        self.connection.autocommit = True
        self.fernet = MultiFernet([Fernet(key) for key in keys.split(",")])

    def lock(self) -> None:
        """Held until this process ends, so that two runs, one of them killed perhaps, come one after the other."""
        self.rows("SELECT pg_advisory_lock(hashtext('airflow-installer'))")

    def rows(self, query: str, *args: Any) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, args)
            found: list[Any] = cursor.fetchall()
            return found

    def has(self, table: str) -> bool:
        return bool(self.rows("SELECT to_regclass(%s) IS NOT NULL", table)[0][0])

    def decrypted(self, value: Any, encrypted: bool) -> Any:
        from cryptography.fernet import InvalidToken

        if not value or not encrypted:
            return value
        try:
            return self.fernet.decrypt(value.encode()).decode()
        except InvalidToken:
            # Encrypted with a key that is gone: nobody can read it, and the declared value takes its place.
            return objects.UNKNOWN

    def connections(self, names: list[str], _declared: Fields) -> Iterator[tuple[str, Fields]]:
        found = self.rows(
            "SELECT conn_id, conn_type, description, host, login, schema, port, password, is_encrypted, extra, "
            "is_extra_encrypted "
            "FROM connection WHERE conn_id = ANY(%s)", names)
        for row in found:
            name, conn_type, description, host, login, schema, port, password, encrypted, extra, extra_encrypted = row
            yield name, {
                "conn_type": conn_type or None,
                "description": description or None,
                "host": host or None,
                "login": login or None,
                "schema": schema or None,
                "port": port or None,
                "password": self.decrypted(password, encrypted) or None,
                "extra": self.decrypted(extra, extra_encrypted) or None,
            }

    def variables(self, names: list[str], _declared: Fields) -> Iterator[tuple[str, Fields]]:
        for name, value, description, encrypted in self.rows(
                "SELECT key, val, description, is_encrypted FROM variable WHERE key = ANY(%s)", names):
            yield name, {"value": self.decrypted(value, encrypted), "description": description or None}

    def pools(self, names: list[str], _declared: Fields) -> Iterator[tuple[str, Fields]]:
        for name, slots, description, deferred in self.rows(
                "SELECT pool, slots, description, include_deferred FROM slot_pool WHERE pool = ANY(%s)", names):
            yield name, {"slots": slots, "description": description or None, "include_deferred": deferred}

    def roles(self, names: list[str], declared: Fields) -> Iterable[tuple[str, Fields]]:
        found = self.rows(
            "SELECT r.name, p.name, v.name FROM ab_role r LEFT JOIN ab_permission_view_role pvr ON pvr.role_id = r.id "
            "LEFT JOIN ab_permission_view pv ON pv.id = pvr.permission_view_id LEFT JOIN ab_permission p ON p.id = "
            "pv.permission_id "
            "LEFT JOIN ab_view_menu v ON v.id = pv.view_menu_id WHERE r.name = ANY(%s)", names)
        roles: dict[str, Fields] = {name: {"permissions": []} for name, _action, _resource in found}
        for name, action, resource in found:
            if action and (not of_a_dag(resource) or resource in declared.get(name, {}).get("permissions", {})):
                roles[name]["permissions"].append("{0} on {1}".format(action, resource))
        for role in roles.values():
            role["permissions"].sort()
        return roles.items()

    def users(self, names: list[str], declared: Fields) -> Iterator[tuple[str, Fields]]:
        from werkzeug.security import check_password_hash

        found = self.rows(
            "SELECT u.username, u.email, u.first_name, u.last_name, u.active, u.password, "
            "array_remove(array_agg(r.name), NULL) FROM ab_user u "
            "LEFT JOIN ab_user_role ur ON ur.user_id = u.id LEFT JOIN ab_role r ON r.id = ur.role_id WHERE u.username "
            "= ANY(%s) GROUP BY u.id",
            names)

        def is_declared(row: Any) -> str:
            password = declared.get(row[0], {}).get("password")
            return password if password and row[5] and check_password_hash(row[5], password) else objects.UNKNOWN

        for (name, email, first, last, active, _hash, roles), password in zip(found, in_parallel(is_declared, found)):
            yield name, {
                "email": email,
                "first_name": first,
                "last_name": last,
                "active": bool(active),
                "roles": sorted(roles),
                "password": password,
            }

    def dag_state(self, names: list[str], _declared: Fields) -> Iterator[tuple[str, Fields]]:
        # A DAG whose file is gone stays in the table: is_active in Airflow 2, is_stale in 3.
        for name, paused, row in self.rows("SELECT dag_id, is_paused, to_jsonb(dag) FROM dag WHERE dag_id = ANY(%s)",
                                           names):
            if row.get("is_active", not row.get("is_stale")):
                yield name, {"paused": bool(paused)}

    def dags(self) -> Iterator[Fields]:
        """Return what pausing has to know of each DAG that Airflow reads: its id, whether it is paused, its tags, and
        how many of its tasks run.
        """
        for name, paused, row, tags, running in self.rows(
                "SELECT d.dag_id, d.is_paused, to_jsonb(d), (SELECT coalesce(array_agg(t.name), '{}') FROM dag_tag t "
                "WHERE t.dag_id = d.dag_id), "
                "(SELECT count(*) FROM task_instance i WHERE i.dag_id = d.dag_id AND i.state IN ('queued', 'running', "
                "'restarting')) "
                "FROM dag d ORDER BY d.dag_id"):
            if row.get("is_active", not row.get("is_stale")):
                yield {"dag_id": name, "paused": bool(paused), "tags": tags, "running": running}

    def waiting(self) -> Iterator[Fields]:
        """Return the tasks that are scheduled, queued or running, with what decides whether they are stuck; ages in
        seconds.
        """
        # The heartbeat is the task's own in Airflow 3, and that of its job in Airflow 2. Hosts write these times with
        # their own clocks, so a host's clock tells their age: the database's may be ahead.
        now = datetime.now(timezone.utc)
        for row, paused, slots, used, job_age, scheduler_age in self.rows(
                "SELECT to_jsonb(i) - 'executor_config' - 'rendered_map_index', d.is_paused, p.slots, (SELECT "
                "coalesce(sum(o.pool_slots), 0) "
                "FROM task_instance o WHERE o.pool = i.pool AND o.state IN ('queued', 'running', 'restarting')), "
                "(SELECT extract(epoch FROM %s - j.latest_heartbeat) FROM job j WHERE j.id::text = to_jsonb(i) ->> "
                "'job_id'), "
                "(SELECT extract(epoch FROM %s - j.latest_heartbeat) FROM job j WHERE j.id = i.queued_by_job_id) "
                "FROM task_instance i LEFT JOIN dag d ON d.dag_id = i.dag_id LEFT JOIN slot_pool p ON p.pool = i.pool "
                "WHERE i.state IN ('scheduled', 'queued', 'running', 'restarting') ORDER BY i.dag_id, i.run_id, "
                "i.task_id",
                now, now):
            def age(*names: str, row: Fields = row) -> float | None:
                since = [datetime.fromisoformat(row[name]) for name in names if row.get(name)]
                return (now - since[0]).total_seconds() if since else None

            beat = age("last_heartbeat_at")
            yield {
                **{
                    name: row[name]
                    for name in ("dag_id", "run_id", "task_id", "map_index", "try_number", "state", "pool", "hostname")
                },
                "paused": paused,
                "slots": slots,
                "used": int(used),
                "age": age({"scheduled": "scheduled_dttm", "queued": "queued_dttm"}.get(row["state"], "start_date"),
                           "updated_at"),
                "silent": float(job_age) if beat is None and job_age is not None else beat,
                "queued_by_silent": None if scheduler_age is None else float(scheduler_age),
            }

    def scheduler_silent(self) -> float | None:
        """Return the seconds since a scheduler has beaten."""
        ((age, ), ) = self.rows(
            "SELECT extract(epoch FROM %s - max(latest_heartbeat)) FROM job WHERE job_type = 'SchedulerJob' AND state "
            "= 'running'",
            datetime.now(timezone.utc))
        return None if age is None else float(age)

    def made(self) -> dict[str, Any]:
        """Return the record of what was made here: {kind: names}."""
        for _name, record in self.variables([objects.RECORD], {}):
            found = objects.parsed(record["value"])
            return found if isinstance(found, dict) else {}
        return {}

    def read(self, declared: Objects, made: Names) -> Objects:
        """Return the objects of the database that were declared or made here: {kind: {name: fields}}."""
        current = {}
        for kind in objects.KINDS:
            names = sorted({*declared.get(kind, {}), *made.get(kind, ())})
            current[kind] = dict(getattr(self, kind)(names, declared.get(kind, {}))) if names else {}
        return current


def in_parallel(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """For password hashes, each of which takes a tenth of a second of one core and 32 MB, on purpose."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(function, items))


def hashed_passwords(users: dict[str, Fields], current: Objects) -> dict[str, str]:
    """Return {name: hash} of the users whose password is to be written."""
    from werkzeug.security import generate_password_hash

    changes = objects.plan({"users": users}, current, {}, purge=False)
    new = {item["name"]: item["after"]["password"] for item in changes if item["after"].get("password")}
    return dict(zip(new, in_parallel(generate_password_hash, new.values())))


def of_a_dag(resource: str) -> bool:
    """Airflow gives and takes these permissions itself, by what a DAG's file says (access_control)."""
    return resource.startswith(("DAG:", "DAG Run:"))


# ---- refuse ----------------------------------------------------------------------------------------------------------


def refusals(reader: Reader, changes: list[Change], types: list[str], role_names: list[str]) -> Iterator[str]:
    """What can only be judged with the database and Airflow at hand."""
    written = [item for item in changes if item["action"] != "delete"]

    new_types = {
        item["name"]: item["after"]["conn_type"]
        for item in written if item["kind"] == "connections" and "conn_type" in item["after"]
    }
    if new_types:
        from airflow.providers_manager import ProvidersManager

        known = sorted({*ProvidersManager().hooks, *types})
        for name, conn_type in sorted(new_types.items()):
            if conn_type not in known:
                yield (
                    "airflow_connections.{0}.conn_type is {1}, which no installed provider knows. Valid are {2}.{3} "
                    "Install its provider "
                    "(airflow_extra_packages), or name the type in airflow_connection_types where only your DAGs read "
                    "the connection."
                ).format(name, conn_type, ", ".join(known), did_you_mean(conn_type, known))

    users = [item for item in written if item["kind"] == "users"]
    if users:
        roles = {name for (name,) in reader.rows("SELECT name FROM ab_role")}
        roles -= {item["name"] for item in changes if item["kind"] == "roles" and item["action"] == "delete"}
        roles |= set(role_names)
        mine = {item["after"]["email"].lower(): item["name"] for item in users if "email" in item["after"]}
        taken = dict(reader.rows("SELECT lower(email), username FROM ab_user WHERE lower(email) = ANY(%s)", list(mine)))
        for item in users:
            path = "airflow_users.{0}".format(item["name"])
            for role in item["after"].get("roles", ()):
                if role not in roles:
                    yield "{0}.roles has {1}, which is no role. Valid are {2}.{3}".format(
                        path, role, ", ".join(sorted(roles)), did_you_mean(role, roles))
            email = item["after"].get("email", "").lower()
            other = next((name for name in (taken.get(email), mine.get(email)) if name not in (None, item["name"])),
                         None)
            if other:
                yield "{0}.email is that of user {1}; each user needs an address of their own.".format(path, other)
            if item["action"] == "create" and not item["after"].get("password"):
                yield "{0} lacks password, which a new user needs.".format(path)

    permissions = sorted({text for item in written if item["kind"] == "roles" for text in item["after"]["permissions"]})
    if permissions:
        actions = {name for (name,) in reader.rows("SELECT name FROM ab_permission")}
        resources = {name for (name,) in reader.rows("SELECT name FROM ab_view_menu")}
        for item in written:
            for text in item["after"]["permissions"] if item["kind"] == "roles" else ():
                action, resource = text.split(" on ", 1)
                path = "airflow_roles.{0}.permissions".format(item["name"])
                if resource not in resources and not of_a_dag(resource):
                    yield "{0} has {1}, which is no resource of this Airflow.{2}".format(
                        path, resource, did_you_mean(resource, resources))
                if action not in actions:
                    yield "{0}.{1} has {2}, which is no action. Valid are {3}.".format(
                        path, resource, action, ", ".join(sorted(actions)))


def absent_dags(reader: Reader, declared: Objects) -> list[str]:
    names = sorted(declared.get("dag_state", {}))
    there = dict(reader.dag_state(names, {})) if names else {}
    return [name for name in names if name not in there]


def wait_for_dags(reader: Reader, declared: Objects, timeout: int) -> None:
    """A DAG is known once its file was read by the DAG processor (the scheduler in Airflow 2)."""
    end = time.monotonic() + timeout
    while True:
        absent = absent_dags(reader, declared)
        if not absent:
            return
        if time.monotonic() > end:
            known = [name for (name,) in reader.rows("SELECT dag_id FROM dag")]
            raise Refused([
                "airflow_dag_state.{0}: Airflow knows no DAG of this name after {1} s.{2} A file that can't be "
                "imported brings none: "
                "airflow dags list-import-errors".format(name, timeout, did_you_mean(name, known)) for name in absent
            ])
        time.sleep(1)


def without_uris(connections: dict[str, Fields]) -> tuple[dict[str, Fields], list[str]]:
    """Connections declared by URI get the fields that this Airflow reads from it; return them and what it can't read.
    """
    if not any(fields.get("uri") and objects.present(fields) for fields in connections.values()):
        return connections, []
    from airflow.models.connection import Connection

    found, wrong = {}, []
    for name, fields in connections.items():
        if fields.get("uri") and objects.present(fields):
            try:
                made = Connection(uri=fields["uri"])
            except Exception as error:
                # Airflow 2 repeats the URI in its message.
                wrong.append("airflow_connections.{0}.uri: Airflow can't read it ({1}).".format(
                    name,
                    type(error).__name__))
                continue
            fields = {
                field: getattr(made, field)
                for field in ("conn_type", "host", "login", "password", "schema", "port", "extra")
            }
            wrong += [
                "airflow_connections.{0}.uri: its part{1}".format(name, text)
                for text in objects.length_problems("connections", fields)
            ]
            fields["description"] = connections[name].get("description")
        found[name] = fields
    return found, wrong


# ---- write -----------------------------------------------------------------------------------------------------------


def write(changes: list[Change], record: Any, hashes: Any) -> None:
    """One transaction, with Airflow's own tables and encryption. hashes is the future of what hashed_passwords()
    returns.
    """
    from airflow.models.variable import Variable
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    writers: dict[str, Callable[[Any, Change], None]] = {**WRITERS, "users": partial(write_user, hashes)}
    with Session(create_engine(secret("sql_alchemy_conn"))) as session, session.begin():
        for item in changes:
            writers[item["kind"]](session, item)
        if record is not None:
            # Names are no secret, and in clear they outlive every Fernet key.
            put(session, Variable, "key", {"name": objects.RECORD, "action": "update"}, {
                "val": json.dumps(record),
                "is_encrypted": False,
                "description": "Names of the objects that Ansible made here, so that it removes no others.",
            })


def put(session: Any, model: Any, key: str, item: Change, values: Fields) -> None:
    """Insert, update or delete one row. Without loading it: Airflow can't load a row that it can't decrypt."""
    table = model.__table__
    here = table.c[key] == item["name"]
    if item["action"] == "delete":
        session.execute(table.delete().where(here))
    elif item["action"] == "create" or not session.execute(table.update().where(here).values(**values)).rowcount:
        session.execute(table.insert().values(**{key: item["name"]}, **values))


def encrypted(value: str | None) -> tuple[str | None, bool]:
    """What Airflow stores for a secret, and whether that is encrypted. Not by its Connection, which makes its log
    filter anew for each secret.
    """
    from airflow.models.crypto import get_fernet

    fernet = get_fernet()
    return (None, False) if value is None else (fernet.encrypt(value.encode()).decode(), fernet.is_encrypted)


def write_connection(session: Any, item: Change) -> None:
    from airflow.models.connection import Connection

    values = dict(item["after"])
    if "password" in values:
        values["password"], values["is_encrypted"] = encrypted(values["password"])
    if "extra" in values:
        values["extra"], values["is_extra_encrypted"] = encrypted(values["extra"])
    put(session, Connection, "conn_id", item, values)


def write_variable(session: Any, item: Change) -> None:
    from airflow.models.variable import Variable

    values = dict(item["after"])
    if "value" in values:
        values["val"], values["is_encrypted"] = encrypted(values.pop("value"))
    put(session, Variable, "key", item, values)


def write_pool(session: Any, item: Change) -> None:
    from airflow.models.pool import Pool

    put(session, Pool, "pool", item, item["after"])


def write_role(session: Any, item: Change) -> None:
    from airflow.providers.fab.auth_manager.models import Action, Permission, Resource, Role

    role = session.query(Role).filter_by(name=item["name"]).one_or_none()
    if item["action"] == "delete":
        session.delete(role)
        return
    if role is None:
        role = Role(name=item["name"])
        session.add(role)

    def one(model: Any, **values: Any) -> Any:
        found = session.query(model).filter_by(**values).one_or_none()
        if found is None:
            found = model(**values)
            session.add(found)
            session.flush()
        return found

    wanted = [text.split(" on ", 1) for text in item["after"]["permissions"]]
    left_alone = [
        p
        for p in role.permissions
        if of_a_dag(p.resource.name) and p.resource.name not in {resource for _action, resource in wanted}
    ]
    role.permissions = left_alone + [
        one(Permission, action_id=one(Action, name=action).id, resource_id=one(Resource, name=resource).id)
        for action, resource in wanted
    ]
    session.flush()


def write_user(hashes: Any, session: Any, item: Change) -> None:
    from airflow.providers.fab.auth_manager.models import Role, User

    user = session.query(User).filter_by(username=item["name"]).one_or_none()
    if item["action"] == "delete":
        session.delete(user)
        return
    if user is None:
        user = User(username=item["name"])
    for field, value in item["after"].items():
        if field == "roles":
            user.roles = session.query(Role).filter(Role.name.in_(value)).all()
        else:
            setattr(user, field, hashes.result()[item["name"]] if field == "password" else value)
    session.add(user)
    session.flush()


def write_dag_state(session: Any, item: Change) -> None:
    from airflow.models.dag import DagModel

    session.execute(DagModel.__table__.update().where(DagModel.__table__.c.dag_id == item["name"]).values(
        is_paused=item["after"]["paused"]))


WRITERS = {
    "connections": write_connection,
    "variables": write_variable,
    "pools": write_pool,
    "roles": write_role,
    "dag_state": write_dag_state,
}


# ---- all of it -------------------------------------------------------------------------------------------------------


def apply(reader: Reader, request: dict[str, Any]) -> list[Change]:
    """Bring the database to what the request declares, or only say what that would change."""
    declared, check = dict(request["declared"]), request["check"]
    if not reader.has("connection"):
        if check:
            # The migration, which a real run does before, is still to come.
            return objects.plan(declared, {}, {}, False)
        raise Refused(["The metadata database has no schema yet. Run playbooks/airflow.yml first."])
    kept_elsewhere = [] if reader.has("ab_user") else [kind for kind in ("users", "roles") if declared.get(kind)]
    if kept_elsewhere:
        raise Refused([
            "airflow_{0}: [core] auth_manager keeps no users in the database. Only the FAB auth manager does.".format(
                kind) for kind in kept_elsewhere
        ])

    if not check:
        reader.lock()
        wait_for_dags(reader, declared, request["timeout"])
    made = reader.made()
    with ThreadPoolExecutor() as threads:
        # Airflow is loaded while passwords are compared and hashed: seconds of one core, beside those of another.
        reading = threads.submit(reader.read, declared, made)
        hashes = None if check else threads.submit(
            lambda: hashed_passwords(declared.get("users", {}), reading.result()))
        declared["connections"], unreadable = without_uris(declared.get("connections", {}))
        current = reading.result()
        changes = objects.plan(declared, current, made, request["purge"])
        wrong = [*request["problems"], *unreadable, *refusals(reader, changes, request["types"], request["role_names"])]
        if wrong:
            raise Refused(wrong)
        record = objects.remembered(made, current, changes)
        if (changes or record != made) and not check:
            write(changes, record if record != made else None, hashes)
    return changes


def only_import_airflow() -> None:
    """Airflow as a library does not prepare for running tasks, which takes it two seconds, nor for logging: here it has
    nothing to log, secrets least.

    Airflow 2 reads no URI without its logging.
    """
    if version("apache-airflow").startswith("2."):
        return
    import structlog

    os.environ["_AIRFLOW__AS_LIBRARY"] = "1"
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main() -> None:
    # This process lives for a second or two. Looking for garbage while Airflow is loaded, and in all of it when Python
    # ends, would be a quarter of that.
    gc.disable()
    # Airflow logs to standard output, which is for the answer alone.
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    try:
        reader = Reader(secret("sql_alchemy_conn"), secret("fernet_key"))
        only_import_airflow()
        if request.get("question") == "dags":
            answer: dict[str, Any] = {"dags": list(reader.dags())}
        elif request.get("question") == "waiting":
            answer = {"tasks": list(reader.waiting()), "scheduler_silent": reader.scheduler_silent()}
        else:
            changes = apply(reader, request)
            answer = {"changes": objects.told(changes), "diff": objects.diff(changes)}
    except Refused as refused:
        answer = {"problems": refused.args[0]}
    except Exception as error:
        # SQLAlchemy's text holds the parameters of the statement, so only the driver's first line is told.
        text = str(getattr(error, "orig", None) or error).splitlines() or [""]
        where = traceback.extract_tb(error.__traceback__)[-1]
        answer = {
            "error": "{0}: {1} ({2}, line {3})".format(
                type(error).__name__, text[0], os.path.basename(where.filename), where.lineno)
        }
    json.dump(answer, answer_to)
    answer_to.close()
    gc.freeze()


if __name__ == "__main__":
    main()
