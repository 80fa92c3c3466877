# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""The part of module airflow_health that runs in the host's virtualenv: it asks the metadata database, read-only, and
never waits long.

It gets a request as JSON on standard input and answers with JSON on standard output. Airflow itself is not imported,
which would take seconds and does not work on a host whose Airflow is broken. Each question has its own transaction and
its own limit, so that a table that somebody has locked costs one answer, not all of them. No answer holds a secret: of
statements only the first words are told, of encrypted values only the names.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils import database_connection

# Seconds to connect and for all questions; milliseconds for a statement and for a lock.
CONNECT, ALL, STATEMENT, LOCK = 3, 4, 1500, 300
# Names in a list. Whoever has more of them has one problem, not fifty.
SOME = 20

# Tasks that hold a slot, the ones that nobody hears of first: since when, and for how long without a sign of life. The
# heartbeat is the task's own in Airflow 3, and that of its job in Airflow 2. Hosts write these times with their own
# clocks, so the host's clock (now) tells their age.
HELD = """
    SELECT ti.pool, ti.dag_id, ti.task_id, ti.run_id, ti.state,
           extract(epoch FROM to_timestamp(%(now)s) - CASE ti.state WHEN 'queued' THEN queued_dttm ELSE ti.start_date
             END)::float8 AS seconds,
           extract(epoch FROM to_timestamp(%(now)s) - CASE ti.state WHEN 'queued' THEN queued_dttm ELSE coalesce(
               (to_jsonb(ti) ->> 'last_heartbeat_at')::timestamptz, job.latest_heartbeat, ti.start_date) END)::float8 AS
                 silent
    FROM task_instance ti LEFT JOIN job ON job.id = (to_jsonb(ti) ->> 'job_id')::int"""

# What Airflow 2 and 3 have alike. Columns that only one of them has are read from the row as JSON.
QUESTIONS = {
    "clock": "SELECT extract(epoch FROM clock_timestamp())::float8 AS now",
    "server": """
        SELECT current_setting('server_version') AS version, current_setting('max_connections')::int AS max_connections,
               current_setting('superuser_reserved_connections')::int AS reserved,
               pg_database_size(current_database()) AS bytes, pg_is_in_recovery() AS standby,
               current_setting('default_transaction_read_only') = 'on' AS read_only""",
    # Of all databases of the server, which share its connections.
    "sessions": """
        SELECT usename AS user, coalesce(application_name, '') AS application, count(*) AS number
        FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid() GROUP BY 1, 2 ORDER BY 3 DESC""",
    "blocked": """
        SELECT waiting.pid, extract(epoch FROM now() - waiting.query_start)::float8 AS seconds, waiting.query,
               pg_blocking_pids(waiting.pid) AS by
        FROM pg_stat_activity waiting WHERE datname = current_database() AND wait_event_type = 'Lock' ORDER BY
          query_start LIMIT 20""",
    "blockers": """
        SELECT pid, usename AS user, coalesce(application_name, '') AS application, coalesce(host(client_addr), 'local')
          AS client, state, query,
               extract(epoch FROM now() - xact_start)::float8 AS seconds
        FROM pg_stat_activity WHERE pid IN (
            SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity WHERE datname = current_database() AND
              wait_event_type = 'Lock')""",
    "jobs": """
        SELECT id, job_type, hostname, extract(epoch FROM now() - latest_heartbeat)::float8 AS seconds
        FROM job WHERE state = 'running' AND job_type IN ('SchedulerJob', 'DagProcessorJob', 'TriggererJob')
        AND latest_heartbeat > now() - interval '7 days' ORDER BY latest_heartbeat DESC LIMIT 500""",
    # A task that waits for its scheduler has no time of its own in Airflow 2 but that of its last change.
    "tasks": """
        SELECT state, count(*) AS number, max(extract(epoch FROM now() - coalesce(
            CASE state WHEN 'running' THEN start_date WHEN 'queued' THEN queued_dttm END,
            (to_jsonb(ti) ->> 'scheduled_dttm')::timestamptz, updated_at)))::float8 AS seconds
        FROM task_instance ti WHERE state IN ('scheduled', 'queued', 'running', 'deferred', 'up_for_retry',
          'up_for_reschedule') GROUP BY 1""",
    "waiting": """
        SELECT ti.dag_id, ti.task_id, ti.run_id, ti.state, ti.pool, ti.queue, extract(epoch FROM now() - coalesce(
            CASE WHEN ti.state = 'queued' THEN queued_dttm END, (to_jsonb(ti) ->> 'scheduled_dttm')::timestamptz,
              ti.updated_at))::float8 AS seconds
        FROM task_instance ti JOIN dag_run run ON run.dag_id = ti.dag_id AND run.run_id = ti.run_id
        WHERE ti.state IN ('scheduled', 'queued') AND run.state = 'running' ORDER BY seconds DESC LIMIT 5""",
    "running": HELD + " WHERE ti.state = 'running' ORDER BY silent DESC NULLS LAST LIMIT 5",
    "failed": """
        SELECT count(*) AS number, array_to_json((array_agg(DISTINCT dag_id || '.' || task_id))[1:5]) AS tasks
        FROM task_instance WHERE state = 'failed' AND end_date > now() - interval '1 day'""",
    "pools": """
        SELECT pool.pool, pool.slots,
               coalesce(sum(ti.pool_slots) FILTER (WHERE ti.state IN ('queued', 'running', 'restarting')
                        OR ti.state = 'deferred' AND pool.include_deferred), 0)::int AS used,
               count(*) FILTER (WHERE ti.state = 'scheduled') AS waiting,
               max(extract(epoch FROM now() - coalesce((to_jsonb(ti) ->> 'scheduled_dttm')::timestamptz,
                 ti.updated_at)))
                   FILTER (WHERE ti.state = 'scheduled')::float8 AS seconds
        FROM slot_pool pool LEFT JOIN task_instance ti ON ti.pool = pool.pool AND ti.state IN ('scheduled', 'queued',
          'running', 'restarting', 'deferred')
        GROUP BY 1, 2, pool.include_deferred ORDER BY 1""",
    "holders": "SELECT * FROM (SELECT held.*, row_number() OVER (PARTITION BY pool ORDER BY silent DESC NULLS LAST) "
               "FROM ("
    + HELD + """
        WHERE ti.state IN ('running', 'queued')) held) ranked WHERE row_number <= 3""",
    "import_errors": """
        SELECT filename, stacktrace, extract(epoch FROM now() - timestamp)::float8 AS seconds FROM import_error ORDER BY
          timestamp DESC LIMIT 20""",
    "dags": """
        SELECT count(*) AS number, count(*) FILTER (WHERE is_paused) AS paused
        FROM dag WHERE coalesce((to_jsonb(dag) ->> 'is_active')::bool, NOT (to_jsonb(dag) ->> 'is_stale')::bool)""",
    # The last to be parsed first: a DAG that was removed long ago stays in the table.
    "stale": """
        SELECT dag_id, extract(epoch FROM now() - last_parsed_time)::float8 AS seconds,
               (SELECT count(*) FROM dag_run run
                WHERE run.dag_id = dag.dag_id AND run.state IN ('queued', 'running')) AS runs
        FROM dag WHERE NOT coalesce((to_jsonb(dag) ->> 'is_active')::bool, NOT (to_jsonb(dag) ->> 'is_stale')::bool)
        ORDER BY last_parsed_time DESC NULLS LAST, dag_id LIMIT 1000""",
    # Nobody gives it a run: the scheduler passes over the runs of a paused DAG.
    "paused": """
        SELECT dag.dag_id, count(*) AS runs, max(extract(epoch FROM now() - coalesce(run.queued_at,
          run.start_date)))::float8 AS seconds
        FROM dag JOIN dag_run run ON run.dag_id = dag.dag_id AND run.state IN ('queued', 'running') WHERE dag.is_paused
        GROUP BY 1 ORDER BY 2 DESC LIMIT 20""",
    "runs": "SELECT state, count(*) AS number FROM dag_run WHERE state IN ('queued', 'running') GROUP BY 1",
}

# About one DAG, and one of its tasks.
QUESTIONS_OF_A_DAG = {
    "dag": """
        SELECT dag_id, is_paused AS paused, fileloc, max_active_tasks, max_active_runs, extract(epoch FROM now() -
          last_parsed_time)::float8 AS parsed,
               coalesce((to_jsonb(dag) ->> 'is_active')::bool, NOT (to_jsonb(dag) ->> 'is_stale')::bool) AS active
        FROM dag WHERE dag_id = %(dag_id)s""",
    "known": "SELECT dag_id FROM dag ORDER BY dag_id LIMIT 500",
    "dag_runs": "SELECT state, count(*) AS number FROM dag_run WHERE dag_id = %(dag_id)s GROUP BY 1",
    "dag_tasks": "SELECT state, count(*) AS number FROM task_instance WHERE dag_id = %(dag_id)s AND state IN "
                 "('scheduled', 'queued', 'running') GROUP BY 1",
    "task": """
        SELECT task_id, run_id, map_index, state, pool, queue, try_number, hostname, extract(epoch FROM now() -
          updated_at)::float8 AS seconds
        FROM task_instance WHERE dag_id = %(dag_id)s AND task_id = %(task_id)s ORDER BY updated_at DESC LIMIT 1""",
}


def first_words(statement: str | None) -> str:
    """What a statement does and to which table; never its values."""
    parts = [
        part for part in (statement or "").split(";")
        if part.strip() and not re.match(r"(?i)\s*(begin|start|set)\b", part)
    ]
    words = re.sub(r"\s+", " ", parts[0] if parts else statement or "").strip()
    found = re.match(r"(?i)(select|delete|insert|update|lock|alter|create|drop|truncate|begin|commit|vacuum)\b", words)
    if not found:
        return words.split(" ")[0][:20]
    table = re.search(r"(?i)\b(?:from|into|update|table|lock|on) +(?:only +|table +|if +exists +)*([a-z_.\"]+)", words)
    return found.group(1).upper() + (" " + table.group(1) if table else "")


def last_line(stacktrace: str | None) -> str:
    """The line of a traceback that says what is wrong."""
    lines = [line.strip() for line in (stacktrace or "").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Timeout|Interrupt|Warning)\b", line)]
    return (errors or lines or [""])[-1][:300]


class Database:
    """A connection that only reads, and gives up soon."""

    def __init__(self, url: str) -> None:
        from psycopg2.extras import RealDictCursor

        self.cursor_factory = RealDictCursor
        self.connection = database_connection.connect("airflow-health", url, connect_timeout=CONNECT)
        self.connection.autocommit = True

    def rows(self, query: str, parameters: Any = None) -> list[dict[str, Any]]:
        """Return the rows as dictionaries. The limits end with the transaction, as PgBouncer needs it."""
        with self.connection.cursor(cursor_factory=self.cursor_factory) as cursor:
            cursor.execute("BEGIN READ ONLY")
            try:
                cursor.execute("SET LOCAL statement_timeout = {0}; SET LOCAL lock_timeout = {1}".format(
                    STATEMENT, LOCK))
                cursor.execute(query, parameters)
                return [dict(row) for row in cursor.fetchall()]
            finally:
                cursor.execute("ROLLBACK")

    def heads(self) -> dict[str, list[str]]:
        """Return {version table: revisions}."""
        tables = self.rows(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'alembic_version%' AND "
            "pg_table_is_visible(oid)"
        )
        return {
            row["relname"]: sorted(one["version_num"] for one in self.rows("SELECT version_num FROM " + row["relname"]))
            for row in tables
        }

    def unreadable(self, columns: list[dict[str, str]], keys: str) -> dict[str, Any]:
        """Return the names of some encrypted values, and of those that none of the keys opens."""
        from cryptography.fernet import Fernet, InvalidToken, MultiFernet

        try:
            fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",")])
        except ValueError as error:
            return {"unusable": str(error)}
        tried, wrong = 0, []
        for column in columns:
            found = self.rows("SELECT to_regclass(%(table)s) IS NOT NULL AS there", column)
            if not found[0]["there"]:
                continue
            for row in self.rows(
                    "SELECT {name} AS name, {column} AS value FROM {table} WHERE ({where}) AND {column} <> '' LIMIT "
                    "{some}"
                    .format(some=SOME, **column)):
                tried += 1
                try:
                    fernet.decrypt(row["value"].encode())
                except InvalidToken:
                    wrong.append("{0} {1}".format(column["table"], row["name"]))
        return {"tried": tried, "unreadable": sorted(set(wrong))[:SOME]}


def answered(question: Callable[[], Any]) -> Any:
    """Return what a question answers, or why it has no answer."""
    try:
        return question()
    except Exception as error:
        return {"error": (str(error).splitlines() or [type(error).__name__])[0]}


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Return all that the database says."""
    begun = time.monotonic()
    try:
        with open(request["url_file"], encoding="utf-8") as file:
            url = file.read()
    except OSError as error:
        return {"unusable": str(error)}
    try:
        database = Database(url)
    except ImportError as error:
        return {"unusable": "{0}: {1}".format(sys.executable, error)}
    except Exception as error:
        # The driver's text names host, port, user and database, and no password.
        return {"refused": " ".join(str(error).split())[:400]}
    found: dict[str, Any] = {"connected": round(time.monotonic() - begun, 3)}
    questions = {name: (query, {"now": time.time()}) for name, query in QUESTIONS.items()}
    if request.get("dag_id"):
        questions.update({name: (query, request) for name, query in QUESTIONS_OF_A_DAG.items()})
    for name, (query, parameters) in questions.items():
        if time.monotonic() - begun > ALL:
            found[name] = {"error": "not asked: the database took {0} s for the questions before".format(ALL)}
            continue
        found[name] = answered(partial(database.rows, query, parameters))
        if name == "clock":
            found["host_clock"] = time.time()
    found["heads"] = answered(database.heads)
    for rows in found.values():
        for row in rows if isinstance(rows, list) else []:
            if "query" in row:
                row["query"] = first_words(row["query"])
            if "stacktrace" in row:
                row["said"] = last_line(row.pop("stacktrace"))
    try:
        with open(request["key_file"], encoding="utf-8") as file:
            keys = file.read()
    except OSError as error:
        found["fernet"] = {"unusable": str(error)}
    else:
        found["fernet"] = answered(lambda: database.unreadable(request["encrypted"], keys))
    return found


# ---- AWS -------------------------------------------------------------------------------------------------------------


def ask_aws(request: dict[str, Any]) -> dict[str, Any]:
    """Return who this host is to AWS, with the environment of the components, and what it may not do there."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    quick = Config(connect_timeout=1, read_timeout=2, retries={"max_attempts": 1})
    session = boto3.Session()
    credentials = session.get_credentials()
    if credentials is None:
        return {"error": "no credentials: neither an instance profile nor AWS_* variables", "code": "NoCredentials"}
    found = {"source": credentials.method}
    try:
        found["arn"] = session.client("sts", region_name=session.region_name or "us-east-1",
                                      config=quick).get_caller_identity()["Arn"]
        if request.get("actions"):
            role = re.sub(r":sts:(.*):assumed-role/([^/]+)/.*", r":iam:\1:role/\2", found["arn"])
            answer = session.client("iam", config=quick).simulate_principal_policy(
                PolicySourceArn=role, ActionNames=request["actions"]
            )
            found["denied"] = [
                one["EvalActionName"] for one in answer["EvaluationResults"] if one["EvalDecision"] != "allowed"
            ]
    except ClientError as error:
        found.update(error=error.response["Error"].get("Message", ""),
                     code=error.response["Error"]["Code"],
                     operation=error.operation_name)
    except BotoCoreError as error:
        found.update(error=str(error), code=type(error).__name__)
    return found


def main() -> None:
    request = json.load(sys.stdin)
    answer = {"database": ask(request)}
    if request.get("aws"):
        answer["aws"] = answered(lambda: ask_aws(request))
    json.dump(answer, sys.stdout, default=str)
    sys.stdout.flush()
    # Not to wait for a connection that does not answer any more.
    os._exit(0)


if __name__ == "__main__":
    main()
