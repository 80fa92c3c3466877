"""All of AWS that a task meets, in an emulator: its DAG came from S3, its connection from Secrets Manager, its log goes
to S3 or CloudWatch and comes back.

The last tests of the scenario, by their file's name: they leave the host with other DAGs, and with its logs in
CloudWatch.
"""

import json
import os
import pathlib

import aws_requests
import boto3
import pytest
from airflow_api import Api
from conftest import ROOT
from dag_project import Project
from playbook import play
from task_logs import cloudwatch_log, task_log
from test_alternative import python

READS = '''
from datetime import datetime
try:
    from airflow.sdk import DAG, BaseHook, task
except ImportError:
    from airflow.decorators import task
    from airflow.hooks.base import BaseHook
    from airflow.models.dag import DAG

with DAG("reads", start_date=datetime(2024, 1, 1), schedule=None, catchup=False):

    @task
    def read():
        found = BaseHook.get_connection("from_aws")
        assert (found.host, len(found.password)) == ("aws.example.com", 20)
        print("the password is", found.password)

    read()
'''

GROUP = "/airflow/flow/task"


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture
def asked():
    """A function that says what hosts and controller have asked AWS since the test began."""
    aws_requests.emulator("reset")
    aws_requests.emulator("start")
    yield lambda: set(aws_requests.asked())
    aws_requests.emulator("stop")


def log_of_the_api(api, run):
    return json.dumps(api.get(f"/dags/reads/dagRuns/{run.replace('+', '%2B')}/taskInstances/read/logs/1"))


def test_a_dag_of_s3_reads_a_connection_of_aws_and_its_log_is_in_s3(tmp_path, host, setting, api, asked):
    """With no more than the documented policies allow."""
    boto3.client("s3", region_name="eu-central-1").put_object(
        Bucket="flow-dags", Key="team/dags/reads.py", Body=READS.encode()
    )
    project = Project(tmp_path, host, f"{setting('airflow_install_dir')}/dags")
    # The password that it asks Airflow with is in AWS, too.
    project.deploy("-e", "airflow_dags_source=s3://flow-dags/team", "-e", "airflow_admin_password=")
    run = api.start_run("reads")
    state = api.wait("reads", run)
    path = f"dag_id=reads/run_id={run}/task_id=read/attempt=1.log"
    log = task_log(host, setting, path)
    assert state == "success", log
    assert "the password is ***" in log
    assert "marker-from-aws" not in log
    assert "the password is ***" in log_of_the_api(api, run)
    assert host.file(f"{setting('airflow_log_dir')}/{path}").size == 0, "the local copy is not what the API has shown"

    # The controller has asked for the DAGs, and for Airflow's own secrets.
    of_hosts = {(action, arn)
                for action, arn in asked()
                if "flow-dags" not in arn and not arn.endswith(":" + setting("airflow_secrets_name"))}
    secrets = {(action, arn) for action, arn in of_hosts if action.startswith("secretsmanager:")}
    statement = json.loads(
        (ROOT / "files/iam/airflow-secrets-backend.json").read_text(encoding="utf-8"))["Statement"][0]
    assert {action for action, _arn in secrets} == set(statement["Action"])
    names = {arn.split(":secret:")[1] for _action, arn in secrets}
    assert "flow/connections/from_aws" in names
    assert {name.rpartition("/")[0] for name in names} <= {"flow/connections", "flow/variables"}
    logs = of_hosts - secrets
    assert {action for action, _arn in logs} == {"s3:GetObject", "s3:ListBucket", "s3:PutObject"}
    assert not aws_requests.refused(of_hosts,
                                    buckets=[{"bucket": "flow-logs", "prefix": "tasks/", "access": "read_write"}])


def test_the_executor_of_ecs_asks_for_a_container_as_declared(host, setting, asked):
    """By the configuration of the host, up to AWS's API: what the container then does, no emulator shows. With no more
    than its policy allows.
    """
    ecs = boto3.client("ecs", region_name="eu-central-1")
    before = ecs.list_tasks(cluster="flow-tasks")["taskArns"]
    python(host, setting, """
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.providers.amazon.aws.executors.ecs import AwsEcsExecutor
executor = AwsEcsExecutor()
executor.execute_async(TaskInstanceKey("reads", "read", "by hand"), ["airflow", "version"])
executor.attempt_workload_runs()
assert len(executor.active_workers) == 1, executor.pending_workloads
""")
    # The list of before was this test's own question.
    requests = {(action, arn) for action, arn in asked() if action.startswith("ecs:") and action != "ecs:ListTasks"}
    assert {action for action, _arn in requests} == {"ecs:RunTask"}
    assert not aws_requests.refused(requests,
                                    ecs={"cluster": "flow-tasks", "task_definition": "flow-task", "roles": []})
    started = set(ecs.list_tasks(cluster="flow-tasks")["taskArns"]) - set(before)
    (task,) = ecs.describe_tasks(cluster="flow-tasks", tasks=list(started))["tasks"]
    (container,) = task["overrides"]["containerOverrides"]
    assert (container["name"], container["command"]) == ("airflow", ["airflow", "version"])
    assert task["launchType"] == "FARGATE"
    network = json.loads(
        pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "aws_network").read_text(encoding="utf-8"))
    assert {"name": "subnetId", "value": network["subnets"][0]} in task["attachments"][0]["details"]


def test_a_log_goes_to_cloudwatch_and_comes_back(api, asked):
    """With no more than the policy of role aws_iam allows: to make a group is not in it."""
    to_cloudwatch = {
        "airflow_remote_base_log_folder": f"cloudwatch://arn:aws:logs:eu-central-1:123456789012:log-group:{GROUP}"
    }
    for playbook in ("airflow", "services"):
        done = play(playbook, **to_cloudwatch)
        assert not done.failed, done.output
    run = api.start_run("reads")
    assert api.wait("reads", run) == "success"
    log = cloudwatch_log(GROUP, f"dag_id=reads/run_id={run}/task_id=read/attempt=1.log".replace(":", "_"))
    assert "the password is ***" in log
    assert "marker-from-aws" not in log
    assert "the password is ***" in log_of_the_api(api, run)

    logs = {(action, arn) for action, arn in asked() if action.startswith("logs:")}
    assert {"logs:PutLogEvents", "logs:GetLogEvents"} <= {action for action, _arn in logs}
    assert not aws_requests.refused(logs, task_logs=True)
