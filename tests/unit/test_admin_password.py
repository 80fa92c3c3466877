"""Module database: the administrator gets the password of the secrets, after a restore for one. By a real server."""

import contextlib
import io

import psycopg2
import pytest
from airflow_runtime import database
from werkzeug.security import check_password_hash, generate_password_hash


@pytest.fixture
def users(postgresql, tmp_path, monkeypatch):
    """users(statement): the answer. There are admin, who has a password of before, and ann."""
    url = postgresql.replace("postgresql+psycopg2://", "postgresql://", 1)

    def ask(statement, *values):
        with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "airflow.cfg"))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/sql_alchemy_conn").write_text(postgresql, encoding="utf-8")
    ask("DROP TABLE IF EXISTS ab_user; CREATE TABLE ab_user (id int, username text, password text)")
    for name in ("admin", "ann"):
        ask("INSERT INTO ab_user VALUES (1, %s, %s)", name, generate_password_hash(f"{name} before"))
    yield ask
    ask("DROP TABLE ab_user")


def give(monkeypatch, capsys, name, password):
    monkeypatch.setattr("sys.stdin", io.StringIO(password))
    database.password(name)
    return capsys.readouterr().out.strip()


def test_only_the_administrator_gets_the_password_and_only_if_it_is_another_one(users, monkeypatch, capsys):
    assert give(monkeypatch, capsys, "admin", "geheim") == "changed"
    assert give(monkeypatch, capsys, "admin", "geheim") == ""
    hashes = dict(users("SELECT username, password FROM ab_user"))
    assert check_password_hash(hashes["admin"], "geheim") and check_password_hash(hashes["ann"], "ann before")


def test_a_user_that_somebody_has_removed_is_not_made_again(users, monkeypatch, capsys):
    users("DELETE FROM ab_user WHERE username = 'admin'")
    assert give(monkeypatch, capsys, "admin", "geheim") == ""
    assert users("SELECT username FROM ab_user") == [("ann",)]
