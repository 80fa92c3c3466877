"""Module cloudwatch_dashboard: what it asks CloudWatch for, in a dry run and in a real one."""

import importlib.util
import json
import pathlib

import pytest
from ansible.module_utils.testing import patch_module_args
from botocore.exceptions import ClientError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("cloudwatch_dashboard", ROOT / "plugins/modules/cloudwatch_dashboard.py")
dashboard = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(dashboard)

BODY = {"widgets": [{"type": "text", "x": 0, "y": 0}]}


class CloudWatch:
    """What the module needs of it."""

    def __init__(self, body, error="ResourceNotFound"):
        self.body, self.error, self.calls = body, error, []

    def get_dashboard(self, DashboardName, aws_retry):
        if self.body is None:
            raise ClientError({"Error": {"Code": self.error, "Message": "no"}}, "GetDashboard")
        return {"DashboardBody": json.dumps(self.body, indent=3)}

    def put_dashboard(self, DashboardName, DashboardBody, aws_retry):
        self.calls.append(("put", DashboardName, json.loads(DashboardBody)))
        return {"DashboardValidationMessages": []}

    def delete_dashboards(self, DashboardNames, aws_retry):
        self.calls.append(("delete", *DashboardNames))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the module against a CloudWatch and return its result."""

    def run(cloudwatch, check_mode=False, **arguments):
        monkeypatch.setattr(dashboard.AnsibleAWSModule, "client", lambda self, *args, **kwargs: cloudwatch)
        with patch_module_args({"name": "airflow-test",
                                **arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            dashboard.main()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(("now", "state", "call"), [
    (None, "present", ("put", "airflow-test", BODY)),
    ({"widgets": []}, "present", ("put", "airflow-test", BODY)),
    (BODY, "present", None),
    (BODY, "absent", ("delete", "airflow-test")),
    (None, "absent", None),
])
def test_it_does_what_differs_and_nothing_in_a_dry_run(run, now, state, call, check_mode):
    cloudwatch = CloudWatch(now)
    arguments = {"body": json.dumps(BODY)} if state == "present" else {}
    result = run(cloudwatch, check_mode, state=state, **arguments)
    assert result["changed"] is bool(call)
    assert cloudwatch.calls == ([call] if call and not check_mode else [])
    assert result["diff"] == {"before": now or {}, "after": BODY if state == "present" else {}}


def test_both_codes_for_none_are_known(run):
    assert run(CloudWatch(None, "DashboardNotFoundError"), state="absent")["changed"] is False


def test_another_error_is_one(run):
    result = run(CloudWatch(None, "AccessDenied"), state="absent")
    assert result["failed"] and "airflow-test" in result["msg"]


def test_a_body_that_is_no_json_is_refused(run):
    cloudwatch = CloudWatch(None)
    assert "no JSON" in run(cloudwatch, body="{")["msg"] and not cloudwatch.calls
