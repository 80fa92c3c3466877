"""Re-encrypt what the metadata database holds encrypted: count, check, addresses, strangers, rotate or prove.

Standard input is JSON: keys (Fernet keys, the newest first) and columns (table, name, column, where: which of its rows
are encrypted). For "strangers" it has also sessions (the text of sessions.sql, role airflow_common) and addresses
(those of all hosts). The answer is the number of values.

count    needs no keys
check    fails where a value can be read with none of the keys
addresses  prints the addresses of this host, one a line: the one that the database sees, and its own
strangers  fails where a session that may hold Airflow's key comes from another address than those of "addresses";
         prints how many such sessions there are
rotate   encrypts all values with the newest key, in one transaction, reads them back, and commits only if they are what
they were prove    fails where a value can't be read with the newest key alone

Airflow's own `airflow rotate-fernet-key` takes no lock, so it undoes what a person saves meanwhile; it proves nothing;
and it fails at a trigger that was never encrypted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from airflow_runtime import metadata

# The exit code for a database that does not answer (EX_UNAVAILABLE of sysexits.h).
UNAVAILABLE = 69


def decrypted(fernet: Any, value: str) -> bytes | None:
    """Return the clear text, or None where the key or keys can't read it."""
    try:
        text: bytes = fernet.decrypt(value.encode())
        return text
    except InvalidToken:
        return None


def connect() -> Any:
    """Return a connection that holds the lock of all that changes Airflow's objects from outside."""
    import psycopg2

    try:
        connection = metadata.connect("airflow-installer", connect_timeout=10)
    except psycopg2.OperationalError as error:
        print(f"The metadata database cannot be asked: {str(error).strip()}.", file=sys.stderr)
        sys.exit(UNAVAILABLE)
    cursor = connection.cursor()
    # The transaction is idle while Python encrypts. If the server ended it, others could save these values meanwhile.
    cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('airflow-installer'))")
    return connection


def addresses(cursor: Any) -> list[str]:
    """Return the addresses of this host. Behind a translation of addresses, the database sees another one than the
    host.
    """
    cursor.execute("SELECT coalesce(host(inet_client_addr()), '')")
    own = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False).stdout.split()
    return sorted({cursor.fetchone()[0], *own, "127.0.0.1", "::1"} - {""})


def strangers(cursor: Any, sessions: str, known: list[str]) -> tuple[int, list[str]]:
    """Return how many sessions may hold Airflow's key, and those from other hosts as text.

    A process that encrypts with the old key has a session of Airflow's own role, or of another role that may write:
    two Airflows of one database may have a role each. A superuser's session is that of a person, of a monitoring
    system or of a backup. It holds no key, and may be there for ever. A session over the socket has no address, and is
    of the server's own host. An address that PostgreSQL hides may be that of any host, so such a session counts as a
    stranger's.
    """
    cursor.execute(sessions)
    found = [row[:4] for row in cursor.fetchall() if row[4] != "superuser"]
    hidden = "an address that PostgreSQL hides from Airflow's role"
    return len(found), [
        f"session {pid} of role {role} ({name or 'no name'}) from {hidden if address == '?' else address}"
        for pid, role, name, address in found
        if address and address not in known
    ]


def values(cursor: Any, columns: list[dict[str, str]], lock: str = "") -> dict[tuple[str, str, Any], tuple[str, str]]:
    """Return {(table, column, id): (name, value)} of all encrypted values. Not each minor version has each table."""
    found = {}
    for column in columns:
        cursor.execute("SELECT to_regclass(%s)", (column["table"],))
        if cursor.fetchone()[0]:
            cursor.execute(
                "SELECT id, {name}, {column} FROM {table} WHERE {where} AND {column} <> '' {lock}".format(
                    **column, lock=lock
                )
            )
            found.update({(column["table"], column["column"], row): (name, value)
                          for row, name, value in cursor.fetchall()})
    return found


def refuse_unreadable(found: dict[tuple[str, str, Any], tuple[str, str]], fernet: Any, what: str) -> None:
    """Exit where a value can't be read, with the names of them all."""
    names = sorted({
        f"{table} {name} ({column})"
        for (table, column, _row), (name, value) in found.items() if decrypted(fernet, value) is None
    })
    if names:
        sys.exit(
            f"{len(names)} of the database can't be read with {what}: "
            f"{', '.join(names[:20])}{' and more' if len(names) > 20 else ''}. "
            "Set them again, delete them, or put the key that they need behind the others; then run this again.")


def rotate(cursor: Any, columns: list[dict[str, str]], keys: list[str]) -> None:
    """Encrypt with the newest key what is not, and prove that nothing else has changed. The caller commits."""
    newest, every = Fernet(keys[0]), MultiFernet([Fernet(key) for key in keys])
    # Whoever saves one of them meanwhile waits, and saves after.
    before = values(cursor, columns, "FOR UPDATE")
    refuse_unreadable(before, every, "any of the keys")
    for (table, column, row), (_name, value) in before.items():
        if decrypted(newest, value) is None:
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s",
                           (every.rotate(value.encode()).decode(), row))
    after = values(cursor, columns)
    refuse_unreadable(after, newest, "the newest key alone")
    changed = [
        name for place, (name, value) in before.items()
        if decrypted(newest, after[place][1]) != decrypted(every, value)
    ]
    if changed:
        sys.exit(f"Nothing was changed: these would not be what they were: {', '.join(map(str, changed))}.")


def main() -> None:
    """Answer one question."""
    question = sys.argv[1]
    request = json.load(sys.stdin)
    keys = request["keys"].split(",")
    with connect() as connection, connection.cursor() as cursor:
        if question == "addresses":
            print("\n".join(addresses(cursor)))
            return
        if question == "strangers":
            number, others = strangers(cursor, request["sessions"], request["addresses"])
            if others:
                sys.exit("; ".join(others))
            print(number)
            return
        if question == "rotate":
            rotate(cursor, request["columns"], keys)
        found = values(cursor, request["columns"])
        if question == "check":
            refuse_unreadable(found, MultiFernet([Fernet(key) for key in keys]), "any of the keys")
        elif question != "count":
            refuse_unreadable(found, Fernet(keys[0]), "the newest key alone")
    print(len(found))


if __name__ == "__main__":
    main()
