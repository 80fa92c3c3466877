"""Redaction: what leaves the host has no secret in it, however it is written, and is still of use."""

import base64
import json
import urllib.parse

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_redact import (
    HIDDEN,
    Redaction,
    parts,
    values_in_database,
    values_of,
)

SECRET = "p@ss/wörd+with \"quotes\"=&%"
WRITTEN = {
    "plain": SECRET,
    "quoted": urllib.parse.quote(SECRET, safe=""),
    "quoted for a path": urllib.parse.quote(SECRET),
    "of a form": urllib.parse.quote_plus(SECRET),
    "json": json.dumps({"any": SECRET}),
    "repr": repr({"any": SECRET}),
    "hex": SECRET.encode().hex(),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 in an address": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    **{f"base64 behind {n} bytes": base64.b64encode(b"x" * n + SECRET.encode() + b"yz").decode() for n in range(4)},
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_a_known_value_goes_in_every_encoding(text):
    core = text[6:-6] if text.isalnum() or "/" in text or "=" in text else text
    said = Redaction({SECRET}).text(f"before {text} after")
    assert HIDDEN in said
    assert core not in said
    assert said.startswith("before ")
    assert said.endswith(" after")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('MARKED_TOKEN="abc"', f"MARKED_TOKEN={HIDDEN}"),
        ("smtp_password = abc", f"smtp_password = {HIDDEN}"),
        ('  "apiKey": "abc",', f'  "apiKey": {HIDDEN},'),
        ("SLACK_WEBHOOK_URL: https://example.com/T0/B0", f"SLACK_WEBHOOK_URL: {HIDDEN}"),
        ("sql_alchemy_conn = abc", f"sql_alchemy_conn = {HIDDEN}"),
        ("celery_broker = redis://me:abc@host/0", f"celery_broker = redis://{HIDDEN}@host/0"),
        ("broker = redis://:abc@host/0", f"broker = redis://{HIDDEN}@host/0"),
        # What is of use, and no secret.
        ("fernet_key_cmd = cat /etc/airflow/secrets/fernet_key", None),
        ("KeyringMode=private", None),
        ("secret_key =", None),
        ("cookie_secure = True", None),
        ("max_active_tasks_per_dag = 16", None),
        ("base_url = https://airflow.example.com:8443/path", None),
    ],
)
def test_settings_of_telling_names_lose_their_values(line, expected):
    assert Redaction(set()).settings(line) == (expected or line)


@pytest.mark.parametrize(
    "text",
    [
        "GET https://hooks.slack.com/services/T0/B0/abcdefgh",
        "Authorization: Bearer abcdefgh",
        "token eyJhbGciOiJIUzUxMiJ9.eyJhYmNkZWZnaCI6MX0.abcdefgh is expired",
        "connect(host=x, password=abcdefgh, port=1)",
        "postgresql://airflow:abcdefgh@127.0.0.1/airflow",
    ],
)
def test_what_looks_like_a_secret_goes_from_logs(text):
    assert "abcdefgh" not in Redaction(set()).text(text)


def test_ordinary_lines_stay_as_they_are():
    line = (
        "2026-01-31T12:00:00Z [info     ] DAG daily_report: 3 tasks in pool default_pool, run "
        "manual__2026-01-31T12:00:00+00:00 (token bucket full)"
    )
    assert Redaction({"another secret"}).text(line) == line


def test_a_secret_has_parts_that_are_secrets():
    assert set(parts("key-of-today,key-of-before")) == {"key-of-today,key-of-before", "key-of-today", "key-of-before"}
    assert {"p%40ss-word", "p@ss-word"} <= set(parts("postgresql+psycopg2://airflow:p%40ss-word@127.0.0.1/airflow"))
    assert "abcdefgh12345678" in parts("https://hooks.example.com/services/T0/B0/abcdefgh12345678")
    assert "airflow" not in parts("https://example.com/airflow") + parts("postgresql://127.0.0.1/airflow-of-the-site")
    assert set(parts('{"token": "hvs.abcdef", "host": "smtp.example.com", "secrets": [{"x": "other-one"}]}')) == {
        "hvs.abcdef", "other-one"
    }


def test_what_the_host_holds_is_known(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/fernet_key").write_text("first-of-two,second-of-two")
    (tmp_path /
     "environment").write_text('MY_TOKEN="abc-of-site"\nLANG="C.UTF-8"\nINDEX="https://me:of-index@example.com"\n')
    found = values_of(str(tmp_path / "secrets"), str(tmp_path / "environment"), str(tmp_path / "absent"))
    assert found == {"first-of-two,second-of-two", "first-of-two", "second-of-two", "abc-of-site", "of-index"}


def test_secrets_of_connections_and_variables_are_known_and_other_values_are_not():
    rows = [
        ["password", "warehouse", "of-connection"],
        ["extra", "warehouse", '{"api_token": "of-extra", "region": "eu-central-1"}'],
        ["extra", "broken", "no json"],
        ["variable", "slack_webhook", "of-variable"],
        ["variable", "region", "eu-central-1"],
    ]
    assert values_in_database(rows) == {"of-connection", "of-extra", "of-variable"}
