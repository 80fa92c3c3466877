"""airflow_log_format is json: each line that a task logs is one object. Asked of the log of a DAG that fails; those of
components: test_logrotate.py.
"""

import json

import pytest
from airflow_api import Api
from conftest import ROOT
from dag_project import Project
from task_logs import task_log

KEYS = {"timestamp", "level", "event", "logger"}
FAILS = '''
from datetime import datetime
try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow.decorators import task
    from airflow.models.dag import DAG

with DAG("fails", start_date=datetime(2024, 1, 1), schedule=None, catchup=False):

    @task
    def broken():
        print("printed")
        raise ValueError("first line\\nsecond line")

    broken()
'''


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def failed(tmp_path_factory, host, setting, api):
    """The run of a task that printed a line and raised an exception of two."""
    project = Project(tmp_path_factory.mktemp("project"), host, f"{setting('airflow_install_dir')}/dags")
    project.write("dags/fails.py", FAILS)
    project.deploy("-e", "airflow_dags_validation=false")
    run = api.start_run("fails")
    assert api.wait("fails", run) == "failed"
    yield run
    # Back to the DAGs that other tests run.
    code, output, _changed = project.run("deploy_dags", "-e", f"airflow_dags_source={ROOT}/files/dags", "-e",
                                         "airflow_dags_validation=false")
    assert code == 0, output


def test_each_line_of_a_task_is_an_object(host, setting, failed):
    lines = [
        json.loads(line)
        for line in task_log(host, setting, f"dag_id=fails/run_id={failed}/task_id=broken/attempt=1.log").splitlines()
    ]
    of_the_task = [line for line in lines if line.get("task_id")]
    for line in of_the_task:
        assert line.keys() >= KEYS | {"dag_id", "task_id", "run_id", "try_number", "map_index"}
        assert (line["dag_id"], line["task_id"], line["run_id"], line["try_number"]) == ("fails", "broken", failed, 1)
    # Airflow 3 knows of what is printed only that it came from the task's standard output.
    assert "printed" in [line["event"] for line in lines]
    traceback = [line for line in of_the_task if "second line" in str(line)]
    assert traceback and {line["level"] for line in traceback} == {"error"}


def test_the_ui_still_reads_them(api, failed):
    answer = json.dumps(api.get(f"/dags/fails/dagRuns/{failed.replace('+', '%2B')}/taskInstances/broken/logs/1"))
    assert "printed" in answer
    assert "second line" in answer
