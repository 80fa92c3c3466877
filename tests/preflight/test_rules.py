"""The functions that judge, on plain data."""

import base64
import dataclasses
import hashlib
import os
import pathlib
import time

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.windsock.airflow.plugins.module_utils.validation import core, owners, types
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import (
    airflow,
    airflow_backup,
    airflow_common,
    airflow_config,
    airflow_secrets,
    airflow_services,
    controller,
    host,
    inventory,
    reverse_proxy,
    settings,
    sign_in,
)
from ansible_collections.windsock.airflow.plugins.modules import validate as module
from ansible_collections.windsock.airflow.plugins.plugin_utils.variables import Setting
from shared_variables import shared_variables

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUPPORTED = yaml.safe_load(
    (ROOT / "roles/preflight/vars/main.yml").read_text(encoding="utf-8"))["__preflight_supported"]
KNOWN = ["airflow_version", "airflow_executor", "postgresql_port"]


def setting(name, level="inventory", entity="all", where="inv/group_vars/all/main.yml:1"):
    return Setting(name, where, entity, level)


@pytest.mark.parametrize("name, told", [
    ("airflow_version", None),
    ("airflow_vresion", "Did you mean airflow_version?"),
    ("airflow_zzzzzz", "no role knows"),
    # Both begin with airflow_, which makes them alike for nobody.
    ("airflow_exec", "no role knows this variable. All of them"),
    ("postgres_port", "Did you mean postgresql_port?"),
    ("vault_airflow_version", None),
    ("my_variable", None),
    ("__airflow_internal", None),
])
def test_names(name, told):
    found = [text for _name, text in settings.check_names([setting(name)], KNOWN, ["airflow", "postgresql"], [])]
    assert [told in text for text in found] == ([True] if told else [])


def test_renamed_variables_say_their_new_name(monkeypatch):
    renamed = {
        "airflow_port": {"new": "airflow_api_port", "since": "1.1.0"}, "airflow_gone": {"new": "", "since": "1.2.0"}
    }
    monkeypatch.setattr(settings, "RENAMED", renamed)
    found = dict(settings.check_names([setting("airflow_port"), setting("airflow_gone")], KNOWN, ["airflow"], []))
    assert "is called airflow_api_port in release 1.1.0" in found["airflow_port"]
    assert "is gone in release 1.2.0" in found["airflow_gone"]


@pytest.mark.parametrize(
    "level, entity, clash", [("inventory", "all", True), ("inline", "airflow", True), ("inventory", "airflow", False)]
)
def test_duplicates(level, entity, clash):
    both = [
        setting("postgresql_port", "playbook", "all", "group_vars/all/p.yml:1"),
        setting("postgresql_port", level, entity)
    ]
    assert bool(list(settings.check_duplicates(both, KNOWN))) is clash


@pytest.mark.parametrize("kind, value, good", [
    ("int", 5, True), ("int", "5", False), ("int", True, False), ("int", 5.5, False), ("int", "five", False),
    ("int", None, False),
    ("bool", True, True), ("bool", "true", False), ("bool", 1, False),
    ("str", "x", True), ("str", 16, True), ("str", 3.1, False), ("str", True, False), ("str", None, False),
    ("str", ["x"], False),
    ("list", [], True), ("list", "a,b", False), ("dict", {}, True), ("dict", [], False), ("path", "/x", True),
    ("raw", object(), True),
])
def test_types(kind, value, good):
    assert (types.type_problem("airflow_x", {"type": kind}, value) is None) is good


def test_types_inside_of_lists_and_dictionaries():
    spec = {
        "type": "list", "elements": "dict",
        "options": {"name": {"type": "str", "required": True}, "password": {"type": "str", "no_log": True}}
    }
    assert types.type_problem("x", spec, [{"name": "a", "password": "b"}]) is None
    assert "x[0] lacks name" in types.type_problem("x", spec, [{}])
    assert "Did you mean name?" in types.type_problem("x", spec, [{"nmae": "a"}])
    problem = types.type_problem("x", spec, [{"name": "a", "password": ["hunter2"]}])
    assert "x[0].password" in problem and "hunter2" not in problem
    assert "x[1]" in types.type_problem("x", {"type": "list", "elements": "str"}, ["a", {}])


def test_a_number_in_quotes_is_told_how_to_write_it():
    assert """-e '{"airflow_api_port": 8081}'""" in types.type_problem("airflow_api_port", {"type": "int"}, "8081")
    assert """-e '{"airflow_x": true}'""" in types.type_problem("airflow_x", {"type": "bool"}, "yes")


# The same in each process: with pytest-xdist, the names of tests may not differ between them.
KEY = base64.urlsafe_b64encode(hashlib.sha256(b"a key of the tests").digest()).decode()


@pytest.mark.parametrize("value", [
    "changeme", "change_me", "CHANGE-ME-NOW", "admin", "Admin123", "password", "Password1", "airflow", "secret",
    "postgres", "<password>", "YOUR_KEY",
    "your-secret-here", "xxxx", "****", "123456", "todo", "secret_key", "temporary_key", "replace me",
    "please-change-me", "${DB_PASSWORD}", "mysecret",
])
def test_placeholders(value):
    assert "placeholder" in core.secret_problem({}, value)


@pytest.mark.parametrize("value", ["correct horse battery", "airflow-8f2b1c", "adminus-rex-42b", "test-driven-Zebra9",
                                   "Xq9!", "passworthy-Lamp7", KEY])
def test_real_secrets(value):
    assert core.secret_problem({}, value) is None


@pytest.mark.parametrize("value, good", [
    (KEY, True), (KEY + "," + KEY, True), (KEY + ", " + KEY, False), (KEY[:-1], False), (KEY + "\n", False),
    ("é" * 44, False),
    (base64.urlsafe_b64encode(b"x" * 31).decode(), False), ("*" + KEY[1:], False), ("", True),
])
def test_fernet_keys(value, good):
    assert (core.secret_problem({"kind": "fernet"}, value) is None) is good


def test_a_short_secret():
    assert "16 characters" in core.secret_problem({"shortest": 16}, "Xq9!")


@pytest.mark.parametrize("url, expected", [
    ("postgresql://u:p%40ss@db.example.com:5433/airflow?sslmode=verify-full", ("db.example.com", 5433, "p@ss")),
    ("postgresql+psycopg2://u@db/airflow", ("db", 5432, "")),
    ("mysql://u:p@db/airflow", None), ("sqlite:////tmp/x.db", None), ("postgresql://db", None),
    ("db.example.com", None), ("postgresql://u:p@db:port/x", None),
])
def test_database_urls(url, expected):
    assert airflow_common.parse_url(url) == expected


class Given(dict):
    """Values of variables; an empty text for all others, as their defaults have it."""

    def __init__(self, **values):
        super().__init__({"airflow_version": "3.3.2", "airflow_executor": "LocalExecutor", **values})

    def __missing__(self, name):
        return ""

    def get(self, name, default=None):
        return self[name]


LOCKS = {"2.11.2": ["3.10", "3.11", "3.12"], "3.3.2": ["3.10", "3.11", "3.12", "3.13"]}
SITE = core.Site(where=lambda name, _host=None: "f",
                 supported=SUPPORTED,
                 locks=LOCKS,
                 components=lambda _values: ["api-server", "scheduler"],
                 is_file=lambda path: not path.startswith("/no/"))


def told_about(values, *checks):
    return [core.placed(name, text, SITE) for check in checks for name, text in check(values, SITE)]


def together(**values):
    """Of owners whose rules look at variables of each other."""
    checks = [check for owner in (airflow_common, airflow, airflow_secrets, airflow_config) for check in owner.CHECKS]
    return told_about(Given(**values), lambda values, site: core.check_data(values, site, owners.DATA), *checks)


@pytest.mark.parametrize("values, told", [
    ({}, None), ({"airflow_version": "3.3.9"}, "Versions with a lock: 2.11.2, 3.3.2"),
    ({"airflow_version": "3.3.9", "airflow_constraints": "official"}, None),
    ({"airflow_version": "3.3.9", "airflow_lock": "/x"}, None),
    ({"airflow_version": "latest"}, "is no version"),
    ({"airflow_version": "1.10.15"}, "these roles install: 2.10, 2.11, 3.2, 3.3. Take one of them."),
    ({"airflow_version": "2.9.3", "airflow_constraints": "official"}, "is of no release"),
    ({"airflow_version": "3.1.8", "airflow_constraints": "official"},
     "is of no release that these roles install: 2.10, 2.11, 3.2, 3.3. Take one of them."),
    ({"airflow_version": "3.4.0", "airflow_lock": "/x"},
     "a newer one is tried by adding it, with its Pythons, to airflow_python in roles/preflight"),
])
def test_versions(values, told):
    found = told_about(Given(**values), airflow.check_version)
    assert [told in text for text in found] == ([True] if told else [])


@pytest.mark.parametrize("version, python, told", [
    ("3.3.2", (3, 11), None), ("3.3.2", (3, 13), None), ("3.3.2", (3, 9), "too old"), ("3.3.2", (3, 15), "too new"),
    ("3.3.2", (3, 14), "has no lock"),
    ("2.11.2", (3, 13), "too new for Airflow 2.11.2"), ("2.11.2", (3, 12), None),
])
def test_pythons(version, python, told):
    found = {"path": "/usr/bin/python3", "exists": True, "version": list(python)}
    texts = [text for _name, text in airflow.check_python(Given(airflow_version=version), SITE, found, "")]
    assert [told in text for text in texts] == ([True] if told else [])


def test_a_python_that_will_be_installed():
    found = {"path": "/usr/bin/python3.12", "exists": False}
    assert not list(airflow.check_python(Given(), SITE, found, "3.12"))
    assert "there is no /usr/bin/python3.12" in list(airflow.check_python(Given(), SITE, found, ""))[0][1]


def test_a_python_that_cant_make_virtualenvs():
    found = {
        "path": "/usr/bin/python3.12", "exists": True, "version": [3, 12],
        "error": "ModuleNotFoundError: No module named 'ensurepip'"
    }
    assert "ensurepip" in list(airflow.check_python(Given(), SITE, found, ""))[0][1]


@pytest.mark.parametrize("executor, told", [
    ("LocalExecutor", None), ("LocalExecutor,a.b.C", None), ("LocalExecutor, KubernetesExecutor", None),
    ("a.b.C", None), ("mine:a.b.C", None),
    ("LocalExecutor;etl=KubernetesExecutor", None),
    ("LocalExecuter", 'has "LocalExecuter"; valid are LocalExecutor, KubernetesExecutor and'),
    ("CeleryExecutor", 'airflow_executor (f): has "CeleryExecutor", and no role installs Celery workers yet'),
    ("LocalExecutor, CeleryExecutor", 'has "CeleryExecutor", and'),
    ("LocalExecutor;etl=CeleryExecutor", 'has "CeleryExecutor", and'),
    ("mine:airflow.providers.celery.executors.celery_executor.CeleryExecutor",
     'celery_executor.CeleryExecutor", and no role installs'),
    ("airflow.providers.celery.executors.celery_kubernetes_executor.CeleryKubernetesExecutor",
     "and no role installs Celery workers yet"),
    ("LocalExecutor,a.b.C,celery", 'has "celery"'), ("LocalExecutor,", 'has ""'), ("", 'has ""'),
    ("SequentialExecutor", 'has "SequentialExecutor"'),
])
def test_executors(executor, told):
    found = told_about(Given(airflow_executor=executor), airflow.check_executor)
    assert [told in text for text in found] == ([True] if told else [])


@pytest.mark.parametrize("values, told", [
    ({"airflow_config": {"core": {"executor": "CeleryExecutor"}}},
     'airflow_config (f): core.executor has "CeleryExecutor", and no role installs'),
    ({"airflow_environment": {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}},
     'airflow_environment (f): AIRFLOW__CORE__EXECUTOR has "CeleryExecutor", and no role installs'),
    ({"airflow_config": {"core": {"executor": "LocalExecutor", "parallelism": 4}}, "airflow_environment": {"A": "b"}},
     None),
    ({"airflow_config": {"core": {"executor": None}, "celery": None}}, None),
    # Airflow 2 knows one more of them.
    ({"airflow_version": "2.11.2", "airflow_executor": "CeleryKubernetesExecutor"},
     'has "CeleryKubernetesExecutor", and no role installs'),
])
def test_an_executor_without_workers_is_refused_wherever_it_is_set(values, told):
    found = told_about(Given(**values), airflow.check_executor)
    assert [told in text for text in found] == ([True] if told else [])


@pytest.mark.parametrize("value, told", [
    ("", None), ("0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11", None),
    ("production", 'is "production"; valid is a UUID in lower case'),
    ("0D4B3F6E-6C39-4F0E-9F0A-5F1C1F0C8F11", "lower case"),
    ("../0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11", "valid is a UUID"),
    ("0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11\n", "valid is a UUID"),
])
def test_the_id_of_the_site(value, told):
    texts = together(airflow_site_id=value)
    assert [told in text and "airflow_site_id (f)" in text for text in texts] == ([True] if told else [])


def test_hosts_of_one_inventory_are_one_site():
    def problems(**ids):
        return [
            text for _name, text in inventory.check_one_site(
                {name: Given(airflow_site_id=value)
                 for name, value in ids.items()}, lambda name, host: f"host_vars/{host}.yml:1")
        ]

    assert problems(a="x", b="x") == problems(a="", b="") == []
    (text,) = problems(a="x", b="")
    assert 'a has "x" (host_vars/a.yml:1); b has "" (host_vars/b.yml:1)' in text


def test_airflow_2_has_executors_of_its_own():
    def problems(executor):
        return together(airflow_version="2.11.2", airflow_executor=executor)

    assert problems("SequentialExecutor") == []
    assert "Did you mean SequentialExecutor?" in problems("SequentalExecutor")[0]


@pytest.mark.parametrize("overrides, told", [
    ({}, None), ({"scheduler": {"Service": {"MemoryHigh": "8G"}, "Unit": {}}}, None),
    ({"scheduler": {"service": {"MemoryHigh": "8G"}}},
     "scheduler has the section service; valid are Unit, Service. Did you mean Service?"),
    ({"scheduler": {"Install": {}}}, "has the section Install"),
    ({"scheduler": {"MemoryHigh": "8G"}}, "needs sections with directives"),
    ({"scheduler": None}, "scheduler: {Service: {MemoryHigh: 8G}}"),
])
def test_overrides_of_units(overrides, told):
    found = told_about(Given(airflow_services_unit_overrides=overrides), airflow_services.check_unit_overrides)
    assert [told in text for text in found] == ([True] if told else [])


@pytest.mark.parametrize("name", airflow_services.PER_COMPONENT)
def test_what_is_meant_for_a_component(name):
    told = "there is no component schedular; Airflow 3.3.2 has api-server, scheduler. Did you mean scheduler?"
    for component, expected in (("scheduler", []), ("schedular", [(name, told)])):
        given = Given(**{"airflow_version": "3.3.2", name: {component: ["/etc/krb5.conf"]}})
        assert list(airflow_services.check_components(given, SITE)) == expected


@pytest.mark.parametrize("paths, good", [(["/etc/krb5.conf"], True), ([], True), (["etc/krb5.conf"], False),
                                         ("/etc/krb5.conf", False)])
def test_lists_of_files_of_a_component(paths, good):
    for name in ("airflow_services_configure_after", "airflow_services_restart_files"):
        found = list(airflow_services.check_lists(Given(**{name: {"scheduler": paths}}), SITE))
        assert found == ([] if good else
                         [(name, "scheduler needs a list of absolute paths, such as scheduler: [/etc/krb5.conf].")])


ECS = {
    "region": "eu-central-1", "cluster": "tasks", "task_definition": "task", "container_name": "airflow",
    "subnets": ["subnet-1"]
}
LOG_GROUP = "arn:aws:logs:eu-central-1:123456789012:log-group:/airflow/production/task"
URL = "postgresql://airflow:horse-battery@db/airflow"
GIVEN = {
    f"airflow_{name}": "horse-battery"
    for name in ("fernet_key", "api_secret_key", "jwt_secret", "database_password", "admin_password")
}


@pytest.mark.parametrize(
    "values, told",
    [
        ({}, None),
        ({"airflow_database_url": URL}, None),
        ({"airflow_database_host": "db", "airflow_database_password": "horse-battery"}, None),
        (
            {"airflow_database_url": URL, "airflow_database_host": "db", "airflow_database_password": "x"},
            "airflow_database_host (f): only one of them",
        ),
        ({"airflow_database_url": "mysql://airflow:horse-battery@db/airflow"}, "no address of a PostgreSQL database"),
        ({"airflow_database_url": "postgresql://airflow:changeme@db/airflow"}, "its password is a placeholder"),
        ({"airflow_database_url": URL + "?sslmode=require&connect_timeout=5&target_session_attrs=read-write"}, None),
        (
            {"airflow_database_url": URL + "?sslmode=require&sslrootcert=/x.pem&options=-csearch_path=x"},
            "has the option options, sslrootcert; valid are sslmode",
        ),
        ({"airflow_database_host": "db"}, "airflow_database_password (f): is empty"),
        ({"airflow_lock": "/no/lock"}, "no file /no/lock"),
        (
            {"airflow_dags_deploy_after": ["/no/tasks.yml"]},
            "airflow_dags_deploy_after (f): there is no file /no/tasks.yml",
        ),
        ({"airflow_services_configure_after": {"scheduler": ["/no/tasks.yml"]}}, "no file /no/tasks.yml"),
        ({"airflow_services_unit_templates": {"scheduler": "/no/unit.j2"}}, "no file /no/unit.j2"),
        ({"airflow_constraints": "/no/constraints"}, "no file /no/constraints"),
        ({"airflow_constraints": "latest"}, 'valid are "official"'),
        ({"airflow_constraints": "https://example.com/c.txt"}, None),
        ({"airflow_extra_packages": ["a @ https://me:horse@x/a.whl", "b @ git+ssh://git@x/b", "c==1"]}, None),
        (
            {"airflow_extra_packages": ["a @ git+https://me:horse@x/a"]},
            'airflow_extra_packages (f): "a @ git+https://x/a" has a login in its address',
        ),
        (
            {"airflow_secrets_source": "aws_ssm"},
            'airflow_secrets_name (f): is ""; airflow_secrets_source (f) is aws_ssm',
        ),
        ({"airflow_secrets_source": "aws_ssm", "airflow_secrets_name": "airflow/prod"}, "such as /airflow/prod"),
        ({"airflow_secrets_source": "aws_ssm", "airflow_secrets_name": "/airflow/prod/"}, "such as /airflow/prod"),
        ({"airflow_secrets_source": "aws_ssm", "airflow_secrets_name": "/aws/prod"}, "such as /airflow/prod"),
        ({"airflow_secrets_source": "aws_ssm", "airflow_secrets_name": "/airflow/prod"}, None),
        (
            {"airflow_secrets_source": "aws_secrets_manager", "airflow_secrets_name": "airflow prod"},
            "such as airflow/prod",
        ),
        # The password of an external server is in AWS, too.
        (
            {
                "airflow_secrets_source": "aws_secrets_manager",
                "airflow_secrets_name": "airflow/prod",
                "airflow_database_host": "db",
            },
            None,
        ),
        ({"airflow_secrets_source": "ansible_vault", **GIVEN}, None),
        (
            {"airflow_secrets_source": "ansible_vault", **GIVEN, "airflow_jwt_secret": ""},
            "airflow_jwt_secret (f): is empty, but airflow_secrets_source (f)",
        ),
        (
            {"airflow_secrets_source": "ansible_vault", **GIVEN, "airflow_jwt_secret": "", "airflow_version": "2.11.2"},
            None,
        ),
        (
            {
                "airflow_secrets_source": "ansible_vault",
                **GIVEN,
                "airflow_database_password": "",
                "airflow_database_url": URL,
            },
            None,
        ),
        (
            {
                "airflow_secrets_source": "ansible_vault",
                **GIVEN,
                "airflow_database_password": "",
                "airflow_database_host": "db",
            },
            "airflow_database_password (f)",
        ),
        ({"airflow_secrets_backend": {"backend": "hashicorp_vault"}}, None),
        ({"airflow_secrets_backend": {"backend": "site.secrets.Backend"}}, None),
        ({"airflow_secrets_backend": {"backend": "hashicorp-vault"}}, "Did you mean hashicorp_vault?"),
        ({"airflow_secrets_backend": {"backend_kwargs": {}}}, "its backend is null; valid are aws_secrets_manager"),
        ({"airflow_remote_base_log_folder": "s3://example-airflow/logs"}, None),
        ({"airflow_remote_base_log_folder": "s3://example-airflow"}, None),
        ({"airflow_remote_base_log_folder": f"cloudwatch://{LOG_GROUP}"}, None),
        ({"airflow_remote_base_log_folder": f"cloudwatch://{LOG_GROUP}:*"}, "valid are s3://bucket/prefix"),
        (
            {"airflow_remote_base_log_folder": "cloudwatch:///airflow/production/task"},
            "arn:aws:logs:<region>:<account>:log-group:<name>",
        ),
        ({"airflow_remote_base_log_folder": "example-airflow/logs"}, 'is "example-airflow/logs"'),
        (
            {"airflow_executor": "airflow.providers.amazon.aws.executors.ecs.AwsEcsExecutor"},
            "airflow_ecs (f): lacks region, cluster, task_definition",
        ),
        ({"airflow_ecs": {**ECS, "subnets": []}}, "airflow_ecs (f): lacks subnets, which"),
        ({"airflow_ecs": ECS}, None),
        ({"airflow_alerts": {"slack_webhook_url": "https://hooks.slack.com/services/correct-horse"}}, None),
        (
            {
                "airflow_alerts": {
                    "email": {"to": ["a@example.com"], "from": "b@example.com", "host": "smtp"},
                    "limit": 5,
                }
            },
            None,
        ),
        ({"airflow_alerts": {"limit": 5}}, "names nobody"),
        ({"airflow_alerts": {"email": {"to": ["a@example.com"]}}}, "email lacks from, host"),
        ({"airflow_alerts": {"email": {"to": ["nobody"], "from": "b@example.com", "host": "smtp"}}}, "no address"),
        (
            {
                "airflow_alerts": {
                    "email": {"to": ["a@b"], "from": "b@c", "host": "smtp", "user": "me", "security": "none"}
                }
            },
            "password in clear",
        ),
        ({"airflow_alerts": {"slack_webhook_url": "correct-horse"}}, "slack_webhook_url is no address"),
        ({"airflow_alerts": {"sns_topic_arn": "airflow-alerts"}}, "valid is one such as arn:aws:sns"),
        ({"airflow_alerts": {"sns_topic_arn": "arn:aws:sns:eu-central-1:123456789012:a", "limit": 0}}, "limit is 0"),
        ({"airflow_python": "python3.12"}, "absolute path"),
        ({"airflow_python": "/usr/bin/python3"}, "ends in the version"),
    ],
)
def test_what_belongs_together(values, told):
    texts = together(**values)
    assert [told in text for text in texts] == ([True] if told else [])
    assert "horse" not in " ".join(texts)


@pytest.mark.parametrize("version, config, told", [
    ("3.3.2", {"celery": {"broker_url": "redis://:horse@r:6379/0"}},
     "celery.broker_url_cmd to a command that prints it, or airflow_environment: AIRFLOW__C"),
    ("3.3.2", {"celery": {"broker_url": "redis://r:6379/0"}}, None),
    ("3.3.2", {"celery": {"broker_url_cmd": "cat /etc/horse"}}, None),
    ("3.3.2", {"sentry": {"sentry_dsn": "https://horse@sentry.io/1", "sentry_dsn_secret": "dsn"}},
     "has sentry.sentry_dsn, a secret that --diff"),
    ("2.11.2", {"smtp": {"smtp_password": "horse"}}, "put both into connection smtp_default"),
    # Airflow 3 has no such option, so reads it by no command.
    ("3.3.2", {"smtp": {"smtp_password": "horse"}}, "put both into connection smtp_default"),
    ("3.3.2", {"our.team": {"api_token": "horse"}}, "Set airflow_environment: AIRFLOW__OUR_TEAM__API_TOKEN"),
    ("3.3.2", {"database": {"sql_alchemy_engine_args": {"connect_args": {"password": "horse"}}}},
     "database.sql_alchemy_engine_args_cmd"),
    ("3.3.2", {"logging": {"remote_task_handler_kwargs": '{"secret_key": "horse"}'}},
     "logging.remote_task_handler_kwargs_cmd"),
    ("3.3.2", {"database": {"sql_alchemy_engine_args": {"pool_timeout": 5}},
               "logging": {"remote_task_handler_kwargs": '{"delete_local_copy": true}'}}, None),
    ("3.3.2", {"core": {"simple_auth_manager_passwords_file": "/x"},
               "logging": {"min_length_masked_secret": 5, "secret_mask_adapter": "a.b"},
               "workers": {"secrets_backend": "a.b"}, "sentry": None, "smtp": {"smtp_password": None}}, None),
])
def test_secrets_that_a_diff_would_show(version, config, told):
    texts = together(airflow_version=version, airflow_config=config)
    assert [told in text for text in texts] == ([True] if told else []), texts
    assert "horse" not in " ".join(texts)


OPTIONS = {
    version: yaml.safe_load(
        (ROOT / "roles/preflight/files/airflow_options" / (version + ".yml")).read_text(encoding="utf-8"))
    for version in ("2.11.2", "3.3.2")
}


def all_sections():
    return {section: version for version, options in OPTIONS.items() for section in options["sections"]}


@pytest.mark.parametrize(
    "version, values, told",
    [
        (
            "3.3.2",
            {"core": {"default_timezone": "UTC", "paralelism": 5}},
            "has no option core.paralelism. Did you mean parallelism?",
        ),
        (
            "3.3.2",
            {"core": {"pool_size": 5}},
            "has no option core.pool_size. All of them are in roles/preflight/files/airflow_options/3.3.2.yml.",
        ),
        (
            "3.3.2",
            {"core": {"max_tis_per_query": 5}},
            "has no option core.max_tis_per_query. Section scheduler has it.",
        ),
        (
            "3.3.2",
            {"scheduler": {"dag_dir_list_interval": 5}},
            "scheduler.dag_dir_list_interval is called dag_processor.refresh_interval in Airflow 3.3.2.",
        ),
        (
            "3.3.2",
            {"webserver": {"page_size": 5}},
            "webserver.page_size is called api.fallback_page_limit in Airflow 3.3.2.",
        ),
        ("2.11.2", {"scheduler": {"dag_dir_list_interval": 5}}, None),
        # Sections that only another version has. What is renamed in them is told above.
        (
            "3.3.2",
            {"webserver": {"default_ui_timezone": "UTC"}},
            "has no section webserver, which Airflow 2.11.2 has. Remove webserver.default_ui_timezone.",
        ),
        ("3.3.2", {"debug": {"fail_fast": "true"}}, "has no section debug, which Airflow 2.11.2 has."),
        ("3.3.2", {"webserver": {"worker_timeout": 5}}, "Section api has it. Remove webserver.worker_timeout."),
        (
            "2.11.2",
            {"dag_processor": {"refresh_interval": 5}},
            "has no section dag_processor, which Airflow 3.3.2 has. Remove dag_processor.refresh_interval.",
        ),
        ("3.3.2", {"webserver": {"default_ui_timezone": None}}, None),
        ("3.3.2", {"scheduller": {"max_tis_per_query": 5}}, "has no section scheduller. Did you mean scheduler?"),
        ("3.3.2", {"Core": {"parallelism": 5}}, "has no section Core. Did you mean core?"),
        ("3.3.2", {"core": [5]}, "section core is a list, where a dictionary of options belongs"),
        ("3.3.2", {"core": {"parallelism": "many"}}, 'core.parallelism is "many"; valid is a whole number'),
        ("3.3.2", {"api": {"enable_swagger_ui": "si"}}, 'api.enable_swagger_ui is "si"; valid is true or false'),
        ("3.3.2", {"core": {"load_examples": "t", "parallelism": "8"}, "scheduler": {"max_tis_per_query": 5}}, None),
        # Of a provider: known by its version in the lock only.
        (
            "3.3.2",
            {"celery": {"worker_concurency": 5}},
            "has no option celery.worker_concurency. Did you mean worker_concurrency?",
        ),
        # Those that preflight leaves to Airflow itself: a site's plugin, a provider that is not in the lock, a version
        # without data.
        (
            "3.3.2",
            {
                "our.team": {"anything": 1},
                "openlineage": {"transport": "x"},
                "edge": {"a": 1},
                "local_kubernetes_executor": {"kubernetes_queue": "k"},
            },
            None,
        ),
        ("3.3.9", {"core": {"paralelism": 5}}, None),
        (
            "3.3.2",
            {
                "core": None,
                "scheduler": {"no_such": None},
                "database": {"sql_alchemy_engine_args_cmd": "x", "sql_alchemy_engine_args_secret": "x"},
            },
            None,
        ),
    ],
)
def test_options_of_airflow(version, values, told):
    site = dataclasses.replace(SITE, options=lambda _values: OPTIONS.get(version, {}), all_sections=all_sections)
    found = list(airflow_config.check_config_options(Given(airflow_version=version, airflow_config=values), site))
    texts = [text for _name, text in found]
    assert [told in text for text in texts] == ([True] if told else []), texts
    assert {name for name, _text in found} <= {"airflow_config"}


def test_options_of_another_providers_version_are_left_to_airflow():
    values = Given(airflow_config={"celery": {"a_new_one": 5}, "core": {"a_new_one": 5}},
                   airflow_constraints="official")
    (found,) = airflow_config.check_config_options(
        values, dataclasses.replace(SITE, options=lambda _values: OPTIONS["3.3.2"])
    )
    assert "core.a_new_one" in found[1]


def test_a_variable_that_is_an_option_of_airflow():
    options = ["core.default_timezone", "core.parallelism", "scheduler.parallelism"]
    found = dict(
        settings.check_names([setting("airflow_timezone"), setting("airflow_parallelism")], KNOWN, ["airflow"], [],
                             lambda: options))
    assert ("variable. Airflow's own option core.default_timezone goes into airflow_config: {core: {default_timezone: "
            "...}}.") in found[
        "airflow_timezone"]
    assert "own option" not in found["airflow_parallelism"]


@pytest.mark.parametrize("values, told", [
    ({"airflow_environment": {"AIRFLOW__CORE__FERNET_KEY": "horse", "TZ": "UTC"}},
     "airflow_environment (f): has AIRFLOW__CORE__FERNET_KEY, which Airflow"),
    ({"airflow_environment": {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "horse"}},
     "has AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"),
    ({"airflow_environment": {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "a.b"}}, None),
    ({"airflow_config": {"api_auth": {"jwt_secret": "horse"}}},
     "airflow_config (f): has api_auth.jwt_secret, which Airflow would"),
    ({"airflow_config": {"core": {"fernet_key_cmd": "horse"}}}, "airflow_config (f): has core.fernet_key_cmd"),
    ({"airflow_config": {"core": {"fernet_key": None}, "database": {"sql_alchemy_connect_args": "a.b"}}}, None),
])
def test_secrets_that_airflow_would_take_from_elsewhere(values, told):
    texts = together(**values)
    assert [told in text for text in texts] == ([True] if told else []), texts
    assert "horse" not in " ".join(texts)


@pytest.mark.parametrize(
    "name, value, good",
    [("airflow_api_port", 80, False), ("airflow_api_port", 8080, True), ("postgresql_memory_percent", 101, False)],
)
def test_ranges(name, value, good):
    assert (types.range_problem(name, value, owners.DATA["RANGES"]) is None) is good


def test_choices_of_a_list_are_those_of_its_items():
    spec = {"type": "list", "elements": "str", "choices": ["owner", "catchup"]}
    assert not types.type_problem("airflow_dags_rules", spec, ["owner", "catchup"])
    assert "airflow_dags_rules[1]" in types.type_problem("airflow_dags_rules", spec, ["owner", "tags"])


def test_choices():
    problem = types.type_problem("airflow_installer", {"type": "str", "choices": ["uv", "pip"]}, "pipx")
    assert "valid are uv, pip" in problem and "Did you mean pip?" in problem


ONE = {
    "all": ["a"], "ungrouped": [], "airflow": ["a"], "airflow_webserver": ["a"], "airflow_scheduler": ["a"],
    "airflow_dag_processor": ["a"], "airflow_triggerer": ["a"], "airflow_postgres": ["a"]
}


@pytest.mark.parametrize("change, external, told", [
    ({}, False, None),
    ({"airflow_scheduler": []}, False, "no host in airflow_scheduler"),
    ({"airflow_scheduler": [], "airflow_sheduler": ["a"]}, False, "Did you mean airflow_scheduler?"),
    ({"airflow_postgres": []}, False, "exactly one host"), ({"airflow_postgres": []}, True, None),
    ({"airflow_postgres": ["a", "b"]}, False, "2 hosts (a, b)"),
    ({"airflow_triggerer": ["a", "b"]}, False, "isn't a child of group airflow"),
    ({"airflow": ["a", "b"]}, False, "nothing would run there"),
    ({"airflow": ["a", "b"]}, False, "run playbooks/services.yml (docs/remove.md)"),
    ({"airflow_production": ["a"]}, False, None),
    ({"airflow": ["a", "b"], "airflow_worker": ["b"]}, False,
     "b in group airflow_worker, and no role installs anything"),
    ({"airflow_flower": ["a"]}, False, "a in group airflow_flower, and no role"),
    ({"airflow_pgbouncer": ["c"]}, False, "c in group airflow_pgbouncer, and"),
    ({"airflow_redis": ["c"]}, False, "c in group airflow_redis, and"),
    ({"airflow_worker": [], "airflow_flower": [], "airflow_redis": []}, False, None),
    ({"airflow": ["a", "b"], "airflow_dag_processor": ["a", "b"]}, False, None),
    ({"airflow_proxy": ["a"]}, False, None),
    ({"airflow_proxy": ["a", "b"]}, False, "b in group airflow_proxy but not in airflow_webserver"),
])
def test_groups(change, external, told):
    texts = [text for _name, text in inventory.check_groups({**ONE, **change}, "inv", 3, external)]
    assert any(told in text for text in texts) if told else not texts


@pytest.mark.parametrize("values, told", [
    ({}, None), ({"airflow_api_base_url": "https://airflow.example.com:8443"}, None),
    ({"airflow_api_base_url": ""}, 'airflow_api_base_url (f): is "", but'),
    ({"airflow_api_base_url": "http://airflow.example.com"}, "Valid is https://"),
    ({"airflow_api_base_url": "https://Airflow.example.com"}, "in lower case"),
    ({"airflow_api_base_url": "https://example.com/airflow"}, "without a path"),
    ({"airflow_api_host": "0.0.0.0"}, 'airflow_api_host (f): is "0.0.0.0", but'),
])
def test_what_a_proxy_needs(values, told):
    values = {"airflow_api_base_url": "https://airflow.example.com", "airflow_api_host": "127.0.0.1", **values}
    texts = told_about(Given(**values), reverse_proxy.check_proxy)
    assert [told in text for text in texts] == ([True] if told else [])


def test_airflow_2_needs_no_dag_processor():
    assert not list(inventory.check_groups({**ONE, "airflow_dag_processor": []}, "inv", 2, False))
    assert not list(inventory.check_groups(ONE, "inv", 2, False))


def test_airflow_2_runs_nothing_on_a_host_that_only_parses():
    two = {**ONE, "airflow": ["a", "b"], "airflow_dag_processor": ["b"]}
    (text,) = [text for _name, text in inventory.check_groups(two, "inv", 2, False)]
    assert (
        "b in group airflow but in no group whose component Airflow 2 has" in text
        and "airflow_dag_processor" not in text
    )
    assert not list(inventory.check_groups(two, "inv", 2, False, True))


@pytest.mark.parametrize("option, told", [(True, True), ("True", True), (False, False), (None, False)])
def test_airflow_2_parses_dags_somewhere(option, told):
    standalone = airflow.standalone_dag_processor(
        Given(airflow_config={"scheduler": {"standalone_dag_processor": option}}))
    texts = [
        text
        for _name, text in inventory.check_groups({**ONE, "airflow_dag_processor": []}, "inv", 2, False, standalone)
    ]
    assert ["scheduler.standalone_dag_processor" in text for text in texts] == ([True] if told else [])
    assert not list(inventory.check_groups(ONE, "inv", 2, False, standalone))


def test_hosts_that_need_each_other():
    two = {**ONE, "airflow": ["a", "b"], "airflow_scheduler": ["a", "b"]}
    hosts = {"a": Given(postgresql_listen_addresses=["127.0.0.1"]), "b": Given()}
    texts = [text for _name, text in inventory.check_peers(two, "inv", 3, "LocalExecutor,a.b.C", hosts, SITE.where)]
    assert [
        word in text for word, text in zip(("postgresql_listen_addresses", "postgresql_allowed_networks",
                                            "b in airflow_scheduler"), texts)
    ] == [True] * 3
    hosts["a"] = Given(postgresql_listen_addresses=["127.0.0.1", "10.0.0.1"],
                       postgresql_allowed_networks=["10.0.0.0/24"])
    assert not list(
        inventory.check_peers({**two, "airflow_webserver": ["a", "b"]}, "inv", 3, "LocalExecutor", hosts, SITE.where))


def test_the_controller():
    assert list(controller.check_python(
        (3, 11))) == [] and "Python 3.9; valid is 3.11 or newer" in next(controller.check_python((3, 9)))
    assert list(controller.check_repository("/repo", 0o41777)) == [] and "chmod o-w /repo" in next(
        controller.check_repository("/repo", 0o40777))


HOST = {
    "preflight_min_memory_mb": 1800, "preflight_min_disk_mb": 3000, "preflight_min_disk_rerun_mb": 500,
    "preflight_max_clock_skew": 300, "preflight_database_timeout": 5, "airflow_install_dir": "/opt/airflow",
    "airflow_log_dir": "/var/log/airflow", "airflow_backup_schedule": "*-*-* 02:00",
    "airflow_clean_database_schedule": "*-*-* 03:30", "logrotate_schedule": "hourly"
}
API = {8080: {"variable": "airflow_api_port", "units": "^airflow-"}}


def listener(**values):
    return {"8080": [{"inode": "1", "user": "root", "pid": 7, "process": "nginx", "unit": "nginx.service", **values}]}


def mounts(free, **values):
    here = {"directory": "/", "device": 1, "free_mb": free}
    return {"filesystems": {"/opt/airflow": here, "/var/log/airflow": here}, **values}


@pytest.mark.parametrize(
    "found, facts, told",
    [
        ({}, {}, None),
        ({}, {"distribution": "Fedora", "distribution_version": "43"}, "It runs Fedora 43, which is not supported"),
        ({}, {"distribution_version": "11.9"}, "not supported"),
        ({}, {"distribution_version": "13.1"}, None),
        ({}, {"distribution": "Ubuntu", "distribution_version": "22.10"}, "not supported"),
        ({}, {"distribution": "Ubuntu", "distribution_version": "22.04"}, None),
        ({}, {"distribution": "Amazon", "distribution_version": "2023"}, None),
        ({"init": "tini"}, {}, "Its process 1 is tini"),
        ({}, {"memtotal_mb": 900}, "900 MB of memory"),
        (
            mounts(2000),
            {},
            "2000 MB free on the file system of /opt/airflow (airflow_install_dir, f) and /var/log/airflow",
        ),
        (mounts(2000, virtualenv="3.3.2-py3.11-aabbccdd"), {}, None),
        (mounts(2000, virtualenv="3.3.1-py3.11-aabbccdd"), {}, "3000 are needed"),
        (mounts(400, virtualenv="3.3.2-py3.11-aabbccdd"), {}, "500 are needed"),
        ({"ports": listener()}, {}, "Its port 8080 is in use by nginx (pid 7, user root), unit nginx.service"),
        ({"ports": listener(unit="airflow-api-server.service")}, {}, None),
        ({"ports": {"8080": [{"inode": "1", "user": "root"}]}}, {}, "by a process of user root"),
        ({"ports": {"22": [{}]}}, {}, None),
        (
            {"unknown_times": ["hourly"]},
            {},
            'logrotate_schedule (f) is "hourly", a time that systemd on the host does not know',
        ),
        ({"time": time.time() - 4000}, {}, "clock is"),
        (
            {"runs_as": {"airflow_user": {"directive": "User", "units": ["airflow"], "files": []}}},
            {},
            "and the Airflow on this host is installed with airflow",
        ),
    ],
)
def test_hosts(found, facts, told):
    texts = told_of(found, facts)
    assert [told in text for text in texts] == ([True] if told else [])


def told_of(found, facts):
    good = mounts(5000,
                  init="systemd",
                  virtualenv="",
                  ports={},
                  python={"path": "/usr/bin/python3", "exists": True, "version": [3, 11]},
                  database="",
                  index={},
                  unknown_times=[],
                  time=time.time())
    system = {"distribution": "Debian", "distribution_version": "12.9", "memtotal_mb": 4000}
    problems = host.check_host(Given(**HOST), SITE, {**good, **found}, {**system, **facts}, API, "", time.time())
    return [text for _name, text in problems]


def test_a_port_is_not_ours_if_somebody_else_wrote_the_unit():
    """As tutorials name theirs, so that the name alone proves nothing."""
    foreign = [["unit", "unit /etc/systemd/system/airflow-webserver.service"]]
    port, unit = told_of({"ports": listener(unit="airflow-webserver.service"), "foreign": foreign}, {})
    assert port.startswith(
        "Its port 8080 is in use by") and "airflow-webserver.service" in port and foreign[0][1] in unit


@pytest.mark.parametrize("config, port", [
    ({}, 8974), ({"scheduler": {"scheduler_health_check_server_port": 8975}}, 8975), ({"scheduler": None}, 8974),
    ({"scheduler": {"scheduler_health_check_server_port": None}}, 8974), ({"core": {"parallelism": 4}}, 8974),
])
def test_a_port_that_an_option_moves(config, port):
    """What is asked for is what the components are asked at, and the message names the same option."""
    (rule,) = [rule for rule in host.PORTS if "option" in rule]
    assert host.port_of(rule, Given(airflow_config=config)) == port
    variables = shared_variables() | {"airflow_config": config}
    url = trust_as_template("{{ __airflow_components.scheduler.check.url }}")
    assert Templar(loader=DataLoader(), variables=variables).template(url) == f"http://127.0.0.1:{port}/health"
    found = mounts(5000,
                   init="systemd",
                   virtualenv="",
                   ports={str(port): [{"user": "root"}]},
                   python={"path": "/x", "exists": True, "version": [3, 11]},
                   database="",
                   index={},
                   unknown_times=[],
                   time=time.time())
    facts = {"distribution": "Debian", "distribution_version": "12.9", "memtotal_mb": 4000}
    (told, ) = [
        text for _name, text in host.check_host(Given(**HOST), SITE, found, facts, {port: rule}, "", time.time())
    ]
    assert (
        f"Its port {port} is in use" in told
        and "airflow_config.scheduler.scheduler_health_check_server_port (f)" in told
    )


def test_every_problem_is_told_once():
    assert core.message([("a", "A.")], "Nothing") == "Nothing: 1 problem.\n1. A."
    assert core.message([("a", "A."), ("b", "B."), ("a", "A.")], "Nothing") == "Nothing: 2 problems.\n1. A.\n2. B."


def test_the_module_finds_a_listener_by_name():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = module.listeners({port})
        module.name_processes(found)
    assert [entry["pid"] for entry in found[port]] == [os.getpid()]


def test_the_module_measures_the_nearest_directory_that_exists(tmp_path):
    found = module.filesystem(str(tmp_path / "a" / "b"))
    assert found["directory"] == str(tmp_path) and found["free_mb"] > 0


OAUTH = {
    "type": "oauth", "provider": "oidc", "issuer": "https://id.example.com", "client_id": "a", "client_secret": "b",
    "allowed_domains": ["example.com"]
}
LDAP = {
    "type": "ldap", "server": "ldaps://ldap.example.com", "bind_user": "cn=x", "bind_password": "b",
    "search": "dc=example"
}
NO_GROUPS = {key: OAUTH[key] for key in ("type", "client_id", "client_secret", "allowed_domains")}


def auth_problems(auth, url="https://airflow.example.com"):
    return told_about({"airflow_auth": auth, "airflow_api_base_url": url}, sign_in.check_auth)


@pytest.mark.parametrize("auth", [
    {}, {"type": "database"}, OAUTH, LDAP, {**NO_GROUPS, "provider": "google"},
    {**OAUTH, "allowed_domains": [], "allowed_groups": ["data"]},
    {**NO_GROUPS, "provider": "github", "allowed_groups": ["acme/data"], "roles": {"acme/data": ["Op"]}},
    {**OAUTH, "provider": "okta", "default_role": ""},
    {**OAUTH, "provider": "cognito", "issuer": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_x",
     "name": "our-pool"},
    {**OAUTH, "allowed_domains": ["gmail.com"], "allowed_groups": ["data"]},
    {**LDAP, "server": "ldap://l:389", "start_tls": True, "search_filter": "(a=(b))"},
])
def test_a_good_sign_in(auth):
    assert auth_problems(auth) == []


@pytest.mark.parametrize("auth, told", [
    ({"provider": "google"}, "lacks type; valid are database, ldap, oauth"),
    ({"type": "oauth"}, "lacks provider; valid are google"),
    ({**OAUTH, "issuer": ""}, "provider oidc lacks issuer"),
    ({**OAUTH, "client_secret": ""}, "provider oidc lacks client_secret"),
    ({**OAUTH, "allowed_domains": []}, "everybody with an account of the provider could sign in"),
    ({**NO_GROUPS, "provider": "google", "allowed_domains": []}, "everybody with an account"),
    ({**NO_GROUPS, "provider": "google", "allowed_groups": ["x"]}, "provider google has no allowed_groups"),
    ({**LDAP, "allowed_domains": ["example.com"]}, "type ldap has no allowed_domains"),
    ({**OAUTH, "allowed_domains": ["@example.com"]}, '"@example.com", which is no domain'),
    ({**OAUTH, "allowed_domains": ["*.example.com"]}, "no domain"),
    ({**OAUTH, "allowed_domains": ["com"]}, "no domain"),
    ({**OAUTH, "allowed_domains": ["GMail.com"]}, "where anybody gets an address"),
    ({**OAUTH, "issuer": "http://id.example.com"}, "https://"),
    ({**OAUTH, "issuer": "https://a/.well-known/openid-configuration"}, "without what"),
    ({**OAUTH, "name": "Our IdP"}, "part of an address"), ({**OAUTH, "roles": {"data": "Op"}}, "list of roles"),
    ({**LDAP, "server": "ldap://ldap.example.com"}, "in clear"),
    ({**LDAP, "server": "ldap.example.com"}, "valid is ldaps://host"),
    ({**LDAP, "start_tls": True}, "encrypted already"), ({**LDAP, "search_filter": "uid=x"}, "in brackets"),
    ({**LDAP, "search": ""}, "type ldap lacks search"),
])
def test_a_sign_in_that_would_let_in_the_wrong_ones_or_nobody(auth, told):
    problems = auth_problems(auth)
    assert len(problems) == 1 and told in problems[0] and problems[0].startswith("airflow_auth (f): "), problems


@pytest.mark.parametrize("url", ["", "http://airflow.example.com"])
def test_a_provider_sends_people_back_by_https(url):
    (problem,) = auth_problems(OAUTH, url)
    assert "airflow_api_base_url (f) has to be https://" in problem and "airflow_proxy" in problem
    assert auth_problems(LDAP, url) == []


PUBLIC_KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n"


@pytest.mark.parametrize("values, made, gpg, told", [
    ({}, False, True, None),
    ({}, True, False, None),
    ({}, False, False, "the controller lacks gpg"),
    ({"airflow_secrets_copy_dir": ""}, False, True, "there is nobody that keys in a backup could be sealed for"),
    ({"airflow_backup_recipients": [PUBLIC_KEY], "airflow_secrets_copy_dir": ""}, False, False, None),
    ({"airflow_backup_recipients": [PUBLIC_KEY, "age1qqq"]}, False, True,
     "airflow_backup_recipients[1] (f) is no armored OpenPGP public key"),
    ({"airflow_backup_recipients": [PUBLIC_KEY.replace("PUBLIC", "PRIVATE")]}, False, True,
     "airflow_backup_recipients[0]"),
    ({"airflow_backup_dir": "/backups"}, False, True, "airflow_backup_dir (f) is /backups"),
    ({"airflow_backup_dir": "/var/my backups"}, False, True, "without spaces"),
])
def test_backups_need_somebody_to_be_sealed_for(values, made, gpg, told):
    given = {
        "airflow_backup_dir": "/var/backups/airflow", "airflow_backup_recipients": [],
        "airflow_secrets_copy_dir": "~/x", **values
    }
    site = dataclasses.replace(SITE, has_backup_key=lambda _directory: made, has_gpg=gpg)
    found = [core.placed(name, text, SITE) for name, text in airflow_backup.check_backup(given, site)]
    assert [told in text for text in found] == ([True] if told else [])
    assert "PRIVATE" not in "".join(found)


@pytest.mark.parametrize(("values", "told"), [
    ({}, ""),
    ({"airflow_backup_dir": "/var/lib/airflow-backups"}, ""),
    ({"airflow_backup_dir": "/var/lib/airflow/backups"},
     "is /var/lib/airflow/backups, and airflow_home (f) is /var/lib/airflow. One would be"),
    ({"airflow_log_dir": "/data/logs/", "airflow_backup_dir": "/data/logs"}, "and airflow_log_dir (f) is /data/logs/"),
    ({"airflow_install_dir": "/data/airflow/opt", "airflow_backup_dir": "/data/airflow"},
     "and airflow_install_dir (f) is /data/airflow/opt"),
    ({"airflow_backup_dir": "/var/lib/postgresql/backups"}, "and a directory of PostgreSQL is /var/lib/postgresql"),
])
def test_backups_lie_apart_from_what_a_removal_deletes(values, told):
    given = {
        "airflow_backup_dir": "/var/backups/airflow", "airflow_install_dir": "/opt/airflow",
        "airflow_config_dir": "/etc/airflow", "airflow_home": "/var/lib/airflow", "airflow_log_dir": "/var/log/airflow",
        "airflow_cache_dir": "/var/cache/airflow", **values
    }
    found = told_about(given, airflow_backup.check_backup_dir)
    assert (told in " ".join(found)) if told else found == []
