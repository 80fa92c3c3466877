"""The lock of DAG deploys: the second is refused with the name of the first, and who is gone holds nothing."""

import importlib.util
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import time

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(kind):
    spec = importlib.util.spec_from_file_location(f"{kind}_airflow_dag_lock", ROOT / f"plugins/{kind}/airflow_dag_lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


module, action = load("modules"), load("action")


@pytest.fixture
def lock(tmp_path, capsys):
    """Run the module as somebody and return its result."""

    def run(who, check_mode=False, **arguments):
        holder = {"by": f"{who}@laptop", "host": "laptop", "pid": 1, "token": f"laptop:{who}"}
        with patch_module_args({"root": str(tmp_path), "purpose": f"deploy of {who}", "holder": holder, **arguments, "_ansible_check_mode": check_mode}):
            with pytest.raises(SystemExit):
                module.main()
        return json.loads(capsys.readouterr().out)

    return run


def test_the_second_is_refused_with_the_name_of_the_first(lock):
    assert not lock("jane").get("failed")
    result = lock("joe")
    assert result["failed"]
    assert "jane@laptop is at work since" in result["msg"]
    assert "deploy of jane" in result["msg"]
    assert result["holder"]["token"] == "laptop:jane"


def test_it_is_renewed_by_its_holder_and_keeps_its_beginning(lock, tmp_path):
    since = lock("jane")["holder"]["since"]
    os.utime(tmp_path / "deploy.lock", (0, 0))
    assert lock("jane")["holder"]["since"] == since
    assert time.time() - (tmp_path / "deploy.lock").stat().st_mtime < 60


def test_it_is_given_back_by_its_holder_only(lock):
    lock("jane")
    lock("joe", state="absent")
    assert lock("joe")["failed"]
    lock("jane", state="absent")
    assert not lock("joe").get("failed")


def test_who_is_known_to_be_gone_holds_nothing(lock):
    lock("jane")
    assert lock("joe", gone="laptop:jim")["failed"]
    assert lock("joe", gone="laptop:jane")["taken_from"]["by"] == "jane@laptop"


def test_who_gives_no_sign_of_life_holds_nothing(lock, tmp_path):
    lock("jane")
    assert lock("joe", lease=60)["failed"]
    os.utime(tmp_path / "deploy.lock", (time.time() - 61,) * 2)
    assert lock("joe", lease=60)["taken_from"]["by"] == "jane@laptop"


def test_a_torn_file_is_no_lock(lock, tmp_path):
    (tmp_path / "deploy.lock").write_text('{"tok')
    assert not lock("joe").get("failed")


def test_a_dry_run_takes_nothing(lock, tmp_path):
    lock("jane", check_mode=True)
    assert not (tmp_path / "deploy.lock").exists()


def test_two_that_come_at_once_are_let_in_one_after_the_other(lock, tmp_path, waits_for_lock):
    lock("jane")
    lock("jane", state="absent")
    # Without it both would read an empty file, and both would have the lock.
    waits_for_lock(tmp_path / "deploy.lock", lambda: lock("joe"))
    assert lock("jane")["holder"]["token"] == "laptop:joe"


def test_others_may_not_write_who_deploys(lock, tmp_path):
    before = os.umask(0)
    try:
        lock("jane")
    finally:
        os.umask(before)
    assert (tmp_path / "deploy.lock").stat().st_mode & 0o777 == 0o640


def test_a_process_has_a_start_until_it_is_gone():
    process = subprocess.Popen(["sleep", "60"])
    assert action.started(process.pid) != action.started(os.getpid())
    process.kill()
    process.wait()
    assert action.started(process.pid) == ""


def task(answer, killed):
    """What a task asks, in a child of what stands for ansible-playbook."""
    # Not os.getppid(): a parent that is killed at once has a successor by now.
    parent = multiprocessing.parent_process().pid
    while killed and os.getppid() == parent:
        time.sleep(0.01)
    try:
        answer.put(action.controller() == parent)
    except AnsibleActionFail as error:
        answer.put(str(error))


def playbook(answer, killed):
    child = multiprocessing.get_context("fork").Process(target=task, args=(answer, killed))
    child.start()
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    child.join()


@pytest.mark.parametrize("killed", [False, True])
def test_a_task_takes_no_lock_once_its_playbook_was_killed(killed):
    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    process = fork.Process(target=playbook, args=(answer, killed))
    process.start()
    said = answer.get()
    process.join()
    assert f"process {process.pid}, was killed" in said if killed else said is True
