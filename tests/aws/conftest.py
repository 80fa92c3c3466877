"""An AWS account that is an emulator, and the product's playbooks run against it as an operator runs them."""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import boto3
import pytest
import yaml
from ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
# Everything that can be asked for, so that all of it is seen.
SETTINGS = {
    "aws_environment": "test",
    "aws_region": REGION,
    "aws_tags": {"team": "data"},
    "aws_network_endpoints": ["ssm"],
    # The one public parameter that the emulator knows.
    "aws_instances_image": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    "aws_rds_enabled": True,
    "aws_rds_final_snapshot": False,
    "aws_elasticache_enabled": True,
    "aws_elasticache_replicas": 1,
    "aws_elasticache_snapshot_days": 1,
    "aws_buckets_declared": [{"name": "example-airflow", "expire": {"logs/": 90}}],
    "aws_buckets_delete_objects": True,
    "aws_iam_buckets": [{"bucket": "example-airflow", "prefix": "logs/", "access": "read_write"}],
    "aws_iam_tables": [{"table": "user_preferences", "access": "read"}],
    "aws_security_groups_ingress": [
        {"port": 22, "source": "203.0.113.7/32", "description": "SSH from the office"},
        # What is refused otherwise.
        {"port": 443, "source": "0.0.0.0/0", "allow_wide": True},
    ],
    "aws_security_groups_internal_ports": [8080],
    "aws_observability_log_groups": ["scheduler", "task"],
    "aws_observability_subscriptions": [{"protocol": "email", "endpoint": "oncall@example.com"}],
}


class Result:
    """What a playbook, or a role alone, said."""

    def __init__(self, code, text):
        self.code, self.text = code, text

    @property
    def changed(self):
        """Number of changed tasks."""
        recap = re.findall(r"changed=(\d+)", self.text)
        # Ansible counts those of a playbook only.
        return int(recap[-1]) if recap else self.text.count("localhost | CHANGED => ")

    @property
    def message(self):
        """What failed, as one line."""
        assert self.text.count("fatal: ") == 1, self.text
        return re.sub(r"\s+", " ", self.text.split("fatal: ")[1].split("PLAY RECAP")[0])


class Account:
    """The emulated account."""

    def __init__(self, port, directory):
        self.url = f"http://127.0.0.1:{port}"
        self.directory = directory
        self.interpreter = directory / "python"
        # Nothing of the shell that runs the tests, and no region: the product must bring its own.
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": "127.0.0.1",
        }
        self.directory.joinpath("inventories/aws/group_vars/all").mkdir(parents=True)
        for name in ("aws_ec2.yml", "groups.yml"):
            shutil.copy(ROOT / "inventories/aws" / name, self.directory / "inventories/aws")
        shipped = yaml.safe_load((ROOT / "inventories/aws/group_vars/all/main.yml").read_text(encoding="utf-8"))
        (self.directory / "inventories/aws/group_vars/all/main.yml").write_text(
            yaml.safe_dump(shipped | SETTINGS), encoding="utf-8"
        )

    def client(self, service, role=None):
        """A client of the service: the account's administrator, or who has assumed the role."""
        who = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        if role:
            got = self.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
            who = {
                "aws_access_key_id": got["AccessKeyId"], "aws_secret_access_key": got["SecretAccessKey"],
                "aws_session_token": got["SessionToken"]
            }
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **who)

    def post(self, path, body=""):
        """Ask the emulator itself for something."""
        request = urllib.request.Request(self.url + path, body.encode(), {"Content-Type": "text/plain"}, method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def check_permissions(self, on):
        """Whether the emulator checks what each caller may do: after so many calls, that is."""
        self.post("/moto-api/reset-auth", "0" if on else "1000000")

    def command(self, *arguments, inventory="inventories/aws/groups.yml", **environment):
        """Start a command of Ansible on the inventory."""
        return subprocess.Popen([pathlib.Path(sys.executable).parent / arguments[0], "-i", inventory, *arguments[1:]],
                                cwd=self.directory,
                                env=self.environment | environment,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT,
                                text=True,
                                start_new_session=True)

    def play(self, name, *arguments, interpreter=None, inventory="inventories/aws/groups.yml", **environment):
        """Run playbooks/aws/<name>.yml, its modules with modules.py or with another interpreter."""
        process = self.command("ansible-playbook",
                               ROOT / f"playbooks/aws/{name}.yml",
                               "-e",
                               f"ansible_python_interpreter={interpreter or self.interpreter}",
                               *arguments,
                               inventory=inventory,
                               **environment)
        text = process.communicate(timeout=300)[0]
        return Result(process.returncode, text)

    def role(self, name, tasks, variables, **environment):
        """Run tasks of one role alone, with the variables that the playbook and the roles before it would bring."""
        given = json.dumps({"ansible_python_interpreter": str(self.interpreter), **variables})
        process = self.command("ansible",
                               "localhost",
                               "-m",
                               "ansible.builtin.include_role",
                               "-a",
                               f"name=windsock.airflow.{name} tasks_from={tasks}",
                               "-e",
                               f"@{ROOT}/roles/aws_common/vars/main.yml",
                               "-e",
                               given,
                               ANSIBLE_PIPELINING="true",
                               **environment)
        text = process.communicate(timeout=300)[0]
        return Result(process.returncode, text)

    def play_together(self, *runs, **options):
        """Run several playbooks, two at a time: those that change nothing don't disturb each other."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda run: self.play(*run, **options), runs))

    def play_and_kill(self, name, before, *arguments):
        """Run it and kill it, and what it has started, as soon as it names the task; return what it said until then."""
        process = self.command("ansible-playbook", ROOT / f"playbooks/aws/{name}.yml", "-e",
                               f"ansible_python_interpreter={self.interpreter}", *arguments)
        said = []
        for line in process.stdout:
            said.append(line)
            if before in line:
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert before in said[-1], "".join(said)
        return "".join(said)

    def content(self):
        """All that the account has: {kind: names}."""
        ec2, iam, rds, cache = self.client("ec2"), self.client("iam"), self.client("rds"), self.client("elasticache")
        cloudwatch, sns = self.client("cloudwatch"), self.client("sns")
        states = [{
            "Name": "instance-state-name", "Values": ["pending", "running", "shutting-down", "stopping", "stopped"]
        }]
        lists = {
            "vpcs": (ec2.describe_vpcs()["Vpcs"], "VpcId"),
            "subnets": (ec2.describe_subnets()["Subnets"], "SubnetId"),
            "internet gateways": (ec2.describe_internet_gateways()["InternetGateways"], "InternetGatewayId"),
            "nat gateways": ([
                gateway for gateway in ec2.describe_nat_gateways()["NatGateways"] if gateway["State"] != "deleted"
            ], "NatGatewayId"),
            "addresses": (ec2.describe_addresses()["Addresses"], "AllocationId"),
            "route tables": (ec2.describe_route_tables()["RouteTables"], "RouteTableId"),
            "endpoints": ([end for end in ec2.describe_vpc_endpoints()["VpcEndpoints"]
                           if end["State"] != "deleted"], "VpcEndpointId"),
            "security groups": (ec2.describe_security_groups()["SecurityGroups"], "GroupId"),
            "network interfaces": (ec2.describe_network_interfaces()["NetworkInterfaces"], "NetworkInterfaceId"),
            "instances": ([i for r in ec2.describe_instances(Filters=states)["Reservations"]
                           for i in r["Instances"]], "InstanceId"),
            "volumes": (ec2.describe_volumes()["Volumes"], "VolumeId"),
            "key pairs": (ec2.describe_key_pairs()["KeyPairs"], "KeyName"),
            "roles": (iam.list_roles()["Roles"], "Arn"),
            "policies": (iam.list_policies(Scope="Local")["Policies"], "Arn"),
            "instance profiles": (iam.list_instance_profiles()["InstanceProfiles"], "Arn"),
            "buckets": (self.client("s3").list_buckets()["Buckets"], "Name"),
            "databases": (rds.describe_db_instances()["DBInstances"], "DBInstanceIdentifier"),
            "subnet groups": (rds.describe_db_subnet_groups()["DBSubnetGroups"], "DBSubnetGroupName"),
            "parameter groups": (rds.describe_db_parameter_groups()["DBParameterGroups"], "DBParameterGroupName"),
            "snapshots": (rds.describe_db_snapshots()["DBSnapshots"], "DBSnapshotIdentifier"),
            "caches": (cache.describe_replication_groups()["ReplicationGroups"], "ReplicationGroupId"),
            "nodes of caches": (cache.describe_cache_clusters()["CacheClusters"], "CacheClusterId"),
            "subnet groups of caches": (cache.describe_cache_subnet_groups()["CacheSubnetGroups"],
                                        "CacheSubnetGroupName"),
            "snapshots of caches": (cache.describe_snapshots()["Snapshots"], "SnapshotName"),
            "secrets": (self.client("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"], "Name"),
            "log groups": (self.client("logs").describe_log_groups()["logGroups"], "logGroupName"),
            "alarms": (cloudwatch.describe_alarms()["MetricAlarms"], "AlarmName"),
            "dashboards": (cloudwatch.list_dashboards()["DashboardEntries"], "DashboardName"),
            "topics": (sns.list_topics()["Topics"], "TopicArn"),
            "subscriptions": (sns.list_subscriptions()["Subscriptions"], "SubscriptionArn"),
        }
        return {kind: sorted(item[key] for item in items) for kind, (items, key) in lists.items()}


@pytest.fixture(scope="session")
def account(tmp_path_factory):
    """An emulator of its own, which checks no permissions until it is asked to."""
    directory = tmp_path_factory.mktemp("aws")
    port = free_port()
    with open(directory / "emulator.log", "w", encoding="utf-8") as log:
        environment = {"PATH": os.environ["PATH"], "INITIAL_NO_AUTH_ACTION_COUNT": "1000000"}
        servers = [
            subprocess.Popen([sys.executable, pathlib.Path(__file__).parent / name, argument],
                             stdout=log,
                             stderr=log,
                             env=environment)
            for name, argument in (("emulator.py", str(port)), ("modules.py", directory))
        ]
    here = Account(port, directory)
    for _ in range(120):
        try:
            here.post("/moto-api/reset")
            assert here.interpreter.exists()
            break
        except (OSError, AssertionError):
            assert [server.poll()
                    for server in servers] == [None, None], (directory / "emulator.log").read_text(encoding="utf-8")
            time.sleep(0.25)
    yield here
    for server in servers:
        server.terminate()
        server.wait()


def json_of(text):
    """The JSON in the output of a command that may have warned before."""
    return json.loads(text[text.index("{"):])
