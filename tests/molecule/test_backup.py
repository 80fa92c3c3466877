"""A backup by the timer's unit, the end of the host, and the same Airflow on an empty one.

The last test takes the host away: what other files test afterwards is a restored one.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import time

import pytest
import yaml
from airflow_api import Api
from conftest import ROOT, host_name
from playbook import SETTINGS, play

SECRETS = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "copy-of-secrets")
PASSWORD, EXTRA, VARIABLE = "marker-of-the-password-71fd", "marker-of-the-extra-02be", "marker-of-the-variable-c94a"
DAGS = '''
import time
from datetime import datetime
try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow.decorators import task
    from airflow.models.dag import DAG


@task
def work(seconds):
    time.sleep(seconds)


for name, seconds in {"drill_done": 0, "drill_paused": 0, "drill_running": 3600}.items():
    with DAG(name, start_date=datetime(2024, 1, 1), schedule=None, catchup=False, is_paused_upon_creation=False):
        work(seconds)
'''


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def sql(host):
    """sql("SELECT ..."): lines of the answer."""
    return lambda statement: host.check_output(f'runuser -u postgres -- psql -d airflow -Atc "{statement}"').splitlines(
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(1)


def picture(api):
    """What people see: connections, variables, and each DAG with its state and runs."""
    dags = {dag["dag_id"]: dag["is_paused"] for dag in api.get("/dags?limit=100")["dags"]}
    runs = {
        dag: sorted((run["dag_run_id"], run["state"]) for run in api.get(f"/dags/{dag}/dagRuns?limit=100")["dag_runs"])
        for dag in dags
    }
    return {
        "connections": api.get("/connections")["connections"],
        "variables": {item["key"]: item["value"] for item in api.get("/variables")["variables"]},
        "dags": dags,
        "runs": runs,
    }


@pytest.fixture(scope="module")
def drill(host, setting, api, sql, tmp_path_factory):
    """Fill Airflow, and back it up while a task runs: {path: the fetched backup, before: what people saw}."""
    folder, group = f"{setting('airflow_install_dir')}/dags/current/dags", setting("airflow_group")
    host.check_output(
        f"cat > {folder}/drill.py <<'DAGS'\n{DAGS}\nDAGS\nchgrp {group} {folder}/drill.py && chmod 640 "
        f"{folder}/drill.py"
    )
    host.check_output("airflow dags reserialize")
    for path, body in (
        ("/connections", {
            "connection_id": "drill", "conn_type": "http", "host": "example.com", "password": PASSWORD,
            "extra": json.dumps({"token": EXTRA})
        }),
        ("/variables", {"key": "drill", "value": VARIABLE}),
    ):
        status, answer = api.ask("POST", path, body)
        assert status in (200, 201), answer
    wait_for(lambda: api.ask("GET", "/dags/drill_running")[0] == 200)
    assert api.wait("drill_done", api.start_run("drill_done")) == "success"
    assert api.ask("PATCH", "/dags/drill_paused", {"is_paused": True})[0] == 200
    running = api.start_run("drill_running")
    wait_for(lambda: [state for state, _tries in api.tasks("drill_running", running).values()] == ["running"])

    host.check_output("systemctl stop watch-argv 2>/dev/null; rm -f /root/argv")
    subprocess.run(["docker", "cp", ROOT / "tests/molecule/watch_argv.py", f"{host_name(host)}:/root/watch_argv.py"],
                   check=True,
                   capture_output=True)
    host.check_output("systemd-run --quiet --unit watch-argv python3 /root/watch_argv.py")
    before = picture(api)
    # The run creates the directory.
    directory = tmp_path_factory.mktemp("controller") / "backup"
    done = play("runbooks/back_up_database", airflow_fetch=str(directory))
    assert not done.failed and done.changed, done.output
    return {"path": next(directory.glob("*.tar")), "before": before, "running": running, "said": done.output}


def test_a_backup_is_one_file_for_root_alone_and_tells_when_it_was_made(host, setting, drill):
    directory, name = setting("airflow_backup_dir"), drill["path"].name
    assert host.check_output(f"stat -c '%a %U' {directory} {directory}/{name}").split("\n") == ["700 root", "600 root"]
    last = json.loads(host.file("/var/lib/airflow-backup/last_success.json").content_string)
    assert last["file"] == f"{directory}/{name}" and last["bytes"] == drill["path"].stat().st_size
    assert drill["path"].with_name(f"{name}.sha256").read_text(encoding="utf-8").split() == [last["sha256"], name]
    assert last["airflow_version"] == setting("airflow_version")
    assert host.check_output("systemctl is-enabled airflow-backup.timer airflow-clean-database.timer").split() == [
        "enabled", "enabled"
    ]


def test_what_was_fetched_is_for_the_user_of_the_controller_alone(drill):
    assert {path.name: path.stat().st_mode & 0o777 for path in drill["path"].parent.iterdir()} == {
        drill["path"].name: 0o600, f"{drill['path'].name}.sha256": 0o600}
    assert drill["path"].parent.stat().st_mode & 0o777 == 0o700


def test_no_secret_is_in_it_in_the_clear_nor_in_arguments_nor_in_the_journal(host, setting, drill):
    secrets = setting("airflow_config_dir") + "/secrets"
    markers = [
        PASSWORD, EXTRA, VARIABLE, *host.check_output(f"for file in {secrets}/*; do cat $file; echo; done").split()
    ]
    markers = [marker for marker in markers if len(marker) > 8]
    assert len(markers) > 7
    with tarfile.open(drill["path"]) as tar:
        assert tar.getnames() == ["database.dump", "configuration.gpg", "dags.tar.gz", "manifest.json"]
        raw = b"".join(tar.extractfile(name).read() for name in tar.getnames())
    # As it was dumped, and as it is once it is unpacked.
    path = f"{setting('airflow_backup_dir')}/{drill['path'].name}"
    dumped = host.check_output(f"tar -xOf {path} database.dump | $(ls /usr/lib/postgresql/*/bin/pg_restore) --file=-")
    journal, arguments = host.check_output("journalctl --no-pager -o cat -u airflow-backup"), host.file(
        "/root/argv").content_string
    assert "pg_dump" in arguments and "drill_running" in dumped and '"sha256"' in journal
    for marker in markers:
        assert marker.encode() not in raw
        assert not [text for text in (dumped, journal, arguments, drill["said"]) if marker in text], marker


def test_units_are_sandboxed(host):
    for unit in ("airflow-backup", "airflow-clean-database"):
        summary = host.check_output(f"systemd-analyze security --no-pager {unit}.service | tail -n 1")
        assert float(summary.split(":")[1].split()[0]) <= 2.5, summary


def test_a_backup_that_fails_says_why_and_keeps_the_older_ones(host, setting, drill):
    config = f"{setting('airflow_config_dir')}/backup.json"
    try:
        host.check_output(
            f"cp -a {config} /root/backup.json && sed -i 's/\"min_free_mb\": [0-9]*/\"min_free_mb\": 100000000/' "
            f"{config}"
        )
        done = play("runbooks/back_up_database")
        assert done.failed and "MB free and" in done.text and "airflow_backup_min_free_mb" in done.text, done.output
        assert host.run("systemctl is-failed airflow-backup").stdout.strip() == "failed"
    finally:
        host.check_output(f"mv /root/backup.json {config} && systemctl reset-failed airflow-backup")
    there = host.check_output(f"ls -A {setting('airflow_backup_dir')}").split()
    assert sorted(there) == sorted([drill["path"].name, f"{drill['path'].name}.sha256"])


def test_what_is_old_goes_from_the_database_and_stays_as_a_file(host, sql, major):
    sql("INSERT INTO log (dttm, event) SELECT now() - interval '200 days', 'drill' FROM generate_series(1, 1500)")
    report = play("runbooks/clean_database")
    assert not report.failed and report.changed == 0 and "log 1500" in report.text, report.output
    assert f"confirm={host_name(host)}" in report.text and sql("SELECT count(*) FROM log WHERE event = 'drill'") == [
        "1500"
    ]
    if major == 3:
        host.check_output("sed -i 's/\"batch_size\": [0-9]*/\"batch_size\": 500/' /etc/airflow/backup.json")
    done = play("runbooks/clean_database", airflow_confirm=host_name(host))
    assert not done.failed and "Left of it: nothing." in done.text, done.output
    assert sql("SELECT count(*) FROM log WHERE event = 'drill'") == ["0"]
    assert sql("SELECT count(*) FROM pg_tables WHERE tablename LIKE '%airflow_deleted%'") == ["0"]
    files = host.check_output("ls /var/lib/airflow-archive").split()
    assert len(files) == (3 if major == 3 else 1)
    kept = host.check_output("cd /var/lib/airflow-archive && zcat *.csv.gz | grep -c drill")
    assert kept == "1500"


def test_what_a_restore_replaces_is_kept(host, setting, drill):
    """On a database beside the one that is in use."""

    def ask(statement):
        return host.check_output(f"runuser -u postgres -- psql -d scratch -Atc '{statement}'")

    # Airflow's role may connect to its own database only, so the server's superuser does it, over the socket.
    place, url = "/var/tmp/scratch", "postgresql+psycopg2://postgres@/scratch?host=/var/run/postgresql"
    host.check_output(
        f"runuser -u postgres -- createdb scratch && mkdir -p {place}/secrets && printf '%s' '{url}' > "
        f"{place}/secrets/sql_alchemy_conn"
    )
    host.check_output(f"echo '{json.dumps({'config_dir': place})}' > {place}/backup.json")
    host.check_output(f"cp {setting('airflow_backup_dir')}/{drill['path'].name}* {place} && chown -R postgres {place}")
    program = (
        f"{setting('airflow_install_dir')}/venv/bin/python "
        f"{setting('airflow_install_dir')}/libexec/airflow_runtime/run.py backup"
    )
    restore = (
        f"runuser -u postgres -- env RUNTIME_DIRECTORY={place} {program} restore {place}/backup.json "
        f"{place}/{drill['path'].name} rerun"
    )
    assert json.loads(host.check_output(restore))["kept"] == "", "an empty database is not worth keeping"
    variables = ask("SELECT count(*) FROM variable")
    assert variables != "0"
    ask("DELETE FROM variable")
    kept = json.loads(host.check_output(restore))["kept"]
    assert kept.startswith("replaced_") and ask(f"SELECT count(*) FROM {kept}.variable") == "0"
    assert ask("SELECT count(*) FROM public.variable") == variables
    # As it was when the backup was made: Airflow runs it once more.
    assert ask("SELECT state FROM task_instance WHERE dag_id = $$drill_running$$") == "running"
    assert ask("SELECT count(*) FROM job WHERE state = $$running$$") == "0"


def damaged(path, directory):
    """A copy of the backup with one other byte in the middle of it, once with its checksum beside it and once without.
    """
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    for name in ("with", "without"):
        (directory / name).mkdir()
        (directory / name / path.name).write_bytes(content)
    shutil.copy(f"{path}.sha256", directory / "with")
    return [str(directory / name / path.name) for name in ("with", "without")]


def newer(path, directory):
    """The backup of a later Airflow."""
    with tarfile.open(path) as source, tarfile.open(directory / path.name, "w") as target:
        for info in source:
            content = source.extractfile(info).read()
            if info.name == "manifest.json":
                content = json.dumps({**json.loads(content), "airflow_version": "3.99.0"}).encode()
                info.size = len(content)
            (directory / "member").write_bytes(content)
            with open(directory / "member", "rb") as member:
                target.addfile(info, member)
    return str(directory / path.name)


def test_a_restore_refuses_what_is_not_meant_or_not_whole(drill, tmp_path, api, host):
    bad = damaged(drill["path"], tmp_path)
    cases = [
        ({"airflow_backup_file": str(drill["path"])},
         "To replace the database, the secrets and the DAG release: the same command with -e "
         f"airflow_confirm={host_name(host)}"
         ),
        ({"airflow_backup_file": str(drill["path"]),
          "airflow_confirm": "yes"}, "airflow_confirm is yes; to restore onto"),
        ({"airflow_backup_file": bad[0], "airflow_confirm": host_name(host)}, "was damaged or changed"),
        ({"airflow_backup_file": bad[1],
          "airflow_confirm": host_name(host)}, "is damaged: database.dump is not what manifest.json says"),
        ({"airflow_backup_file": newer(drill["path"], tmp_path),
          "airflow_confirm": host_name(host)}, "The backup is of Airflow 3.99.0 and airflow_version is"),
    ]
    # One after the other: a run with confirm takes the lock of the environment.
    for number, (variables, message) in enumerate(cases):
        done = play("runbooks/restore_database", **variables)
        assert done.failed == bool(number) and done.changed == 0 and message in done.text, done.output
    assert api.tasks("drill_running", drill["running"])["work"][0] == "running"


@pytest.fixture(scope="module")
def lost(host, drill):
    """The host is gone, with its secrets, and so is the controller's copy of these. There is an empty one of the same
    name.
    """
    for path in SECRETS.iterdir():
        if not path.name.startswith("backup_key"):
            path.unlink()
    subprocess.run(["docker", "rm", "--force", "--volumes", host_name(host)], check=True, capture_output=True)
    platforms = yaml.safe_load(pathlib.Path(os.environ["MOLECULE_FILE"]).read_text(encoding="utf-8"))["platforms"]
    subprocess.run(
        ["ansible-playbook", "molecule/shared/create.yml", "-e", json.dumps({"test_hosts": platforms})],
        cwd=ROOT, env={**os.environ, **SETTINGS}, check=True, capture_output=True,
    )


def test_an_empty_host_becomes_the_one_that_was_lost(host, setting, lost, drill, api, sql):
    done = play("runbooks/restore_database", airflow_backup_file=str(drill["path"]), airflow_confirm=host_name(host))
    assert not done.failed, done.output
    assert "encrypted values can be read" in done.text, done.output
    before, after = drill["before"], picture(api)
    assert after["connections"] == before["connections"] and after["variables"] == before["variables"]
    assert after["dags"] == before["dags"] and after["dags"]["drill_paused"] is True
    # The task that ran is settled, and with it its run.
    wait_for(lambda: [state for state, _tries in api.tasks("drill_running", drill["running"]).values()] == ["failed"])
    assert api.wait("drill_running", drill["running"]) == "failed"
    after = picture(api)
    for dag, runs in before["runs"].items():
        assert after["runs"][dag] == ([(drill["running"], "failed")] if dag == "drill_running" else runs), dag
    assert sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'replaced%'") == ["0"]
    found = host.check_output("airflow connections get drill -o json")
    assert PASSWORD in found and EXTRA in found
    assert api.wait("drill_done", api.start_run("drill_done")) == "success"
    # The controller has its copy again, and the host the DAGs as they were.
    assert {path.name for path in SECRETS.iterdir()} >= {"jwt_secret", "admin_password", "backup_key"}
    assert host.file(
        f"{setting('airflow_install_dir')}/dags/current/dags/drill.py").content_string.strip() == DAGS.strip()
