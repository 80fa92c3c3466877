"""An environment for a branch: named after it, tagged with its last day, and removed after that day, while others stay.
"""

import datetime
import re
import shutil

import pytest
from conftest import ROOT, json_of

BRANCH, ENVIRONMENT = "feature/new-report", "b-feature-new-43c20f"


class Branch:
    """inventories/aws_branch in a VPC that exists, and the playbooks run with it."""

    def __init__(self, account):
        self.account = account
        self.directory = account.directory / "inventories/aws_branch"
        shutil.copytree(ROOT / "inventories/aws_branch", self.directory)
        ec2 = account.client("ec2")
        (vpc,) = ec2.describe_vpcs()["Vpcs"]
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        with open(self.directory / "group_vars/all/main.yml", "a", encoding="utf-8") as file:
            file.write(f"aws_network_vpc_id: {vpc['VpcId']}\naws_network_subnet_ids: [{subnet}]\n"
                       "aws_instances_image: /aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64\n")

    def play(self, name, *arguments):
        return self.account.play(name, *arguments, inventory=self.directory / "groups.yml", AIRFLOW_BRANCH=BRANCH)

    def hosts(self, branch):
        process = self.account.command("ansible-inventory",
                                       "--list",
                                       inventory=str(self.directory),
                                       AIRFLOW_BRANCH=branch)
        return json_of(process.communicate(timeout=60)[0]).get("airflow_scheduler", {}).get("hosts", [])

    def expire(self, day):
        """Give all that has an expiry this one."""
        ec2 = self.account.client("ec2")
        tagged = [
            tag["ResourceId"]
            for tag in ec2.describe_tags(Filters=[{"Name": "key", "Values": ["airflow_expires"]}])["Tags"]
        ]
        assert len(tagged) > 1
        ec2.create_tags(Resources=tagged, Tags=[{"Key": "airflow_expires", "Value": str(day)}])


def day(offset):
    return datetime.datetime.now(datetime.timezone.utc).date() + datetime.timedelta(days=offset)


@pytest.fixture(scope="module")
def others(account):
    """What no run may remove: production, which never expires, and an environment whose last day is today."""
    account.post("/moto-api/reset")
    ec2 = account.client("ec2")
    for environment, tags in (("production", {}), ("b-other", {"airflow_expires": str(day(0))})):
        group = ec2.create_security_group(GroupName=environment, Description=environment)["GroupId"]
        ec2.create_tags(Resources=[group],
                        Tags=[{"Key": key, "Value": value}
                              for key, value in {"airflow_environment": environment, **tags}.items()])
    return account.content()


@pytest.fixture(scope="module")
def branch(account, others):
    made = Branch(account)
    result = made.play("provision")
    assert result.code == 0, result.text
    return made


def test_all_names_follow_from_the_branch(account, branch):
    (reservation,) = account.client("ec2").describe_instances()["Reservations"]
    tags = {tag["Key"]: tag["Value"] for tag in reservation["Instances"][0]["Tags"]}
    assert (tags["airflow_environment"], tags["airflow_branch"], tags["airflow_expires"]) == (
        ENVIRONMENT,
        BRANCH,
        str(day(3)),
    )
    groups = [group["logGroupName"] for group in account.client("logs").describe_log_groups()["logGroups"]]
    assert groups and all(name.startswith(f"/airflow/{ENVIRONMENT}/") for name in groups)
    assert not account.client("cloudwatch").describe_alarms()["MetricAlarms"]


def test_its_host_is_found_by_the_name_of_the_branch(branch):
    (host,) = branch.hosts(BRANCH)
    assert host.startswith(f"airflow-{ENVIRONMENT}-main-i-")
    assert not branch.hosts("feature/another")


def test_what_is_over_is_shown_and_removed_once_it_is_confirmed(account, branch, others):
    branch.expire(day(-1))
    account.client("ec2").create_tags(
        Resources=[
            group["GroupId"]
            for group in account.client("ec2").describe_security_groups(GroupNames=["b-other"])["SecurityGroups"]
        ],
        Tags=[{"Key": "airflow_expires", "Value": str(day(0))}],
    )
    before = account.content()
    report = branch.play("remove_expired")
    assert report.code == 0 and report.changed == 0, report.text
    assert re.search(rf"expired:\s+- {ENVIRONMENT}\s+not yet:\s+b-other: '{day(0)}'", report.text), report.text
    assert account.content() == before

    removed = branch.play("remove_expired", "-e", "airflow_confirm=expired")
    assert removed.code == 0, removed.text
    assert account.content() == others
