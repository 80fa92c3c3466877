"""What can't work is refused with one message that says what to do, and nothing is made."""

import json
import sys

import pytest


@pytest.fixture(scope="module")
def foreign_bucket(account):
    """A bucket whose name another account has taken."""
    theirs = account.client("s3", role="arn:aws:iam::111111111111:role/theirs")
    theirs.create_bucket(Bucket="taken", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield "taken"
    theirs.delete_bucket(Bucket="taken")


HOST = {"name": "main", "type": "t3.large", "volume_gb": 50, "groups": ["airflow_scheduler"]}
# Settings, and what the message must say: the variable, the value and what would be valid.
REFUSED = {
    "open to the internet": ({"aws_security_groups_ingress": [{"port": 22, "source": "0.0.0.0/0"}]}, [
        "aws_security_groups_ingress[0].source", '"0.0.0.0/0"', "the whole internet", "/24 or longer",
        "allow_wide: true"
    ]),
    "too small": ({"aws_instances_hosts": [HOST | {"type": "t3.micro"}]},
                  ["aws_instances_hosts[0].type", '"t3.micro"', "2 GiB", "t3.large"]),
    "no region": ({"aws_region": ""}, ['aws_region is ""', "eu-central-1"]),
    "no such VPC": ({
        "aws_network_vpc_id": "vpc-0123456789abcdef0", "aws_network_subnet_ids": ["subnet-0123456789abcdef0"]
    }, ["vpc-0123456789abcdef0", "aws_network_vpc_id", "does not exist", "eu-central-1", "123456789012"]),
    "a bucket of others": ({"aws_buckets_declared": [{"name": "taken"}]},
                           ["Bucket taken", "aws_buckets_declared", "another account"]),
    "no such image": ({"aws_instances_image": "/aws/service/no/such/image"},
                      ["aws_instances_image", '"/aws/service/no/such/image"', "no image"]),
    "a wrong type": ({"aws_rds_storage_gb": "much"}, ["aws_rds_storage_gb", "int"]),
    "a slip of the pen": ({"aws_instance_hosts": [HOST]}, ["aws_instance_hosts", "Did you mean aws_instances_hosts"]),
}


@pytest.fixture(scope="module")
def refused(account, foreign_bucket):
    """What a run says to each of them, as an operator would start it; and the account before and after all."""
    before = account.content()
    runs = [("provision", "-e", json.dumps(settings)) for settings, _expected in REFUSED.values()]
    results = account.play_together(*runs, interpreter=sys.executable)
    return dict(zip(REFUSED, results)), before, account.content()


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(refused, case):
    result = refused[0][case]
    assert result.code == 2, result.text
    assert not [words for words in REFUSED[case][1] if words not in result.message], result.message
    assert "Traceback" not in result.text


def test_nothing_is_made(refused):
    _results, before, after = refused
    assert before == after


@pytest.fixture
def strict(account):
    """The emulator checks who asks, and for what. Gives what the account had before."""
    before = account.content()
    account.check_permissions(True)
    yield before
    account.check_permissions(False)


def test_credentials_that_are_not_accepted(account, strict):
    """A session that has expired is refused by AWS at the same place, with other words."""
    result = account.play("provision", AWS_ACCESS_KEY_ID="AKIAEXPIRED", AWS_SECRET_ACCESS_KEY="expired")
    assert result.code == 2, result.text
    assert "AWS does not accept the credentials" in result.message and "aws sso login" in result.message
    account.check_permissions(False)
    assert account.content() == strict
