"""The metrics that alarms and the dashboard of role aws_observability ask for: the one list, and who sends what of it.
"""

import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def components(major):
    return load(f"roles/airflow_common/vars/main/airflow_{major}.yml")[f"__airflow_{major}"]["components"]


def cloudwatch(name):
    """What the agent calls a metric of StatsD."""
    return name.replace(".", "_")


def everything():
    """All of them, under their names in CloudWatch."""
    declared = load("roles/aws_observability/vars/main.yml")
    charts = {name for chart in declared["__aws_observability_dashboard"] for name in chart["metrics"]}
    return charts | {re.search(r"\((\w+)\)", alarm["query"])[1] for alarm in declared["__aws_observability_alarms"]}


def of_timer():
    """Those that the agent's timer sends."""
    certificates = load("group_vars/all/cloudwatch_agent.yml")["cloudwatch_agent_certificates"]
    names = {
        *load("roles/cloudwatch_agent/defaults/main.yml")["cloudwatch_agent_file_ages"],
        *re.findall(r"'(airflow\.[a-z.]+)':", certificates)
    }
    return set(map(cloudwatch, names))


def of_airflow():
    """Those that Airflow itself has to send."""
    return {name for name in everything() if name.startswith("airflow_")} - of_timer()
