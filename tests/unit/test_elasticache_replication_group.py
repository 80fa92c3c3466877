"""Module elasticache_replication_group: what it asks ElastiCache for, and waits for, in a dry run and in a real one."""

import importlib.util
import json
import pathlib

import pytest
from ansible.module_utils.testing import patch_module_args
from botocore.exceptions import ClientError, WaiterError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location(
    "elasticache_replication_group", ROOT / "plugins/modules/elasticache_replication_group.py"
)
cache = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cache)

TOKEN = "not-to-be-seen-" * 3
DECLARED = {
    "description": "Cache of test", "engine_version": "8.0", "node_type": "cache.t4g.micro",
    "subnet_group": "airflow-test", "security_groups": ["sg-1"], "auth_token": TOKEN, "tags": {"team": "data"}
}
FOUND = {
    "engine": "valkey", "version": "8.0.4", "node_type": "cache.t4g.micro", "replicas": 0, "failover": "disabled",
    "multi_az": "disabled", "snapshot_days": 0, "description": "Cache of test", "tags": {"team": "data"},
    "groups": ["sg-1"]
}
NAME = {"ReplicationGroupId": "airflow-test"}
NOW = NAME | {"ApplyImmediately": True}
ARN = "arn:aws:elasticache:eu-central-1:123456789012:replicationgroup:airflow-test"


class ElastiCache:
    """What the module needs of it. statuses: what it answers, one after the other; None stands for no group, as does
    their end.
    """

    def __init__(self, *statuses, **found):
        self.statuses, self.found, self.calls, self.waits = list(statuses), FOUND | found, [], []

    def describe_replication_groups(self, ReplicationGroupId, aws_retry):
        status = self.statuses.pop(0) if self.statuses else None
        if status is None:
            raise ClientError({"Error": {"Code": "ReplicationGroupNotFoundFault", "Message": "no"}},
                              "DescribeReplicationGroups")
        group = self.found
        return {
            "ReplicationGroups": [{
                "ARN": ARN, "Status": status, "Description": group["description"], "CacheNodeType": group["node_type"],
                "MemberClusters": ["airflow-test-%03d" % number for number in range(1, group["replicas"] + 2)],
                "AutomaticFailover": group["failover"], "MultiAZ": group["multi_az"],
                "SnapshotRetentionLimit": group["snapshot_days"],
                "NodeGroups": [{"PrimaryEndpoint": {"Address": "master.airflow-test", "Port": 6379}}]
            }]
        }

    def describe_cache_clusters(self, CacheClusterId, aws_retry):
        assert CacheClusterId == "airflow-test-001"
        groups = [{"SecurityGroupId": name, "Status": "active"} for name in self.found["groups"]]
        return {
            "CacheClusters": [{
                "Engine": self.found["engine"], "EngineVersion": self.found["version"], "SecurityGroups": groups
            }]
        }

    def list_tags_for_resource(self, ResourceName, aws_retry):
        return {"TagList": [{"Key": key, "Value": value} for key, value in self.found["tags"].items()]}

    def get_waiter(self, name):
        return Waiter(self, name)

    def __getattr__(self, name):
        if name.split("_")[0] not in ("create", "modify", "increase", "decrease", "add", "remove", "delete"):
            raise AttributeError(name)
        return lambda aws_retry, **arguments: self.calls.append((name, arguments))


class Waiter:
    """Notes what is waited for, and how long."""

    def __init__(self, service, name):
        self.service, self.name = service, name

    def wait(self, ReplicationGroupId, WaiterConfig):
        self.service.waits.append(self.name.removeprefix("replication_group_"))
        assert WaiterConfig["Delay"] * WaiterConfig["MaxAttempts"] == 3600


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the module against an ElastiCache and return its result."""

    def run(service, check_mode=False, **arguments):
        monkeypatch.setattr(cache.AnsibleAWSModule, "client", lambda self, *args, **kwargs: service)
        with patch_module_args({"name": "airflow-test",
                                **arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            cache.main()
        said = capsys.readouterr().out
        assert TOKEN not in said
        return json.loads(said)

    return run


@pytest.mark.parametrize("check_mode", [False, True])
def test_it_is_made_encrypted_and_with_a_token(run, check_mode):
    service = ElastiCache(None, "available")
    result = run(service, check_mode, **DECLARED, replicas=1, multi_az=True)
    assert result["changed"] is True and result["diff"]["before"] == {} and result["diff"]["after"]["replicas"] == 1
    if check_mode:
        assert not service.calls and not service.waits and "endpoint" not in result
        return
    ((method, made),) = service.calls
    assert method == "create_replication_group"
    expected = {
        "TransitEncryptionEnabled": True, "AtRestEncryptionEnabled": True, "AuthToken": TOKEN,
        "AutomaticFailoverEnabled": True, "MultiAZEnabled": True, "NumNodeGroups": 1, "ReplicasPerNodeGroup": 1,
        "CacheSubnetGroupName": "airflow-test", "EngineVersion": "8.0", "Engine": "valkey"
    }
    assert {key: made[key] for key in expected} == expected
    assert made["SecurityGroupIds"] == ["sg-1"] and made["Tags"] == [{"Key": "team", "Value": "data"}]
    assert service.waits == ["available"] and result["endpoint"] == {"address": "master.airflow-test", "port": 6379}


def test_what_is_as_declared_is_left_alone(run):
    service = ElastiCache("available")
    result = run(service, **DECLARED)
    assert result["changed"] is False and not service.calls and not service.waits
    assert result["endpoint"]["address"] == "master.airflow-test"


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("found", "declared", "calls"),
    [
        (
            {"node_type": "cache.t3.micro"},
            {},
            [("modify_replication_group", NOW | {"CacheNodeType": "cache.t4g.micro"})],
        ),
        (
            {"description": "?", "groups": ["sg-2"]},
            {},
            [
                (
                    "modify_replication_group",
                    NOW | {"ReplicationGroupDescription": "Cache of test", "SecurityGroupIds": ["sg-1"]},
                )
            ],
        ),
        ({"version": "7.2.6"}, {}, [("modify_replication_group", NOW | {"EngineVersion": "8.0"})]),
        # 8.01 is no patch of 8.0.
        ({"version": "8.01.6"}, {}, [("modify_replication_group", NOW | {"EngineVersion": "8.0"})]),
        (
            {"engine": "redis", "version": "7.1.0"},
            {},
            [("modify_replication_group", NOW | {"Engine": "valkey", "EngineVersion": "8.0"})],
        ),
        ({}, {"snapshot_days": 3}, [("modify_replication_group", NOW | {"SnapshotRetentionLimit": 3})]),
        (
            {},
            {"replicas": 2, "multi_az": True},
            [
                ("increase_replica_count", NOW | {"NewReplicaCount": 2}),
                ("modify_replication_group", NOW | {"AutomaticFailoverEnabled": True, "MultiAZEnabled": True}),
            ],
        ),
        (
            {"replicas": 1, "failover": "enabled", "multi_az": "enabled"},
            {},
            [
                ("modify_replication_group", NOW | {"AutomaticFailoverEnabled": False, "MultiAZEnabled": False}),
                ("decrease_replica_count", NOW | {"NewReplicaCount": 0}),
            ],
        ),
        (
            {"tags": {"team": "x", "by": "hand"}},
            {},
            [
                ("remove_tags_from_resource", {"ResourceName": ARN, "TagKeys": ["by"]}),
                ("add_tags_to_resource", {"ResourceName": ARN, "Tags": [{"Key": "team", "Value": "data"}]}),
            ],
        ),
    ],
)
def test_what_differs_is_changed_and_nothing_in_a_dry_run(run, found, declared, calls, check_mode):
    service = ElastiCache("available", "available", **found)
    result = run(service, check_mode, **DECLARED | declared)
    assert result["changed"] is True and result["calls"] == [method for method, _arguments in calls]
    assert service.calls == ([] if check_mode else calls)
    # One change at a time: ElastiCache refuses a second one.
    assert service.waits == ([] if check_mode else ["available"] * len(calls))


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(("status", "final_snapshot", "arguments"), [
    ("available", None, NAME | {"RetainPrimaryCluster": False}),
    ("available", "last", NAME | {"RetainPrimaryCluster": False, "FinalSnapshotIdentifier": "last"}),
    ("create-failed", None, NAME | {"RetainPrimaryCluster": False}),
    (None, None, None),
])
def test_it_is_removed(run, status, final_snapshot, arguments, check_mode):
    service = ElastiCache(status)
    result = run(service, check_mode, state="absent", final_snapshot=final_snapshot)
    assert result["changed"] is bool(arguments)
    assert service.calls == ([("delete_replication_group", arguments)] if arguments and not check_mode else [])
    assert service.waits == (["deleted"] if arguments and not check_mode else [])


def test_what_a_killed_run_began_to_make_is_waited_for(run):
    service = ElastiCache("creating", "available")
    assert run(service, **DECLARED)["changed"] is False
    assert service.waits == ["available"] and not service.calls


def test_what_a_killed_run_began_to_make_is_removed_once_it_is_there(run):
    """ElastiCache removes no group that it is making."""
    service = ElastiCache("creating", "available")
    assert run(service, state="absent")["changed"] is True
    assert service.waits == ["available", "deleted"]


@pytest.mark.parametrize(("state", "calls"), [("present", ["create_replication_group"]), ("absent", [])])
def test_what_a_killed_run_began_to_remove_is_waited_for(run, state, calls):
    service = ElastiCache("deleting", "available")
    assert run(service, state=state, **(DECLARED if state == "present" else {}))["calls"] == calls
    assert service.waits[0] == "deleted"


def test_a_dry_run_does_not_wait_for_a_removal(run):
    service = ElastiCache("deleting")
    assert run(service, True, **DECLARED)["changed"] is True
    assert not service.waits


def test_a_group_that_could_not_be_made_is_told(run):
    result = run(ElastiCache("create-failed"), **DECLARED)
    assert result["failed"] and "could not make airflow-test" in result["msg"] and "state: absent" in result["msg"]


def test_a_wait_that_is_in_vain_is_told(run, monkeypatch):
    def wait(*_arguments, **_more):
        raise WaiterError("replication_group_available", "Max attempts exceeded", {})

    monkeypatch.setattr(Waiter, "wait", wait)
    result = run(ElastiCache(None), **DECLARED)
    assert result["failed"] and "airflow-test can't be brought about" in result["msg"]


@pytest.mark.parametrize("missing", ["engine_version", "node_type", "subnet_group", "security_groups", "auth_token"])
def test_what_is_needed_is_asked_for(run, missing):
    service = ElastiCache()
    result = run(service, **{key: value for key, value in DECLARED.items() if key != missing})
    assert result["failed"] and missing in result["msg"] and not service.calls
