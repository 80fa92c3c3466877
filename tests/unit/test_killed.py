"""tests/molecule/killed.py, with a command that stands for ansible-playbook: what it does when its connection is lost is its own."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/molecule"))
import killed  # noqa: E402

STAND_IN = """
import os, sys, time
print("TASK [one : Write the secrets] ***", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
print(sys.argv[2], flush=True)
time.sleep(float(sys.argv[3]))
sys.exit(int(sys.argv[4]))
"""
LOST = "fatal: [one]: UNREACHABLE! => {}\none : ok=1 changed=0 unreachable=1 failed=0"
DONE = "one : ok=9 changed=0 unreachable=0 failed=0"


@pytest.fixture
def run(tmp_path):
    """run(text, code): the stand-in says this after it has lost its connection. Return whether the task began, the code, the output, and what was said."""
    def run(said, code, seconds=0, limit=20, task="Write the secrets"):
        cut = tmp_path / "cut"
        return killed.run_without_connection([sys.executable, "-c", STAND_IN, cut, said, str(seconds), str(code)], task, 0,
                                             lambda: subprocess.Popen(["touch", cut]), limit)
    return run


@pytest.mark.parametrize(("said", "code", "noticed"), [(LOST, 4, True), (DONE, 0, False), (LOST, 0, False), (DONE, 4, False), (LOST, 2, False)])
def test_a_run_says_that_it_has_lost_its_connection_and_ends(run, said, code, noticed):
    reached, ended, seen = run(said, code)
    assert (reached, ended, killed.noticed(ended, seen)) == (True, code, noticed)
    assert said in seen


def test_a_run_that_waits_for_ever_is_ended_and_has_noticed_nothing(run):
    reached, ended, seen = run(LOST, 4, seconds=60, limit=0.5)
    assert reached and ended < 0 and not killed.noticed(ended, seen)


def test_a_task_that_never_begins_cuts_nothing(tmp_path):
    done = killed.run_without_connection([sys.executable, "-c", "print('TASK [one : Other]')"], "Write the secrets", 0, lambda: pytest.fail("was cut off"))
    assert done == (False, 0, "TASK [one : Other]\n")


def test_a_run_is_killed_at_its_task(tmp_path):
    reached, seen = killed.run_until([sys.executable, "-c", STAND_IN, tmp_path / "never", "", "0", "0"], "Write the secrets", 0)
    assert reached and seen.startswith("TASK [one : Write the secrets]")
