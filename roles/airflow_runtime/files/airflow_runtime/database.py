"""Tell what the metadata database lacks, or bring it up to date.

idle waits for the end of an update of any host.

unknown prints the revisions of the database that this Airflow does not know, one a line: an older Airflow does not know
those of a newer one. A database without a schema has none. Airflow's configuration is not read, because it is that of
the Airflow before.

status ADMIN TIMEOUT COLUMNS prints {"present": ..., "migrate": ..., "admin": ..., "locked": ..., "data": ...} as JSON
and changes nothing in the database: data: it holds a run, a connection or a variable; present: it holds a schema;
migrate: the schema is not the one that this Airflow expects;
admin: the user exists; locked: how many encrypted values there are, if the Fernet keys of this host open none of them.
COLUMNS says as JSON where encrypted values are: table, column and the condition of their rows.

status and idle exit with 75 ("not yet") while an update is at work.

begin ADMIN EMAIL runs `airflow db migrate` and, where the password on standard input is not empty, creates the
administrator if there is none of this name. One process does both, because importing Airflow takes seconds. It goes on
when begin has ended; wait waits for its end, and fails with its last words where it failed.

password ADMIN gives this user the password on standard input, and prints "changed" if the user had another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable

from airflow_runtime import metadata, settings

# A line of the log of an update that has not failed.
DONE = "The database is up to date."


def cache() -> tuple[Path, str]:
    """Return the file that keeps the expected heads, and the key that says what they hold for."""
    config = (settings.config_dir() / "airflow.cfg").read_bytes()
    return settings.home() / "expected-heads.json", hashlib.sha256(
        os.path.realpath(sys.prefix).encode() + config
    ).hexdigest()


def expected_heads() -> dict[str, list[str]]:
    """Return {version table: heads} that this Airflow wants. It is asked for them once for each virtualenv and
    configuration.
    """
    path, key = cache()
    try:
        kept = json.loads(path.read_text())
        if kept["key"] == key:
            known: dict[str, list[str]] = kept["heads"]
            return known
    except (OSError, ValueError, KeyError):
        pass

    from airflow.utils import db
    from alembic.script import ScriptDirectory

    heads = {"alembic_version": sorted(ScriptDirectory.from_config(db._get_alembic_config()).get_heads())}
    try:
        from airflow.utils.db_manager import RunDBManager
    except ImportError:  # Airflow before 3.0
        managers = []
    else:
        managers = [manager(session=None) for manager in RunDBManager()._managers]
    for manager in managers:
        heads[manager.version_table_name] = sorted(manager.get_script_object().get_heads())
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"key": key, "heads": heads}))
    new.replace(path)
    return heads


def connect(timeout: int) -> Any:
    """Return a connection to the metadata database, which may be starting."""
    import psycopg2

    end = time.monotonic() + timeout
    while True:
        try:
            return metadata.connect("airflow-installer")
        except psycopg2.OperationalError as error:
            if time.monotonic() > end or "starting up" not in str(error) and "refused" not in str(error):
                sys.exit(
                    f"The metadata database cannot be used: {error}Check the airflow_database_* variables of this "
                    "environment."
                )
            time.sleep(1)


def locked(connection: Any, columns: list[dict[str, str]]) -> int:
    """Return the number of encrypted values if no key opens one of them, else 0. At most 1000 of a column are tried."""
    import psycopg2

    values = []
    with connection.cursor() as cursor:
        for column in columns:
            # Not each version of the schema has each table, and in an older one a column may be of another type.
            cursor.execute("SELECT to_regclass(%s)", (column["table"],))
            if cursor.fetchone()[0] is None:
                continue
            cursor.execute("SAVEPOINT of_this_column")
            try:
                question = "SELECT {column} FROM {table} WHERE {where} AND {column} <> '' LIMIT 1000"
                cursor.execute(question.format(**column))
                values += [row[0] for row in cursor]
            except psycopg2.ProgrammingError:
                cursor.execute("ROLLBACK TO SAVEPOINT of_this_column")
    if not values:
        return 0
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    text = (settings.config_dir() / "secrets/fernet_key").read_text()
    keys = MultiFernet([Fernet(key) for key in text.split(",")])
    for value in values:
        try:
            keys.decrypt(value.encode())
        except InvalidToken:
            continue
        return 0
    return len(values)


def end_if_busy(cursor: Any) -> None:
    """Exit if a process updates the database, also on another host. It may be that of a run which was killed."""
    # Freed when this process ends.
    cursor.execute("SELECT pg_try_advisory_lock(hashtext('airflow-installer'))")
    if not cursor.fetchone()[0]:
        print("waits for an update of the database that an earlier run has begun")
        time.sleep(2)
        sys.exit(75)


def idle() -> None:
    """Exit with 0 if nobody updates the database."""
    with connect(0) as connection, connection.cursor() as cursor:
        end_if_busy(cursor)


def status(admin: str, timeout: str, columns: str) -> None:
    """Print what the database lacks."""
    with connect(int(timeout)) as connection, connection.cursor() as cursor:
        end_if_busy(cursor)

        def rows(table: str, column: str, condition: str = "true", *args: str) -> list[Any]:
            cursor.execute("SELECT to_regclass(%s)", (table,))
            if cursor.fetchone()[0] is None:
                return []
            cursor.execute(f"SELECT {column} FROM {table} WHERE {condition}", args)
            return sorted(row[0] for row in cursor)

        present = bool(rows("alembic_version", "version_num"))
        # A database without a schema needs no comparison, and so no import of Airflow.
        migrate = not present or any(rows(table, "version_num") != heads for table, heads in expected_heads().items())
        user = bool(rows("ab_user", "id", "username = %s", admin))
        closed = locked(connection, json.loads(columns))
        data = any(rows(table, "1", "true LIMIT 1") for table in ("dag_run", "connection", "variable"))
        found = {"present": present, "migrate": migrate, "admin": user, "locked": closed, "data": data}
        print(json.dumps(found))


def unknown() -> None:
    """Print the revisions that this Airflow does not know."""
    found = {}
    with connect(0) as connection, connection.cursor() as cursor:
        for table in ("alembic_version", "alembic_version_fab"):
            cursor.execute("SELECT to_regclass(%s)", (table,))
            if cursor.fetchone()[0] is not None:
                cursor.execute(f"SELECT version_num FROM {table}")
                found[table] = [row[0] for row in cursor]
    if not found:
        return
    os.environ["AIRFLOW_CONFIG"] = os.devnull
    # Airflow 2 logs to standard output.
    with contextlib.redirect_stdout(sys.stderr):
        from airflow.exceptions import AirflowOptionalProviderFeatureException
        from airflow.utils import db
        from alembic.script import ScriptDirectory

        scripts = {"alembic_version": ScriptDirectory.from_config(db._get_alembic_config())}
        # Users and roles have a schema of their own since Airflow 3.0. Which of them Airflow asks for is in its
        # configuration. The provider of an Airflow 2 refuses the import.
        with contextlib.suppress(ImportError, AirflowOptionalProviderFeatureException):
            from airflow.providers.fab.auth_manager.models.db import FABDBManager

            scripts[FABDBManager.version_table_name] = FABDBManager(session=None).get_script_object()
        strange = []
        for table, revisions in found.items():
            known = {revision.revision for revision in scripts[table].walk_revisions()} if table in scripts else set()
            strange += [revision for revision in revisions if revision not in known]
    print(*strange, sep="\n")


def keep_idle_transactions() -> None:
    """Let the connections of Airflow in this process wait in a transaction without limit.

    During a migration Airflow holds a lock of its own on a second connection, whose transaction is idle until the end.
    The server must not end that session. An option of the connection would be shorter, but PgBouncer refuses it.
    """
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    def connected(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
        cursor.close()
        # Without it, the rollback with which a pool takes a connection back would undo the setting.
        connection.commit()

    event.listen(Pool, "connect", connected)


def update(admin: str, email: str, password: str) -> None:
    """Migrate the schema and create the administrator."""
    # Held until this process ends: another host's is waited for.
    lock = connect(0)
    # In a transaction the session would be idle. The server would end it after idle_in_transaction_session_timeout,
    # and so free the lock during the migration.
    lock.autocommit = True
    # Airflow's own sessions in this process have the same name as the one of the lock.
    os.environ["PGAPPNAME"] = "airflow-installer"
    lock.cursor().execute("SELECT pg_advisory_lock(hashtext('airflow-installer'))")
    # No component starts meanwhile (`components reach`), also if the run that began this is gone. Without keepalives,
    # the server would hold both locks for two hours if this host loses its power.
    lock.cursor().execute(
        "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3")
    lock.cursor().execute("SELECT pg_advisory_lock_shared(hashtext('airflow-schema'))")
    keep_idle_transactions()
    from airflow.cli.cli_parser import get_parser

    arguments = get_parser().parse_args(["db", "migrate"])
    arguments.func(arguments)
    expected_heads()
    if password:
        from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

        with get_application_builder() as builder:
            manager = builder.sm
            if not manager.find_user(admin) and not manager.add_user(
                admin, admin, "", email, manager.find_role("Admin"), password
            ):
                sys.exit(f"Airflow refused to create the user {admin!r}: see the lines above.")


def open_log() -> int:
    """Return the log of the update, once no process is at it any more."""
    log = os.open(settings.home() / "database-update.log", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(log, fcntl.LOCK_EX)
    return log


def begin(admin: str, email: str) -> None:
    """Update in a process of its own, which holds the log until it ends."""
    password = sys.stdin.read()
    log = open_log()
    os.ftruncate(log, 0)
    if os.fork():
        return
    os.setsid()
    # Ansible removes the directory of the module, and the user of Airflow may not enter the home of the login.
    os.chdir("/")
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(file, number)
    update(admin, email, password)
    print(f"\n{DONE}")


def wait() -> None:
    """Wait for the end of the update."""
    with os.fdopen(open_log(), errors="replace") as file:
        said = file.read().splitlines()
    if DONE not in said:
        sys.exit("\n".join(["The database could not be brought up to date:", *said[-15:]]))


def password(admin: str) -> None:
    """Give the administrator the password on standard input."""
    from werkzeug.security import check_password_hash, generate_password_hash

    given = sys.stdin.read()
    with connect(0) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT password FROM ab_user WHERE username = %s", (admin,))
        found = cursor.fetchone()
        if found and not check_password_hash(found[0] or "", given):
            cursor.execute("UPDATE ab_user SET password = %s WHERE username = %s",
                           (generate_password_hash(given), admin))
            print("changed")


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "password": password, "idle": idle, "unknown": unknown, "status": status, "begin": begin, "wait": wait,
    }
    commands[sys.argv[1]](*sys.argv[2:])
