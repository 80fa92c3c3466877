"""Print what would be lost out of sight if Airflow used another database. Standard input: the URLs of now and of then.

Prints nothing if the other database has a schema of Airflow, or the one of now has no data.
"""

import json
import sys

import psycopg2


def filled(url, *tables):
    """Return whether one of the tables has a row."""
    url = url.replace("postgresql+psycopg2://", "postgresql://", 1)
    connection = psycopg2.connect(url, connect_timeout=10, application_name="airflow-installer")
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
            if cursor.fetchone()[0]:
                cursor.execute(f"SELECT 1 FROM {table} LIMIT 1")
                if cursor.fetchone():
                    return True
    return False


held, wanted = json.load(sys.stdin)
try:
    if filled(wanted, "alembic_version"):
        sys.exit()
except psycopg2.OperationalError:
    # Its server may not be installed yet.
    pass
try:
    print("holds data" if filled(held, "dag_run", "connection", "variable") else "")
except psycopg2.OperationalError as error:
    print(f"cannot be asked ({' '.join(str(error).split())})")
