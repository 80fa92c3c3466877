"""tests/molecule/killed.py, with a command that stands for ansible-playbook: what it does when its connection is lost
is its own.
"""

import os
import pathlib
import re
import subprocess
import sys

import forks
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/molecule"))
import killed  # noqa: E402

STAND_IN = """
import os, sys, time
print("kill_point: write", flush=True)
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
    """run(text, code): the stand-in says this after it has lost its connection.

    Return whether it came to its kill point, the code, and the output.
    """
    def run(said, code, seconds=0, limit=20):
        cut = tmp_path / "cut"
        command = [sys.executable, "-c", STAND_IN, cut, said, str(seconds), str(code)]
        return killed.run_without_connection(command, "kill_point: write", 0, lambda: subprocess.Popen(["touch", cut]),
                                             limit)
    return run


@pytest.mark.parametrize(
    ("said", "code", "noticed"),
    [(LOST, 4, True), (DONE, 0, False), (LOST, 0, False), (DONE, 4, False), (LOST, 2, False)],
)
def test_a_run_says_that_it_has_lost_its_connection_and_ends(run, said, code, noticed):
    reached, ended, seen = run(said, code)
    assert (reached, ended, killed.noticed(ended, seen)) == (True, code, noticed)
    assert said in seen


def test_a_run_that_waits_for_ever_is_ended_and_has_noticed_nothing(run):
    reached, ended, seen = run(LOST, 4, seconds=60, limit=0.5)
    assert reached and ended < 0 and not killed.noticed(ended, seen)


def test_a_kill_point_that_is_never_reached_cuts_nothing(tmp_path):
    other = [sys.executable, "-c", "print('kill_point: writer')"]
    done = killed.run_without_connection(other, "kill_point: write", 0, lambda: pytest.fail("was cut off"))
    assert done == (False, 0, "kill_point: writer\n")


def test_a_run_is_killed_at_its_kill_point(tmp_path):
    command = [sys.executable, "-c", STAND_IN, tmp_path / "never", "", "0", "0"]
    reached, seen = killed.run_until(command, "kill_point: write", 0)
    assert reached and seen.endswith("kill_point: write\n")


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: "First"
      # kill_point: first
      ansible.builtin.debug:
    - name: Import it
      # kill_point: import
      ansible.builtin.import_tasks: part.yml
    - name: Import it again
      # kill_point: import_again
      ansible.builtin.import_tasks: part.yml
    - name: Never
      # kill_point: skipped
      ansible.builtin.debug:
      when: false
"""
PART = """
- name: In both
  # kill_point: part
  ansible.builtin.debug:
- name: Without one
  ansible.builtin.debug:
"""


def test_a_run_says_its_kill_points_before_the_tasks_begin(tmp_path):
    """A kill point of an import is its first task, however often the tasks are imported."""
    (tmp_path / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
    (tmp_path / "part.yml").write_text(PART, encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_CALLBACK_PLUGINS": str(killed.CALLBACK_PLUGINS), "ANSIBLE_NOCOLOR": "1"}
    done = forks.run(["ansible-playbook", "-i", "localhost,", tmp_path / "play.yml"], env=environment)
    said = re.findall(r"^(?:TASK \[)?(kill_point: \w+|(?<=\[)[^]]+)", done.stdout, re.MULTILINE)
    assert said == ["kill_point: first", "First", "kill_point: part", "kill_point: import", "In both", "Without one",
                    "kill_point: import_again", "In both", "Without one", "kill_point: skipped"], done
