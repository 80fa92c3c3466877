"""The configuration that role cloudwatch_agent builds, against the agent's own schema, for every combination of
options.

The schema is the agent's (translator/config/schema.json in its repository) and not part of this one:
AIRFLOW_CLOUDWATCH_SCHEMA names it, or it lies in ../shared/cloudwatch_agent/schema.json beside the repository. Where it
is absent, the tests that need it are skipped.
"""

import importlib.util
import itertools
import json
import os
import pathlib
import subprocess

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/cloudwatch_agent"
SCHEMA = pathlib.Path(
    os.environ.get("AIRFLOW_CLOUDWATCH_SCHEMA") or ROOT.parent / "shared/cloudwatch_agent/schema.json")

SPEC = importlib.util.spec_from_file_location("cloudwatch_agent_filter", ROOT / "plugins/filter/cloudwatch_agent.py")
PLUGIN = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PLUGIN)
build = PLUGIN.FilterModule().filters()["cloudwatch_agent_config"]

DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
# What the role passes to the filter: its variables without their prefix.
NAMES = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__cloudwatch_agent_settings"]
BASE = {name: DEFAULTS["cloudwatch_agent_" + name] for name in NAMES} | {"components": ["api-server", "scheduler"]}

VALUES = {
    "log_source": ["journald", "files", "none"],
    "components": [[], ["scheduler"], ["api-server", "scheduler", "dag-processor", "triggerer"]],
    "host_metrics": [[], ["disk"], ["cpu", "mem", "disk", "net", "swap"]],
    "processes": [{}, {"scheduler": "bin/airflow scheduler", "api-server": "gunicorn: (master|worker)"}],
    "statsd_address": ["", "127.0.0.1:8125"],
    "append_dimensions": [{}, BASE["append_dimensions"]],
    "region": ["", "eu-central-1"],
    "user": ["cwagent", "root"],
}
COMBINATIONS = [dict(zip(VALUES, values)) for values in itertools.product(*VALUES.values())]


@pytest.fixture(scope="module")
def violations():
    """violations(config): what the agent's schema says against it."""
    if not SCHEMA.is_file():
        pytest.skip(f"no schema of the agent in {SCHEMA}; name it in AIRFLOW_CLOUDWATCH_SCHEMA")
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft4Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    return lambda config: [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(config)
    ]


def test_a_file_is_read_by_the_pattern_of_its_first_lines():
    collected = build({**BASE, "log_source": "files", "log_directory": "/logs/",
                       "multi_line_start_pattern": "^BEGIN"})["logs"]["logs_collected"]["files"]
    assert [(entry["file_path"], entry["multi_line_start_pattern"]) for entry in collected["collect_list"]] == [
        ("/logs/api-server.log", "^BEGIN"), ("/logs/scheduler.log", "^BEGIN")]


def keys(value):
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_schema_accepts_every_combination_of_options(violations):
    for options in COMBINATIONS:
        assert not violations(build(BASE | options)), options


@pytest.mark.parametrize("wrong", [
    {"logs": {"logs_collected": {"journald": {"collect_list": [{"units": ["a.service"]}]}}}},
    {"logs": {"logs_collected": {"journald": {"collect_list": [{"log_group_name": "a", "retention_in_days": 45}]}}}},
    {"metrics": {"metrics_collected": {"statsd": {"service_adress": "127.0.0.1:8125"}}}},
    {"agent": {"metrics_collection_interval": "often"}},
])
def test_schema_rejects_mistakes_in_overrides(violations, wrong):
    """Else the test above could not fail."""
    assert violations(build(BASE, wrong))


def test_no_combination_asks_for_a_retention_or_another_address():
    for options in COMBINATIONS:
        config = build(BASE | options)
        assert "retention_in_days" not in set(keys(config))
        assert "0.0.0.0" not in json.dumps(config)
        assert all(config.values()), "a section without content"


def test_each_component_has_its_log_group():
    for source, field, value in (("journald", "units", ["airflow-scheduler.service"]),
                                 ("files", "file_path", "/var/log/airflow/scheduler.log")):
        entries = build(BASE | {"log_source": source})["logs"]["logs_collected"][source]["collect_list"]
        assert [entry["log_group_name"] for entry in entries] == ["/airflow/api-server", "/airflow/scheduler"]
        assert entries[1][field] == value


def test_each_component_has_its_processes():
    entries = build(BASE
                    | {"processes": {"scheduler": "bin/airflow scheduler"}})["metrics"]["metrics_collected"]["procstat"]
    assert [(entry["pattern"], entry["append_dimensions"])
            for entry in entries] == [("bin/airflow scheduler", {"component": "scheduler"})]


def test_files_are_named_one_by_one():
    """A pattern would keep one tail a task log, or follow the newest file only."""
    config = build(BASE | {"log_source": "files"})
    assert not [
        entry
        for entry in config["logs"]["logs_collected"]["files"]["collect_list"] if set(entry["file_path"]) & set("*?[")
    ]


def test_nothing_is_built_where_nothing_is_wanted():
    assert set(build(BASE | {"log_source": "none", "host_metrics": [], "statsd_address": ""})) == {"agent"}


def test_overrides_are_merged_deep_and_null_removes():
    config = build(
        BASE, {
            "agent": {"debug": True, "region": None},
            "metrics": {
                "namespace": "Mine", "metrics_collected": {
                    "mem": None, "disk": {"resources": ["/data"]}, "diskio": {"measurement": ["reads"]}
                }
            },
        })
    assert config["agent"]["debug"] is True and config["agent"]["run_as_user"] == "cwagent"
    assert config["metrics"]["namespace"] == "Mine"
    collected = config["metrics"]["metrics_collected"]
    assert "mem" not in collected and collected["diskio"] == {"measurement": ["reads"]}
    assert collected["disk"]["resources"] == ["/data"] and collected["disk"]["drop_device"] is True


def test_input_is_left_as_it_was():
    settings, overrides = json.loads(json.dumps(BASE)), {"metrics": {"metrics_collected": {"cpu": None}}}
    before = json.dumps([settings, overrides, PLUGIN.MEASUREMENTS])
    build(settings, overrides)
    assert json.dumps([settings, overrides, PLUGIN.MEASUREMENTS]) == before


@pytest.mark.parametrize(("files", "foreign"), [
    ({}, False),
    ({"amazon-cloudwatch-agent.json": ""}, False),
    ({"amazon-cloudwatch-agent.json": "{}"}, True),
    ({"amazon-cloudwatch-agent.json": "{}", "README": "# A note of somebody.\n"}, True),
    ({"amazon-cloudwatch-agent.json": "{}",
      "README": "#\n# Generated by role cloudwatch_agent from templates/README.j2.\n"}, False),
])
def test_a_configuration_of_somebody_else_is_named(tmp_path, files, foreign):
    variables = {"ansible_managed": "Managed by Ansible"}
    for name in ("defaults/main.yml", "vars/main.yml", "vars/Debian.yml"):
        variables |= DataLoader().load_from_file(str(ROLE / name), trusted_as_template=True)
    (tmp_path / "etc").mkdir()
    for name, text in files.items():
        (tmp_path / "etc" / name).write_text(text, encoding="utf-8")
    text = (ROLE / "templates/probe.sh.j2").read_text(encoding="utf-8")
    script = Templar(loader=DataLoader(),
                     variables=variables | {"__cloudwatch_agent_dir": str(tmp_path)}).template(trust_as_template(text))
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False).stdout
    assert ("foreign" in said.splitlines()) is foreign
