"""Secrets that an emulated Secrets Manager holds: Airflow's own, and a connection that Airflow finds there by its backend."""

import base64
import json
import os
import pathlib
import urllib.request

import boto3
import pytest
from airflow_api import Api
from conftest import ROOT
from dag_project import Project
from playbook import play

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


@pytest.fixture
def aws(setting):
    return boto3.client("secretsmanager", region_name=setting("airflow_secrets_region"))


def held(aws, setting):
    return json.loads(aws.get_secret_value(SecretId=setting("airflow_secrets_name"))["SecretString"])


def on_host(host, setting, name):
    return host.check_output("cat %s/secrets/%s", setting("airflow_config_dir"), name)


def test_what_was_there_is_used_and_what_was_not_was_made_once(aws, host, setting):
    """By several runs, of which the dry one on the bare host was the first."""
    secrets = held(aws, setting)
    assert secrets.keys() == {"admin_password", "database_password", "jwt_secret", "team"}
    assert on_host(host, setting, "jwt_secret") == secrets["jwt_secret"]
    assert len(secrets["jwt_secret"]) == 64
    assert "p%40ss%2Fw" in on_host(host, setting, "sql_alchemy_conn")
    assert len(aws.list_secret_version_ids(SecretId=setting("airflow_secrets_name"))["Versions"]) == 2
    assert not os.path.exists(setting("airflow_secrets_copy_dir"))


@pytest.fixture
def asked():
    """Have the emulator write down what it is asked, and return a function that says it, as IAM names it."""

    def recorder(verb):
        urllib.request.urlopen(urllib.request.Request(f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/recorder/{verb}-recording", method="POST")).close()

    def said():
        """(action, name of the secret)"""
        lines = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "aws_requests").read_text(encoding="utf-8").splitlines()
        for entry in map(json.loads, lines):
            headers = {name.lower(): value for name, value in entry["headers"].items()}
            yield headers["x-amz-target"].replace(".", ":"), json.loads(base64.b64decode(entry["body"]))["SecretId"]

    recorder("reset")
    recorder("start")
    yield lambda: set(said())
    recorder("stop")


def test_a_task_reads_a_connection_by_the_backend(tmp_path, host, setting, major, asked):
    """With no more than the documented policy allows. The DAGs of before come back with test_json_logs.py, which is next."""
    project = Project(tmp_path, host, f"{setting('airflow_install_dir')}/dags")
    project.write("dags/reads.py", READS)
    # The password that it asks Airflow with is in AWS, too.
    project.deploy("-e", "airflow_dags_validation=false", "-e", "airflow_admin_password=")
    api = Api(host, setting, major)
    run = api.start_run("reads")
    state = api.wait("reads", run)
    actions, names = zip(*asked())
    log = host.check_output("cat %s", f"{setting('airflow_log_dir')}/dag_id=reads/run_id={run}/task_id=read/attempt=1.log")
    assert state == "success", log
    assert "the password is ***" in log
    assert "marker-from-aws" not in log
    statement = json.loads((ROOT / "files/iam/airflow-secrets-backend.json").read_text(encoding="utf-8"))["Statement"][0]
    assert set(actions) == set(statement["Action"])
    # The deploy has asked for Airflow's own.
    of_airflow = set(names) - {setting("airflow_secrets_name")}
    assert "flow/connections/from_aws" in of_airflow
    assert {name.rpartition("/")[0] for name in of_airflow} <= {"flow/connections", "flow/variables"}


def test_arguments_of_the_backend_are_in_no_file_that_others_may_read(host, setting):
    config = setting("airflow_config_dir")
    assert "flow/connections" not in host.file(f"{config}/airflow.cfg").content_string
    file = host.file(f"{config}/secrets/backend_kwargs")
    assert (file.mode, file.user, file.group) == (0o640, "root", setting("airflow_group"))


def test_a_backend_that_cant_be_imported_is_refused_before_the_configuration_is_replaced(host, setting):
    config = f"{setting('airflow_config_dir')}/airflow.cfg"
    before = host.file(config).sha256sum
    done = play("airflow", airflow_secrets_backend={"backend": "airflow.providers.nobody.secrets.Backend", "backend_kwargs": {"token": "marker"}})
    assert done.failed
    assert "No module named 'airflow.providers.nobody'" in done.text
    assert "where the lock lacks apache-airflow-providers-nobody, it goes into airflow_extra_packages" in done.text
    assert host.file(config).sha256sum == before
    assert "marker" not in host.file(f"{setting('airflow_config_dir')}/secrets/backend_kwargs").content_string


def test_the_keys_of_sessions_and_tokens_rotate_in_aws(aws, host, setting):
    before = held(aws, setting)
    done = play("rotate_api_secrets", "-vvv", "--diff")
    assert not done.failed, done.output
    after = held(aws, setting)
    assert after == {**before, "jwt_secret": after["jwt_secret"]}
    assert before["jwt_secret"] != after["jwt_secret"] == on_host(host, setting, "jwt_secret")
    assert before["jwt_secret"] not in done.output and after["jwt_secret"] not in done.output
    assert after["database_password"] not in done.output


def test_what_a_host_has_from_before_is_put_there_rather_than_made_anew(aws, host, setting):
    """As where the secrets were generated until now. A dry run says so, and does not."""
    moved = {"airflow_secrets_name": "flow/moved", "airflow_database_password": held(aws, setting)["database_password"]}
    assert play("virtualenv", "--check", **moved).changed == 1
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_secret_value(SecretId="flow/moved")
    assert play("virtualenv", **moved).changed == 1
    assert json.loads(aws.get_secret_value(SecretId="flow/moved")["SecretString"]) == {"jwt_secret": on_host(host, setting, "jwt_secret")}


def test_a_source_that_refuses_stops_a_run_before_it_changes_the_host():
    done = play("virtualenv", airflow_secrets_name="flow/connections/from_aws", airflow_secrets_region="")
    assert done.failed
    assert done.changed == 0
    assert "airflow_secrets_source is aws_secrets_manager: no region is known. Set airflow_secrets_region" in done.text
