"""Watch the metadata database and Airflow's units: watch_database.py URL RULES.

There is one line of JSON for each sample, until the program is told to end.

The last line has "ended", and repeats the last sample at the time of the end. Without this line, the program has died
or hung, and did not see the rest.

The URL is that of role "watcher", which only looks. RULES is the server's pg_hba.conf. A sample has the time in
seconds, the schema, the sessions of Airflow, the sessions of this project that have changed something in a transaction
that is still open, and the units of Airflow that run.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psycopg2

# As role postgresql writes them for a role that is declared: it takes any other rule for that of another application,
# and refuses the server.
RULES = """\
# Database airflow: its declared roles, with a password.
local "airflow" "watcher" scram-sha-256
host "airflow" "watcher" 127.0.0.1/32 scram-sha-256
"""
VERSION = "SELECT string_agg(version_num, ',') FROM public.alembic_version"
# One question, as a busy machine delays each answer. A restore makes all tables anew, so their numbers are part of the
# schema. The project's own programs have names that begin with "airflow-"; others see what these change when the
# transaction ends.
STATE = """
    SELECT ({}),
           (SELECT md5(string_agg(concat_ws('.', attrelid, attname, atttypid), ',' ORDER BY attrelid, attnum))
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid =
                relnamespace
            WHERE nspname = 'public' AND attnum > 0),
           array_agg(pid) FILTER (WHERE usename = 'airflow' AND application_name NOT LIKE 'airflow-%'),
           array_agg(pid) FILTER (WHERE application_name IN ('airflow-backup', 'airflow-installer') AND backend_xid IS
               NOT NULL)
    FROM pg_stat_activity WHERE datname = 'airflow' AND backend_type = 'client backend'
"""
# They read the journal and no database, or keep Airflow from starting.
APART = {"airflow-component-logs.service", "airflow-groom-logs.service", "airflow-hold.service"}


def connect(url, rules):
    """Return a connection, or nothing: PostgreSQL may restart, and a run of site.yml may have written the rules anew.
    """
    path = pathlib.Path(rules)
    written = path.read_text(encoding="utf-8")
    if RULES not in written:
        path.write_text(RULES + written, encoding="utf-8")
        subprocess.run(["runuser", "-u", "postgres", "--", "psql", "-qc", "SELECT pg_reload_conf()"],
                       cwd="/",
                       capture_output=True,
                       check=False)
    try:
        connection = psycopg2.connect(url, options="-c lock_timeout=100")
    except psycopg2.OperationalError:
        return None
    connection.autocommit = True
    return connection


def look(connection):
    """Return what the database tells."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(STATE.format(VERSION))
        except psycopg2.Error as error:
            # The table is locked, or is not there at this moment.
            cursor.execute(STATE.format(f"'{error.pgcode}'"))
        version, columns, sessions, writes = cursor.fetchone()
    return {"schema": [version, columns], "sessions": sessions or [], "writes": writes or []}


def services():
    """Return the directory with the control groups of all services, that of this program among them."""
    mounts = {"": "/sys/fs/cgroup", "name=systemd": "/sys/fs/cgroup/systemd"}
    lines = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    own = [pathlib.Path(mounts[kind] + path) for _number, kind, path in lines if kind in mounts]
    return next(path.parent for path in own if path.is_dir())


def units(directory):
    """Return the units that run, from the first process of a start to the last one of a stop.

    A unit that waits for its next start has no process and no control group. systemd itself would answer late: it tells
    nothing while it reads its files anew, as a run of site.yml makes it do.
    """
    return sorted(name for name in os.listdir(directory)
                  if name.startswith("airflow-") and name.endswith(".service") and name not in APART)


def main(url, rules):
    """Take five samples a second."""
    directory, told = services(), []
    while not (connection := connect(url, rules)):
        time.sleep(0.1)
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    while not told:
        begin = time.monotonic()
        try:
            sample = look(connection)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            # Nobody knows what happens now, so it is another schema than the one before.
            sample = {"schema": [], "sessions": [], "writes": []}
            connection = connect(url, rules) or connection
        sample["units"] = units(directory)
        print(json.dumps({"at": begin, **sample}), flush=True)
        time.sleep(max(0.0, 0.2 - (time.monotonic() - begin)))
    print(json.dumps({"at": time.monotonic(), **sample, "ended": True}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
