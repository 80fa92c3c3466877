"""A running host that is broken on purpose, one fault after the other.

For each: check_health ends with an error, diagnose names the cause first, the command that it prints mends it, and
check_health is content again. What was seen becomes the table of docs/runbooks/diagnose.md: bin/fault-table puts it
there.
"""

import collections
import concurrent.futures
import json
import os
import random
import re
import shlex
import subprocess
import time

import pytest
from conftest import ROOT
from playbook import SETTINGS, look, play

# Seconds for a host that was mended to be well: components that lost their database start anew.
WELL = 60
TABLE = ROOT / "artifacts/faults.json"

PRELUDE = r"""
set -eu
psql() { runuser -u postgres -- psql --quiet --no-align --tuples-only --no-psqlrc --dbname airflow --command "$1"; }
# until_true SECONDS COMMAND...
until_true() {
    end=$(($(date +%s) + $1)); shift
    until "$@" > /dev/null 2>&1; do [ "$(date +%s)" -lt $end ] || { echo "never: $*" >&2; exit 1; }; sleep 0.3; done
}
# A release like the one in place, with one file more, put in place and recorded as a deploy does it.
release() {
    cd /opt/airflow/dags
    rm -rf "releases/$1"
    cp -a "$(readlink -f current)" "releases/$1"
    sed -i "s/\"id\": \"[^\"]*\"/\"id\": \"$1\"/" "releases/$1/REVISION"
    if [ -n "$2" ]; then printf '%s\n' "$2" > "releases/$1/dags/$1.py"; chgrp airflow "releases/$1/dags/$1.py"; fi
    touch "releases/$1"/dags/*.py
    echo "{\"at\": \"$(date -u +%FT%TZ)\", \"event\": \"deployed\", \"id\": \"$1\", \"by\": \"test\", \"note\": \"\"}" \
        >> history
    ln -sfn "releases/$1" current.new
    mv -T current.new current
}
import_error() { [ "$(psql "SELECT count(*) FROM import_error WHERE stacktrace LIKE '%$1%'")" -gt 0 ]; }
# A small disk for logs, which hold what nobody has removed; and one for the cache of packages, which all test hosts
# share and a runbook may empty.
small_log_disk() {
    mount -t tmpfs -o "uid=$(id -u airflow),gid=$(id -g airflow),mode=0750,$1" none /var/log/airflow
    ! mountpoint -q /var/cache/airflow || mount -t tmpfs none /var/cache/airflow
}
# old_logs HOW_MANY SIZE: of tasks that ran in the year before last.
old_logs() {
    mkdir -p "/var/log/airflow/dag_id=old/run_id=r/task_id=t"
    for number in $(seq "$1"); do
        head -c "$2" /dev/zero > "/var/log/airflow/dag_id=old/run_id=r/task_id=t/attempt=$number.log" || break
    done 2> /dev/null
    chown -R airflow:airflow /var/log/airflow
    find /var/log/airflow -mindepth 1 -exec touch -d '500 days ago' {} +
}
# One task has the only slot of its pool and works on, another one waits for it.
held() {
    states=$(psql "SELECT string_agg(state, ' ' ORDER BY state) FROM task_instance WHERE dag_id = 'holds'")
    [ "$states" = "running scheduled" ]
}
"""

# What faults leave behind beside what was broken.
CLEANUP = """
systemctl stop notebook maintenance
end="SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'maintenance'"
runuser -u postgres -- psql -d airflow -c "$end" \
    -c 'ALTER ROLE airflow RESET search_path' -c 'DROP SCHEMA IF EXISTS skewed CASCADE'
touch /var/lib/airflow/pool_is_free
umount /var/log/airflow
mount -o remount,size=50% /tmp
rm -rf /opt/airflow/dags/releases/other
! findmnt -n -t tmpfs /var/cache/airflow || umount /var/cache/airflow
"""

Fault = collections.namedtuple("Fault", "title inject cause mend")
FAULTS = {
    "unit_stopped": Fault("a component was stopped", "systemctl stop airflow-triggerer", "component_stopped",
                          "services.yml"),
    "dag_processor_dead": Fault(
        "the DAG processor is dead",
        "systemctl kill --signal=KILL airflow-dag-processor; systemctl stop airflow-dag-processor", "component_stopped",
        "services.yml"),
    "bind_address": Fault(
        "the API server listens on another address",
        r"""sed -i 's/^host = 127\.0\.0\.1/host = 127.0.0.2/' /etc/airflow/airflow.cfg
        systemctl restart --no-block airflow-api-server
        listens() { ss -Htln src 127.0.0.2:8080 | grep .; }
        until_true 60 listens""", "bind_address", "airflow.yml"),
    "postgresql_stopped": Fault("PostgreSQL was stopped", "systemctl stop 'postgresql@*'", "database_down",
                                "postgresql.yml"),
    "password_revoked": Fault("somebody else has set the database password",
                              "psql \"ALTER ROLE airflow PASSWORD 'another'\"", "database_password", "postgresql.yml"),
    "hba_refuses": Fault(
        "pg_hba.conf refuses Airflow",
        "sed -i 's/scram-sha-256/reject/' /etc/postgresql/*/main/pg_hba.conf; psql 'SELECT pg_reload_conf()'; sleep "
        "0.5",
        "database_hba", "postgresql.yml"),
    "connections_used_up": Fault(
        "another program holds all connections", r"""cat > /run/notebook.py <<'PROGRAM'
import pathlib, psycopg2, time
url = pathlib.Path("/etc/airflow/secrets/sql_alchemy_conn").read_text().replace("postgresql+psycopg2://", "postgresql://")
held = []
while True:
    try:
        held.append(psycopg2.connect(url, application_name="notebook"))
    except psycopg2.OperationalError:
        break
pathlib.Path("/run/notebook.full").touch()
time.sleep(3600)
PROGRAM
        rm -f /run/notebook.full
        systemd-run --quiet --collect --unit notebook /opt/airflow/venv/bin/python /run/notebook.py
        until_true 30 test -e /run/notebook.full""", "database_connections", "end_database_sessions.yml"),
    "lock_held": Fault(
        "somebody holds a lock in the database",
        r"""systemd-run --quiet --collect --unit maintenance --setenv PGAPPNAME=maintenance runuser -u postgres -- \
            psql -d airflow -c 'BEGIN; LOCK TABLE slot_pool, dag_run; SELECT pg_sleep(600)'
        blocked() {
            psql "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                AND now() - query_start > interval '5 s'" |
                grep -q 1
        }
        until_true 40 blocked""", "database_lock", "end_database_sessions.yml"),
    "migration_missing": Fault("the schema is that of an earlier revision",
                               "airflow db downgrade --to-revision {earlier} --yes > /dev/null 2>&1",
                               "migration_missing", "airflow.yml"),
    "jwt_secret_changed": Fault(
        "the JWT secret was changed, and one component started with it",
        "head -c 48 /dev/urandom | base64 -w 0 | head -c 40 > /etc/airflow/secrets/jwt_secret; systemctl restart "
        "airflow-dag-processor",
        "secrets_not_taken_over", "services.yml"),
    "wrong_fernet_key": Fault("the Fernet key is another one",
                              "head -c 32 /dev/urandom | base64 -w 0 | tr '+/' '-_' > /etc/airflow/secrets/fernet_key",
                              "fernet_key", "airflow.yml"),
    "virtualenv_gone": Fault("the virtualenv's link leads nowhere", "ln -sfn venvs/gone /opt/airflow/venv",
                             "virtualenv_broken", "airflow.yml"),
    "logs_of_root": Fault("the log directory belongs to root", "chown root:root /var/log/airflow",
                          "directory_not_writable", "airflow.yml"),
    "broken_dag": Fault("a release with a broken DAG",
                        "release broken 'from airflow.sdk import dag; dag(('; until_true 60 import_error SyntaxError",
                        "import_error", "rollback_dags.yml"),
    "missing_package": Fault(
        "a DAG needs a package that is not installed",
        "release package 'import not_a_package_of_ours  # airflow dag'; until_true 60 import_error not_a_package",
        "missing_package", "rollback_dags.yml"),
    "wrong_release": Fault(
        "a host has another DAG release than was deployed",
        "cd /opt/airflow/dags; cp -a \"$(readlink -f current)\" releases/other; ln -sfn releases/other current",
        "release_differs", "rollback_dags.yml"),
    "pool_full": Fault(
        "somebody has made a pool small, and a task holds its only slot", r"""rm -f /var/lib/airflow/pool_is_free
        psql "UPDATE slot_pool SET slots = 1 WHERE pool = 'default_pool'"
        release holds '
import datetime, os, time
from airflow.sdk import dag, task

@task
def hold():
    while not os.path.exists("/var/lib/airflow/pool_is_free"):
        time.sleep(0.5)

@dag(schedule="@once", start_date=datetime.datetime(2026, 1, 1), is_paused_upon_creation=False)
def holds():
    hold.override(task_id="first")()
    hold.override(task_id="second")()

holds()'
        until_true 240 held
        psql "UPDATE task_instance SET scheduled_dttm = now() - interval '1 hour' WHERE state = 'scheduled'" """,
        "pool_full", "objects.yml"),
    "log_disk_full": Fault("the disk of the logs is full", "small_log_disk size=20m; old_logs 30 1M", "disk_full",
                           "free_disk_space.yml"),
    "tmp_full": Fault(
        "/tmp is full of what a component has left there", """mount -o remount,size=64m /tmp
        head -c 100M /dev/zero > "$(ls -d /tmp/systemd-private-*-airflow-dag-processor.service-*/tmp)/left" || true""",
        "disk_full", "restart_airflow.yml"),
    "scheduler_frozen": Fault(
        "the scheduler is alive and does nothing (SIGSTOP)",
        # The watchdog would see it too, but later.
        "kill -STOP \"$(systemctl show airflow-scheduler --property=MainPID --value)\"",
        "component_frozen",
        "recover_scheduler.yml"),
    "paused_dag": Fault(
        "a DAG with runs that wait is paused",
        r"""airflow dags pause tutorial > /dev/null 2>&1; airflow dags trigger tutorial > /dev/null 2>&1
        psql "UPDATE dag_run SET queued_at = now() - interval '1 hour' WHERE state = 'queued'" """, "paused_runs",
        "dag_state.yml"),
    # The question's clock, not Airflow's: the host's own is that of the machine that the test runs on.
    "clock_skewed": Fault(
        "the clock of the host is another one than the database's",
        r"""psql 'CREATE SCHEMA skewed'; psql 'GRANT USAGE ON SCHEMA skewed TO airflow'
        for clock in now clock_timestamp; do
            psql "CREATE FUNCTION skewed.$clock() RETURNS timestamptz LANGUAGE sql AS
                  \$\$SELECT pg_catalog.$clock() - make_interval(secs => 90)\$\$"
        done
        psql 'ALTER ROLE airflow SET search_path = skewed, pg_catalog, public'""", "clock", "chronyc makestep"),
    "certificate_expired": Fault(
        "the certificate has expired", r"""/opt/airflow/venv/bin/python - <<'PROGRAM'
import datetime, pathlib
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
pem = pathlib.Path("/etc/nginx/airflow.pem")
key = serialization.load_pem_private_key(pem.read_bytes(), None)
old = x509.load_pem_x509_certificate(pem.read_bytes())
day = datetime.timedelta(days=1)
now = datetime.datetime.now(datetime.timezone.utc)
new = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.subject).public_key(key.public_key())
new = new.serial_number(x509.random_serial_number())
new = new.not_valid_before(now - 90 * day).not_valid_after(now - day)
for extension in old.extensions:
    new = new.add_extension(extension.value, extension.critical)
private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
pem.write_bytes(private + new.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
PROGRAM
        nginx -s reload""", "certificate", "proxy.yml"),
}


def run(*command):
    """Run a command as somebody at the controller does; return its code, its output and how long it took."""
    begun = time.monotonic()
    done = subprocess.run(command,
                          cwd=ROOT,
                          env={**os.environ, **SETTINGS},
                          text=True,
                          capture_output=True,
                          check=False)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begun


def until_well(host):
    """Return the exit code of check_health once it is content, or what it says in the end."""
    end = time.monotonic() + WELL
    # Which costs less than to ask check_health again and again.
    host.run(
        f"timeout {WELL} sh -c 'until /opt/airflow/venv/bin/python /opt/airflow/libexec/airflow_runtime/run.py "
        "components health; do sleep 1; done'"
    )
    while True:
        code, said = look("check_health")
        if code == 0 or time.monotonic() > end:
            return code, [(cause["cause"], cause["text"]) for cause in said["causes"]]


@pytest.fixture(scope="module")
def table():
    """What was seen, kept for the documentation: of each fault the last time that it was mended."""
    seen = {}
    yield seen
    TABLE.parent.mkdir(exist_ok=True)
    kept = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    kept.update(seen)
    TABLE.write_text(json.dumps({name: kept[name]
                                 for name in FAULTS if name in kept}, indent=1) + "\n",
                     encoding="utf-8")


def test_a_healthy_host_is_called_healthy(host):
    code, causes = until_well(host)
    assert code == 0, causes


# The scheduler and the DAG processor write their heartbeats all the while; their tables are left out.
STATE = r"""
find /etc /opt/airflow /usr/local /var/lib/airflow -xdev -not -path '*/__pycache__*' -printf '%p %T@ %C@ %m %u\n' |
    sort | sha256sum
list="systemctl list-units --type=service --state=running --plain --no-legend"
for unit in $($list 'airflow-*' 'postgresql*' nginx.service | cut -d' ' -f1); do
    systemctl show "$unit" --property=Id,ExecMainStartTimestamp,NRestarts,StateChangeTimestamp
done
runuser -u postgres -- psql -d airflow -Atc "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del
    FROM pg_stat_user_tables WHERE relname NOT IN (
    'job', 'dag', 'dag_priority_parsing_request', 'dag_code', 'serialized_dag', 'log',
    'dag_bundle', 'dag_warning') ORDER BY 1"
"""


@pytest.fixture(scope="module")
def quiet(host):
    """What earlier tests have begun has ended."""
    busy = (
        "SELECT count(*) FROM dag_run WHERE state IN ('queued', 'running') AND NOT EXISTS (SELECT FROM dag WHERE "
        "dag.dag_id = dag_run.dag_id AND is_paused)"
    )
    host.check_output(f"until [ \"$(runuser -u postgres -- psql -d airflow -Atc \"{busy}\")\" = 0 ]; do sleep 1; done")
    earlier, now = None, host.check_output(STATE)
    while now != earlier:
        # A session of PostgreSQL counts what it wrote up to ten seconds later.
        time.sleep(11)
        earlier, now = now, host.check_output(STATE)


# Runbooks that ask for a typed word, with their arguments, and what they say to another one. Of restore_database,
# test_backup.py shows it.
REFUSALS = {
    "clean_database": ({}, "airflow_confirm is nobody; to clean the database of"),
    "clear_stuck_tasks": ({}, "is neither this host nor a DAG with a stuck task"),
    "drain_host": ({}, "-e airflow_confirm=nobody: this play has"),
    "end_database_sessions": ({"airflow_application": "nobody's"},
                              "airflow_confirm is nobody, and the sessions are named nobody's"),
    "free_disk_space": ({}, "-e airflow_confirm=nobody: valid is a host of this run"),
    "pause_dags": ({}, "-e airflow_confirm=nobody: valid is all"),
    "recover_scheduler": ({}, "-e airflow_confirm=nobody: this play has"),
    "undrain_host": ({}, "-e airflow_confirm=nobody: this play has"),
}


@pytest.mark.long("diagnosis")
@pytest.mark.parametrize("words", ["wrong", pytest.param("none and wrong", marks=pytest.mark.long("diagnosis"))])
def test_looking_and_a_word_that_is_not_the_right_one_change_nothing(host, quiet, words):
    asking = {
        path.stem
        for path in ROOT.glob("playbooks/runbooks/*.yml") if "-e airflow_confirm=" in path.read_text(encoding="utf-8")
    }
    assert asking == {*REFUSALS, "restore_database"}
    before = host.check_output(STATE)
    # These two judge a host that is busy with nothing else.
    with concurrent.futures.ThreadPoolExecutor() as both:
        bare = {name: both.submit(play, f"runbooks/{name}") for name in ("check_health", "diagnose")}
    with concurrent.futures.ThreadPoolExecutor(max_workers=3) as several:
        # Without a word each of them is in the long part alone.
        if "none" in words:
            bare |= {
                name: several.submit(play, f"runbooks/{name}", **arguments)
                for name, (arguments, _said) in REFUSALS.items()
            }
    # One after the other: with a word they take the lock of the environment.
    wrong = {
        name: play(f"runbooks/{name}", **{**arguments, "airflow_confirm": "nobody"})
        for name, (arguments, _said) in REFUSALS.items()
    }
    assert host.check_output(STATE) == before
    for name, done in bare.items():
        assert (done.result().failed, done.result().changed) == (False, 0), f"{name}\n{done.result().output}"
    for name, done in wrong.items():
        assert (done.failed, done.changed) == (True, 0), f"{name}\n{done.output}"
        assert REFUSALS[name][1] in done.text


def test_one_screen():
    code, output, _seconds = run("ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"],
                                 "playbooks/runbooks/check_health.yml")
    assert code == 0
    screen = output.split("\n\nAirflow of ", 1)[1].split("\n\nTASK")[0].splitlines()
    assert len(screen) <= 50
    # Commands and paths are as long as they are.
    assert max(len(line) for line in screen if "/" not in line) <= 100


# An ordinary run has one fault for each repairing playbook: the first in FAULTS. The long part "diagnosis" has all
# faults.
FIRST = {fault.mend: name for name, fault in reversed(FAULTS.items()) if fault.mend.endswith(".yml")}


@pytest.mark.parametrize("name", [name for name in FAULTS if name in FIRST.values()])
def test_fault_is_found_named_and_mended(host, table, earlier, name):
    found_named_and_mended(host, table, earlier, name)


@pytest.mark.long("diagnosis")
@pytest.mark.parametrize("place", range(len(FAULTS)))
def test_fault_is_found_named_and_mended_after_any_other_one(host, table, earlier, seed, place):
    found_named_and_mended(host, table, earlier, random.Random(seed).sample(list(FAULTS), len(FAULTS))[place])


def found_named_and_mended(host, table, earlier, name):
    fault = FAULTS[name]
    print(name)
    host.run_expect([0], "bash -c " + shlex.quote(PRELUDE + fault.inject.replace("{earlier}", earlier)))
    with concurrent.futures.ThreadPoolExecutor() as both:
        check, diagnosis = both.submit(look, "check_health"), both.submit(look, "diagnose")
    (code, health), (_code, found) = check.result(), diagnosis.result()
    first = (found["causes"] or [{"cause": "none", "mend": ""}])[0]
    try:
        assert code != 0, "check_health is content"
        assert first["cause"] == fault.cause, [(cause["cause"], cause["text"], cause["evidence"])
                                               for cause in found["causes"]]
        assert fault.mend in (first["mend"] or first["advice"])
        begun = time.monotonic()
        if first["mend"]:
            code, output, _seconds = run(*shlex.split(first["mend"]))
            assert code == 0, output[-6000:]
        else:
            # What no playbook can do.
            host.run(CLEANUP)
        code, causes = until_well(host)
        assert code == 0, causes
    finally:
        host.run(CLEANUP)
    problems = [result for result in health["results"] if result["status"] != "OK"]
    worst = next(result for result in problems if result["cause"] == first["cause"])
    table[name] = {
        "fault": fault.title,
        "health": "{0} {1} {2}".format(worst["status"], worst["what"], worst["text"]),
        "also": len(problems) - 1,
        "cause": fault.cause,
        "mend": re.sub(r"=\d+\b", "=1234", shlex.join(first["argv"])),
        "advice": first["advice"],
        "seconds": round(time.monotonic() - begun),
    }
