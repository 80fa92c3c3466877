"""The policy that role aws_iam generates for the hosts: judged by a linter, and by rules of ours that are stricter."""

import importlib.util
import json
import pathlib
import re

import parliament
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("aws_iam_filter", ROOT / "plugins/filter/aws_iam.py")
PLUGIN = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PLUGIN)
build = PLUGIN.FilterModule().filters()["aws_policy"]

BASE = {
    "partition": "aws",
    "region": "eu-central-1",
    "account": "123456789012",
    "log_group_prefix": "/airflow/test",
    "namespace": "Airflow/test",
    "secret_prefix": "airflow-test/",
    "buckets": [],
    "tables": [],
    "task_logs": False,
    "ecs": {},
}
ACCESSES = ("read", "write", "read_write")
FULL = BASE | {
    "buckets": [{"bucket": "example-" + access.replace("_", "-"), "prefix": "logs/", "access": access}
                for access in ACCESSES],
    "tables": [{"table": "user_preferences_" + access, "access": access} for access in ACCESSES],
    "task_logs": True,
    "ecs": {
        "cluster": "tasks", "task_definition": "airflow-task", "roles": ["arn:aws:iam::123456789012:role/airflow-task"]
    },
}
# Actions for which AWS knows no resource.
WITHOUT_RESOURCE = {
    "cloudwatch:PutMetricData",
    "logs:DescribeLogGroups",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}
# Actions on resources whose names are not known beforehand.
WITHOUT_NAME = {"ssm:UpdateInstanceInformation"}


def findings(document):
    policy = parliament.analyze_policy_string(json.dumps(document), include_community_auditors=True)
    # To hand over a role is how containers get theirs; a rule of ours says which roles, and to whom.
    handed_over = {"actions": ["iam:passrole"]}
    return [
        finding for finding in policy.findings
        if finding.severity != "MUTE" and {"actions": finding.location.get("actions")} != handed_over
    ]


def broken_rules(document):
    """What is against our rules."""
    for statement in document["Statement"]:
        for action in statement["Action"]:
            if "*" in action:
                yield f"{action}: a wildcard for actions"
            if action.split(":")[1].startswith("Delete"):
                yield f"{action}: deletes"
            if action.split(":")[1] in ("CreateLogGroup", "PutRetentionPolicy"):
                yield f"{action}: is for the playbook"
        for resource in statement["Resource"]:
            if resource == "*":
                if not set(statement["Action"]) <= WITHOUT_RESOURCE:
                    yield f"{statement['Sid']}: every resource"
                continue
            service, region, account, name = resource.split(":", 5)[2:]
            if "*" in service + region + account or service not in ("s3", "iam") and not (region and account):
                yield f"{resource}: a wildcard for region or account"
            # arn:aws:logs:...:* and the like: a name has to begin with something of this environment.
            of_all = len(name.split("*")[0]) < 4 or re.fullmatch(r"[a-z-]+[:/]\*", name)
            if of_all and not set(statement["Action"]) <= WITHOUT_NAME:
                yield f"{resource}: everything of the service"
        if "iam:PassRole" in statement["Action"]:
            if any("*" in resource for resource in statement["Resource"]) or "iam:PassedToService" not in str(
                    statement.get("Condition")):
                yield "PassRole: any role, or to anybody"
        if statement["Action"] == ["cloudwatch:PutMetricData"] and "Condition" not in statement:
            yield "PutMetricData: every namespace"


@pytest.mark.parametrize("settings", [BASE, FULL], ids=["nothing declared", "everything declared"])
def test_the_policy_is_clean(settings):
    document = build(settings)
    assert not findings(document)
    assert not list(broken_rules(document))


@pytest.mark.parametrize("statement", [
    {"Sid": "A", "Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
     "Resource": ["arn:aws:logs:*:*:*"]},
    {"Sid": "A", "Effect": "Allow", "Action": ["logs:GetLogEvents"],
     "Resource": ["arn:aws:logs:eu-central-1:123456789012:log-group:*"]},
    {"Sid": "A", "Effect": "Allow", "Action": ["dynamodb:GetItem"],
     "Resource": ["arn:aws:dynamodb:*:*:table/user_preferences"]},
    {"Sid": "A", "Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::example"]},
    {"Sid": "A", "Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": ["arn:aws:s3:::example/logs/*"]},
    {"Sid": "A", "Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["*"]},
    {"Sid": "A", "Effect": "Allow", "Action": ["cloudwatch:PutMetricData"], "Resource": ["*"]},
    {"Sid": "A", "Effect": "Allow", "Action": ["iam:PassRole"],
     "Resource": ["arn:aws:iam::123456789012:role/airflow-*"],
     "Condition": {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}},
    {"Sid": "A", "Effect": "Allow", "Action": ["iam:PassRole"],
     "Resource": ["arn:aws:iam::123456789012:role/airflow-task"]},
])
def test_the_rules_see_what_is_too_much(statement):
    """Else the test above could not fail."""
    assert list(broken_rules({"Statement": [statement]}))


def test_the_linter_sees_what_is_wrong():
    wrong = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObjekt"], "Resource": ["*"]}]}
    assert findings(wrong)


def test_a_declared_table_is_read_and_no_more():
    (statement, ) = [
        s for s in build(BASE | {"tables": [{"table": "user_preferences", "access": "read"}]})["Statement"]
        if s["Sid"].startswith("Table")
    ]
    assert statement["Action"] == [
        "dynamodb:BatchGetItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan"
    ]
    table = "arn:aws:dynamodb:eu-central-1:123456789012:table/user_preferences"
    assert statement["Resource"] == [table, table + "/index/*"]


def test_objects_are_those_below_the_prefix():
    statements = {
        s["Sid"]: s
        for s in build(BASE | {"buckets": [{"bucket": "b-1", "prefix": "raw/", "access": "write"}]})["Statement"]
    }
    assert statements["Objects1"] == {
        "Sid": "Objects1", "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::b-1/raw/*"]
    }
    assert statements["List1"] == {
        "Sid": "List1", "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:aws:s3:::b-1"]
    }


def test_containers_are_those_of_one_definition_on_one_cluster():
    statements = {s["Sid"]: s for s in build(FULL)["Statement"]}
    assert statements["EcsRun"]["Resource"] == ["arn:aws:ecs:eu-central-1:123456789012:task-definition/airflow-task:*"]
    assert statements["EcsRun"]["Condition"] == {
        "ArnEquals": {"ecs:cluster": "arn:aws:ecs:eu-central-1:123456789012:cluster/tasks"}
    }
    assert statements["EcsRoles"]["Resource"] == ["arn:aws:iam::123456789012:role/airflow-task"]


def test_task_logs_are_read_in_their_own_group():
    statements = {s["Sid"]: s for s in build(FULL)["Statement"]}
    assert statements["TaskLogs"]["Resource"] == [
        "arn:aws:logs:eu-central-1:123456789012:log-group:/airflow/test/task:*"
    ]
    assert not {"TaskLogs", "TaskLogGroup"} & {s["Sid"] for s in build(BASE)["Statement"]}
