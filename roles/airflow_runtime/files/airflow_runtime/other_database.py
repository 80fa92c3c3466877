"""Print what would be lost out of sight if Airflow used another database. Standard input: the URLs of now and of then.

Prints nothing if the other database has a schema of Airflow, or the one of now has no data.
"""

from __future__ import annotations

import json
import sys

import psycopg2

from airflow_runtime import metadata


def filled(url: str, *tables: str) -> bool:
    """Return whether one of the tables has a row."""
    connection = metadata.connect("airflow-installer", url, connect_timeout=10)
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
            if cursor.fetchone()[0]:
                cursor.execute(f"SELECT 1 FROM {table} LIMIT 1")
                if cursor.fetchone():
                    return True
    return False


def left_behind(held: str, wanted: str) -> str:
    """Return what would be lost, or nothing."""
    try:
        if filled(wanted, "alembic_version"):
            return ""
    except psycopg2.OperationalError:
        # Its server may not be installed yet.
        pass
    try:
        return "holds data" if filled(held, "dag_run", "connection", "variable") else ""
    except psycopg2.OperationalError as error:
        return f"cannot be asked ({' '.join(str(error).split())})"


if __name__ == "__main__":
    print(left_behind(*json.load(sys.stdin)))
