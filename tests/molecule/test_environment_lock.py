"""One lock covers everything that changes an environment."""

import json
import subprocess
import types

import pytest
from playbook import Play, play, prepared

LOCK = "/run/airflow-environment.lock"
JANE = {
    "by": "jane@laptop", "host": "laptop", "pid": 4711, "machine": "laptop", "token": "laptop:4711:1",
    "since": "2026-01-01T00:00:00Z", "command": "ansible-playbook site.yml"
}


@pytest.fixture
def held(host):
    """The lock as a run on another controller holds it, renewed this many seconds ago."""

    def hold(age):
        host.check_output(f"printf %s '{json.dumps(JANE)}' > {LOCK} && touch --date '-{age} seconds' {LOCK}")

    yield hold
    host.check_output(f"rm -f {LOCK}")


def test_a_run_gives_the_lock_back(host):
    """The runs that have installed this host."""
    assert host.file(LOCK).size == 0
    assert (host.file(LOCK).user, host.file(LOCK).mode) == ("root", 0o600)


@pytest.mark.parametrize("playbook", ["services", "runbooks/back_up_database"])
def test_a_second_run_is_refused_and_told_who_has_the_lock(host, held, playbook):
    held(10)
    done = play(playbook)
    assert (done.failed, done.changed) == (True, 0), done.output
    assert ("jane@laptop is at work on this environment since 2026-01-01T00:00:00Z (process 4711 on laptop): "
            "ansible-playbook site.yml.") in done.text
    assert json.loads(host.file(LOCK).content_string) == JANE


@pytest.mark.parametrize(("playbook", "arguments"), [("services", ["--check"]), ("list_dag_releases", [])])
def test_who_only_looks_needs_no_lock(host, held, playbook, arguments):
    held(10)
    done = play(playbook, *arguments)
    assert not done.failed, done.output
    assert json.loads(host.file(LOCK).content_string) == JANE


def test_a_holder_that_gives_no_sign_of_life_holds_nothing(host, held):
    held(301)
    done = play("services")
    assert not done.failed, done.output
    host.check_output(f"timeout 5 sh -c 'while [ -s {LOCK} ]; do sleep 0.1; done'")


@pytest.mark.long("site")
def test_of_two_controllers_at_once_one_works_and_the_other_is_refused(host, setting):
    """Both have a switch to make, to the same virtualenv, which no host has yet."""
    install, changed = setting("airflow_install_dir"), {"airflow_extra_packages": ["cowsay==6.1"]}
    linked, there = host.check_output(f"readlink {install}/venv"), set(host.file(f"{install}/venvs").listdir())
    since = host.check_output("date +%s")
    with prepared("../site", (), changed) as (command, options):
        processes = [
            subprocess.Popen(command, **options, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for _number in range(2)
        ]
        said = [process.communicate()[0] for process in processes]
    runs = [(process, Play(types.SimpleNamespace(returncode=process.returncode, stdout=output, stderr="")))
            for process, output in zip(processes, said, strict=True)]
    new = set(host.file(f"{install}/venvs").listdir()) - there
    try:
        (winner, works), (_loser, refused) = sorted(runs, key=lambda run: run[1].failed)
        assert (works.failed, refused.failed) == (False, True), "\n".join(said)
        assert refused.changed == 0 and "This run has changed nothing." in refused.text, refused.output
        assert (
            "is at work on this environment since" in refused.text and f"(process {winner.pid} on " in refused.text
        ), refused.output
        assert len(new) == 1 and host.check_output(f"readlink {install}/venv") == f"venvs/{next(iter(new))}"
        # One switch is one restart.
        assert host.check_output(
            f"journalctl --unit airflow-scheduler --since @{since} --output cat --no-pager | grep -c '^Started '"
        ) == "1"
        host.check_output(f"timeout 5 sh -c 'while [ -s {LOCK} ]; do sleep 0.1; done'")
        again = play("../site", **changed)
        assert (again.failed, again.changed) == (False, 0), again.output
    finally:
        back = play("../site")
        for name in new:
            host.check_output(f"rm -r {install}/venvs/{name}")
    assert not back.failed and host.check_output(f"readlink {install}/venv") == linked, back.output
