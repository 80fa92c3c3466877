"""One lock covers everything that changes an environment."""

import json

import pytest
from playbook import play

LOCK = "/run/airflow-environment.lock"
JANE = {"by": "jane@laptop", "host": "laptop", "pid": 4711, "machine": "laptop", "token": "laptop:4711:1", "since": "2026-01-01T00:00:00Z",
        "command": "ansible-playbook site.yml"}


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
