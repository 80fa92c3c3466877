"""A stop is complete: while a schema or a restored database changes, nothing of Airflow runs, and no running task is
lost.
"""

import json
import re
import statistics
import subprocess

import pytest
from airflow_api import Api
from conftest import host_name
from playbook import kill, play
from slow_tasks import SlowTasks, wait_until_healthy
from watching import changes, gaps, violations, watching


@pytest.fixture(scope="module")
def tasks(host, setting, major):
    made = SlowTasks(host, setting, Api(host, setting, major))
    yield made
    made.remove()


@pytest.fixture
def watcher(host):
    with watching(host) as watcher:
        yield watcher


def stop(**variables):
    return play("../tests/molecule/stop", **variables)


# In the ordinary run the next test waits for a task, and the migration proves that nothing is left.
@pytest.mark.long("stops")
def test_a_stop_waits_for_units_and_tasks_and_leaves_nothing(host, setting, tasks):
    run = tasks.start()
    tasks.let_end_in_a_stop()
    done = stop()
    assert not done.failed, done.output
    assert f"run {run}, task wait_for [0], try 1" in done.text
    running = done.text.split("RUNNING ")[1].split(" END")[0].split()
    # They use no database, and write down what the others log while they stop.
    assert running == ["airflow-component-logs.service", "airflow-groom-logs.timer"], done.output
    wait_until_healthy(host, setting)
    assert tasks.end(run) == [("success", 1)]
    assert host.check_output(
        "systemctl is-active airflow-backup.timer airflow-watchdog airflow.target").split() == ["active"] * 3


@pytest.mark.parametrize(("who", "command", "named"), [
    ("postgres", "psql -d airflow -c 'SELECT pg_sleep(600)'", "session {} of role postgres (psql)"),
    pytest.param("airflow", "sleep 600", "process {} of user airflow: ", marks=pytest.mark.long("stops")),
])
def test_a_person_is_named_and_airflow_runs_on(host, setting, tasks, who, command, named):
    """With the pid, so that somebody can end it. The task that ran before the stop has ended well."""
    run = tasks.start()
    tasks.let_end_in_a_stop()
    host.check_output(f"systemd-run --quiet --unit somebody --uid {who} sh -c \"{command}; true\"")
    try:
        done = stop(__airflow_services_left_wait=3)
        pid = (host.check_output(
            "runuser -u postgres -- psql -Atc \"SELECT pid FROM pg_stat_activity WHERE application_name = 'psql' AND "
            "query LIKE '%600%' "
            "AND pid <> pg_backend_pid()\"")
               if who == "postgres" else host.check_output("pgrep -u airflow -fo 'sleep 600'"))
    finally:
        host.check_output("systemctl stop somebody")
        # Without its client the session would sleep on.
        host.check_output(
            "runuser -u postgres -- psql -qAt -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query "
            "LIKE '%pg_sleep(600)%' "
            "AND pid <> pg_backend_pid()\"")
    assert done.failed and named.format(pid) in done.text and "Then run this again" in done.text, done.output
    # A psql of this host is named with the session.
    assert who != "postgres" or re.search(r"process \d+ of user postgres: \S*psql -d airflow", done.text)
    assert f"run {run}, task wait_for [0], try 1" in done.text, "the run says what it waits for"
    wait_until_healthy(host, setting)
    assert tasks.end(run) == [("success", 1)]
    assert host.check_output(
        "systemctl is-active airflow-backup.timer airflow-watchdog airflow.target").split() == ["active"] * 3


@pytest.mark.long("stops")
def test_postgresql_is_restarted_only_after_running_tasks_have_ended(host, setting, tasks):
    """As when a host joins: max_connections grows, which needs a restart. The task of this run has no second try."""
    started = "runuser -u postgres -- psql -Atc 'SELECT pg_postmaster_start_time()'"
    before = host.check_output(started)
    limit = int(host.check_output("runuser -u postgres -- psql -Atc 'SHOW max_connections'"))
    run = tasks.start()
    tasks.let_end_in_a_stop()
    done = play("postgresql", postgresql_max_connections=limit + 1)
    assert not done.failed, done.output
    assert f"run {run}, task wait_for [0], try 1" in done.text, "the run says what it waits for"
    assert host.check_output("runuser -u postgres -- psql -Atc 'SHOW max_connections'") == str(limit + 1)
    wait_until_healthy(host, setting)
    assert tasks.end(run) == [("success", 1)]
    # Back again: no task runs, and Airflow stops and starts in the same way.
    back = play("postgresql")
    assert not back.failed and host.check_output(started) != before, back.output
    assert host.check_output("runuser -u postgres -- psql -Atc 'SHOW max_connections'") == str(limit)
    assert host.check_output(
        "systemctl is-active airflow.target airflow-watchdog airflow-backup.timer").split() == ["active"] * 3
    wait_until_healthy(host, setting)
    # A second run has nothing to restart, and leaves Airflow alone.
    since = host.check_output("systemctl show airflow-scheduler --property=ActiveEnterTimestampMonotonic")
    again = play("postgresql")
    assert not again.failed and again.changed == 0, again.output
    assert host.check_output("systemctl show airflow-scheduler --property=ActiveEnterTimestampMonotonic") == since


@pytest.mark.long("stops")
def test_a_component_that_is_started_while_the_database_changes_waits(host, setting):
    """As on a host that boots meanwhile, or that no inventory knows. The lock is that of a migration and of a restore.
    """
    host.check_output("systemd-run --quiet --unit changes --uid postgres psql -d airflow -c "
                      "\"SET application_name = 'airflow-installer'\" "
                      "-c \"SELECT pg_advisory_lock_shared(hashtext('airflow-schema'))\" -c 'SELECT pg_sleep(600)'")
    try:
        since = host.check_output("date +%s")
        host.check_output(
            "systemctl restart --no-block airflow-triggerer; systemctl start --no-block airflow-clean-database")
        said = f"journalctl --unit airflow-triggerer --since @{since} --output cat --no-pager"
        host.check_output(
            "timeout 60 sh -c %s",
            f"until {said} | grep -q 'a migration or a restore changes the metadata database'; do sleep 0.5; done")
        for unit in ("airflow-triggerer", "airflow-clean-database"):
            host.check_output(
                f"timeout 30 sh -c 'until systemctl show {unit} --property=SubState --value | grep -qx start-pre; do "
                "sleep 0.5; done'"
            )
        assert "airflow-installer (session " in host.check_output(said)
    finally:
        # Without its client the session would sleep on.
        host.check_output(
            "systemctl stop changes; runuser -u postgres -- psql -qAt -c \"SELECT pg_terminate_backend(pid) FROM "
            "pg_stat_activity "
            "WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()\"")
    wait_until_healthy(host, setting)


def test_no_unit_runs_and_nobody_is_connected_while_the_schema_changes(host, setting, watcher, earlier):
    host.check_output(f"airflow db downgrade --to-revision {earlier} --yes > /dev/null 2>&1")
    downgraded = watcher.samples()
    assert violations(downgraded), "the watcher sees what it must see: Airflow ran while the schema went back"
    assert {"airflow-scheduler.service", "airflow-triggerer.service"} <= set(downgraded[0]["units"])
    watcher.start()
    backups = set(host.file(setting("airflow_backup_dir")).listdir())
    done = play("airflow")
    samples = watcher.samples()
    assert not done.failed, done.output
    assert changes(samples) and violations(samples) == []
    # Another scenario runs on the machine. The long parts have it for themselves, and ask for the longest.
    assert statistics.median(gaps(samples)) <= 0.5
    # One backup, of the schema before.
    new = {name for name in host.file(setting("airflow_backup_dir")).listdir() if name.endswith(".tar")} - backups
    assert len(new) == 1, new
    assert not play("services").failed
    wait_until_healthy(host, setting)


@pytest.mark.long("stops")
def test_a_unit_that_somebody_starts_during_a_stop_is_stopped_again(host, setting, tasks):
    """The start takes the place of the unit's stop among systemd's jobs. The running task needs the API server to the
    end.
    """
    run = tasks.start()
    tasks.let_end_in_a_stop()
    host.check_output(
        "systemd-run --quiet --collect timeout 300 sh -c 'until systemctl is-active airflow-scheduler | grep -q "
        "deactivating; do "
        "sleep 0.1; done; systemctl start --no-block airflow-scheduler'")
    done = stop()
    assert not done.failed and "started again: airflow-scheduler.service" in done.output, done.output
    assert "airflow-scheduler.service" not in done.text.split("RUNNING ")[1].split(" END")[0]
    wait_until_healthy(host, setting)
    assert tasks.end(run) == [("success", 1)]


@pytest.mark.long("stops")
def test_what_a_killed_run_has_stopped_is_started_by_the_next_one(host, setting):
    kill("../tests/molecule/stop", "kill_point: prove_stop")
    assert host.run("systemctl is-active airflow-scheduler airflow-api-server airflow-backup.timer").stdout.split(
    ) == ["inactive"] * 3
    assert not play("airflow").failed
    wait_until_healthy(host, setting)
    assert host.check_output(
        "systemctl is-active airflow-backup.timer airflow-watchdog airflow.target").split() == ["active"] * 3


@pytest.mark.long("stops")
def test_a_restore_waits_for_running_tasks_and_nobody_sees_a_database_that_changes(
    host, setting, tasks, watcher, tmp_path
):
    """The task of this run has no second try. Its run is in the database that is replaced, and not in the backup."""

    def sql(statement):
        return host.check_output(f'runuser -u postgres -- psql -At -d airflow -c "{statement}"')

    host.check_output("systemctl start airflow-backup")
    path = json.loads(host.file("/var/lib/airflow-backup/last_success.json").content_string)["file"]
    subprocess.run(["docker", "cp", f"{host_name(host)}:{path}", tmp_path], check=True, capture_output=True)
    run = tasks.start()
    tasks.let_end_in_a_stop()
    done = play("runbooks/restore_database",
                airflow_backup_file=str(tmp_path / path.rsplit("/", 1)[1]),
                airflow_confirm=host_name(host))
    samples = watcher.samples()
    assert not done.failed, done.output
    assert f"run {run}, task wait_for [0], try 1" in done.text, "the restore says what it waits for"
    assert "airflow-scheduler.service" in samples[0]["units"]
    assert any(sample["writes"] for sample in samples) and changes(samples) and violations(samples) == []
    assert max(gaps(samples)) <= 0.5
    # The task had ended well before its database was replaced.
    kept = sql("SELECT max(nspname) FROM pg_namespace WHERE nspname LIKE 'replaced%'")
    ended = "SELECT state, try_number FROM {0}.task_instance WHERE run_id = '{1}' AND task_id = 'wait_for'"
    assert sql(ended.format(kept, run)) == "success|1" and sql(ended.format("public", run)) == ""
    wait_until_healthy(host, setting)
