"""The lock of an environment: the second run is refused with the name of the first, and who is gone holds nothing."""

import importlib.util
import json
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.collections import ImmutableDict
from collection_of_test import collection

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(kind):
    spec = importlib.util.spec_from_file_location(
        f"{kind}_airflow_environment_lock", ROOT / f"plugins/{kind}/airflow_environment_lock.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


program, action = load("module_utils"), load("action")


@pytest.fixture
def lock(tmp_path):
    """Change the lock as somebody, and return the answer."""

    def run(who, state="held", **arguments):
        mine = {"by": f"{who}@laptop", "host": "laptop", "pid": 1, "token": f"laptop:{who}"}
        return program.change(state, mine, arguments.pop("lease", 60), path=str(tmp_path / "lock"), **arguments)

    return run


def test_the_second_is_refused_and_told_who_has_it(lock):
    assert lock("jane")["done"] == "take"
    answer = lock("joe")
    assert (answer["done"], answer["holder"]["by"]) == ("refuse", "jane@laptop")


def test_it_is_renewed_by_its_holder_and_keeps_its_beginning(lock, tmp_path):
    since = lock("jane")["holder"]["since"]
    os.utime(tmp_path / "lock", (0, 0))
    assert lock("jane", "renewed")["holder"]["since"] == since
    assert time.time() - (tmp_path / "lock").stat().st_mtime < 60


def test_it_is_given_back_by_its_holder_only(lock):
    lock("jane")
    lock("joe", "free")
    assert lock("joe")["done"] == "refuse"
    lock("jane", "free")
    assert lock("joe")["done"] == "take"


@pytest.mark.parametrize("others_run_has_ended", [False, True])
def test_who_has_lost_it_does_not_get_it_back_by_a_renewal(lock, tmp_path, others_run_has_ended):
    """Another run has changed what this one has read."""
    lock("jane")
    os.utime(tmp_path / "lock", (0, 0))
    assert lock("joe")["done"] == "take over"
    if others_run_has_ended:
        lock("joe", "free")
    assert lock("jane", "renewed")["done"] == "refuse"


def test_who_is_known_to_be_gone_holds_nothing(lock):
    lock("jane")
    assert lock("joe", gone="laptop:jim")["done"] == "refuse"
    assert lock("joe", gone="laptop:jane")["taken_from"]["by"] == "jane@laptop"


def test_who_gives_no_sign_of_life_holds_nothing(lock, tmp_path):
    lock("jane")
    assert lock("joe")["done"] == "refuse"
    os.utime(tmp_path / "lock", (time.time() - 61,) * 2)
    assert lock("joe")["taken_from"]["by"] == "jane@laptop"


def test_a_torn_file_is_no_lock(lock, tmp_path):
    (tmp_path / "lock").write_text('{"tok')
    assert lock("joe")["done"] == "take"


def test_two_that_come_at_once_are_let_in_one_after_the_other(lock, tmp_path, waits_for_lock):
    lock("jane")
    lock("jane", "free")
    # Without it both would read an empty file, and both would have the lock.
    waits_for_lock(tmp_path / "lock", lambda: lock("joe"))
    assert lock("jane")["holder"]["token"] == "laptop:joe"


def test_others_may_not_write_who_holds_it(lock, tmp_path):
    before = os.umask(0)
    try:
        lock("jane")
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_it_needs_no_directory_of_ours():
    assert pathlib.Path(program.PATH).parent == pathlib.Path("/run")


def test_it_tells_the_command_and_no_variable(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/venv/bin/ansible-playbook"])
    arguments = {
        "args": ("site.yml", ), "subset": "airflow-1", "tags": ("service", ), "skip_tags": (),
        "extra_vars": ("password=hush", )
    }
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(arguments))
    assert action.command() == "ansible-playbook site.yml --limit airflow-1 --tags service"


class Run:
    """What the keeper sees: a clock, a run that ends, a host that does not answer at times."""

    def __init__(self, seconds, answers=()):
        self.time, self.end, self.answers, self.renewals, self.ended = 0, seconds, list(answers), [], []
        action.keep(self.renew,
                    lambda: self.ended.append("given back"),
                    lambda: self.time < self.end,
                    lambda _why: self.ended.append("lost"),
                    wait=self.wait,
                    clock=lambda: self.time)

    def wait(self, seconds):
        self.time += seconds

    def renew(self):
        self.renewals.append(self.time)
        answer = self.answers.pop(0) if self.answers else "renew"
        if isinstance(answer, BaseException):
            raise answer
        return {"done": answer}


def test_a_task_of_hours_does_not_cost_the_lock():
    run = Run(2 * 3600)
    assert max(later - earlier for earlier, later in zip([0, *run.renewals], run.renewals)) < action.LEASE / 2
    assert run.ended == ["given back"]


# The host, Ansible's templates and the connection plugin may each fail in a way of their own.
FAILURES = [
    AnsibleActionFail("the host does not answer"),
    OSError("no file descriptor is left"),
    SystemExit(1),
    action.NoAnswer()
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_host_that_is_away_for_a_moment_is_asked_again(failure):
    run = Run(120, [failure, failure])
    assert run.renewals[:3] == [30, 35, 40]
    assert run.ended == ["given back"]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_who_cannot_renew_the_lock_ends_before_another_run_may_take_it(failure):
    run = Run(3600, [failure] * 3600)
    assert run.ended == ["lost"]
    # Its last question may take so long, and the run has a second to say why it ends.
    assert action.LEASE / 2 < run.time < action.LEASE - action.ANSWER - 1


def test_a_controller_that_slept_keeps_a_lock_that_nobody_took():
    class Laptop(Run):
        def wait(self, seconds):
            self.time += 3600 if self.time == 60 else seconds

    assert Laptop(2 * 3600).ended == ["given back"]


def test_a_question_that_hangs_is_no_answer():
    begin = time.monotonic()
    with pytest.raises(action.NoAnswer):
        action.within(0.2, lambda: time.sleep(30))
    assert time.monotonic() - begin < 10
    assert action.within(30, lambda: "the answer") == "the answer"
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_who_has_lost_the_lock_keeps_it_no_longer():
    run = Run(3600, ["renew", "refuse"])
    assert (len(run.renewals), run.ended) == (2, ["lost"])


def test_a_process_has_a_start_until_it_is_gone():
    process = subprocess.Popen(["sleep", "60"])
    assert action.started(process.pid) != action.started(os.getpid())
    process.kill()
    # Nobody has asked for its end yet, as in a container without an init process.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert action.started(process.pid) == ""
    process.wait()
    assert action.started(process.pid) == ""


def test_containers_that_share_a_name_are_not_one_machine():
    assert os.readlink("/proc/self/ns/pid") in action.machine()


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


# ---- with Ansible itself, on this machine

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - windsock.airflow.airflow_environment_lock:
      register: __airflow_environment_lock
    - command: touch begun-{{ who }}
    - command: sleep {{ seconds }}
    - command: "{{ last | default('true') }}"
"""


class Controller:
    """Runs of ansible-playbook with a lock in a directory of the test, which is renewed three times a second."""

    def __init__(self, directory):
        self.directory, self.path = directory, directory / "environment.lock"
        self.plugins = collection(directory) / "plugins"
        self.change("action", "RENEW, ANSWER, RETRY, LOOK = 240, 30, 30, 5, 0.125",
                    "RENEW, ANSWER, RETRY, LOOK = 240, 0.3, 30, 0.1, 0.1")
        self.change("module_utils", f'PATH = "{program.PATH}"', f'PATH = "{self.path}"')
        (directory / "site.yml").write_text(PLAYBOOK)

    def change(self, kind, old, new):
        path = self.plugins / kind / "airflow_environment_lock.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def start(self, name, seconds=0, *more):
        command = [
            "ansible-playbook", "-i", "here,", "-c", "local", "site.yml", "-e", f"who={name}", "-e",
            f"seconds={seconds}", *more
        ]
        environment = {**os.environ, "ANSIBLE_PIPELINING": "1",
                       "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
        return subprocess.Popen(command,
                                cwd=self.directory,
                                env=environment,
                                text=True,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def run(self, *arguments):
        process = self.start(*arguments)
        return process, process.communicate(timeout=60)[0]

    def begun(self, name):
        self.until(lambda: (self.directory / f"begun-{name}").exists())

    def holder(self):
        return json.loads((self.path.read_text() if self.path.exists() else "") or "{}")

    @staticmethod
    def until(done):
        end = time.monotonic() + 30
        while not done():
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def controller(tmp_path):
    return Controller(tmp_path)


def test_a_run_keeps_it_and_gives_it_back(controller):
    first = controller.start("first", 3)
    controller.begun("first")
    assert controller.holder()["pid"] == first.pid
    os.utime(controller.path, (0, 0))
    controller.until(lambda: time.time() - controller.path.stat().st_mtime < 60)
    second, output = controller.run("second")
    assert second.returncode == 2
    said = " ".join(output.split())
    assert re.search(
        rf"is at work on this environment since \S+ \(process {first.pid} on \S+\): ansible-playbook site.yml\. ",
        said), said
    assert not (controller.directory / "begun-second").exists()
    first.communicate(timeout=60)
    assert first.returncode == 0
    controller.until(lambda: controller.holder() == {})
    assert controller.run("third")[0].returncode == 0


def test_a_run_that_fails_gives_it_back(controller):
    assert controller.run("first", 0, "-e", "last=false")[0].returncode == 2
    controller.until(lambda: controller.holder() == {})


def test_a_run_that_is_killed_gives_it_back(controller):
    first = controller.start("first", 5)
    controller.begun("first")
    first.send_signal(signal.SIGKILL)
    first.wait()
    controller.until(lambda: controller.holder() == {})


def test_it_is_taken_over_if_nothing_of_the_holder_is_left(controller):
    first = controller.start("first", 5)
    controller.begun("first")
    held = controller.path.read_text()
    first.kill()
    first.wait()
    controller.until(lambda: controller.holder() == {})
    # As if the process that keeps the lock had been killed too.
    controller.path.write_text(held)
    assert controller.run("second")[0].returncode == 0


def test_a_run_that_has_lost_it_ends(controller):
    first = controller.start("first", 20)
    controller.begun("first")
    controller.path.write_text(json.dumps({**controller.holder(), "token": "another"}))
    output = first.communicate(timeout=15)[0]
    assert first.returncode != 0
    assert "went to another run" in " ".join(output.split())
    assert controller.holder()["token"] == "another"


@pytest.mark.parametrize("program_on_host", [None, "import time; time.sleep(60)"],
                         ids=["an unexpected exception", "no answer"])
def test_a_run_that_cannot_renew_it_ends(controller, program_on_host):
    controller.change("action", "LOOK = 240, 0.3, 30", "LOOK = 10, 0.3, 5")
    first = controller.start("first", 60)
    controller.begun("first")
    held = controller.path.read_text()
    path = controller.plugins / "module_utils/airflow_environment_lock.py"
    path.unlink() if program_on_host is None else path.write_text(program_on_host, encoding="utf-8")
    output = first.communicate(timeout=50)[0]
    assert first.returncode != 0
    assert "could not be renewed" in " ".join(output.split())
    assert controller.path.read_text() == held


def test_a_dry_run_takes_nothing(controller):
    assert controller.run("first", 0, "--check")[0].returncode == 0
    assert not controller.path.exists()
