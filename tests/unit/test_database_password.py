"""Module database_password: a role gives itself the password that the new URL holds, or nothing is changed."""

import io
import sys

import psycopg2
import pytest
from airflow_runtime import database_password

URL = "postgresql+psycopg2://airflow:{0}@db:5432/airflow"


class Server:
    """A server with one role. Its password changes when a transaction is committed."""

    def __init__(self):
        self.password, self.pending, self.said, self.takes_it = "old", None, [], True

    def connect(self, url, **options):
        assert 0 < options["connect_timeout"] <= 30
        if f":{self.password}@db:5432/airflow" not in url:
            raise psycopg2.OperationalError("password authentication failed")
        return self

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def execute(self, statement):
        text, verifier = statement.seq
        self.said.append((text.string, verifier.wrapped))
        self.pending = verifier.wrapped.removeprefix("verifier of ")

    def commit(self):
        self.said.append("commit")
        self.password = self.pending if self.takes_it else "another"

    def rollback(self):
        self.said.append("rollback")


@pytest.fixture
def server(monkeypatch):
    made = Server()
    monkeypatch.setattr(psycopg2, "connect", made.connect)
    # The real one asks the server which method it uses.
    monkeypatch.setattr(database_password, "encrypt_password",
                        lambda password, user, _connection: f"verifier of {password}")
    return made


@pytest.fixture
def ask(server, monkeypatch, tmp_path):
    """ask("try", held, wanted): the answer of the program."""
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "airflow.cfg"))

    def run(question, held, wanted):
        (tmp_path / "secrets/sql_alchemy_conn").write_text(held, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["database_password", question])
        monkeypatch.setattr(sys, "stdin", io.StringIO(wanted))
        return database_password.main()

    return run


ALTER = "ALTER ROLE CURRENT_USER PASSWORD "


def test_a_try_changes_nothing(server, ask):
    assert ask("try", URL.format("old"), URL.format("new")) == "possible"
    # The server is given what it keeps, and never the password itself, which its log would hold.
    assert server.said == [(ALTER, "verifier of new"), "rollback"] and server.password == "old"


def test_a_change_is_committed_and_proven(server, ask):
    assert ask("change", URL.format("old"), URL.format("new")) == "changed"
    assert server.said == [(ALTER, "verifier of new"), "commit"] and server.password == "new"
    assert ask("change", URL.format("old"), URL.format("new")) == "in place"
    assert len(server.said) == 2


def test_a_password_that_does_not_sign_in_afterwards_is_told(server, ask):
    server.takes_it = False
    with pytest.raises(SystemExit, match="The server took the new password and does not accept it"):
        ask("change", URL.format("old"), URL.format("new"))


@pytest.mark.parametrize("question", ["try", "change"])
def test_a_server_that_takes_neither_password_is_left_alone(server, ask, question):
    with pytest.raises(SystemExit, match="neither the new password .* nor the one that the hosts hold"):
        ask(question, URL.format("lost"), URL.format("new"))
    assert server.said == []


@pytest.mark.parametrize("wanted", [
    URL.format("new").replace("db:", "other:"), URL.format("new").replace("5432", "6432"),
    URL.format("new").replace("/airflow", "/other"),
    URL.format("new").replace("airflow:", "jane:"),
])
def test_only_the_password_may_differ(server, ask, wanted):
    with pytest.raises(SystemExit, match="only the password may differ"):
        ask("change", URL.format("old"), wanted)
    assert server.said == []
