"""Action packages: what it asks of apt and dnf, and what it does where apt fails."""

import fcntl
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
import types
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.windsock.airflow.plugins.module_utils import carried, package_locks

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("packages_action", ROOT / "plugins/action/packages.py")
packages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(packages)
OK, FAILED = {"changed": True}, {"failed": True, "msg": "dpkg was interrupted"}
UPGRADE = [[4711, "/var/lib/dpkg/lock-frontend", "/usr/bin/python3 /usr/bin/unattended-upgrade"]]


@pytest.fixture(autouse=True)
def said(monkeypatch):
    """What is shown; the clock goes on by sleeping alone."""
    shown, clock = [], [0]
    monkeypatch.setattr(packages, "time", types.SimpleNamespace(monotonic=lambda: sum(clock), sleep=clock.append))
    monkeypatch.setattr(packages.Display, "display", lambda self, line, *args, **kwargs: shown.append(line))
    return shown


def install(answers, check_mode=False, holders=(), task_vars=None, **args):
    """Run the action where modules give these answers, one after the other; return its result and what was run.

    holders: who has the lock at each look; nobody has it at later ones.
    """
    names = {} if "deb" in args else {"name": ["a", "b"]}
    task = mock.MagicMock(args={**names, "manager": "apt", **args}, async_val=0, check_mode=check_mode)
    action = packages.ActionModule(task, mock.MagicMock(), types.SimpleNamespace(check_mode=check_mode),
                                   mock.MagicMock(), mock.MagicMock(), None)
    action._templar.template = lambda value: value
    run, waiting, looks = [], list(answers), list(holders)

    def execute(name, module_args, task_vars):
        if "stdin" in module_args:
            return {"stdout": json.dumps(looks.pop(0) if looks else [])}
        run.append((name.removeprefix("ansible.builtin."), module_args))
        answer = waiting.pop(0)
        return answer(name, module_args, task_vars) if callable(answer) else answer

    action._execute_module = execute
    return action.run(task_vars=task_vars or {}), run


def test_apt_is_asked_once_where_it_can():
    result, run = install([OK])
    assert result["changed"] and [name for name, _args in run] == ["apt"]
    assert {"name": ["a", "b"], "state": "present", "install_recommends": False,
            "cache_valid_time": 3600}.items() <= run[0][1].items()


@pytest.mark.parametrize("last", [OK, {"changed": False}])
def test_an_install_that_was_cut_off_is_finished_and_apt_asked_again_with_new_lists(last):
    result, run = install([FAILED, OK, last])
    assert result["changed"] and not result.get("failed")
    assert [name for name, _args in run] == ["apt", "command", "apt"] and run[2][1]["cache_valid_time"] == 0
    assert run[1][1]["argv"][-2:] == ["--configure", "-a"]


@pytest.mark.parametrize("answers", [[FAILED, OK, {"failed": True, "msg": "again"}],
                                     [FAILED, {"failed": True, "msg": "again"}]])
def test_what_cannot_be_made_good_fails(answers):
    result, run = install(answers)
    assert result["failed"] and result["msg"] == "again" and len(run) == len(answers)


def test_a_host_that_is_gone_is_asked_nothing_more():
    result, run = install([{"failed": True, "unreachable": True, "msg": ""}])
    assert result["unreachable"] and len(run) == 1


@pytest.mark.parametrize("manager", ["apt", "dnf"])
def test_needrestart_restarts_nothing(monkeypatch, manager):
    """Its hook of apt ends at once where the environment has this variable."""
    environments = []

    def module(self, _name, args, task_vars):
        environments.append({})
        self._compute_environment_string(environments[-1])
        return {"stdout": "[]"} if "argv" in args else OK

    monkeypatch.setattr(packages.ActionModule, "module", module)
    install([], manager=manager)
    assert environments and all(environment == {"NEEDRESTART_SUSPEND": "1"} for environment in environments)


def test_lists_can_be_asked_for_anew():
    assert install([OK], cache_valid_time=0)[1][0][1]["cache_valid_time"] == 0


@pytest.mark.parametrize("answer", [OK, FAILED])
def test_dnf_is_asked_once(answer):
    result, run = install([answer], manager="dnf")
    assert answer.items() <= result.items() and run == [
        ("dnf", {"name": ["a", "b"], "state": "present", "lock_timeout": 900})
    ]


def test_a_dry_run_runs_nothing():
    result, run = install([], check_mode=True)
    assert result["skipped"] and not run


def test_what_is_asked_for_is_checked():
    with pytest.raises(AnsibleActionFail, match="manager"):
        install([], manager="yum")


def test_another_use_of_apt_is_shown_and_waited_for(said):
    result, run = install([OK], holders=[UPGRADE] * 8, task_vars={"inventory_hostname": "one"})
    assert result["changed"] and [name for name, _args in run] == ["apt"]
    # At the beginning, and every half a minute.
    assert len(said) == 2 and "one" in said[0] and "unattended-upgrade (pid 4711" in said[
        0] and "0 s of at most 900 s" in said[0] and "30 s of" in said[1]


@pytest.mark.parametrize("manager", ["apt", "dnf"])
def test_a_slow_mirror_is_shown(monkeypatch, said, manager):
    """The clock of this file stands still, so the line counts the looks."""
    monkeypatch.setattr(packages, "SAY", 0.01)

    def slow(name, module_args, task_vars):
        end = time.monotonic() + 10
        while len(said) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        return OK

    result, _run = install([slow], manager=manager, task_vars={"inventory_hostname": "one"})
    assert result["changed"] and len(said) >= 2
    assert said[0].startswith(f"  one: {manager} is at work on a, b") and "mirror" in said[0]
    before = len(said)
    time.sleep(0.1)
    assert len(said) == before


def test_a_fast_mirror_is_not_shown(said):
    install([OK])
    assert said == []


@pytest.mark.parametrize("given", [{"lock_timeout": 20}, {"task_vars": {"airflow_package_lock_timeout": 20}}])
def test_whoever_keeps_it_too_long_is_named(given):
    result, run = install([], holders=[UPGRADE] * 100, **given)
    assert result["failed"] and not run
    for words in ("unattended-upgrade", "4711", "/var/lib/dpkg", "20 s", "airflow_package_lock_timeout",
                  "run this again"):
        assert words in result["msg"]


def test_a_process_that_takes_the_lock_in_between_is_waited_for_too():
    taken = {
        "failed": True, "msg": "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 4711 (apt-get)"
    }
    result, run = install([taken, OK], holders=[[], UPGRADE])
    assert result["changed"] and [name for name, _args in run] == ["apt", "apt"]


def test_a_mirror_that_does_not_answer_is_named_with_where_its_address_is():
    result, _run = install([FAILED, OK, {"failed": True, "msg": "Failed to fetch http://mirror.example.com/debian"}],
                           task_vars={"inventory_hostname": "one"})
    assert result["failed"]
    for words in ("http://mirror.example.com/debian", "/etc/apt/sources.list", "apt-get update", "one"):
        assert words in result["msg"]


def test_a_package_file_is_installed_after_others_too():
    result, run = install([OK], holders=[UPGRADE], deb="/var/cache/agent.deb")
    assert result["changed"] and {"deb": "/var/cache/agent.deb", "allow_downgrade": True}.items() <= run[0][1].items()


def test_the_kernel_names_the_holder(tmp_path):
    """The program that runs on the host, with a lock of this test."""
    lock = tmp_path / "lock"
    with open(lock, "w", encoding="utf-8") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        program = carried.text_of(package_locks).replace("/var/lib/dpkg/lock-frontend", str(lock))
        done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=True)
        (pid, path, name), *_others = json.loads(done.stdout)
        assert (path, int(pid)) == (str(lock), os.getpid()) and "python" in name


def test_the_default_is_that_of_the_variable():
    assert f"airflow_package_lock_timeout: {packages.LIMIT}\n" in (
        ROOT / "roles/airflow_common/defaults/main.yml"
    ).read_text(encoding="utf-8")
