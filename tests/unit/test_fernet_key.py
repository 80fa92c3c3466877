"""The program that re-encrypts the database: all or nothing, and nothing that it can't read."""

import io
import json
import pathlib
import re
import sys

import pytest
from airflow_runtime import fernet_key
from cryptography.fernet import Fernet

OLD, NEW, LOST = (Fernet.generate_key().decode() for _unused in range(3))
COLUMNS = [
    {"table": "connection", "name": "conn_id", "column": "password", "where": "is_encrypted"},
    {"table": "variable", "name": "key", "column": "val", "where": "is_encrypted"},
    {"table": "not_in_this_version", "name": "id", "column": "password", "where": "true"},
]


def encrypted(key, text):
    return Fernet(key).encrypt(text.encode()).decode()


class Cursor:
    """As much of a database as the program asks: {table: {id: [name, value]}}."""

    def __init__(self, tables):
        self.tables, self.rows, self.statements = tables, [], []

    def execute(self, statement, arguments=()):
        self.statements.append(statement)
        if "to_regclass" in statement:
            self.rows = [(arguments[0] if arguments[0] in self.tables else None,)]
        elif statement.startswith("SELECT"):
            self.rows = [(row, *pair) for row, pair in self.tables[re.search(r"FROM (\w+)", statement)[1]].items()]
        else:
            self.tables[re.match(r"UPDATE (\w+)", statement)[1]][arguments[1]][1] = arguments[0]

    def fetchone(self):
        return self.rows[0]

    def fetchall(self):
        return self.rows


@pytest.fixture
def cursor():
    return Cursor({
        "connection": {1: ["warehouse", encrypted(OLD, "secret")], 2: ["lake", encrypted(NEW, "as new")]},
        "variable": {1: ["token", encrypted(OLD, "ü\n%")]},
    })


def clear(cursor, key):
    return {
        name: Fernet(key).decrypt(value.encode()).decode()
        for rows in cursor.tables.values()
        for name, value in rows.values()
    }


def test_all_is_encrypted_with_the_newest_key_and_says_what_it_said(cursor):
    fernet_key.rotate(cursor, COLUMNS, [NEW, OLD])
    assert clear(cursor, NEW) == {"warehouse": "secret", "lake": "as new", "token": "ü\n%"}


def test_what_has_the_newest_key_is_not_written_again(cursor):
    before = cursor.tables["connection"][2][1]
    fernet_key.rotate(cursor, COLUMNS, [NEW, OLD])
    assert cursor.tables["connection"][2][1] == before
    cursor.statements.clear()
    fernet_key.rotate(cursor, COLUMNS, [NEW, OLD])
    assert not [statement for statement in cursor.statements if statement.startswith("UPDATE")]


def test_rows_are_locked_before_they_are_changed(cursor):
    fernet_key.rotate(cursor, COLUMNS, [NEW, OLD])
    reads = [statement for statement in cursor.statements if "FROM connection" in statement]
    assert [statement.rstrip().endswith("FOR UPDATE") for statement in reads] == [True, False]


def test_a_value_of_a_lost_key_is_named_and_nothing_is_changed(cursor):
    cursor.tables["variable"][2] = ["forgotten", encrypted(LOST, "gone")]
    with pytest.raises(SystemExit) as refused:
        fernet_key.rotate(cursor, COLUMNS, [NEW, OLD])
    assert str(refused.value).startswith(
        "1 of the database can't be read with any of the keys: variable forgotten (val). Set them again")
    assert not [statement for statement in cursor.statements if statement.startswith("UPDATE")]


def test_a_value_that_did_not_become_what_it_was_is_noticed(cursor, monkeypatch):
    """Such as by a trigger of the database, or a mistake here."""
    monkeypatch.setattr(fernet_key.MultiFernet, "rotate", lambda _self, _value: encrypted(NEW, "other").encode())
    with pytest.raises(SystemExit, match="Nothing was changed.*warehouse"):
        fernet_key.rotate(cursor, COLUMNS, [NEW, OLD])


def test_a_trigger_that_encrypts_with_another_key_is_noticed(cursor):
    execute = cursor.execute

    def trigger(statement, arguments=()):
        execute(statement,
                (encrypted(LOST, "secret"), *arguments[1:]) if statement.startswith("UPDATE connection") else arguments)

    cursor.execute = trigger
    with pytest.raises(SystemExit, match=r"can't be read with the newest key alone: connection warehouse \(password\)"):
        fernet_key.rotate(cursor, COLUMNS, [NEW, OLD])


@pytest.fixture
def ask(cursor, monkeypatch, tmp_path, capsys):
    """ask("rotate", keys): run the program; it notes in cursor.statements how its transaction ended."""
    import psycopg2

    class Connection:
        def __enter__(self):
            return self

        def __exit__(self, kind, *_error):
            cursor.statements.append("ROLLBACK" if kind else "COMMIT")

        def cursor(self):
            return self.Cursor()

        class Cursor:
            def __enter__(self):
                return cursor

            def __exit__(self, *_error):
                pass

            def execute(self, statement):
                cursor.statements.append(statement)

    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/sql_alchemy_conn").write_text("postgresql+psycopg2://airflow@db/airflow", encoding="utf-8")
    monkeypatch.setenv("AIRFLOW_CONFIG", str(tmp_path / "airflow.cfg"))
    monkeypatch.setattr(psycopg2, "connect", lambda *_arguments, **_options: Connection())

    def run(question, *keys):
        monkeypatch.setattr(sys, "argv", ["fernet_key", question])
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"keys": ",".join(keys), "columns": COLUMNS})))
        fernet_key.main()
        return int(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("question", ["check", "rotate"])
def test_all_is_one_transaction_that_begins_with_the_lock_of_the_installer(cursor, ask, question):
    assert ask(question, NEW, OLD) == 3
    # The transaction is idle while Python encrypts, so the server must not limit it.
    assert cursor.statements[:2] == [
        "SET LOCAL idle_in_transaction_session_timeout = 0",
        "SELECT pg_advisory_xact_lock(hashtext('airflow-installer'))"
    ]
    assert [statement for statement in cursor.statements if statement in ("COMMIT", "ROLLBACK")
            ] == ["COMMIT"] and cursor.statements[-1] == "COMMIT"


def test_a_refused_rotation_is_rolled_back(cursor, ask):
    cursor.tables["variable"][2] = ["forgotten", encrypted(LOST, "gone")]
    with pytest.raises(SystemExit):
        ask("rotate", NEW, OLD)
    assert cursor.statements[-1] == "ROLLBACK"


def test_a_check_accepts_any_of_the_keys_and_a_proof_the_newest_only(ask):
    assert ask("check", NEW, OLD) == 3
    with pytest.raises(SystemExit, match="any of the keys"):
        ask("check", NEW)
    with pytest.raises(SystemExit, match="the newest key alone"):
        ask("prove", NEW, OLD)
    ask("rotate", NEW, OLD)
    assert ask("prove", NEW) == 3


@pytest.mark.parametrize(
    ("keys", "unreadable"), [([NEW, OLD], 0), ([OLD, NEW], 0), ([NEW], 2), ([OLD], 1), ([LOST], 3)]
)
def test_unreadable_values_are_counted(cursor, keys, unreadable):
    found = fernet_key.values(cursor, COLUMNS)
    every = fernet_key.MultiFernet([Fernet(key) for key in keys])
    assert sum(fernet_key.decrypted(every, value) is None for _name, value in found.values()) == unreadable


def test_values_are_counted_without_a_key(ask):
    assert ask("count") == 3


def test_a_database_that_does_not_answer_has_an_exit_code_of_its_own(ask, monkeypatch, capsys):
    import psycopg2

    def refuse(*_arguments, **_options):
        raise psycopg2.OperationalError("connection refused\n")

    monkeypatch.setattr(psycopg2, "connect", refuse)
    with pytest.raises(SystemExit) as ended:
        ask("check", NEW)
    assert ended.value.code == fernet_key.UNAVAILABLE == 69
    assert capsys.readouterr().err == "The metadata database cannot be asked: connection refused.\n"


SESSIONS = (pathlib.Path(__file__).resolve().parents[2] /
            "roles/airflow_common/files/sessions.sql").read_text(encoding="utf-8")
KNOWN = ["10.0.0.1", "127.0.0.1"]


def told(*rows):
    """What "strangers" makes of these rows of sessions.sql."""
    cursor = Cursor({})
    cursor.execute = lambda statement: cursor.statements.append(statement)
    cursor.rows = list(rows)
    found = fernet_key.strangers(cursor, SESSIONS, KNOWN)
    assert cursor.statements == [SESSIONS]
    return found


def test_a_session_from_an_address_of_no_host_is_a_stranger():
    number, others = told(
        (5, "airflow", "airflow-components", "10.0.0.1", "own"),
        (6, "airflow", "", "10.0.0.9", "own"),
        (7, "airflow", "psql", "", "own"),
        (8, "airflow", "", "127.0.0.1", "own"),
    )
    assert (number, others) == (4, ["session 6 of role airflow (no name) from 10.0.0.9"])


def test_a_session_of_another_role_that_writes_is_a_stranger_also_if_its_address_is_hidden():
    """As the Airflow of a second environment, whose role is a member of the owner's."""
    number, others = told(
        (6, "green", "airflow", "10.0.0.9", "other"),
        (7, "green", "airflow", "10.0.0.1", "other"),
        (8, "green", "", "?", "other"),
    )
    assert number == 3
    assert others == [
        "session 6 of role green (airflow) from 10.0.0.9",
        "session 8 of role green (no name) from an address that PostgreSQL hides from Airflow's role",
    ]


def test_a_superuser_who_stays_for_ever_holds_no_key():
    exporter, person = ((6, "postgres", "exporter", "?", "superuser"), (7, "postgres", "psql", "10.0.0.9", "superuser"))
    assert told(exporter, person) == (0, [])


def test_the_database_itself_is_asked_who_uses_it(postgresql):
    import psycopg2

    with psycopg2.connect(postgresql.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        assert set(fernet_key.addresses(cursor)) >= {"127.0.0.1", "::1"}
        number, others = fernet_key.strangers(cursor, SESSIONS, [])
    assert (number >= 1, others) == (True, [])
