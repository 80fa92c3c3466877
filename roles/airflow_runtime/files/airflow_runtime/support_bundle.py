"""What module airflow_support_bundle asks of the virtualenv and of the metadata database.

support_bundle packages             prints the packages of the virtualenv
support_bundle database CONFIG_DIR  prints sizes, counts and the state of the server
support_bundle secrets CONFIG_DIR   prints what has to be taken out of a bundle, as JSON: [[kind, name, value], ...]
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Callable

from airflow_runtime import metadata

# One statement after the other, each of which may fail alone.
QUERIES = {
    "server": "SELECT version(), now(), pg_postmaster_start_time(), "
              "pg_size_pretty(pg_database_size(current_database())) AS size",
    "schema": "SELECT version_num FROM alembic_version",
    "tables": "SELECT relname, n_live_tup, n_dead_tup, pg_size_pretty(pg_total_relation_size(relid)) AS size, "
              "last_autovacuum, last_autoanalyze "
    "FROM pg_stat_user_tables ORDER BY pg_total_relation_size(relid) DESC LIMIT 30",
    "sessions": "SELECT datname, usename, application_name, state, wait_event_type, count(*), max(now() - xact_start) "
                "AS longest_transaction "
    "FROM pg_stat_activity GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC",
    "waiting for locks": "SELECT l.locktype, l.relation::regclass, l.mode, count(*) FROM pg_locks l WHERE NOT granted "
                         "GROUP BY 1, 2, 3",
    "settings": "SELECT name, setting, unit, source FROM pg_settings WHERE source NOT IN ('default', 'override') AND "
                "name !~ 'conninfo|passphrase' ORDER BY 1",
    "components": "SELECT id, job_type, state, hostname, start_date, latest_heartbeat, now() - latest_heartbeat AS age "
                  "FROM job "
    "WHERE job_type IN ('SchedulerJob', 'TriggererJob', 'DagProcessorJob') ORDER BY latest_heartbeat DESC LIMIT 20",
    "task instances": "SELECT state, count(*), min(start_date) AS oldest FROM task_instance GROUP BY 1 ORDER BY 2 DESC",
    "DAG runs": "SELECT state, count(*), min(start_date) AS oldest FROM dag_run GROUP BY 1 ORDER BY 2 DESC",
    "failed in the last day": "SELECT dag_id, task_id, count(*), max(end_date) AS latest FROM task_instance "
    "WHERE state = 'failed' AND end_date > now() - interval '1 day' GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50",
    "DAGs": "SELECT is_paused, count(*) FROM dag GROUP BY 1",
    "pools": "SELECT pool, slots FROM slot_pool ORDER BY 1",
    "errors of DAG files": "SELECT filename, timestamp, right(stacktrace, 1500) AS stacktrace FROM import_error ORDER "
                           "BY 1 LIMIT 50",
}


def connect(config_dir: str) -> Any:
    """Return a connection that only reads."""
    connection = metadata.connect("airflow-support-bundle",
                                  metadata.url(config_dir),
                                  options="-c statement_timeout=8000")
    connection.set_session(readonly=True, autocommit=True)
    return connection


def database(config_dir: str) -> None:
    """Print the answers; neither connections nor variables nor XComs."""
    import psycopg2

    connection = connect(config_dir)
    for title, query in QUERIES.items():
        print("==", title)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                print(" | ".join(column.name for column in cursor.description))
                for row in cursor:
                    print(" | ".join("" if value is None else str(value) for value in row))
        except psycopg2.Error as error:
            print("failed:", str(error).strip().splitlines()[0])
        print()


def secrets(config_dir: str) -> None:
    """Print the passwords and extras of connections, and all variables. They go to the module, and nowhere else."""
    from cryptography.fernet import Fernet, MultiFernet

    keys = MultiFernet([Fernet(key) for key in Path(config_dir, "secrets/fernet_key").read_text().split(",")])
    found = []
    with connect(config_dir).cursor() as cursor:
        cursor.execute(
            "SELECT 'password', conn_id, password, is_encrypted FROM connection UNION ALL SELECT 'extra', conn_id, "
            "extra, is_extra_encrypted "
            "FROM connection UNION ALL SELECT 'variable', key, val, is_encrypted FROM variable")
        for kind, name, value, encrypted in cursor:
            try:
                found.append([kind, name, keys.decrypt(value.encode()).decode() if encrypted else value])
            except Exception:  # Nobody can read it, or there is none.
                pass
    json.dump([row for row in found if row[2]], sys.stdout)


def packages() -> None:
    """Print what is installed."""
    print("\n".join(sorted({f"{one.metadata['Name']}=={one.version}" for one in distributions()}, key=str.lower)))


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {"database": database, "secrets": secrets, "packages": packages}
    commands[sys.argv[1]](*sys.argv[2:])
