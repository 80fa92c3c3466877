"""An upgrade from Airflow 2 to 3 with running tasks: first with a migration and a backup that fail, then to its end.
bin/test --long upgrade.
"""

import json

import pytest
from airflow_api import Api
from conftest import host_name
from playbook import play
from slow_tasks import SlowTasks, wait_until_healthy
from watching import changes, gaps, violations, watching

pytestmark = pytest.mark.long("upgrade")

NEW = "3.3.2"
# A table that the migration to Airflow 3 creates.
IN_THE_WAY = "dag_bundle"

# The run before may have made secrets that only Airflow 3 needs. They harm nobody.
FILES = "airflow.cfg environment webserver_config.py secrets/fernet_key secrets/api_secret_key secrets/sql_alchemy_conn"


def sql(host, statement):
    return host.check_output(f'runuser -u postgres -- psql -At -d airflow -c "{statement}"')


@pytest.fixture(scope="module")
def newer(host, tmp_path_factory):
    """newer(playbook): run it as somebody who has changed the inventory for the new version, which has one component
    more.
    """
    inventory = tmp_path_factory.mktemp("newer") / "hosts.yml"
    inventory.write_text(json.dumps({"airflow_dag_processor": {"hosts": {host_name(host): {}}}}), encoding="utf-8")

    def run(playbook, **variables):
        return play(playbook,
                    "-i",
                    str(inventory),
                    airflow_version=NEW,
                    airflow_config={"dag_processor": {"refresh_interval": 5}},
                    **variables)

    return run


def picture(host):
    """What a failed migration may not change."""
    return {
        "link": host.check_output("readlink /opt/airflow/venv"),
        "configuration": host.check_output(f"cd /etc/airflow && sha256sum {FILES} && stat -c '%n %a %U %G' {FILES}"),
        "revision": sql(host, "SELECT version_num FROM alembic_version"),
    }


def test_a_migration_that_fails_leaves_the_airflow_of_before_at_work(host, setting, newer):
    before = picture(host)
    sql(host, f"CREATE TABLE {IN_THE_WAY} (x int); ALTER TABLE {IN_THE_WAY} OWNER TO airflow")
    done = newer("../site")
    sql(host, f"DROP TABLE {IN_THE_WAY}")
    assert done.failed and "The database was not migrated" in done.text and IN_THE_WAY in done.text, done.output
    assert picture(host) == before
    # Airflow commits each revision by itself: the database was changed, and came back from the backup of this run.
    assert "which this run has made" in done.text and "The Airflow of before knows the database, and runs" in done.text
    wait_until_healthy(host, setting)
    assert host.check_output("systemctl is-active airflow-scheduler airflow-webserver").split() == ["active"] * 2


def test_a_backup_that_fails_stops_a_migration_before_the_database_changes(host, setting, newer):
    """Airflow has stopped by then, because the backup is that of a schema which nobody uses. It starts again."""
    before, backups = picture(host), set(host.file("/var/backups/airflow").listdir())
    config = f"{setting('airflow_config_dir')}/backup.json"
    host.check_output(
        f"cp -a {config} /root/backup.json && sed -i 's/\"min_free_mb\": [0-9]*/\"min_free_mb\": 100000000/' {config}")
    try:
        done = newer("airflow", __airflow_services_follow=True)
    finally:
        host.check_output(f"mv /root/backup.json {config} && systemctl reset-failed airflow-backup")
    assert done.failed and "The database was not migrated" in done.text, done.output
    assert "No backup was made" in done.text and "airflow_backup_min_free_mb" in done.text, done.output
    assert "The Airflow of before knows the database, and runs" in done.text, done.output
    assert picture(host) == before and set(host.file("/var/backups/airflow").listdir()) == backups
    wait_until_healthy(host, setting)
    assert host.check_output("systemctl is-active airflow-scheduler airflow-webserver").split() == ["active"] * 2


def test_an_upgrade_waits_for_running_tasks_and_nobody_sees_a_schema_that_changes(host, setting, major, newer):
    tasks = SlowTasks(host, setting, Api(host, setting, major))
    run = tasks.start()
    tasks.let_end_in_a_stop()
    backups = set(host.file("/var/backups/airflow").listdir())
    with watching(host) as watcher:
        done = newer("airflow", __airflow_services_follow=True)
        samples = watcher.samples()
    assert not done.failed, done.output
    assert changes(samples) and violations(samples) == []
    assert max(gaps(samples)) <= 0.5
    assert len({name for name in host.file("/var/backups/airflow").listdir() if name.endswith(".tar")} - backups) == 1
    states = sql(host, f"SELECT state, try_number FROM task_instance WHERE run_id = '{run}' AND task_id = 'wait_for'")
    assert states == "success|1"
    done = newer("../site")
    assert not done.failed, done.output
    again = newer("../site")
    assert not again.failed and again.changed == 0, again.output
    # Airflow 2's own unit is gone. Its name is a second one of the API server's unit, and nothing starts by it.
    assert host.check_output("readlink /etc/systemd/system/airflow-webserver.service") == "airflow-api-server.service"
    assert host.check_output("systemctl show --property Id --value airflow-webserver") == "airflow-api-server.service"
    assert host.check_output("find /etc/systemd/system -mindepth 2 -name 'airflow-webserver*'") == ""
    assert host.run("pgrep -f 'bin/airflow[ ]webserver|gunicorn: master [[]airflow-webserver'").stdout == ""
    assert host.check_output(
        "systemctl is-active airflow-scheduler airflow-api-server airflow-dag-processor").split() == ["active"] * 3


def test_an_older_version_is_refused_before_the_switch(host):
    link = host.check_output("readlink /opt/airflow/venv")
    done = play("../site")
    assert done.failed and "which Airflow 2.11.2 does not know" in done.text, done.output
    assert host.check_output("readlink /opt/airflow/venv") == link
    assert host.check_output("systemctl is-active airflow-scheduler airflow-api-server").split() == ["active"] * 2
