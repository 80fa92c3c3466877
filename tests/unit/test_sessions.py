"""sessions.sql: which sessions of the database may write into it. A real PostgreSQL answers."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUESTION = (ROOT / "roles/airflow_common/files/sessions.sql").read_text(encoding="utf-8")
# Airflow's role is app. The database belongs to the role that made it, as on RDS.
ROLES = """
    CREATE ROLE app LOGIN;
    CREATE ROLE creator LOGIN;
    CREATE ROLE inserts LOGIN;
    CREATE ROLE updates_a_column LOGIN;
    CREATE ROLE deletes LOGIN;
    CREATE ROLE may_become_app LOGIN NOINHERIT IN ROLE app;
    CREATE ROLE may_become_inserts LOGIN NOINHERIT IN ROLE inserts;
    CREATE ROLE creates_roles LOGIN CREATEROLE;
    CREATE ROLE root LOGIN SUPERUSER;
    CREATE ROLE reads LOGIN IN ROLE pg_monitor;
    CREATE ROLE reads_and_has_tables_of_its_own LOGIN;
"""
TABLES = """
    SET ROLE app;
    CREATE TABLE public.alembic_version (version_num text);
    CREATE TABLE public.variable (key text, val text);
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO reads, reads_and_has_tables_of_its_own;
    GRANT INSERT ON variable TO inserts;
    GRANT UPDATE (val) ON variable TO updates_a_column;
    GRANT DELETE ON variable TO deletes;
    RESET ROLE;
    CREATE SCHEMA monitor AUTHORIZATION reads_and_has_tables_of_its_own;
    CREATE TABLE monitor.samples (at text);
    ALTER TABLE monitor.samples OWNER TO reads_and_has_tables_of_its_own;
"""
# They change nothing, whatever they do.
READERS = {"reads", "reads_and_has_tables_of_its_own"}


@pytest.fixture(scope="module")
def connect(postgresql_server):
    """connect(role): a session in Airflow's database, until the test ends."""
    import psycopg2

    opened = []

    def session(role, database="sessions_of_test"):
        url = postgresql_server.replace("+psycopg2", "").replace("airflow@/postgres", f"{role}@/{database}")
        connection = psycopg2.connect(url, application_name=f"of {role}")
        connection.autocommit = True
        opened.append(connection)
        return connection

    server = session("airflow", "postgres").cursor()
    names = [line.split()[2] for line in ROLES.strip().splitlines()]
    try:
        for statement in ROLES.strip().split(";")[:-1]:
            server.execute(statement)
        server.execute("CREATE DATABASE sessions_of_test OWNER creator")
        session("airflow").cursor().execute("GRANT CREATE ON SCHEMA public TO app;" + TABLES)
        opened.pop().close()
        yield session
    finally:
        for connection in opened[1:]:
            connection.close()
        server.execute("DROP DATABASE IF EXISTS sessions_of_test WITH (FORCE)")
        for name in names[::-1]:
            server.execute(f"DROP ROLE IF EXISTS {name}")
        opened[0].close()


@pytest.fixture(scope="module")
def told(connect):
    """Return {role: (program, address, kind)} of one session of each role, and the version of the server."""
    names = [line.split()[2] for line in ROLES.strip().splitlines()]
    sessions = [connect(name) for name in names]
    connect("app").cursor().execute("SET application_name = 'airflow-hold'")
    # This one is that of module left, which runs on several hosts at the same time.
    asking = connect("app").cursor()
    asking.execute("SET application_name = 'airflow-left'")
    asking.execute(QUESTION)
    rows = asking.fetchall()
    pids = {connection.info.backend_pid for connection in sessions}
    assert {row[0] for row in rows} <= pids
    return {role: tuple(rest) for _pid, role, *rest in rows}, sessions[0].server_version


def test_each_role_that_may_write_counts_and_no_role_that_only_reads(told):
    found, version = told
    everybody = {line.split()[2] for line in ROLES.strip().splitlines()}
    # Since PostgreSQL 16 it can give itself the roles only that it has made.
    harmless = {"creates_roles"} if version >= 160000 else set()
    assert set(found) == everybody - READERS - harmless


def test_the_kind_of_a_role_is_told(told):
    found, _version = told
    kinds = {role: kind for role, (_program, _address, kind) in found.items()}
    assert kinds.pop("app") == "own" and kinds.pop("root") == "superuser"
    assert set(kinds.values()) == {"other"} and "may_become_app" in kinds


def test_an_address_that_postgresql_hides_is_no_socket(told):
    found, _version = told
    assert found["app"][:2] == ("of app", "") and found["inserts"][:2] == ("of inserts", "?")


def test_a_role_that_reads_statistics_sees_the_addresses(connect):
    superuser = connect("root").cursor()
    superuser.execute("GRANT pg_read_all_stats TO app")
    try:
        kept = connect("inserts")
        asking = connect("app").cursor()
        asking.execute(QUESTION)
        assert {row[3] for row in asking.fetchall() if row[0] == kept.info.backend_pid} == {""}
    finally:
        superuser.execute("REVOKE pg_read_all_stats FROM app")


def test_a_database_without_airflows_tables_is_told_too(connect):
    """Before the first migration nobody but Airflow's role and those who rule the server or the database can write."""
    kept = [connect(name, "postgres") for name in ("app", "inserts", "root")]
    asking = connect("app", "postgres").cursor()
    asking.execute(QUESTION)
    pids = {connection.info.backend_pid: connection.info.user for connection in kept}
    assert {pids[row[0]] for row in asking.fetchall() if row[0] in pids} == {"app", "root"}
