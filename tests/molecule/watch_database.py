"""Watch the metadata database and Airflow's units: watch_database.py URL. One line of JSON for each sample, until the program is ended.

The URL is that of a role that only looks. A sample has the time in seconds, the schema, the sessions of Airflow, and the units of Airflow that run.
"""

import json
import subprocess
import sys
import time

import psycopg2

VERSION = "SELECT version_num FROM public.alembic_version"
COLUMNS = """
    SELECT md5(string_agg(one, ',' ORDER BY one)) FROM (SELECT concat(table_name, '.', column_name) AS one FROM information_schema.columns) AS every
"""
# The project's own programs have names that begin with "airflow-".
SESSIONS = """
    SELECT pid::text FROM pg_stat_activity
    WHERE datname = 'airflow' AND usename = 'airflow' AND backend_type = 'client backend' AND application_name NOT LIKE 'airflow-%'
"""
UNITS = ["systemctl", "list-units", "--plain", "--no-legend", "--state", "active,activating,deactivating", "airflow-*.service"]
# It reads the journal and no database.
APART = "airflow-component-logs.service"


def main(url):
    """Take five samples a second."""
    connection = psycopg2.connect(url, options="-c lock_timeout=100")
    connection.autocommit = True
    cursor = connection.cursor()

    def ask(question):
        try:
            cursor.execute(question)
        except psycopg2.Error as error:
            # The table is locked, or is not there at this moment.
            return [error.pgcode]
        return sorted(row[0] or "" for row in cursor.fetchall())

    while True:
        begin = time.monotonic()
        schema, sessions = [ask(VERSION), ask(COLUMNS)], ask(SESSIONS)
        units = [line.split()[0] for line in subprocess.run(UNITS, text=True, capture_output=True, check=True).stdout.splitlines()]
        print(json.dumps({"at": begin, "schema": schema, "sessions": sessions, "units": [unit for unit in units if unit != APART]}), flush=True)
        time.sleep(max(0.0, 0.2 - (time.monotonic() - begin)))


if __name__ == "__main__":
    main(sys.argv[1])
