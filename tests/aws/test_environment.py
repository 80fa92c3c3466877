"""The life of an environment, from an empty account to an account that is as empty again. Tests are in the order of
that life.
"""

import json
import re

import pytest
from botocore.exceptions import ClientError
from conftest import REGION, ROOT, json_of

NAME = "airflow-test"


@pytest.fixture(scope="module")
def empty(account):
    """What an account has that has nothing."""
    account.post("/moto-api/reset")
    return account.content()


@pytest.fixture(scope="module")
def provisioned(account, empty):
    """An environment whose first run was killed. Returns what that run and the next one said."""
    killed = account.play_and_kill("provision",
                                   "TASK [windsock.airflow.aws_iam : provision | Make the role of the hosts")
    # With all that Ansible tells, so that a secret would be seen.
    return killed, account.play("provision", "-vvv")


@pytest.fixture(scope="module")
def repeated(account, provisioned):
    """What a further run says, and two dry runs beside it, as none has anything to change; and the account before and
    after them.
    """
    before = account.content()
    results = account.play_together(("provision",), ("provision", "--check", "--diff"), ("teardown", "--check"))
    return *results, before, account.content()


@pytest.fixture(scope="module")
def instance(account, provisioned):
    (reservation,) = account.client("ec2").describe_instances()["Reservations"]
    (found,) = reservation["Instances"]
    return found


def tags(item, key="Tags"):
    return {tag["Key"]: tag["Value"] for tag in item[key]}


def test_dry_run_on_an_empty_account(account, empty):
    result = account.play("provision", "--check", "--diff")
    assert result.code == 0, result.text
    assert result.changed > 0
    assert account.content() == empty


def test_a_killed_run_is_completed_by_the_next(provisioned):
    killed, completed = provisioned
    assert killed.count("changed: ") >= 10, "it was killed before it had made something"
    assert completed.code == 0, completed.text
    assert completed.changed > 10, "it was killed after it had made everything"


def test_again_changes_nothing(repeated):
    again, *_others, before, after = repeated
    assert again.code == 0 and again.changed == 0, again.text
    assert before == after


def test_dry_run_on_the_environment_predicts_no_change(repeated):
    dry_run = repeated[1]
    assert dry_run.code == 0 and dry_run.changed == 0, dry_run.text


def test_dry_run_of_teardown_shows_what_would_go(repeated):
    dry_run = repeated[2]
    assert dry_run.code == 0, dry_run.text
    gone = dict(
        re.findall(r"^TASK \[windsock\.airflow\.(aws_\w+) : teardown\w* \| Remove .+\] \*+\n(changed)", dry_run.text,
                   re.MULTILINE))
    assert set(gone) == {
        "aws_observability", "aws_instances", "aws_rds", "aws_elasticache", "aws_iam", "aws_security_groups",
        "aws_network"
    }, dry_run.text


def secret(account, name):
    return account.client("secretsmanager").get_secret_value(SecretId=f"{NAME}/{name}")["SecretString"]


def test_no_run_says_a_secret(account, provisioned, repeated):
    password, token = json.loads(secret(account, "database"))["password"], json.loads(secret(account, "cache"))["token"]
    assert (len(password), len(token)) == (40, 64)
    killed, completed = provisioned
    said = killed + completed.text + "".join(result.text for result in repeated[:3])
    assert password not in said and token not in said


def test_instances_are_closed(account, instance):
    assert "PublicIpAddress" not in instance
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"/{NAME}-hosts")
    ec2 = account.client("ec2")
    protected = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="disableApiTermination")
    assert protected["DisableApiTermination"]["Value"] is True
    subnet = ec2.describe_subnets(SubnetIds=[instance["SubnetId"]])["Subnets"][0]
    assert tags(subnet)["Name"] == f"{NAME}-private-a" and subnet["MapPublicIpOnLaunch"] is False
    assert tags(instance).items() >= {
        "airflow_environment": "test", "airflow_hosts": "main", "team": "data", "Name": f"{NAME}-main"
    }.items()


def test_the_root_volume_is_encrypted(account, instance):
    (mapping,) = instance["BlockDeviceMappings"]
    assert mapping["DeviceName"] == instance["RootDeviceName"]
    (volume,) = account.client("ec2").describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Encrypted"], volume["VolumeType"], volume["Size"]) == (True, "gp3", 50)


def rules(group):
    """[(port, source)] of what may come in."""
    found = []
    for rule in group["IpPermissions"]:
        sources = [r["CidrIp"] for r in rule["IpRanges"]] + [r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])]
        found += [(rule["FromPort"], rule["ToPort"], source)
                  for source in sources + [pair["GroupId"] for pair in rule["UserIdGroupPairs"]]]
    return sorted(found)


def test_only_what_is_declared_comes_in(account, provisioned):
    found = {group["GroupName"]: group for group in account.client("ec2").describe_security_groups()["SecurityGroups"]}
    hosts, database, cache, endpoints = (found[f"{NAME}-{name}"]
                                         for name in ("hosts", "database", "cache", "endpoints"))
    assert rules(hosts) == [(22, 22, "203.0.113.7/32"), (443, 443, "0.0.0.0/0"), (8080, 8080, hosts["GroupId"])]
    assert rules(database) == [(5432, 5432, hosts["GroupId"])]
    assert rules(cache) == [(6379, 6379, hosts["GroupId"])]
    assert rules(endpoints) == [(443, 443, "10.64.0.0/22")]
    assert not database["IpPermissionsEgress"] and not cache["IpPermissionsEgress"] and not endpoints[
        "IpPermissionsEgress"]


def test_private_subnets_leave_through_the_nat_gateway(account, provisioned):
    ec2 = account.client("ec2")
    found = {tags(table).get("Name"): table for table in ec2.describe_route_tables()["RouteTables"]}
    ways = {
        name: [
            route for route in found[f"{NAME}-{name}"]["Routes"] if route.get("DestinationCidrBlock") == "0.0.0.0/0"
        ]
        for name in ("private", "public")
    }
    (nat,) = ec2.describe_nat_gateways()["NatGateways"]
    assert [way["NatGatewayId"] for way in ways["private"]] == [nat["NatGatewayId"]]
    assert ways["public"][0]["GatewayId"].startswith("igw-")
    assert len(ec2.describe_addresses()["Addresses"]) == 1
    services = sorted(end["ServiceName"] for end in ec2.describe_vpc_endpoints()["VpcEndpoints"])
    assert services == ["com.amazonaws.eu-central-1.s3", "com.amazonaws.eu-central-1.ssm"]


def test_the_role_has_the_generated_policy_and_no_other(account, provisioned):
    iam = account.client("iam")
    (attached,) = iam.list_attached_role_policies(RoleName=f"{NAME}-hosts")["AttachedPolicies"]
    assert not iam.list_role_policies(RoleName=f"{NAME}-hosts")["PolicyNames"]
    version = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
    found = {statement["Sid"]: statement["Resource"] for statement in document["Statement"]}
    assert found["Logs"] == ["arn:aws:logs:eu-central-1:123456789012:log-group:/airflow/test/*"]
    assert found["Objects1"] == ["arn:aws:s3:::example-airflow/logs/*"]
    trust = iam.get_role(RoleName=f"{NAME}-hosts")["Role"]["AssumeRolePolicyDocument"]
    assert [statement["Principal"] for statement in trust["Statement"]] == [{"Service": "ec2.amazonaws.com"}]


def test_the_bucket_is_closed(account, provisioned):
    s3 = account.client("s3")
    assert set(
        s3.get_public_access_block(Bucket="example-airflow")["PublicAccessBlockConfiguration"].values()) == {True}
    rule = s3.get_bucket_encryption(Bucket="example-airflow")["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_bucket_versioning(Bucket="example-airflow")["Status"] == "Enabled"
    assert s3.get_bucket_ownership_controls(Bucket="example-airflow")["OwnershipControls"]["Rules"] == [{
        "ObjectOwnership": "BucketOwnerEnforced"
    }]
    (statement,) = json.loads(s3.get_bucket_policy(Bucket="example-airflow")["Policy"])["Statement"]
    assert statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    life = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket="example-airflow")["Rules"]}
    assert life["expire logs/"]["Expiration"]["Days"] == 90 and life["expire logs/"]["Filter"] == {"Prefix": "logs/"}
    assert life["leftovers"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30


def test_the_database_is_closed(account, provisioned):
    rds = account.client("rds")
    (database,) = rds.describe_db_instances()["DBInstances"]
    expected = {
        "StorageEncrypted": True, "PubliclyAccessible": False, "DeletionProtection": True, "BackupRetentionPeriod": 7,
        "StorageType": "gp3", "AllocatedStorage": 50, "Engine": "postgres", "EngineVersion": "16.4", "MultiAZ": False,
        "DBInstanceClass": "db.t4g.medium"
    }
    assert {key: database[key] for key in expected} == expected
    assert [group["DBParameterGroupName"] for group in database["DBParameterGroups"]] == [f"{NAME}-postgres16"]
    parameters = rds.describe_db_parameters(DBParameterGroupName=f"{NAME}-postgres16")["Parameters"]
    assert [p["ParameterValue"] for p in parameters if p["ParameterName"] == "rds.force_ssl"] == ["1"]


def test_a_backup_takes_a_snapshot_of_it(account, provisioned):
    rds = account.client("rds")
    variables = {
        "airflow_backup_rds_instance": NAME, "airflow_backup_rds_region": REGION,
        "__airflow_backup_made": "/backups/Airflow-20260131T000000Z.tar"
    }
    result = account.role("airflow_backup", "steps/snapshot.yml", variables)
    assert result.code == 0, result.text
    (snapshot,) = rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    rds.delete_db_snapshot(DBSnapshotIdentifier=snapshot["DBSnapshotIdentifier"])
    assert (snapshot["DBSnapshotIdentifier"], snapshot["DBInstanceIdentifier"]) == (
        f"{NAME}-airflow-20260131t000000z",
        NAME,
    )
    assert snapshot["Encrypted"] is True


def test_another_class_waits_for_the_maintenance_window_unless_it_is_applied_now(account, provisioned):
    rds = account.client("rds")
    (before,) = rds.describe_db_instances()["DBInstances"]
    network = {
        "__aws_network_subnet_ids": [subnet["SubnetIdentifier"] for subnet in before["DBSubnetGroup"]["Subnets"]],
        "__aws_security_groups_database_made": {"group_id": before["VpcSecurityGroups"][0]["VpcSecurityGroupId"]},
    }

    def change(**settings):
        """Run the database's role, which makes up the whole of this change, and return what it said, the class and the
        class that waits.
        """
        result = account.role("aws_rds",
                              "main.yml",
                              network | {"aws_rds_class": "db.t4g.large"} | settings,
                              AWS_REGION=REGION)
        assert result.code == 0, result.text
        (found,) = rds.describe_db_instances()["DBInstances"]
        return result, found["DBInstanceClass"], found.get("PendingModifiedValues", {}).get("DBInstanceClass")

    later, *classes = change()
    assert later.changed == 1 and classes == ["db.t4g.medium", "db.t4g.large"], later.text
    assert "db_instance_class: RDS changes it, with a restart, in the maintenance window" in " ".join(
        later.text.split())
    # It waits already.
    now, *classes = change(aws_rds_apply_now=True)
    assert now.changed == 1 and classes == ["db.t4g.large", None], now.text
    again, *classes = change(aws_rds_apply_now=True)
    assert again.changed == 0 and classes == ["db.t4g.large", None], again.text


def test_airflow_finds_its_connection_string(account, provisioned):
    login = json.loads(secret(account, "database"))
    (database,) = account.client("rds").describe_db_instances()["DBInstances"]
    assert secret(account, "config/sql_alchemy_conn") == (
        f"postgresql+psycopg2://airflow:{login['password']}@{database['Endpoint']['Address']}:5432/airflow?sslmode=verify-full"
    )


def test_the_cache_is_closed(account, provisioned):
    cache, ec2 = account.client("elasticache"), account.client("ec2")
    (group,) = cache.describe_replication_groups()["ReplicationGroups"]
    expected = {
        "TransitEncryptionEnabled": True, "AtRestEncryptionEnabled": True, "AuthTokenEnabled": True,
        "AutomaticFailover": "enabled", "MultiAZ": "enabled", "SnapshotRetentionLimit": 1,
        "CacheNodeType": "cache.t4g.micro", "Engine": "valkey", "MemberClusters": [f"{NAME}-001", f"{NAME}-002"]
    }
    assert {key: group[key] for key in expected} == expected
    assert tags({"Tags": cache.list_tags_for_resource(ResourceName=group["ARN"])["TagList"]
                 }) == {"airflow_environment": "test", "team": "data"}
    (guard, ) = ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [f"{NAME}-cache"]}])["SecurityGroups"]
    for node in cache.describe_cache_clusters()["CacheClusters"]:
        assert [item["SecurityGroupId"] for item in node["SecurityGroups"]] == [guard["GroupId"]]
        assert (node["CacheSubnetGroupName"], node["EngineVersion"]) == (NAME, "8.0.1")
    (subnets,) = cache.describe_cache_subnet_groups()["CacheSubnetGroups"]
    private = [
        subnet["SubnetId"]
        for subnet in ec2.describe_subnets(Filters=[{"Name": "tag:Name", "Values": [f"{NAME}-private-*"]}])["Subnets"]
    ]
    assert sorted(subnet["SubnetIdentifier"] for subnet in subnets["Subnets"]) == sorted(private) and len(private) == 2


def test_the_inventory_finds_the_connection_string_of_the_cache(account, provisioned):
    (group,) = account.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    host = group["NodeGroups"][0]["PrimaryEndpoint"]["Address"]
    expected = f"rediss://:{json.loads(secret(account, 'cache'))['token']}@{host}:6379/0?ssl_check_hostname=true"
    assert secret(account, "cache_url") == expected
    shipped = (ROOT / "inventories/aws/group_vars/all/main.yml").read_text(encoding="utf-8")
    (lookup,) = re.findall(r"^# airflow_auth_rate_limit_storage: >-\n((?:#  .+\n)+)", shipped, re.MULTILINE)
    lookup = " ".join(line.lstrip("# ") for line in lookup.splitlines())
    process = account.command("ansible", "localhost", "-m", "debug", "-a", f"msg={lookup}")
    assert expected in process.communicate(timeout=60)[0]


def test_logs_have_a_retention(account, provisioned):
    groups = account.client("logs").describe_log_groups()["logGroups"]
    assert {group["logGroupName"]: group["retentionInDays"]
            for group in groups} == {"/airflow/test/scheduler": 30, "/airflow/test/task": 30}


def test_alarms_tell_somebody_what_to_do(account, provisioned, instance):
    (topic,) = account.client("sns").list_topics()["Topics"]
    (subscription,) = account.client("sns").list_subscriptions()["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "oncall@example.com")
    alarms = {
        alarm["AlarmName"].removeprefix(f"{NAME}/"): alarm
        for alarm in account.client("cloudwatch").describe_alarms()["MetricAlarms"]
    }
    machine = alarms.pop(f"machine-{instance['InstanceId']}")
    assert machine["AlarmActions"] == ["arn:aws:automate:eu-central-1:ec2:recover", topic["TopicArn"]]
    assert set(alarms) == {
        "scheduler-heartbeat", "disk-full", "tasks-queued", "dag-import-errors", "tasks-failing", "certificate-expiry",
        "backup-too-old", "database-connections"
    }
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [topic["TopicArn"]], name
        assert f"docs/alarms.md#{name}" in alarm["AlarmDescription"]
    assert alarms["scheduler-heartbeat"]["TreatMissingData"] == "breaching"
    (query,) = alarms["disk-full"]["Metrics"]
    assert query["Expression"] == 'SELECT MAX(disk_used_percent) FROM "Airflow/test"'


def test_the_dashboard_has_its_widgets_side_by_side(account, provisioned):
    body = json.loads(account.client("cloudwatch").get_dashboard(DashboardName=NAME)["DashboardBody"])
    assert len({(widget["x"], widget["y"]) for widget in body["widgets"]}) == len(body["widgets"])
    titles = {widget["properties"]["title"]: widget["properties"]["metrics"][0][0] for widget in body["widgets"]}
    assert titles["CPU of each component, % of one core"][
        "expression"] == 'SELECT SUM(procstat_cpu_usage) FROM "Airflow/test" GROUP BY component'
    assert titles["Database connections"] == "AWS/RDS"


def test_the_inventory_has_the_hosts_in_their_groups(account, instance):
    process = account.command("ansible-inventory", "--list", inventory="inventories/aws")
    found = json_of(process.communicate(timeout=60)[0])
    host = f"{NAME}-main-{instance['InstanceId']}"
    for group in ("airflow_postgres", "airflow_webserver", "airflow_scheduler", "airflow_dag_processor",
                  "airflow_triggerer"):
        assert found[group]["hosts"] == [host], group
    assert set(found["airflow"]["children"]) == {
        "airflow_webserver", "airflow_scheduler", "airflow_dag_processor", "airflow_triggerer"
    }
    assert list(found["_meta"]["hostvars"]) == [host]


def test_site_accepts_the_inventory(account, instance):
    """Preflight takes groups and variables, and goes on to the host, which the emulator does not have."""
    process = account.command("ansible-playbook", ROOT / "playbooks/validate.yml", inventory="inventories/aws")
    text = process.communicate(timeout=120)[0]
    assert "TASK [windsock.airflow.preflight : host | Check the host]" in text, text
    assert "UNREACHABLE!" in text, text


@pytest.fixture
def hosts_s3(account, provisioned):
    """S3 as a host sees it."""
    s3 = account.client("s3")
    s3.create_bucket(Bucket="somebody-elses", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    host = account.client("s3", role=f"arn:aws:iam::123456789012:role/{NAME}-hosts")
    account.check_permissions(True)
    yield host
    account.check_permissions(False)
    s3.delete_bucket(Bucket="somebody-elses")


def test_hosts_reach_their_prefix_and_nothing_else_in_s3(hosts_s3):
    log = {"Bucket": "example-airflow", "Key": "logs/a.log"}
    hosts_s3.put_object(Body=b"log", **log)
    assert hosts_s3.get_object(**log)["Body"].read() == b"log"
    assert [item["Key"] for item in hosts_s3.list_objects_v2(Bucket="example-airflow", Prefix="logs/")["Contents"]
            ] == ["logs/a.log"]
    refused = {
        "another prefix": lambda: hosts_s3.put_object(Bucket="example-airflow", Key="other/a", Body=b""),
        "to read another prefix": lambda: hosts_s3.get_object(Bucket="example-airflow", Key="other/a"),
        "another bucket": lambda: hosts_s3.put_object(Bucket="somebody-elses", Key="logs/a.log", Body=b""),
        "to list another bucket": lambda: hosts_s3.list_objects_v2(Bucket="somebody-elses"),
        "to delete": lambda: hosts_s3.delete_object(**log),
        "to open the bucket": lambda: hosts_s3.delete_bucket_policy(Bucket="example-airflow"),
    }
    for what, attempt in refused.items():
        with pytest.raises(ClientError) as error:
            attempt()
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403, what


# ---- and back --------------------------------------------------------------------------------------------------------


def test_teardown_asks_first(account, provisioned):
    before = account.content()
    result = account.play("teardown")
    assert result.code == 2 and "-e airflow_confirm=test" in result.message
    assert account.content() == before


def test_a_killed_teardown_is_completed_by_the_next(account, empty, provisioned):
    before = account.content()
    account.play_and_kill("teardown", "TASK [windsock.airflow.aws_network : teardown_vpc | Remove the endpoints", "-e",
                          "airflow_confirm=test")
    between = account.content()
    assert between != before and between != empty
    result = account.play("teardown", "-e", "airflow_confirm=test")
    assert result.code == 0, result.text
    assert account.content() == empty


def test_teardown_of_nothing_changes_nothing(account):
    result = account.play("teardown", "-e", "airflow_confirm=test")
    assert result.code == 0 and result.changed == 0, result.text
