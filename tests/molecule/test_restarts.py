"""Running tasks outlive restarts, and the host comes back by itself."""

import subprocess
import time

import pytest
from airflow_api import Api
from conftest import host_name

SLOW_DAG = '''
from datetime import datetime
import time
try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow.decorators import task
    from airflow.models.dag import DAG

with DAG("slow_dag", start_date=datetime(2024, 1, 1), schedule=None, catchup=False, default_args={"retries": 0}):

    @task
    def sleep_for(params=None, dag_run=None):
        time.sleep(int(dag_run.conf["seconds"]))

    sleep_for()
'''


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def slow_dag(host, setting, api):
    """A DAG whose one task sleeps for as long as the run's conf says, removed again afterwards."""
    path = f"{setting('airflow_dags_folder')}/slow_dag.py".replace("{{ airflow_install_dir }}", setting("airflow_install_dir"))
    host.check_output(f"cat > {path} <<'DAG'\n{SLOW_DAG}\nDAG\nchgrp {setting('airflow_group')} {path} && chmod 640 {path}")
    host.check_output("airflow dags reserialize")
    for _second in range(90):
        if api.ask("GET", "/dags/slow_dag")[0] == 200:
            break
        time.sleep(1)
    yield "slow_dag"
    host.check_output(f"rm {path}")


def start_and_wait_until_running(api, dag_id, seconds):
    run = api.start_run(dag_id, {"seconds": seconds})
    for _second in range(60):
        if api.tasks(dag_id, run).get("sleep_for", ("",))[0] == "running":
            return run
        time.sleep(1)
    raise AssertionError(api.tasks(dag_id, run))


@pytest.mark.major(3)
def test_running_task_outlives_an_api_server_that_is_away_for_40_seconds(host, api, slow_dag):
    run = start_and_wait_until_running(api, slow_dag, 60)
    host.check_output("systemctl stop airflow-api-server")
    time.sleep(40)
    host.check_output("systemctl start airflow-api-server")
    assert api.wait(slow_dag, run) == "success"
    assert api.tasks(slow_dag, run)["sleep_for"] == ("success", 1)


def test_running_task_outlives_a_restart_of_the_scheduler(host, api, slow_dag):
    run = start_and_wait_until_running(api, slow_dag, 20)
    host.check_output("systemctl restart airflow-scheduler")
    assert api.wait(slow_dag, run) == "success"
    assert api.tasks(slow_dag, run)["sleep_for"] == ("success", 1)


def test_a_rebooted_host_comes_back_healthy_without_a_hand(host, setting, api):
    subprocess.run(["docker", "restart", "--time", "120", host_name(host)], check=True, capture_output=True)
    python, tool = f"{setting('airflow_install_dir')}/venv/bin/python", f"{setting('airflow_install_dir')}/libexec/components.py"
    for _second in range(120):
        health = host.run(f"{python} {tool} health")
        if health.rc == 0:
            break
        time.sleep(1)
    assert health.rc == 0, health.stdout + health.stderr
    assert api.wait("example_dag", api.start_run("example_dag")) == "success"
