#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Make, change or remove a replication group of ElastiCache."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: elasticache_replication_group
short_description: Make, change or remove a replication group of ElastiCache
version_added: 1.0.0
description:
  - For this there is no module in amazon.aws or community.aws; M(community.aws.elasticache) makes single nodes, without
    TLS and without a token.
  - The group has one shard, and is always encrypted in transit and at rest. Clients need the token.
  - It waits until the group is there or gone, also where another run has begun to make or to remove it.
options:
  name:
    description: Identifier of the group.
    type: str
    required: true
  description:
    description: What it is for, as AWS shows it. Required for O(state=present).
    type: str
  engine:
    description: What it runs. From redis to valkey is an upgrade; the way back is none.
    type: str
    choices: [valkey, redis]
    default: valkey
  engine_version:
    description: Major and minor version, such as V(8.0); what follows is AWS's choice. Required for O(state=present).
    type: str
  node_type:
    description: Type of each node, such as V(cache.t4g.small). Required for O(state=present).
    type: str
  replicas:
    description: Nodes beside the primary one, 0 to 5. With one or more, another node takes over from a primary one that
      fails.
    type: int
    default: 0
  multi_az:
    description: Replicas in another zone than the primary node. Needs O(replicas) of one or more.
    type: bool
    default: false
  subnet_group:
    description: Subnet group that it is made in. Not changed later. Required for O(state=present).
    type: str
  security_groups:
    description: IDs of its security groups. Required for O(state=present).
    type: list
    elements: str
  auth_token:
    description: Token of clients, 16 to 128 characters. Sent when the group is made and never again. Required for
      O(state=present).
    type: str
  snapshot_days:
    description: Days that daily snapshots are kept. 0 means that none are made.
    type: int
    default: 0
  final_snapshot:
    description: Name of a last snapshot that O(state=absent) leaves. None by default.
    type: str
  tags:
    description: Its tags. Others are removed.
    type: dict
    default: {}
  wait_timeout:
    description: Seconds that AWS may take for one change.
    type: int
    default: 3600
  state:
    description: Whether it is there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Changes nothing and reports what it would change.
  diff_mode:
    support: full
    description: Shows the settings before and after.
seealso:
  - module: community.aws.elasticache_subnet_group
notes:
  - It needs the permissions elasticache:DescribeReplicationGroups, DescribeCacheClusters, ListTagsForResource,
    CreateReplicationGroup, ModifyReplicationGroup,
    IncreaseReplicaCount, DecreaseReplicaCount, AddTagsToResource, RemoveTagsFromResource and DeleteReplicationGroup.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Make a cache with a replica in another zone
  windsock.airflow.elasticache_replication_group:
    name: airflow-production
    description: Cache of production
    region: eu-central-1
    engine_version: "8.0"
    node_type: cache.t4g.small
    replicas: 1
    multi_az: true
    subnet_group: airflow-production
    security_groups: [sg-0a1b2c3d]
    auth_token: "{{ vault_cache_token }}"

- name: Remove it
  windsock.airflow.elasticache_replication_group:
    name: airflow-production
    region: eu-central-1
    state: absent
"""

RETURN = r"""
name:
  description: Identifier of the group.
  returned: always
  type: str
  sample: airflow-production
endpoint:
  description: Where its primary node listens, with TLS.
  returned: when there is one
  type: dict
  sample: {address: master.airflow-production.a1b2c3.euc1.cache.amazonaws.com, port: 6379}
calls:
  description: What was asked of ElastiCache, or would be in a dry run.
  returned: always
  type: list
  elements: str
  sample: [modify_replication_group]
"""

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    # AnsibleAWSModule says so.
    pass

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.amazon.aws.plugins.module_utils.botocore import is_boto3_error_code
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)

PER_POLL = 15


def describe(client, name):
    """Return the group as ElastiCache describes it; None where there is none."""
    try:
        return client.describe_replication_groups(ReplicationGroupId=name, aws_retry=True)["ReplicationGroups"][0]
    except is_boto3_error_code("ReplicationGroupNotFoundFault"):
        return None


def wait(client, name, until, seconds):
    """Wait until the group is available or deleted."""
    client.get_waiter("replication_group_" + until).wait(
        ReplicationGroupId=name, WaiterConfig={"Delay": PER_POLL, "MaxAttempts": max(1, seconds // PER_POLL)})


def settled(client, name, seconds, check_mode):
    """Return the group once nothing is under way; None where there is none, or it is on its way out."""
    group = describe(client, name)
    if group and group["Status"] == "deleting":
        if not check_mode:
            wait(client, name, "deleted", seconds)
        return None
    # One that could not be made is only good to be removed.
    if group and group["Status"] not in ("available", "create-failed"):
        wait(client, name, "available", seconds)
        return describe(client, name)
    return group


def current(client, group):
    """Return what can be declared, as it is. Version and security groups are known of the members alone."""
    member = client.describe_cache_clusters(CacheClusterId=group["MemberClusters"][0],
                                            aws_retry=True)["CacheClusters"][0]
    tags = client.list_tags_for_resource(ResourceName=group["ARN"], aws_retry=True)["TagList"]
    return {
        "description": group["Description"],
        "engine": member["Engine"],
        "engine_version": member["EngineVersion"],
        "node_type": group["CacheNodeType"],
        "replicas": len(group["MemberClusters"]) - 1,
        "failover": group["AutomaticFailover"] == "enabled",
        "multi_az": group["MultiAZ"] == "enabled",
        "security_groups": sorted(item["SecurityGroupId"] for item in member["SecurityGroups"]),
        "snapshot_days": group["SnapshotRetentionLimit"],
        "tags": boto3_tag_list_to_ansible_dict(tags),
    }


def declared(params, now):
    """Return what is declared, in the form of current()."""
    wanted = {
        key: params[key]
        for key in ("description", "engine", "engine_version", "node_type", "replicas", "multi_az", "snapshot_days",
                    "tags")
    }
    wanted.update(failover=params["replicas"] > 0, security_groups=sorted(params["security_groups"]))
    # AWS chooses what follows major and minor version, and raises it.
    if (
        now
        and now["engine"] == wanted["engine"]
        and (now["engine_version"] + ".").startswith(wanted["engine_version"] + ".")
    ):
        wanted["engine_version"] = now["engine_version"]
    return wanted


# How AWS names it where it is changed.
CHANGEABLE = {
    "description": "ReplicationGroupDescription",
    "engine": "Engine",
    "engine_version": "EngineVersion",
    "node_type": "CacheNodeType",
    "failover": "AutomaticFailoverEnabled",
    "multi_az": "MultiAZEnabled",
    "security_groups": "SecurityGroupIds",
    "snapshot_days": "SnapshotRetentionLimit",
}


def creation(params, wanted):
    """Return the call that makes the group."""
    arguments = {argument: wanted[key] for key, argument in CHANGEABLE.items()}
    return "create_replication_group", dict(arguments,
                                            ReplicationGroupId=params["name"],
                                            CacheSubnetGroupName=params["subnet_group"],
                                            AuthToken=params["auth_token"],
                                            NumNodeGroups=1,
                                            ReplicasPerNodeGroup=wanted["replicas"],
                                            TransitEncryptionEnabled=True,
                                            AtRestEncryptionEnabled=True,
                                            AutoMinorVersionUpgrade=True,
                                            Tags=ansible_dict_to_boto3_tag_list(wanted["tags"]))


def changes(name, arn, now, wanted):
    """Return the calls that make what is as declared, in their order: failover can be on only where there is a replica.
    """
    group = {"ReplicationGroupId": name, "ApplyImmediately": True}
    modified = {argument: wanted[key] for key, argument in CHANGEABLE.items() if now[key] != wanted[key]}
    gone = sorted(set(now["tags"]) - set(wanted["tags"]))
    added = {key: value for key, value in wanted["tags"].items() if now["tags"].get(key) != value}
    return [
        call
        for call, needed in (
            (
                ("increase_replica_count", dict(group, NewReplicaCount=wanted["replicas"])),
                wanted["replicas"] > now["replicas"],
            ),
            (("modify_replication_group", dict(group, **modified)), modified),
            (
                ("decrease_replica_count", dict(group, NewReplicaCount=wanted["replicas"])),
                wanted["replicas"] < now["replicas"],
            ),
            (("remove_tags_from_resource", {"ResourceName": arn, "TagKeys": gone}), gone),
            (("add_tags_to_resource", {"ResourceName": arn, "Tags": ansible_dict_to_boto3_tag_list(added)}), added),
        )
        if needed
    ]


def removal(params):
    """Return the call that removes the group."""
    last = {"FinalSnapshotIdentifier": params["final_snapshot"]} if params["final_snapshot"] else {}
    return "delete_replication_group", dict(last, ReplicationGroupId=params["name"], RetainPrimaryCluster=False)


def apply(client, params, calls):
    """Make the calls, each once the one before it is done."""
    for method, arguments in calls:
        getattr(client, method)(aws_retry=True, **arguments)
        wait(client, params["name"], "deleted" if method == "delete_replication_group" else "available",
             params["wait_timeout"])


def bring_about(module, client):
    """Bring the group about, or remove it; return the result."""
    params = module.params
    group = settled(client, params["name"], params["wait_timeout"], module.check_mode)
    before, after = {}, {}
    if params["state"] == "absent":
        before, calls = {"name": params["name"]} if group else {}, [removal(params)] if group else []
    else:
        if group and group["Status"] == "create-failed":
            module.fail_json(
                msg="ElastiCache could not make %s; its events say why. Remove it (state: absent) and run this again." %
                params["name"])
        before = current(client, group) if group else {}
        after = declared(params, before)
        calls = changes(params["name"], group["ARN"], before, after) if group else [creation(params, after)]
    if calls and not module.check_mode:
        apply(client, params, calls)
        group = describe(client, params["name"])
    result = dict(changed=bool(calls),
                  name=params["name"],
                  calls=[method for method, _arguments in calls],
                  diff={"before": before, "after": after})
    if group and params["state"] == "present":
        result["endpoint"] = camel_dict_to_snake_dict(group["NodeGroups"][0]["PrimaryEndpoint"])
    return result


def main():
    """Run the module."""
    module = AnsibleAWSModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            description=dict(type="str"),
            engine=dict(type="str", choices=["valkey", "redis"], default="valkey"),
            engine_version=dict(type="str"),
            node_type=dict(type="str"),
            replicas=dict(type="int", default=0),
            multi_az=dict(type="bool", default=False),
            subnet_group=dict(type="str"),
            security_groups=dict(type="list", elements="str"),
            auth_token=dict(type="str", no_log=True),
            snapshot_days=dict(type="int", default=0),
            final_snapshot=dict(type="str"),
            tags=dict(type="dict", default={}),
            wait_timeout=dict(type="int", default=3600),
            state=dict(type="str", choices=["present", "absent"], default="present"),
        ),
        required_if=[[
            "state", "present",
            ["description", "engine_version", "node_type", "subnet_group", "security_groups", "auth_token"]
        ]],
        supports_check_mode=True,
    )
    try:
        module.exit_json(
            **bring_about(module, module.client("elasticache", retry_decorator=AWSRetry.jittered_backoff())))
    except (BotoCoreError, ClientError) as error:
        module.fail_json_aws(error, msg="The replication group %s can't be brought about" % module.params["name"])


if __name__ == "__main__":
    main()
