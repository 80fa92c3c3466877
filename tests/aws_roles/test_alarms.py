"""Alarms of role aws_observability: which are due, and that each says what to do."""

import copy
import importlib.util
import pathlib
import re

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/aws_observability"
SPEC = importlib.util.spec_from_file_location("aws_observability_filter", ROOT / "plugins/filter/aws_observability.py")
PLUGIN = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PLUGIN)
due = PLUGIN.FilterModule().filters()["aws_alarms_due"]

VARS = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
QUERY = {
    "name": "disk-full", "query": "SELECT MAX(disk_used_percent) FROM x", "comparison": "GreaterThanThreshold",
    "threshold": 80, "minutes": 5, "periods": 2, "missing": "missing", "says": "Full."
}
METRIC = {
    "name": "machine-i-1", "section": "machine",
    "metric": {"namespace": "AWS/EC2", "metric_name": "StatusCheckFailed_System",
               "dimensions": {"InstanceId": "i-1"}}, "comparison": "GreaterThanThreshold", "threshold": 1, "minutes": 1,
    "periods": 2, "missing": "missing", "says": "Broken.", "actions": ["recover"]
}
# As cloudwatch_metric_alarm_info returns them, with what AWS adds.
FOUND = [
    {
        "alarm_name": "airflow-test/disk-full", "alarm_description": "Full. What to do: docs/alarms.md#disk-full",
        "comparison_operator": "GreaterThanThreshold", "threshold": 80.0, "evaluation_periods": 2,
        "treat_missing_data": "missing", "alarm_actions": ["topic"], "ok_actions": ["topic"], "dimensions": [],
        "metrics": [{
            "id": "q1", "expression": "SELECT MAX(disk_used_percent) FROM x", "period": 300, "return_data": True,
            "label": None
        }], "state_value": "OK"
    },
    {
        "alarm_name": "airflow-test/machine-i-1", "alarm_description": "Broken. What to do: docs/alarms.md#machine",
        "comparison_operator": "GreaterThanThreshold", "threshold": 1.0, "evaluation_periods": 2,
        "treat_missing_data": "missing", "alarm_actions": ["recover", "topic"], "ok_actions": ["topic"],
        "namespace": "AWS/EC2", "metric_name": "StatusCheckFailed_System",
        "dimensions": [{"name": "InstanceId", "value": "i-1"}], "statistic": "Maximum", "period": 60
    },
]


def names(found, declared=(QUERY, METRIC)):
    return [alarm["name"] for alarm in due(list(declared), found, "airflow-test", "topic")]


def test_alarms_as_declared_are_left_alone():
    assert names(FOUND) == []


def test_alarms_that_are_missing_are_due():
    assert names([]) == ["airflow-test/disk-full", "airflow-test/machine-i-1"]


@pytest.mark.parametrize(("number", "key", "value"), [
    (0, "threshold", 81), (0, "alarm_description", "Full."), (0, "evaluation_periods", 3),
    (0, "treat_missing_data", "breaching"),
    (0, "alarm_actions", []), (0, "ok_actions", ["topic", "other"]), (0, "comparison_operator", "LessThanThreshold"),
    (0, "metrics", [{"id": "q1", "expression": "SELECT MIN(disk_used_percent) FROM x", "period": 300,
                     "return_data": True}]),
    (1, "dimensions", [{"name": "InstanceId", "value": "i-2"}]), (1, "period", 300), (1, "namespace", "AWS/RDS"),
])
def test_an_alarm_that_differs_is_due(number, key, value):
    found = copy.deepcopy(FOUND)
    found[number][key] = value
    assert names(found) == [found[number]["alarm_name"]]


SECTIONS = dict(
    re.findall(r"^## (.+?)$(.+?)(?=^## |\Z)", (ROOT / "docs/alarms.md").read_text(encoding="utf-8"),
               re.MULTILINE | re.DOTALL))


def test_every_alarm_has_a_section_that_says_what_to_do():
    alarms = VARS["__aws_observability_alarms"] + VARS["__aws_observability_database_alarms"]
    assert sorted(SECTIONS) == sorted([alarm["name"]
                                       for alarm in alarms] + [VARS["__aws_observability_machine"]["section"]])


@pytest.mark.parametrize("section", SECTIONS)
def test_every_alarm_names_what_to_run(section):
    first = SECTIONS[section].strip().split("\n\n")[0]
    named = re.findall(r"Run `(playbooks/(?:runbooks/)?[a-z_]+\.yml)`", first)
    assert named and all((ROOT / name).is_file() for name in named)


def plugin(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_metric_is_one_that_somebody_sends():
    """The agent, our timer, or Airflow. What Airflow sends is captured on running hosts: tests/molecule/test_statsd.py.
    """
    asked = plugin(ROOT / "tests/molecule/metrics.py")
    agent = plugin(ROOT / "plugins/filter/cloudwatch_agent.py")
    sent = {f"{section}_{name}" for section, entry in agent.MEASUREMENTS.items() for name in entry["measurement"]}
    sent |= {f"procstat_{name}" for name in agent.PROCESS_MEASUREMENTS}
    of_timer = asked.of_timer()
    assert {"airflow_certificate_days", "airflow_backup_hours"} == of_timer
    assert asked.everything() <= sent | of_timer | asked.of_airflow()
    assert {"disk_used_percent", "procstat_cpu_usage", "airflow_certificate_days"} <= asked.everything()
    assert "airflow_scheduler_heartbeat" in asked.of_airflow()


def test_lines_are_by_a_dimension_that_the_metric_has():
    """The agent adds it to the processes that it measures."""
    by = {chart["by"]: chart["metrics"] for chart in VARS["__aws_observability_dashboard"] if "by" in chart}
    agent = plugin(ROOT / "plugins/filter/cloudwatch_agent.py")
    (entry, ) = agent.metrics({
        "host_metrics": [], "disk_paths": [], "net_interfaces": [], "metrics_interval": 60, "statsd_address": "",
        "processes": {"scheduler": "x"}
    })["procstat"]
    assert set(by) <= set(entry["append_dimensions"])
    assert all(name.startswith("procstat_") for names in by.values() for name in names)
