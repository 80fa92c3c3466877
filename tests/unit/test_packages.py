"""Action packages: what it asks of apt and dnf, and what it does where apt fails."""

import importlib.util
import pathlib
import types
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("packages_action", ROOT / "plugins/action/packages.py")
packages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(packages)
OK, FAILED = {"changed": True}, {"failed": True, "msg": "dpkg was interrupted"}


def install(answers, check_mode=False, **args):
    """Run the action where modules give these answers, one after the other; return its result and what was run."""
    task = mock.MagicMock(args={"name": ["a", "b"], "manager": "apt", **args}, async_val=0, check_mode=check_mode)
    action = packages.ActionModule(task, mock.MagicMock(), types.SimpleNamespace(check_mode=check_mode), mock.MagicMock(), mock.MagicMock(), None)
    run, waiting = [], list(answers)

    def execute(name, module_args, task_vars):
        run.append((name.removeprefix("ansible.builtin."), module_args))
        return waiting.pop(0)

    action._execute_module = execute
    return action.run(task_vars={}), run


def test_apt_is_asked_once_where_it_can():
    result, run = install([OK])
    assert result["changed"] and [name for name, _args in run] == ["apt"]
    assert {"name": ["a", "b"], "state": "present", "install_recommends": False, "cache_valid_time": 3600}.items() <= run[0][1].items()


@pytest.mark.parametrize("last", [OK, {"changed": False}])
def test_an_install_that_was_cut_off_is_finished_and_apt_asked_again_with_new_lists(last):
    result, run = install([FAILED, OK, last])
    assert result["changed"] and not result.get("failed")
    assert [name for name, _args in run] == ["apt", "command", "apt"] and run[2][1]["cache_valid_time"] == 0
    assert run[1][1]["argv"][-2:] == ["--configure", "-a"]


@pytest.mark.parametrize("answers", [[FAILED, OK, {"failed": True, "msg": "again"}], [FAILED, {"failed": True, "msg": "again"}]])
def test_what_cannot_be_made_good_fails(answers):
    result, run = install(answers)
    assert result["failed"] and result["msg"] == "again" and len(run) == len(answers)


def test_a_host_that_is_gone_is_asked_nothing_more():
    result, run = install([{"failed": True, "unreachable": True}])
    assert result["unreachable"] and len(run) == 1


def test_lists_can_be_asked_for_anew():
    assert install([OK], cache_valid_time=0)[1][0][1]["cache_valid_time"] == 0


@pytest.mark.parametrize("answer", [OK, FAILED])
def test_dnf_is_asked_once(answer):
    result, run = install([answer], manager="dnf")
    assert answer.items() <= result.items() and run == [("dnf", {"name": ["a", "b"], "state": "present"})]


def test_a_dry_run_runs_nothing():
    result, run = install([], check_mode=True)
    assert result["skipped"] and not run


def test_what_is_asked_for_is_checked():
    with pytest.raises(AnsibleActionFail, match="manager"):
        install([], manager="yum")
