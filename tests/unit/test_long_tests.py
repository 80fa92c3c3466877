"""bin/test --long: parts, seeds, the limit of time, and the row that each call leaves behind."""

import os
import subprocess
import sys
import time

import long_tests
import pytest

SLOW = """#!/bin/sh
echo "$1 $3 $AIRFLOW_TEST_LONG $AIRFLOW_TEST_SEED" >> {calls}
[ $1 = test ] || exit 0
{test}
"""
REPORT = """cat > "${PYTEST_ADDOPTS#--junitxml=}" <<'XML'
<testsuites><testsuite>
<testcase classname="tests.molecule.test_x" name="a"/><testcase classname="tests.molecule.test_x" name="b"/>
<testcase classname="tests.molecule.test_x" name="c"><skipped message="for Airflow 2 only"/></testcase>
</testsuite></testsuites>
XML
"""


@pytest.fixture
def molecule(tmp_path, monkeypatch):
    """molecule("what `molecule test` does") replaces the real command, and returns what reads the calls."""
    calls = tmp_path / "calls"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(long_tests, "LOG_DIR", tmp_path)
    monkeypatch.setattr(long_tests, "ROOT", tmp_path)
    monkeypatch.setattr(long_tests, "TABLE", tmp_path / "long.md")
    monkeypatch.setattr(long_tests, "tree", lambda: "abc1234")

    def replace(test):
        (tmp_path / "molecule").write_text(SLOW.format(calls=calls, test=test), encoding="utf-8")
        (tmp_path / "molecule").chmod(0o755)
        return lambda: calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []

    return replace


def row():
    return [
        cell.strip() for cell in long_tests.TABLE.read_text(encoding="utf-8").splitlines()[-1].strip("|").split("|")
    ]


def test_each_seed_runs_each_scenario_and_one_row_says_so(molecule):
    calls = molecule(REPORT)
    assert long_tests.main(["run", "restarts", "--seeds", "3-4"]) == 0
    assert calls() == [
        "test default restarts 3", "test airflow2 restarts 3", "test default restarts 4", "test airflow2 restarts 4"
    ]
    assert row()[1:4] == ["abc1234", "restarts", "3-4"]
    assert row()[5] == "ok; tests: 8 passed, 0 failed, 4 skipped"


def test_a_failure_names_its_seed_and_the_others_still_run(molecule):
    calls = molecule('[ $AIRFLOW_TEST_SEED != 2 ]')
    assert long_tests.main(["run", "diagnosis", "--seeds", "1-3"]) == 1
    assert len(calls()) == 3
    assert row()[5].startswith("FAILED: seed 2 (runbooks); tests: 0 passed")


def test_the_limit_ends_what_runs_removes_its_hosts_and_is_told(molecule, monkeypatch):
    calls = molecule("sleep 60 & sleep 60")
    monkeypatch.setattr(long_tests, "REMOVAL", 1)
    line, well = long_tests.run("diagnosis", range(1, 6), minutes=1 + 1 / 60)
    assert not well
    assert calls() == ["test runbooks diagnosis 1", "destroy runbooks  "]
    assert "| none | 0 | incomplete; of seeds 1-5 stopped by the limit of" in line


def test_a_seed_that_cannot_end_in_time_is_not_begun(molecule, monkeypatch):
    calls = molecule("sleep 1")
    monkeypatch.setattr(long_tests, "REMOVAL", 1)
    line, _well = long_tests.run("diagnosis", range(1, 6), minutes=1 + 1.5 / 60)
    assert calls() == ["test runbooks diagnosis 1"]
    assert "| diagnosis | 1 |" in line


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "no part is named"), (["diagnose"], "there is no part 'diagnose'"),
    (["diagnosis", "--seeds", "0"], "'0'; valid are a number from 1 on"),
    (["diagnosis", "--seeds", "5-2"], "'5-2'; valid are"),
])
def test_a_wrong_part_or_seed_is_refused_and_the_parts_are_listed(arguments, said):
    done = subprocess.run([sys.executable, long_tests.__file__, "scenarios", *arguments],
                          capture_output=True,
                          text=True,
                          check=False)
    assert done.returncode and said in done.stderr and done.stdout == ""
    if "--seeds" not in arguments:
        assert all(name in done.stderr for name in long_tests.PARTS)


def test_changed_files_are_told_but_not_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(long_tests, "ROOT", tmp_path)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(tmp_path)]
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/long.md").write_text("head\n", encoding="utf-8")
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    clean = long_tests.tree()
    (tmp_path / "bench/long.md").write_text("head\nrow\n", encoding="utf-8")
    assert long_tests.tree() == clean and " " not in clean
    (tmp_path / "other").touch()
    assert long_tests.tree() == f"{clean} with 1 changed files"


def test_what_ignores_the_first_signal_is_killed_with_what_it_started(tmp_path):
    """As the workers of Ansible, in groups of their own."""
    # The shell says where its child is, and both ignore SIGTERM.
    script = f"trap '' TERM; setsid sleep 60 & echo $! > {tmp_path}/child; wait"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text(encoding="utf-8").strip():
        assert process.poll() is None
    child = int((tmp_path / "child").read_text(encoding="utf-8"))
    long_tests.stop(process, wait=1)
    assert process.poll() is not None
    # A signal is under way until the process runs again, which takes its time on a busy machine.
    end = time.monotonic() + 10
    while True:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True,
                               check=False).stdout.strip()
        if state[:1] in ("", "Z"):
            break
        assert time.monotonic() < end, state
