"""What the AWS roles hand to modules, from what a site declares."""

import pytest
from ansible_collections.windsock.airflow.plugins.filter import aws_buckets, aws_observability, aws_security_groups


def test_each_prefix_of_a_bucket_has_its_own_expiry():
    buckets = [{"name": "a", "expire": {"logs/": 90, "tmp/": 1}}, {"name": "b"}]
    assert aws_buckets.aws_expiries(buckets) == [
        {"bucket": "a", "prefix": "logs/", "days": 90},
        {"bucket": "a", "prefix": "tmp/", "days": 1},
    ]


@pytest.mark.parametrize(
    ("declared", "rule"),
    [
        (
            {"port": 443, "source": "203.0.113.0/24", "description": "office"},
            {"ports": [443], "rule_desc": "office", "cidr_ip": "203.0.113.0/24"},
        ),
        (
            {"port": 22, "source": "2001:db8::/32"},
            {"ports": [22], "rule_desc": "declared in aws_security_groups_ingress", "cidr_ipv6": "2001:db8::/32"},
        ),
    ],
)
def test_ingress_is_a_rule_for_addresses_of_its_kind(declared, rule):
    assert aws_security_groups.aws_ingress([declared]) == [{"proto": "tcp", **rule}]


def test_each_machine_has_an_alarm():
    alarm = {
        "name": "machine",
        "section": "machine",
        "instances": ["i-1", "i-2"],
        "metric": {"namespace": "AWS/EC2"},
        "says": "{} is broken.",
        "comparison": "x",
        "threshold": 1,
        "minutes": 1,
        "periods": 2,
        "missing": "missing",
    }
    due = aws_observability.aws_alarms_due([alarm], [], "airflow-test", "topic")
    assert [(one["name"], one["dimensions"], one["description"]) for one in due] == [
        (f"airflow-test/machine-{name}", {"InstanceId": name}, f"{name} is broken. What to do: docs/alarms.md#machine")
        for name in ("i-1", "i-2")
    ]


def test_the_dashboard_has_three_charts_in_a_row_and_the_database_last():
    charts = [
        {"title": "Waiting", "metrics": ["a", "b"], "statistic": "MAX"},
        {"title": "CPU", "metrics": ["c"], "statistic": "SUM", "by": "component"},
        {"title": "Days", "metrics": ["d"], "statistic": "MIN", "minutes": 15},
    ]
    widgets = aws_observability.aws_dashboard(charts, "Airflow/test", "eu-central-1", "db")["widgets"]
    assert [(one["x"], one["y"], one["properties"]["title"], one["properties"]["period"]) for one in widgets] == [
        (0, 0, "Waiting", 60),
        (8, 0, "CPU", 60),
        (16, 0, "Days", 900),
        (0, 6, "Database connections", 60),
    ]
    assert widgets[0]["properties"]["metrics"] == [
        [{"expression": f'SELECT MAX({name}) FROM "Airflow/test"', "label": name, "id": f"q{number}"}]
        for number, name in enumerate("ab", 1)
    ]
    assert widgets[1]["properties"]["metrics"] == [
        [{"expression": 'SELECT SUM(c) FROM "Airflow/test" GROUP BY component', "label": "", "id": "q1"}]
    ]
    assert widgets[3]["properties"]["metrics"] == [["AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", "db"]]
    assert len(aws_observability.aws_dashboard(charts, "Airflow/test", "eu-central-1")["widgets"]) == 3
