"""Running tasks outlive restarts, and the host comes back by itself."""

import subprocess
import time

import pytest
from airflow_api import Api
from conftest import host_name
from slow_tasks import SlowTasks, wait_until_healthy


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def tasks(host, setting, api):
    made = SlowTasks(host, setting, api)
    yield made
    made.remove()


@pytest.mark.major(3)
def test_running_task_outlives_an_api_server_that_is_away_for_40_seconds(host, tasks):
    run = tasks.start()
    host.check_output("systemctl stop airflow-api-server")
    time.sleep(40)
    host.check_output("systemctl start airflow-api-server")
    assert tasks.end(run) == [("success", 1)]


@pytest.fixture
def room_for_twenty(host):
    """As many tasks at once, however small the host is."""
    drop_in = "/run/systemd/system/airflow-scheduler.service.d/twenty.conf"
    restart = "systemctl daemon-reload && systemctl restart airflow-scheduler"
    host.check_output(f"mkdir -p $(dirname {drop_in}) && printf '[Service]\nEnvironment=AIRFLOW__CORE__PARALLELISM=20\n' > {drop_in} && {restart}")
    yield
    host.check_output(f"rm {drop_in} && {restart}")


@pytest.mark.usefixtures("room_for_twenty")
def test_twenty_running_tasks_outlive_a_restart_of_every_component(host, major, tasks):
    """One component after the other, the scheduler last: it ends when its tasks have."""
    run = tasks.start(20)
    since = host.check_output("date +%s")
    said = f"journalctl --unit airflow-scheduler --since @{since} --output cat --no-pager"
    for unit in ["airflow-api-server", "airflow-dag-processor", "airflow-triggerer"] if major == 3 else ["airflow-webserver", "airflow-triggerer"]:
        host.check_output(f"systemctl restart {unit}")
    host.check_output("systemctl restart --no-block airflow-scheduler")
    for _second in range(60):
        if "waiting for 20 running tasks" in host.check_output(said):
            break
        time.sleep(1)
    assert tasks.states(run) == [("running", 1)] * 20
    assert host.check_output("systemctl show airflow-scheduler --property=ActiveState --value") == "deactivating"
    assert tasks.end(run) == [("success", 1)] * 20
    lines = host.check_output(said)
    assert "waiting for 20 running tasks" in lines
    assert "gave up" not in lines and "killed" not in lines


@pytest.mark.major(3)
def test_a_database_that_is_late_is_waited_for(host, setting):
    """As on a host that boots beside its database: all is asked to start, and the database is there twenty seconds later."""
    host.check_output("systemctl stop airflow.target 'airflow-*.service' postgresql.service")
    host.check_output("systemctl start --no-block airflow.target")
    time.sleep(20)
    host.check_output("systemctl start postgresql.service")
    wait_until_healthy(host, setting)
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


def test_a_rebooted_host_comes_back_healthy_without_a_hand(host, setting, api):
    subprocess.run(["docker", "restart", "--time", "120", host_name(host)], check=True, capture_output=True)
    wait_until_healthy(host, setting)
    assert api.wait("example_dag", api.start_run("example_dag")) == "success"
