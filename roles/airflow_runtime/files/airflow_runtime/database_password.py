"""Give the database role of a URL the password that the URL holds: try or change. Query whether a host signs in: held.

Standard input is the new URL. Where it signs in already there is nothing to do. Otherwise the role signs in with the
URL that this host still holds, and changes its own password, as every role of PostgreSQL may: no superuser is needed,
so it works with an external server too.

try      does it in a transaction that is rolled back: it says whether it would work, and changes nothing
change   does it

held     says whether the URL that this host holds signs in; it needs no standard input

Prints "in place", "possible" or "changed".
"""

from __future__ import annotations

import sys
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password, parse_dsn

from airflow_runtime import database_connection, metadata


def connect(url: str) -> tuple[Any, str | None]:
    """Return (connection, None) or (None, why not)."""
    try:
        return metadata.connect("airflow-installer", url, connect_timeout=10), None
    except psycopg2.OperationalError as error:
        return None, str(error).strip()


def main() -> str:
    """Answer one question."""
    question = sys.argv[1]
    held = metadata.url()
    if question == "held":
        connection, why = connect(held)
        return "in place" if connection else sys.exit(why)
    wanted = database_connection.plain(sys.stdin.read())
    old, new = parse_dsn(held), parse_dsn(wanted)

    connection, why = connect(wanted)
    if connection and (question == "change" or wanted != held):
        return "in place"
    if not connection:
        connection, why_held = connect(held)
    if not connection:
        sys.exit(f"The database takes neither the new password ({why}) nor the one that the hosts hold ({why_held}).")
    if (old.get("user"), old.get("host"), old.get("port"), old.get("dbname")) != (
        new.get("user"),
        new.get("host"),
        new.get("port"),
        new.get("dbname"),
    ):
        sys.exit(
            f"The new address does not sign in ({why}), and only the password may differ from the one that the hosts "
            "hold: a role changes its own."
        )

    with connection.cursor() as cursor:
        # Made here, as the server keeps it, so that the password itself does not reach the server's log.
        verifier = encrypt_password(new["password"], new["user"], connection)
        cursor.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(sql.Literal(verifier)))
    if question == "try":
        connection.rollback()
        return "possible"
    connection.commit()
    connection, why = connect(wanted)
    if not connection:
        sys.exit(f"The server took the new password and does not accept it ({why}). Run the playbook again.")
    return "changed"


if __name__ == "__main__":
    print(main())
