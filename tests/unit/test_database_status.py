"""Module database: it tells values that no Fernet key of the host opens."""

import base64
import json

import psycopg2
import pytest
from airflow_runtime import database
from cryptography.fernet import Fernet

# The same in each process of the tests, which compare the names of what they run.
OWN, OLD, LOST = (base64.urlsafe_b64encode(name.encode() * 8).decode() for name in ("mine", "past", "lost"))
COLUMNS = [
    {"table": "never_there", "column": "password", "where": "true"},
    # In a schema of before 2.9 it is JSON.
    {"table": "trigger", "column": "kwargs", "where": "left(kwargs, 1) <> '{'"},
    {"table": "connection", "column": "password", "where": "is_encrypted"},
    {"table": "variable", "column": "val", "where": "is_encrypted"},
]


@pytest.fixture
def locked(postgresql, tmp_path, monkeypatch):
    """locked(OWN): how many values are locked, of these in table connection, with the key or keys of the host."""
    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "airflow.cfg"))
    (tmp_path / "secrets").mkdir()

    def ask(keys, *values):
        (tmp_path / "secrets/fernet_key").write_text(keys, encoding="utf-8")
        connection = psycopg2.connect(postgresql.replace("postgresql+psycopg2://", "postgresql://", 1))
        try:
            with connection.cursor() as cursor:
                for table in (
                    "connection (password text, is_encrypted bool)",
                    "variable (val text, is_encrypted bool)",
                    "trigger (kwargs json)",
                ):
                    cursor.execute(f"CREATE TABLE {table}")
                for key, text in values:
                    value = Fernet(key).encrypt(text.encode()).decode() if key else text
                    cursor.execute("INSERT INTO connection VALUES (%s, %s)", (value, bool(key)))
            return database.locked(connection, COLUMNS)
        finally:
            connection.close()

    return ask


@pytest.mark.parametrize(
    ("keys", "values", "number"),
    [
        (OWN, [], 0),
        (OWN, [("", "in clear text")], 0),
        (OWN, [(OWN, "a"), (OWN, "b")], 0),
        (f"{OWN},{OLD}", [(OLD, "a")], 0),
        (OWN, [(OLD, "a"), (LOST, "b"), ("", "in clear text")], 2),
        # Some are lost: the health check names them. The key is the right one.
        (OWN, [(LOST, "a"), (OWN, "b")], 0),
    ],
)
def test_values_are_locked_if_no_key_opens_one_of_them(locked, keys, values, number):
    assert locked(keys, *values) == number


@pytest.mark.parametrize("table", ["", "dag_run", "connection", "variable"])
def test_a_database_holds_data_if_a_table_of_work_has_a_row(postgresql, monkeypatch, capsys, table):
    """Tables that a schema brings filled, such as slot_pool, say nothing."""
    url = postgresql.replace("postgresql+psycopg2://", "postgresql://", 1)
    # A schema of its own: the server is another test's too.
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA of_data")
        for name in ("connection", "variable", "slot_pool", *([table] if table == "dag_run" else [])):
            cursor.execute(f"CREATE TABLE of_data.{name} (id int)")
            if name in (table, "slot_pool"):
                cursor.execute(f"INSERT INTO of_data.{name} VALUES (1)")
    monkeypatch.setattr(database, "connect", lambda _timeout: psycopg2.connect(url, options="-c search_path=of_data"))
    try:
        database.status("admin", "0", "[]")
    finally:
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA of_data CASCADE")
    assert json.loads(capsys.readouterr().out)["data"] is bool(table)
