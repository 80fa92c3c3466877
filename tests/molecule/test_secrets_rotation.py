"""Secrets rotate while a DAG reads a connection and writes a variable every second, killed at each step, and none of
its tasks fails.
"""

import re
import time

import pytest
from airflow_api import Api
from cryptography.fernet import Fernet
from playbook import kill, play

DAG = '''
import time
from datetime import datetime
try:
    from airflow.sdk import DAG, Connection, Variable, task
except ImportError:
    from airflow.decorators import task
    from airflow.models import Connection, Variable
    from airflow.models.dag import DAG

    Connection.get = Connection.get_connection_from_secrets

with DAG("load", start_date=datetime(2024, 1, 1), schedule="@continuous", max_active_runs=1, catchup=False,
    default_args={{"retries": 0}}):

    @task
    def read():
        for number in range(3):
            Variable.set("beat", f"beat {{number}}")
            read = Connection.get("marked").password, Variable.get("beat"), Variable.get("marked_password")
            if read != ({connection!r}, f"beat {{number}}", {variable!r}):
                raise ValueError("read something else")
            with open("{log}", "a") as file:
                print(time.time(), file=file)
            time.sleep(1)

    read()
'''
SECRETS = ["fernet_key", "api_secret_key", "jwt_secret", "sql_alchemy_conn", "sql_alchemy_conn_async"]
# In place of what the inventory gives: the product makes these itself.
GENERATED = {"airflow_fernet_key": "", "airflow_api_secret_key": "", "airflow_jwt_secret": ""}


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def read(host, setting):
    """read("fernet_key"): a secret as the host holds it."""
    return lambda name: host.file(f"{setting('airflow_config_dir')}/secrets/{name}").content_string


@pytest.fixture(scope="module")
def stored(host):
    """What the database holds in place of passwords, extras and variables, but for the one that the load writes. Our
    own record is clear text.
    """
    query = (
        "SELECT password FROM connection UNION ALL SELECT extra FROM connection UNION ALL SELECT val FROM variable "
        "WHERE is_encrypted AND key <> $$beat$$"
    )
    return lambda: host.check_output(f"runuser -u postgres -- psql -d airflow -Atc '{query}'").split()


@pytest.fixture(scope="module", autouse=True)
def load(host, setting, api):
    """Runs from before the first rotation to after the last. Gives the times at which it has read."""
    path, log = f"{setting('airflow_install_dir')}/dags/current/dags/load.py", f"{setting('airflow_home')}/load.log"
    markers = host.ansible.get_variables()["markers"]
    text = DAG.format(log=log, connection=markers["connection"], variable=markers["variable"])
    host.check_output(f"cat > {path} <<'DAG'\n{text}\nDAG\nchgrp {setting('airflow_group')} {path} && chmod 640 {path}")
    host.check_output("airflow dags reserialize")
    for _second in range(90):
        if api.ask("PATCH", "/dags/load", {"is_paused": False})[0] == 200 and host.file(log).exists:
            break
        time.sleep(1)
    assert host.file(log).exists
    # What the rotations put into argument lists, and not what the tests before did.
    host.check_output(
        "systemctl stop watch-argv 2>/dev/null; rm -f /root/argv && systemd-run --quiet --unit watch-argv python3 "
        "/root/watch_argv.py"
    )
    yield lambda: [float(line) for line in host.check_output(f"cat {log}").split()]
    host.check_output(f"rm {path}")


# Each of them has to refuse before it has changed anything. None: a dry run, which is not refused.
REFUSALS = [
    ("rotate_fernet_key", {"airflow_fernet_key": Fernet.generate_key().decode()},
     "with any of the keys: connection marked (extra), connection marked (pass"),
    ("rotate_fernet_key", {"airflow_fernet_key": ""}, None),
]
# These are found without a look at the database.
MORE_REFUSALS = [
    ("rotate_api_secrets", {},
     "airflow_api_secret_key and airflow_jwt_secret: given by the inventory, and what all hosts have already"),
    ("rotate_fernet_key", {"airflow_environment": {"AIRFLOW__CORE__FERNET_KEY": "x"}},
     "airflow_environment.AIRFLOW__CORE__FERNET_KEY: Airflow uses it"),
    ("rotate_fernet_key", {"airflow_jwt_secret": "one-that-no-host-has-yet"},
     "jwt_secret in /etc/airflow/secrets is another one on some host"),
    ("rotate_database_password", {"airflow_database_name": "nowhere"},
     "and only the password may differ from the one that the hosts hold"),
]


@pytest.mark.parametrize("refusals", [REFUSALS, pytest.param(MORE_REFUSALS, marks=pytest.mark.long("rotations"))],
                         ids=["ordinary", "more"])
def test_what_can_not_be_rotated_is_refused_and_a_dry_run_changes_nothing(read, stored, refusals):
    before = read("fernet_key"), stored()
    # One after the other: each takes the lock of the environment.
    for playbook, variables, message in refusals:
        done = play(playbook, *(() if message else ("--check",)), **variables)
        assert done.failed == bool(message), done.output
        assert not message or (message in done.text and done.changed == 0), done.output
    assert (read("fernet_key"), stored()) == before


@pytest.fixture
def rotated(read):
    """rotated(playbook, names, **variables): run it to its end and prove that these files have other secrets than when
    the test began, all unseen.
    """
    before = {name: read(name) for name in SECRETS}

    def run(playbook, *names, **variables):
        done = play(playbook, "-vvv", "--diff", **variables)
        assert not done.failed, done.output
        after = {name: read(name) for name in SECRETS}
        assert {name for name in SECRETS if after[name] != before[name]} == set(names)
        held = [secret for value in (*before.values(), *after.values()) for secret in value.split(",")]
        assert not [secret for secret in held if secret in done.output]
        return before, done.text

    return run


# At each step, and each kill in the run that goes on from the one before: a step is reached that was not yet, and one
# run ends all of it.


# The seconds after the beginning of each step. An ordinary run kills one rotation once, the long part "rotations" kills
# each at all steps.
STEPS = {
    "rotate_api_secrets": {
        "kill_point: drain": 1, "kill_point: renew_secrets": 0.5, "kill_point: write_secrets": 0,
        "kill_point: restart_others": 1
    },
    # Not in its drain, which is that of the two others.
    "rotate_fernet_key": {
        "kill_point: renew_secrets": 0.5, "kill_point: write_secrets": 0, "kill_point: restart_others": 1,
        "kill_point: encrypt_values": 0.3
    },
    "rotate_database_password": {
        "kill_point: drain": 1, "kill_point: renew_secrets": 0.5, "kill_point: change_password": 0.5,
        "kill_point: write_secrets": 0, "kill_point: restart_others": 1
    },
}


def killed_at(*steps):
    return pytest.mark.parametrize("steps", [steps, pytest.param(None, marks=pytest.mark.long("rotations"))],
                                   ids=["ordinary", "all"])


@pytest.fixture
def killed(steps, delay):
    """killed(playbook, **variables): kill it at each of the steps, from the first to the last."""

    def run(playbook, **variables):
        for step, seconds in STEPS[playbook].items():
            if steps is None or step in steps:
                kill(playbook, step, delay=delay(seconds), **variables)

    return run


@killed_at()
def test_api_secrets_rotate(killed, rotated):
    killed("rotate_api_secrets", **GENERATED)
    rotated("rotate_api_secrets", "api_secret_key", "jwt_secret", **GENERATED)


@killed_at("kill_point: encrypt_values")
def test_fernet_key_rotates(steps, killed, rotated, read, stored, delay):
    killed("rotate_fernet_key", **GENERATED)
    both = read("fernet_key")
    new, old = both.split(",")
    if not steps:
        # From an inventory the old key is dropped by whoever wrote both.
        kill("rotate_fernet_key",
             "kill_point: prove_fernet_key",
             delay=delay(0.3),
             **{**GENERATED, "airflow_fernet_key": both})
        assert all(Fernet(new).decrypt(value.encode()) for value in stored())
        # Where the old key goes: first from the controller's copy, which may be ahead of the host then.
        kill("rotate_fernet_key", "kill_point: drop_fernet_key", **GENERATED)
        assert read("fernet_key") == both
    before, said = rotated("rotate_fernet_key", "fernet_key", **GENERATED)
    assert "which alone reads them" in said
    assert (read("fernet_key"), old) == (new, before["fernet_key"])
    assert all(Fernet(new).decrypt(value.encode()) for value in stored())


@killed_at()
def test_database_password_rotates(host, setting, killed, rotated):
    variables = {**GENERATED, "airflow_database_password": ""}
    killed("rotate_database_password", **variables)
    before, _said = rotated("rotate_database_password", "sql_alchemy_conn", "sql_alchemy_conn_async", **variables)
    old = before["sql_alchemy_conn"].replace("+psycopg2", "")
    python = f"{setting('airflow_install_dir')}/venv/bin/python"
    assert "password authentication failed" in host.run(
        f"{python} -c 'import psycopg2; psycopg2.connect(\"{old}\")'").stderr


@pytest.mark.long("rotations", ordinary=True)
def test_no_task_has_failed_and_the_load_went_on(api, load):
    """The rotations paused it, and never broke it."""
    beats = load()
    end = time.monotonic() + 60
    while len(load()) < len(beats) + 5:
        assert time.monotonic() < end, "it reads no more"
        time.sleep(1)
    # However many there were: the API gives a page of them.
    count = {
        state: api.get(f"/dags/load/dagRuns?limit=1&state={state}")["total_entries"]
        for state in ("success", "failed")
    }
    assert count["success"] >= 5 and count["failed"] == 0, count
    gaps = [after - before for before, after in zip(beats, beats[1:])]
    print(f"{len(beats)} reads, longest pause {max(gaps):.0f} s")


@pytest.mark.long("rotations", ordinary=True)
def test_every_connection_reads_back(api, host):
    listed = {item["connection_id"]: item for item in api.get("/connections")["connections"]}
    assert set(listed) == {"marked", "marked_by_uri"}
    markers = host.ansible.get_variables()["markers"]
    # The API shows no password.
    shown = host.check_output(
        "f=/var/lib/airflow/all.json; airflow connections export $f --file-format json >/dev/null; cat $f; rm $f")
    assert all(shown.count(markers[name]) == 1 for name in ("connection", "extra", "uri"))
    assert api.get("/variables/marked_password")["key"] == "marked_password"


@pytest.mark.long("rotations", ordinary=True)
def test_no_argument_list_and_no_journal_held_a_new_secret(host, read):
    host.check_output("systemctl stop watch-argv")
    shown = host.check_output("cat /root/argv; journalctl --no-pager -o cat")
    url = read("sql_alchemy_conn")
    secrets = [
        *read("fernet_key").split(","),
        read("api_secret_key"),
        read("jwt_secret"), url,
        re.search(r":([^:@]+)@", url)[1]
    ]
    assert "run.py components" in shown
    assert [secret for secret in secrets if secret in shown] == []
