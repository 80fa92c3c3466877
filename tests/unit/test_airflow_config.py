"""What airflow.cfg is composed of."""

import pytest
from ansible_collections.windsock.airflow.plugins.filter import airflow_config as filters

NOTHING = {
    "secrets_backend": {},
    "backend_kwargs_path": "/etc/airflow/secrets/backend_kwargs",
    "remote_base_log_folder": "",
    "remote_log_conn_id": "",
    "ecs": {},
    "site": {},
}
ECS = {
    "region": "eu-central-1",
    "cluster": "tasks",
    "task_definition": "task",
    "container_name": "airflow",
    "subnets": ["s-1", "s-2"],
}


def cfg(*defaults, **given):
    return filters.airflow_cfg(filters.airflow_config(NOTHING | given | {"defaults": defaults}))


def test_a_site_overrides_adds_and_removes_options():
    defaults = (
        {"core": {"parallelism": 32, "load_examples": False}, "api": {"port": 8080}},
        {"core": {"parallelism": 16}},
    )
    site = {
        "core": {"load_examples": None, "hostname_callable": "a.b"},
        "Sentry": {"sentry_on": True},
        "empty": {},
        "none": None,
    }
    assert cfg(*defaults, site=site) == (
        "\n[api]\nport = 8080\n\n[core]\nhostname_callable = a.b\nparallelism = 16\n\n[Sentry]\nsentry_on = True"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.5, "1.5"),
        ("", ""),
        ("%(asctime)s first\nsecond", "%%(asctime)s first\n    second"),
        ([{"name": "ü", "kwargs": {"url": None}}], '[{"name": "\\u00fc", "kwargs": {"url": null}}]'),
        ({"a": "5%"}, '{"a": "5%%"}'),
    ],
)
def test_a_value_is_written_as_airflow_reads_it(value, text):
    assert cfg({"core": {"x": value}}) == f"\n[core]\nx = {text}"


@pytest.mark.parametrize(
    ("backend", "name"),
    [("hashicorp_vault", "airflow.providers.hashicorp.secrets.vault.VaultBackend"), ("site.Backend", "site.Backend")],
)
def test_the_arguments_of_a_secrets_backend_are_in_a_file(backend, name):
    given = {"backend": backend, "backend_kwargs": {"token": "hush"}}
    assert (
        cfg({}, secrets_backend=given)
        == f"\n[secrets]\nbackend = {name}\nbackend_kwargs_cmd = cat /etc/airflow/secrets/backend_kwargs"
    )


def test_a_connection_for_remote_logs_is_named_only_if_the_site_has_one():
    lines = "\n[logging]\nremote_base_log_folder = s3://logs\n%sremote_logging = True"
    assert cfg({}, remote_base_log_folder="s3://logs", remote_log_conn_id="") == lines % ""
    assert cfg({}, remote_base_log_folder="s3://logs", remote_log_conn_id="aws") == lines % "remote_log_conn_id = aws\n"
    assert cfg({}, remote_log_conn_id="aws") == ""


def test_ecs_has_what_the_site_declares():
    lines = "\n[aws_ecs_executor]\ncluster = tasks\nconn_id = \ncontainer_name = airflow\nlaunch_type = %s\n"
    lines += "region_name = eu-central-1\n%ssubnets = s-1,s-2\ntask_definition = task"
    assert cfg({}, ecs=ECS) == lines % ("FARGATE", "")
    more = ECS | {"security_groups": ["g-1", "g-2"], "launch_type": "EC2"}
    assert cfg({}, ecs=more) == lines % ("EC2", "security_groups = g-1,g-2\n")


@pytest.mark.parametrize(
    ("config", "environment", "lines"),
    [
        ({}, {}, []),
        ({"core": None, "database": {"external_db_managers": ""}}, {"HOME": "/x"}, []),
        (
            {"core": {"auth_manager": "a.B"}, "database": {"external_db_managers": "c.D"}},
            {"AIRFLOW__CORE__AUTH_MANAGER": "e.F"},
            ["auth_manager = a.B", 'AIRFLOW__CORE__AUTH_MANAGER="e.F"', "external_db_managers = c.D"],
        ),
    ],
)
def test_what_decides_the_schema_is_told_as_lines_of_its_files(config, environment, lines):
    assert filters.airflow_schema_lines(config, environment) == lines
