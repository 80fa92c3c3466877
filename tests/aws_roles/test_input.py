"""What the roles refuse before they ask AWS anything."""

import pathlib

import pytest
import yaml
from ansible_collections.windsock.airflow.plugins.filter import aws_network
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import aws

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROLES = sorted(ROOT.glob("roles/aws_*"))


subnets = aws_network.FilterModule().filters()["aws_subnets"]
SPECS, DEFAULTS = {}, {}
for role in ROLES:
    SPECS |= yaml.safe_load(
        (role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    DEFAULTS |= yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
GOOD = DEFAULTS | {"aws_environment": "production", "aws_region": "eu-central-1"}
HOST = {"name": "main", "type": "t3.large", "volume_gb": 50, "groups": ["airflow_scheduler"]}
ECS = {"cluster": "tasks", "task_definition": "airflow-task", "roles": ["arn:aws:iam::123456789012:role/airflow-task"]}


def problems(values):
    return [text for _name, text in aws.check_role(values | {"__aws_specs": SPECS}, None)]


def wide(source, **more):
    return {"aws_security_groups_ingress": [{"port": 22, "source": source, **more}]}


def test_defaults_are_good():
    assert problems(GOOD) == []


def test_all_roles_are_judged():
    judged = yaml.safe_load((ROOT / "roles/aws_common/vars/main.yml").read_text(encoding="utf-8"))["__aws_roles"]
    assert sorted(judged) == [role.name for role in ROLES]


@pytest.mark.parametrize("settings", [
    wide("203.0.113.7/32"), wide("203.0.113.0/24"), wide("2001:db8::/56"), wide("0.0.0.0/0", allow_wide=True),
    wide("::/0", allow_wide=True),
    wide("10.0.0.0/8") | {"aws_security_groups_widest_ipv4": 8},
    {"aws_network_vpc_id": "vpc-1", "aws_network_subnet_ids": ["subnet-1"], "aws_network_cidr": "not looked at"},
    {"aws_network_nat": False, "aws_network_endpoints": ["ssm", "ssmmessages"]},
    {"aws_instances_hosts": [HOST, HOST | {"name": "worker", "count": 3}]},
    {"aws_instances_ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJb7bX2Z0J9cYb1c2Xq0J0b8c9d0e1f2 "
                                "ops@example.com"]},
    {"aws_buckets_declared": [{"name": "example-airflow", "expire": {"logs/": 1}}]},
    {"aws_rds_enabled": True},
    {"aws_elasticache_enabled": True, "aws_elasticache_replicas": 5, "aws_elasticache_snapshot_days": 35},
    {"aws_elasticache_enabled": True, "aws_elasticache_engine": "redis", "aws_elasticache_version": "7.1"},
    {"aws_elasticache_replicas": 9},
    {"aws_iam_ecs": ECS},
])
def test_what_is_meant_passes(settings):
    assert problems(GOOD | settings) == []


@pytest.mark.parametrize(("settings", "words"), [
    ({"aws_environment": ""}, ["aws_environment"]),
    ({"aws_environment": "Production"}, ['"Production"']),
    ({"aws_environment": "a" * 21}, ["at most 20"]),
    ({"aws_region": "europe"}, ["aws_region", '"europe"']),
    ({"aws_instance_hosts": []}, ["aws_instance_hosts", "Did you mean aws_instances_hosts?"]),
    (wide("0.0.0.0/0"), ["the whole internet", "/24", "allow_wide"]),
    (wide("::/0"), ["the whole internet", "/56"]),
    (wide("203.0.112.0/23"), ["512 addresses"]),
    (wide("0.0.0.0/0", allow_wide=False), ["the whole internet"]),
    (wide("203.0.113.7/24"), ["host bits"]),
    (wide("office"), ['"office"', "203.0.113.7/32"]),
    ({"aws_security_groups_ingress": [{"port": 0, "source": "203.0.113.7/32"}]}, ["port is 0"]),
    ({"aws_network_vpc_id": "vpc-1"}, ["belong together"]),
    ({"aws_network_cidr": "10.0.0.0/30"}, ["/16 to /26"]),
    ({"aws_network_cidr": "10.0.0.1/22"}, ["host bits"]),
    ({"aws_network_zones": ["a", "a"]}, ["different letters"]),
    ({"aws_network_nat": False}, ["ssm and ssmmessages"]),
    ({"aws_instances_hosts": [HOST | {"type": "t3.micro"}]}, ['"t3.micro"', "2 GiB"]),
    ({"aws_instances_hosts": [HOST | {"type": "large"}]}, ['"large"']),
    ({"aws_instances_hosts": [HOST | {"volume_gb": 8}]}, ["volume_gb is 8", "20 or more"]),
    ({"aws_instances_hosts": [HOST, HOST]}, ["[1].name"]),
    ({"aws_instances_ssh_keys": ["-----BEGIN OPENSSH"]}, ["private key"]),
    ({"aws_buckets_declared": [{"name": "Logs"}]}, ['"Logs"']),
    ({"aws_buckets_declared": [{"name": "example-airflow", "expire": {"logs/": 0}}]}, ["expire.logs/ is 0"]),
    ({"aws_iam_buckets": [{"bucket": "example-*", "prefix": "a/", "access": "read"}]}, ["without wildcard"]),
    ({"aws_iam_buckets": [{"bucket": "example", "prefix": "", "access": "read"}]}, ["ends in /"]),
    ({"aws_iam_buckets": [{"bucket": "example", "prefix": "*/", "access": "read"}]}, ["without wildcard"]),
    ({"aws_iam_tables": [{"table": "*", "access": "read"}]}, ["without wildcard"]),
    ({"aws_iam_ecs": ECS | {"task_definition": "airflow-task:3"}}, ['"airflow-task:3"', "without wildcard, revision"]),
    ({"aws_iam_ecs": ECS | {"cluster": None}}, ['aws_iam_ecs.cluster is ""']),
    ({"aws_iam_ecs": ECS | {"roles": []}}, ["aws_iam_ecs.roles is empty"]),
    ({"aws_iam_ecs": ECS | {"roles": ["*"]}}, ["aws_iam_ecs.roles", "the ARN of one role"]),
    ({"aws_rds_enabled": True, "aws_network_zones": ["a"]}, ["two zones"]),
    ({"aws_rds_enabled": True, "aws_rds_backup_days": 0}, ["aws_rds_backup_days is 0"]),
    ({"aws_elasticache_enabled": True, "aws_elasticache_version": "7.1"}, ['"7.1"', "valkey", "7.2 or higher"]),
    ({"aws_elasticache_enabled": True, "aws_elasticache_version": "8"}, ['"8"']),
    ({"aws_elasticache_enabled": True, "aws_elasticache_engine": "redis"}, ['"8.0"', "6.0 to 7.1"]),
    ({"aws_elasticache_enabled": True, "aws_elasticache_node_type": "db.t4g.micro"},
     ['"db.t4g.micro"', "cache.t4g.micro"]),
    ({"aws_elasticache_enabled": True, "aws_elasticache_replicas": 6}, ["aws_elasticache_replicas is 6", "0 to 5"]),
    ({"aws_elasticache_enabled": True, "aws_elasticache_snapshot_days": 36}, ["is 36", "0 to 35"]),
    ({"aws_observability_retention_days": 45}, ["is 45"]),
    ({"aws_observability_queued_minutes": 240}, ["is 240", "1 to 180"]),
])
def test_what_cannot_work_is_one_problem(settings, words):
    found = problems(GOOD | settings)
    assert len(found) == 1, found
    assert not [word for word in words if word not in found[0]], found


def test_subnets_do_not_overlap_and_lie_in_the_vpc():
    assert subnets("10.64.0.0/22", ["a", "b", "c"]) == [
        {"name": "public", "zone": "a", "cidr": "10.64.0.0/24"},
        {"name": "private-a", "zone": "a", "cidr": "10.64.1.0/24"},
        {"name": "private-b", "zone": "b", "cidr": "10.64.2.0/24"},
        {"name": "private-c", "zone": "c", "cidr": "10.64.3.0/24"},
    ]


def test_hosts_send_where_their_policy_lets_them():
    """The agent's variables of the inventory and the names that the AWS roles derive are the same."""
    agent = yaml.safe_load((ROOT / "inventories/aws/group_vars/all/main.yml").read_text(encoding="utf-8"))
    derived = yaml.safe_load((ROOT / "roles/aws_common/vars/main.yml").read_text(encoding="utf-8"))
    assert agent["cloudwatch_agent_log_group_prefix"] == derived["__aws_log_group_prefix"]
    assert agent["cloudwatch_agent_namespace"] == derived["__aws_namespace"]
