"""Running tasks outlive restarts, and the host comes back by itself."""

import random
import subprocess
import time

import pytest
from airflow_api import Api
from conftest import host_name
from slow_tasks import SlowTasks, wait_until_healthy

# Running tasks in an ordinary run. Twenty are the long part "restarts".
FEW = 2


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
def room(host, number):
    """Room for so many tasks at once. Every host has room for a few."""
    if number <= FEW:
        yield
        return
    drop_in = "/run/systemd/system/airflow-scheduler.service.d/twenty.conf"
    restart = "systemctl daemon-reload && systemctl restart airflow-scheduler"
    host.check_output(f"mkdir -p $(dirname {drop_in}) && printf '[Service]\nEnvironment=AIRFLOW__CORE__PARALLELISM=20\n' > {drop_in} && {restart}")
    yield
    host.check_output(f"rm {drop_in} && {restart}")


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("number", [FEW, pytest.param(20, marks=pytest.mark.long("restarts"))])
def test_running_tasks_outlive_a_restart_of_every_component(host, major, tasks, seed, number):
    """One component after the other, the scheduler last: it ends when its tasks have."""
    run = tasks.start(number)
    since = host.check_output("date +%s")
    said = f"journalctl --unit airflow-scheduler --since @{since} --output cat --no-pager"
    units = ["airflow-api-server", "airflow-dag-processor", "airflow-triggerer"] if major == 3 else ["airflow-webserver", "airflow-triggerer"]
    for unit in random.Random(seed).sample(units, len(units)):
        host.check_output(f"systemctl restart {unit}")
    host.check_output("systemctl restart --no-block airflow-scheduler")
    for _second in range(60):
        if f"waiting for {number} running tasks" in host.check_output(said):
            break
        time.sleep(1)
    assert tasks.states(run) == [("running", 1)] * number
    assert host.check_output("systemctl show airflow-scheduler --property=ActiveState --value") == "deactivating"
    assert tasks.end(run) == [("success", 1)] * number
    lines = host.check_output(said)
    assert f"waiting for {number} running tasks" in lines
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
