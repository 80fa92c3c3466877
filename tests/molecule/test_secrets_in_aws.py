"""Airflow's own secrets in an emulated Secrets Manager. What a task finds there: test_task_logs_in_aws.py."""

import json
import os

import boto3
import pytest
from playbook import play


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


def test_arguments_of_the_backend_are_in_no_file_that_others_may_read(host, setting):
    config = setting("airflow_config_dir")
    assert "flow/connections" not in host.file(f"{config}/airflow.cfg").content_string
    file = host.file(f"{config}/secrets/backend_kwargs")
    assert (file.mode, file.user, file.group) == (0o640, "root", setting("airflow_group"))


def test_a_backend_that_cant_be_imported_is_refused_before_the_configuration_is_replaced(host, setting):
    config = f"{setting('airflow_config_dir')}/airflow.cfg"
    before = host.file(config).sha256sum
    marker = "marker-backend-token-5d20"
    done = play("airflow",
                "-vvv",
                "--diff",
                airflow_secrets_backend={
                    "backend": "airflow.providers.nobody.secrets.Backend", "backend_kwargs": {"token": marker}
                })
    assert done.failed
    assert marker not in done.output
    assert "No module named 'airflow.providers.nobody'" in done.text
    assert "where the lock lacks apache-airflow-providers-nobody, it goes into airflow_extra_packages" in done.text
    assert host.file(config).sha256sum == before
    assert marker not in host.file(f"{setting('airflow_config_dir')}/secrets/backend_kwargs").content_string


@pytest.mark.long("rotations")
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
    assert json.loads(aws.get_secret_value(SecretId="flow/moved")["SecretString"]) == {
        "jwt_secret": on_host(host, setting, "jwt_secret")
    }


def test_a_source_that_refuses_stops_a_run_before_it_changes_the_host():
    done = play("virtualenv", airflow_secrets_name="flow/connections/from_aws", airflow_secrets_region="")
    assert done.failed
    assert done.changed == 0
    assert "airflow_secrets_source is aws_secrets_manager: no region is known. Set airflow_secrets_region" in done.text
