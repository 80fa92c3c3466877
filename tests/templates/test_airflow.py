"""Templates of roles airflow_config and airflow_services, rendered by Ansible without a host and read by those who will
read them.
"""

import configparser
import grp
import json
import os
import pathlib
import pwd
import re
import shlex
import subprocess

import forks
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.windsock.airflow.plugins.modules import validate
from shared_variables import of_major, shared_variables

ROOT = pathlib.Path(__file__).resolve().parents[2]
NASTY = "50% of \"it\" costs $5 `now` 'ok' \\ end"
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_facts: {os_family: Debian, processor_vcpus: 2, memtotal_mb: 4096, python: {version: {major: 3, minor: 11}}}
    group_names: [airflow_webserver, airflow_scheduler, airflow_dag_processor, airflow_triggerer,
                  airflow_postgres, airflow_proxy]
    ansible_managed: Managed by Ansible
    role_path: ROOT/roles/airflow_config
  roles: [windsock.airflow.airflow_common]
  tasks:
    - include_vars: "{{ item }}"
      loop: ["ROOT/roles/airflow_services/defaults/main.yml", "ROOT/roles/airflow_services/vars/main.yml",
             "ROOT/roles/airflow_config/vars/main.yml"]
    - windsock.airflow.files:
        files: >-
          {%- set files = [] -%}
          {%- for item in __airflow_config_files + __airflow_services_files
                  if item.content is defined or item.template is defined -%}
          {%- set what = {'content': item.content | default(none), 'template': item.template | default(none)} -%}
          {%- set where = {'path': 'OUT/' ~ item.path | basename, 'owner': 'OWNER',
                              'group': 'GROUP', 'mode': '0600'} -%}
          {%- set _ = files.append(where | combine(what, {'template_vars': item.template_vars | default({})})) -%}
          {%- endfor -%}
          {{ files }}
"""
# A unit's template of the site: the product's directives, one of them changed, and a section of its own.
SITE_TEMPLATE = """{% set _ = unit.Service.update({'Nice': 5, 'OOMPolicy': none}) %}
{% include '_sections.j2' %}

[X-Site]
Component={{ name }} is {{ component.unit }}
"""


@pytest.fixture(scope="module", params=["3.3.2", "2.11.2", "2.10.2"])
def rendered(request, tmp_path_factory):
    """A directory with everything rendered for one version, under options that a site may set."""
    out = tmp_path_factory.mktemp(request.param)
    site = {
        "airflow_version": request.param,
        "airflow_api_base_url": "https://airflow.example.com",
        "airflow_config": {
            "core": {"load_examples": None, "hostname_callable": "a.b", "parallelism": 7},
            "logging": {"log_format": "%(asctime)s first\nsecond"},
            "sentry": {"sentry_on": True},
            "scheduler": {"standalone_dag_processor": True} if request.param == "2.11.2" else {},
        },
        "airflow_environment": {"NASTY": NASTY},
        "airflow_dags_folder": "/srv/dags",
        "airflow_dags_commit_url": "https://git.example.com/commit/{commit}",
        "airflow_secrets_backend": {"backend": "hashicorp_vault", "backend_kwargs": {"token": "marker-of-the-vault"}},
        "airflow_remote_base_log_folder": "s3://example-airflow/logs",
        "airflow_remote_log_conn_id": "logs" if request.param == "2.11.2" else "",
        "airflow_ecs": {
            "region": "eu-central-1", "cluster": "tasks", "task_definition": "task", "container_name": "airflow",
            "subnets": ["subnet-1", "subnet-2"], "security_groups": ["sg-1"]
        },
        "airflow_services_unit_overrides": {
            "scheduler": {
                "Service": {"MemoryHigh": "8G", "ReadWritePaths": ["/a", "/b"], "PrivateTmp": None},
                "Unit": {"After": "network.target"}
            }
        },
        "airflow_services_unit_templates": {"triggerer": str(out / "site's own.j2")},
        "airflow_services_restart_files": {"triggerer": ["/etc/krb5.conf"]},
    }
    (out / "site's own.j2").write_text(SITE_TEMPLATE, encoding="utf-8")
    (out / "site.yml").write_text(yaml.safe_dump(site), encoding="utf-8")
    # Where a play looks for what the roles' variables look up.
    for kind in ("templates", "files"):
        (out / kind).mkdir()
        for path in (ROOT / "roles").glob(f"airflow*/{kind}/*"):
            (out / kind / path.name).symlink_to(path)
    (out / "play.yml").write_text(
        PLAY.replace("ROOT", str(ROOT))
        .replace("OUT", str(out))
        .replace("OWNER", pwd.getpwuid(os.getuid()).pw_name)
        .replace("GROUP", grp.getgrgid(os.getgid()).gr_name),
        encoding="utf-8",
    )
    run = forks.run(["ansible-playbook", "-i", "localhost,", "-e", f"@{out}/site.yml", out / "play.yml"], cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


@pytest.fixture
def config(rendered):
    """airflow.cfg as Airflow reads it: with interpolation."""
    parser = configparser.ConfigParser()
    parser.read(rendered / "airflow.cfg", encoding="utf-8")
    return parser


def unit(path):
    """Section -> key -> list of values, as systemd reads it."""
    found, section = {}, None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return found


def test_a_template_of_the_site_takes_the_place_of_the_products(rendered):
    path = rendered / "airflow-triggerer.service"
    found = unit(path)
    assert found["Service"]["Nice"] == ["5"] and found["Service"]["Type"] == ["exec"]
    assert found["X-Site"] == {"Component": ["triggerer is airflow-triggerer"]}
    # Without this line nobody would remove the unit from a host that the component leaves.
    assert "\n# Generated by role airflow_services " in path.read_text(encoding="utf-8")
    assert "Nice" not in unit(rendered / "airflow-scheduler.service")["Service"]


def test_a_component_restarts_for_a_file_of_the_site(rendered):
    components = json.loads((rendered / "components.json").read_text(encoding="utf-8"))["components"]
    assert components["triggerer"]["files"][-1] == "/etc/krb5.conf"
    assert "/etc/krb5.conf" not in json.dumps({**components, "triggerer": {}})


def test_preflight_reads_user_group_and_home_in_each_unit_of_a_component(rendered, tmp_path):
    """Whichever of them a host has."""
    units = [path for path in rendered.glob("airflow-*.service") if "watchdog" not in path.name]
    assert len(units) >= 3
    for number, path in enumerate(units):
        directory = tmp_path / str(number) / "etc/systemd/system"
        directory.mkdir(parents=True)
        (directory / path.name).symlink_to(path)
        found = validate.runs_as({"home": "/none", "log_dir": "/none"}, str(tmp_path / str(number)))
        assert {name: answer["units"] for name, answer in found.items()} == {
            "airflow_user": ["airflow"], "airflow_group": ["airflow"], "airflow_home": ["/var/lib/airflow"]
        }


@pytest.mark.parametrize(("python", "version"),
                         [("", "3.11"), ("/usr/bin/python3.12", "3.12"), ("/opt/site/bin/python3", "3.11")])
def test_the_virtualenv_is_named_after_the_python_that_makes_it(python, version):
    variables = shared_variables() | {"airflow_python": python, "__airflow_python_default_version": "3.11"}
    assert Templar(loader=DataLoader(),
                   variables=variables).template(trust_as_template("{{ __airflow_python_version }}")) == version


def test_airflow_reads_back_what_a_site_set(config):
    assert config["core"]["hostname_callable"] == "a.b"
    assert config["core"]["parallelism"] == "7"
    assert config["sentry"]["sentry_on"] == "True"
    assert config.get("logging", "log_format", raw=False) == "%(asctime)s first\nsecond"


def test_the_server_believes_the_proxy_of_its_host_and_nobody_else(rendered, config):
    section, name = (
        ("webserver", "webserver") if (rendered / "airflow-webserver.service").exists() else ("fab", "api-server")
    )
    assert config.getboolean(section, "enable_proxy_fix") and config.getboolean(section, "cookie_secure")
    server = unit(rendered / f"airflow-{name}.service")["Service"]
    assert server["ExecStart"][0].endswith(" --proxy-headers") is (name == "api-server")
    assert server.get("Environment") == (["FORWARDED_ALLOW_IPS=127.0.0.1"] if name == "api-server" else None)
    assert "Environment" not in unit(rendered / "airflow-scheduler.service")["Service"]


@pytest.mark.parametrize(("base_url", "expected"),
                         [("", {"AIRFLOW__API__BASE_URL": "/"}), ("https://airflow.example.com", {})])
def test_without_an_address_of_the_site_the_server_keeps_browsers_where_they_are(base_url, expected):
    """Airflow 3 sends browsers that sign in to base_url, which would be another port than that of a tunnel."""
    server = of_major(3)["components"]["api-server"]
    variables = {"airflow_api_base_url": base_url, "__airflow_behind_proxy": False}
    assert Templar(loader=DataLoader(), variables=variables).template(server["environment"]) == expected


def test_dags_are_where_the_site_says(rendered, config):
    assert config["core"]["dags_folder"] == "/srv/dags"
    if rendered.name.startswith("3"):
        (bundle,) = json.loads(config["dag_processor"]["dag_bundle_config_list"])
        assert bundle["kwargs"]["view_url_template"] == "https://git.example.com/commit/{version:.12}"


def test_task_logs_and_containers_are_where_the_site_says(rendered, config):
    logs = config["logging"]
    assert (logs["remote_logging"], logs["remote_base_log_folder"]) == ("True", "s3://example-airflow/logs")
    assert logs.get("remote_log_conn_id") == ("logs" if rendered.name.startswith("2.11") else
                                              None) and "delete_local_logs" not in logs
    assert dict(config["aws_ecs_executor"]) == {
        "region_name": "eu-central-1", "cluster": "tasks", "task_definition": "task", "container_name": "airflow",
        "subnets": "subnet-1,subnet-2", "security_groups": "sg-1", "launch_type": "FARGATE", "conn_id": ""
    }


def test_null_removes_a_default(config):
    assert "load_examples" not in config["core"]


def test_configuration_holds_no_secret(rendered, config):
    for section in config.sections():
        for key in config[section]:
            assert not key.endswith(("fernet_key", "secret_key", "jwt_secret", "sql_alchemy_conn", "password")), key


def test_arguments_of_the_secrets_backend_are_elsewhere(rendered, config):
    assert config["secrets"]["backend"] == "airflow.providers.hashicorp.secrets.vault.VaultBackend"
    assert config["secrets"]["backend_kwargs_cmd"] == "cat /etc/airflow/secrets/backend_kwargs"
    holders = [
        path.name for path in rendered.iterdir()
        if path.is_file() and "marker-of-the-vault" in path.read_text(encoding="utf-8")
    ]
    assert sorted(holders) == ["backend_kwargs", "site.yml"]
    assert json.loads((rendered / "backend_kwargs").read_text(encoding="utf-8")) == {"token": "marker-of-the-vault"}


def test_an_option_of_2_11_is_not_given_to_2_10(rendered, config):
    assert config.has_option("metrics", "timer_unit_consistency") is ("2.11" in rendered.name)


def test_shell_reads_the_environment_as_it_was_meant(rendered):
    shell = subprocess.run(["sh", "-c", f". {rendered}/environment && printf %s \"$NASTY\""],
                           text=True,
                           capture_output=True,
                           check=True)
    assert shell.stdout == NASTY


def test_command_is_a_shell_script(rendered):
    subprocess.run(["sh", "-n", str(rendered / "airflow")], check=True)


def test_every_component_is_in_the_target_and_told_how_to_say_that_it_works(rendered):
    wanted = unit(rendered / "airflow.target")["Unit"]["Wants"][0].split()
    assert sorted(wanted) == sorted(path.name for path in rendered.glob("*.service"))
    data = json.loads((rendered / "components.json").read_text(encoding="utf-8"))
    assert sorted(f"{part['unit']}.service"
                  for part in [*data["components"].values(), *data["watchdog"]]) == sorted(wanted)
    assert ("api-server" in data["components"]) is rendered.name.startswith("3")
    for component in data["components"].values():
        assert component["check"]["kind"] in ("body", "status", "job")


def test_components_are_restarted_for_each_module_that_airflow_imports(rendered, config):
    """The scheduler and the rest for what all import, the server for the sign-in too; the watchdog for its own; nobody
    for what only units call.
    """
    data = json.loads((rendered / "components.json").read_text(encoding="utf-8"))
    package = ROOT / "roles/airflow_runtime/files/airflow_runtime"

    def modules(paths, place="/opt/airflow/lib/airflow_runtime/"):
        found = {pathlib.Path(path).stem for path in paths if path.startswith(place)}
        imported = [
            re.findall(r"^from airflow_runtime(?:\.(\w+))? import (.*)",
                       (package / f"{name}.py").read_text(encoding="utf-8"), re.M) for name in found
        ]
        assert {
            name
            for lines in imported
            for module, names in lines
            for name in ([module] if module else names.split(", "))
        } <= found
        return found

    of_major = {"dag_bundle"
                } if rendered.name.startswith("3") else {"json_logs", "json_logging_config", "json_gunicorn"}
    assert modules(
        data["files"]) == {"settings", "alerts"} | of_major and "/opt/airflow/lib/airflow_alerts.py" in data["files"]
    server = data["components"]["api-server" if rendered.name.startswith("3") else "webserver"]
    assert modules(server["files"]) == {"settings", "sign_in", "webserver_config"}
    (watchdog,) = data["watchdog"]
    assert modules(watchdog["files"], "/opt/airflow/libexec/airflow_runtime/airflow_runtime/") == {
        "component_health", "components", "database_connection", "metadata", "settings", "watchdog"}
    if rendered.name.startswith("3"):
        assert json.loads(config["dag_processor"]
                          ["dag_bundle_config_list"])[0]["classpath"] == "airflow_runtime.dag_bundle.ReleaseBundle"


def test_the_dag_processor_of_airflow_2_is_there_where_the_scheduler_parses_no_dags(rendered, config):
    wanted = not rendered.name.startswith("2.10")
    assert (rendered / "airflow-dag-processor.service").exists() is wanted
    assert config.has_option("scheduler", "standalone_dag_processor") is rendered.name.startswith("2.11")
    assert ("dag-processor" in json.loads(
        (rendered / "components.json").read_text(encoding="utf-8"))["components"]) is wanted


@pytest.mark.parametrize(("major", "option", "group"), [
    (2, False, "airflow_scheduler"), (2, None, "airflow_scheduler"), (2, True, "airflow_dag_processor"),
    (2, "True", "airflow_dag_processor"),
    (3, None, "airflow_dag_processor")])
def test_the_hosts_that_parse_dags_have_the_component_that_does(major, option, group):
    variables = shared_variables(major) | {
        "airflow_config": {"scheduler": {"standalone_dag_processor": option}}, "group_names": [group]
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.template(trust_as_template("{{ __airflow_parsing_group }}")) == group
    here = templar.template(trust_as_template("{{ __airflow_components_here | list }}"))
    assert here == ["dag-processor" if group == "airflow_dag_processor" else "scheduler"]


def test_stopping_a_component_does_not_kill_its_tasks(rendered):
    for path in set(rendered.glob("*.service")) - {rendered / "airflow-watchdog.service"}:
        assert unit(path)["Service"]["KillMode"] == ["mixed"]
    assert int(unit(rendered / "airflow-scheduler.service")["Service"]["TimeoutStopSec"][0]) >= 3600


def test_overrides_set_repeat_and_remove_directives(rendered):
    found = unit(rendered / "airflow-scheduler.service")
    assert found["Service"]["MemoryHigh"] == ["8G"]
    assert found["Service"]["ReadWritePaths"] == ["/a", "/b"]
    assert "PrivateTmp" not in found["Service"]
    assert found["Unit"]["After"] == ["network.target"]
    assert unit(rendered / "airflow-triggerer.service")["Service"]["PrivateTmp"] == ["yes"]


@pytest.mark.parametrize(("said", "code", "fine"), [
    ("", 0, True), ("/etc/systemd/system/other.service:3: Unknown key 'X' in section [Service], ignoring.", 0, True),
    # It takes these, with a warning.
    ("FILE:9: Unknown key 'MemoryHihg' in section [Service], ignoring.", 0, False),
    ("FILE:9: Failed to parse memory limit, ignoring: lots", 0, False),
    ("airflow-scheduler.service: Service has no ExecStart=", 1, False),
])
def test_a_unit_is_put_in_place_once_systemd_takes_all_of_it(tmp_path, said, code, fine):
    facts = {"os_family": "Debian", "processor_vcpus": 2, "memtotal_mb": 4096}
    variables = shared_variables() | {
        "group_names": ["airflow_webserver", "airflow_scheduler"], "groups": {}, "ansible_facts": facts
    }
    for name in ("airflow_services/defaults/main", "airflow_services/vars/main"):
        variables |= DataLoader().load_from_file(str(ROOT / f"roles/{name}.yml"), trusted_as_template=True)
    files = Templar(loader=DataLoader(),
                    variables=variables).template(trust_as_template("{{ __airflow_services_files }}"))
    units = [file for file in files if file["path"].startswith("/etc/systemd/") and file.get("state") != "link"]
    assert {pathlib.Path(file["path"]).name for file in units} == {
        "airflow.target", "airflow-api-server.service", "airflow-scheduler.service", "airflow-watchdog.service"}
    path = tmp_path / "airflow-scheduler.service"
    stand_in = tmp_path / "systemd-analyze"
    stand_in.write_text(
        f"#!/bin/sh\n[ \"$*\" = 'verify {path}' ] || exit 9\necho \"{said.replace('FILE', str(path))}\" >&2\nexit "
        f"{code}\n",
        encoding="utf-8")
    stand_in.chmod(0o755)
    for command in {file["validate"] for file in units}:
        run = subprocess.run([word.replace("%s", str(path)) for word in shlex.split(command)],
                             env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
                             capture_output=True,
                             text=True,
                             check=False)
        assert (run.returncode == 0) is fine
        assert fine or said.replace("FILE", str(path)) in run.stdout


def test_only_what_runs_tasks_is_drained(rendered):
    found = {path.stem: unit(path)["Unit"].get("ConditionPathExists") for path in rendered.glob("*.service")}
    assert {name for name, condition in found.items() if condition} == {"airflow-scheduler"}
    assert found["airflow-scheduler"] == ["!/etc/airflow/drained"]
