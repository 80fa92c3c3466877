"""Module airflow_aws_secrets, against an emulated AWS: reads once, makes what is absent, overwrites nobody, says what
to do.
"""

import importlib.util
import json
import pathlib

import boto3
import botocore.client
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_secret_kinds import GENERATORS
from botocore.exceptions import ClientError
from moto import mock_aws

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("airflow_aws_secrets", ROOT / "plugins/modules/airflow_aws_secrets.py")
airflow_aws_secrets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(airflow_aws_secrets)

KINDS = {"fernet_key": "fernet", "jwt_secret": "token", "database_password": "password"}
NAMES = {"aws_secrets_manager": "airflow/test", "aws_ssm": "/airflow/test"}
REGION = "eu-central-1"
only_secrets_manager = pytest.mark.parametrize("store", ["aws_secrets_manager"], indirect=True)


@pytest.fixture(params=NAMES)
def store(request):
    return request.param


@pytest.fixture(autouse=True)
def _emulated(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws(config={"core": {"mock_credentials": False}}):
        yield


@pytest.fixture
def calls(monkeypatch):
    """What AWS is asked for, as IAM names it."""
    made, original = [], botocore.client.BaseClient._make_api_call

    def record(self, operation, arguments):
        made.append(f"{self.meta.service_model.endpoint_prefix}:{operation}")
        return original(self, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", record)
    return made


@pytest.fixture
def run(store, capsys):
    """Run the module with these arguments and return its result."""

    def call(check_mode=False, **arguments):
        arguments = {"store": store, "name": NAMES[store], "region": REGION, "generate": KINDS, **arguments}
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}):
            with pytest.raises(SystemExit):
                airflow_aws_secrets.main()
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def put(store):
    """Put secrets there as another one would."""

    def call(**secrets):
        if store == "aws_secrets_manager":
            client = boto3.client("secretsmanager", region_name=REGION)
            client.create_secret(Name=NAMES[store], SecretString=json.dumps(secrets))
        else:
            client = boto3.client("ssm", region_name=REGION)
            for name, value in secrets.items():
                client.put_parameter(Name=f"{NAMES[store]}/{name}", Value=value, Type="SecureString")

    return call


@pytest.fixture
def held(store):
    """What AWS holds."""

    def call():
        if store == "aws_secrets_manager":
            client = boto3.client("secretsmanager", region_name=REGION)
            try:
                return json.loads(client.get_secret_value(SecretId=NAMES[store])["SecretString"])
            except client.exceptions.ResourceNotFoundException:
                return {}
        client = boto3.client("ssm", region_name=REGION)
        found = client.get_parameters_by_path(Path=NAMES[store], WithDecryption=True)["Parameters"]
        assert {entry["Type"] for entry in found} <= {"SecureString"}
        return {entry["Name"].rpartition("/")[2]: entry["Value"] for entry in found}

    return call


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("exists", ["none", "some", "all"])
def test_makes_only_what_is_absent(run, put, held, calls, check_mode, exists):
    before = {
        name: GENERATORS[kind]()
        for name, kind in KINDS.items() if exists == "all" or (exists, name) == ("some", "jwt_secret")
    }
    if before:
        put(**before, of_somebody_else="kept")
    calls.clear()
    result = run(check_mode)
    assert result["written"] == sorted(KINDS.keys() - before.keys())
    assert result["changed"] is (exists != "all")
    assert result["secrets"].items() >= before.items()
    if check_mode or exists == "all":
        assert len(calls) == 1
        assert {name: value for name, value in held().items() if name in KINDS} == before
    else:
        assert {name: value for name, value in held().items() if name in KINDS} == result["secrets"]
        assert not run()["changed"]
    assert held().get("of_somebody_else") == ("kept" if before else None)


@pytest.mark.parametrize("check_mode", [True, False])
def test_renews_what_it_is_told_to_and_nothing_else(run, held, check_mode):
    before = run()["secrets"]
    result = run(check_mode, renew=["fernet_key", "jwt_secret"])
    assert result["written"] == ["fernet_key", "jwt_secret"]
    assert result["secrets"]["fernet_key"].split(",")[1:] == [before["fernet_key"]]
    assert result["secrets"]["jwt_secret"] != before["jwt_secret"]
    assert result["secrets"]["database_password"] == before["database_password"]
    assert held() == (before if check_mode else result["secrets"])


def test_writes_what_it_is_given(run, held):
    before = run(renew=["fernet_key"])["secrets"]
    newest = GENERATORS["fernet"]()
    result = run(values={"fernet_key": newest})
    assert (result["written"], result["secrets"]["fernet_key"]) == (["fernet_key"], newest)
    assert held() == {**before, "fernet_key": newest}
    assert not run(values={"fernet_key": newest})["changed"]


def test_takes_what_is_known_elsewhere_in_place_of_making_it(run, put, held):
    """What AWS has already is newer."""
    put(jwt_secret="the-one-that-is-there")
    known = {"fernet_key": GENERATORS["fernet"](), "jwt_secret": "the-one-of-before"}
    result = run(known=known)
    assert result["written"] == ["database_password", "fernet_key"]
    assert result["secrets"] == held()
    assert (held()["fernet_key"], held()["jwt_secret"]) == (known["fernet_key"], "the-one-that-is-there")


def test_takes_those_of_a_controller_that_was_faster(run, put, held, monkeypatch, store):
    """It made them after this one had looked, and before this one writes."""
    other = {"fernet_key": GENERATORS["fernet"](), "jwt_secret": GENERATORS["token"]()}
    kind = airflow_aws_secrets.STORES[store]
    read, looks = kind.read, []

    def look(self):
        looks.append(read(self))
        if len(looks) == 1:
            put(**other)
        return looks[-1]

    monkeypatch.setattr(kind, "read", look)
    result = run()
    assert result["secrets"].items() >= other.items()
    assert held() == result["secrets"]
    assert result["secrets"]["database_password"]


def test_what_must_not_be_made_up_is_asked_for(run, held):
    result = run(required=["database_password"])
    assert result["failed"]
    assert f"{NAMES[next(s for s in NAMES if s in result['msg'])]} lacks database_password" in result["msg"]
    assert "set airflow_database_password" in result["msg"]
    assert held() == {}


def test_all_that_is_malformed_is_named_at_once_and_never_shown(run, put, held):
    wrong = {"fernet_key": "marker-of-no-fernet-key", "jwt_secret": "marker-jwt-secret-with-a-new-line\n"}
    put(**wrong)
    result = run()
    assert result["failed"]
    assert "its fernet_key is no Fernet key" in result["msg"]
    assert "its jwt_secret begins or ends with a blank or a new line" in result["msg"]
    assert "marker" not in json.dumps(result)
    assert held() == wrong


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "Allow the controller's identity what files/iam/airflow-secrets-source.json lists"),
        ("ExpiredTokenException", "no valid AWS credentials"),
        ("UnrecognizedClientException", "no valid AWS credentials"),
        ("ThrottlingException", "ThrottlingException"),
    ],
)
def test_what_aws_refuses_is_answered_with_what_to_do(run, monkeypatch, store, code, said):
    def refuse(self, operation, _arguments):
        raise ClientError({"Error": {"Code": code, "Message": "as AWS says"}}, operation)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    result = run()
    assert result["failed"]
    assert result["msg"].startswith(f"airflow_secrets_source is {store}: ")
    assert said in result["msg"]


def test_a_missing_region_is_named(run):
    assert "Set airflow_secrets_region, such as eu-central-1, or AWS_REGION" in run(region="")["msg"]


def test_missing_credentials_are_named(run, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    assert "or set AWS_PROFILE" in run()["msg"]
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in run()["msg"]


def test_no_way_to_aws_is_said(run, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "Check airflow_secrets_region" in run()["msg"]


@only_secrets_manager
def test_a_secret_of_another_kind_is_left_alone(run, store):
    client = boto3.client("secretsmanager", region_name=REGION)
    client.create_secret(Name=NAMES[store], SecretString="marker-in-the-clear")
    result = run()
    assert "is no JSON object" in result["msg"]
    assert "marker" not in json.dumps(result)
    assert client.get_secret_value(SecretId=NAMES[store])["SecretString"] == "marker-in-the-clear"


@only_secrets_manager
def test_a_secret_that_was_deleted_is_not_replaced(run, put, store):
    put(jwt_secret="x" * 20)
    boto3.client("secretsmanager", region_name=REGION).delete_secret(SecretId=NAMES[store])
    assert "aws secretsmanager restore-secret --secret-id airflow/test" in run()["msg"]


@only_secrets_manager
def test_a_secret_that_was_made_without_a_value_gets_one(run, held, store):
    boto3.client("secretsmanager", region_name=REGION).create_secret(Name=NAMES[store])
    assert run()["secrets"] == held()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"generate": {"it": "strong"}}, "'strong' is no kind of secret; valid: fernet, token, password"),
        ({"renew": ["other"]}, "renew: 'other' is not one of generate"),
    ],
)
def test_bad_arguments_are_refused_before_aws_is_asked(run, calls, arguments, said):
    assert said in run(**arguments)["msg"]
    assert calls == []


def test_the_policy_allows_what_it_does_and_no_more(run, put, calls, monkeypatch, store):
    """All of it: made, read, renewed, and made by two at once."""
    run()
    run(renew=["jwt_secret"])
    run(name=NAMES[store] + "-raced")
    kind = airflow_aws_secrets.STORES[store]
    read = kind.read
    monkeypatch.setattr(kind, "read", lambda self: {}
                        if calls[-1:] != ["raced"] and not calls.append("raced") else read(self))
    run()
    prefix = {"aws_secrets_manager": "secretsmanager:", "aws_ssm": "ssm:"}[store]
    statements = json.loads((ROOT / "files/iam/airflow-secrets-source.json").read_text(encoding="utf-8"))["Statement"]
    allowed = {action for statement in statements for action in statement["Action"] if action.startswith(prefix)}
    assert {call for call in calls if call.startswith(prefix)} == allowed
    assert all(statement["Resource"] != "*" for statement in statements)


@pytest.mark.parametrize("store", ["aws_ssm"], indirect=True)
def test_parameters_on_every_page_are_read(run, put, two_a_page):
    secrets = {name: name[0] * 64 for name in ("a_token", *(f"m{number}" for number in range(5)), "z_token")}
    put(**secrets)
    two_a_page("ssm.GetParametersByPath", "MaxResults")
    result = run(generate={"a_token": "token", "z_token": "token"})
    assert (result["changed"], result["secrets"]) == (False, {name: secrets[name] for name in ("a_token", "z_token")})
