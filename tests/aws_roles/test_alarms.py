"""Alarms of role aws_observability: which are due, and that each says what to do."""

import copy
import importlib.util
import pathlib
import re

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/aws_observability"
SPEC = importlib.util.spec_from_file_location("aws_observability_filter", ROLE / "filter_plugins/aws_observability.py")
PLUGIN = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PLUGIN)
due = PLUGIN.FilterModule().filters()["aws_alarms_due"]

VARS = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
QUERY = {"name": "disk-full", "query": "SELECT MAX(disk_used_percent) FROM x", "comparison": "GreaterThanThreshold", "threshold": 80, "minutes": 5,
         "periods": 2, "missing": "missing", "says": "Full."}
METRIC = {"name": "machine-i-1", "section": "machine",
          "metric": {"namespace": "AWS/EC2", "metric_name": "StatusCheckFailed_System", "dimensions": {"InstanceId": "i-1"}},
          "comparison": "GreaterThanThreshold", "threshold": 1, "minutes": 1, "periods": 2, "missing": "missing", "says": "Broken.", "actions": ["recover"]}
# As cloudwatch_metric_alarm_info returns them, with what AWS adds.
FOUND = [
    {"alarm_name": "airflow-test/disk-full", "alarm_description": "Full. What to do: docs/alarms.md#disk-full", "comparison_operator": "GreaterThanThreshold",
     "threshold": 80.0, "evaluation_periods": 2, "treat_missing_data": "missing", "alarm_actions": ["topic"], "ok_actions": ["topic"], "dimensions": [],
     "metrics": [{"id": "q1", "expression": "SELECT MAX(disk_used_percent) FROM x", "period": 300, "return_data": True, "label": None}], "state_value": "OK"},
    {"alarm_name": "airflow-test/machine-i-1", "alarm_description": "Broken. What to do: docs/alarms.md#machine", "comparison_operator": "GreaterThanThreshold",
     "threshold": 1.0, "evaluation_periods": 2, "treat_missing_data": "missing", "alarm_actions": ["recover", "topic"], "ok_actions": ["topic"],
     "namespace": "AWS/EC2", "metric_name": "StatusCheckFailed_System", "dimensions": [{"name": "InstanceId", "value": "i-1"}], "statistic": "Maximum",
     "period": 60},
]


def names(found, declared=(QUERY, METRIC)):
    return [alarm["name"] for alarm in due(list(declared), found, "airflow-test", "topic")]


def test_alarms_as_declared_are_left_alone():
    assert names(FOUND) == []


def test_alarms_that_are_missing_are_due():
    assert names([]) == ["airflow-test/disk-full", "airflow-test/machine-i-1"]


@pytest.mark.parametrize(("number", "key", "value"), [
    (0, "threshold", 81), (0, "alarm_description", "Full."), (0, "evaluation_periods", 3), (0, "treat_missing_data", "breaching"),
    (0, "alarm_actions", []), (0, "ok_actions", ["topic", "other"]), (0, "comparison_operator", "LessThanThreshold"),
    (0, "metrics", [{"id": "q1", "expression": "SELECT MIN(disk_used_percent) FROM x", "period": 300, "return_data": True}]),
    (1, "dimensions", [{"name": "InstanceId", "value": "i-2"}]), (1, "period", 300), (1, "namespace", "AWS/RDS"),
])
def test_an_alarm_that_differs_is_due(number, key, value):
    found = copy.deepcopy(FOUND)
    found[number][key] = value
    assert names(found) == [found[number]["alarm_name"]]


def test_every_alarm_has_a_section_that_says_what_to_do():
    sections = re.findall(r"^## (.+)$", (ROOT / "docs/alarms.md").read_text(encoding="utf-8"), re.MULTILINE)
    alarms = VARS["__aws_observability_alarms"] + VARS["__aws_observability_database_alarms"]
    assert sorted(sections) == sorted([alarm["name"] for alarm in alarms] + [VARS["__aws_observability_machine"]["section"]])


def test_every_host_metric_is_one_that_the_agent_sends():
    spec = importlib.util.spec_from_file_location("cloudwatch_agent_filter", ROOT / "roles/cloudwatch_agent/filter_plugins/cloudwatch_agent.py")
    agent = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(agent)
    sent = {f"{section}_{name}" for section, entry in agent.MEASUREMENTS.items() for name in entry["measurement"]}
    asked = {name for chart in VARS["__aws_observability_dashboard"] for name in chart["metrics"]}
    asked |= {re.search(r"\((\w+)\)", alarm["query"])[1] for alarm in VARS["__aws_observability_alarms"]}
    assert {name for name in asked if not name.startswith("airflow_")} <= sent
    assert {"disk_used_percent", "airflow_scheduler_heartbeat"} <= asked
