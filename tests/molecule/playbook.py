"""Run a playbook of the repository against the scenario's host, with other variables than the scenario's."""

import contextlib
import json
import os
import re
import subprocess
import tempfile

import pytest
from conftest import LOG_PATH, ROOT
from killed import run_until

# Where a scenario has installed the collection: the directory of a site, from which playbooks are run by their full
# names. Else they are run from the clone.
SITE = os.environ.get("AIRFLOW_TEST_SITE", "")
# Whatever the scenario says: a test that wants more output asks for it.
SETTINGS = {
    "ANSIBLE_NOCOLOR": "true", "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_VERBOSITY": "0", "ANSIBLE_LOG_PATH": LOG_PATH
}


def command(playbook):
    """Return the beginning of the command that runs a playbook: play("runbooks/check_health") runs that of the clone,
    or that of the collection.
    """
    path = f"windsock.airflow.{playbook.removeprefix('../').replace('/', '.')}" if SITE else f"playbooks/{playbook}.yml"
    return ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], path]


class Play:
    """What a playbook did: its output, whether it failed, how many tasks changed something, and the lines of its diffs.
    """

    def __init__(self, done):
        self.failed, self.output = done.returncode != 0, done.stdout + done.stderr
        self.changed = sum(int(number) for number in re.findall(r" changed=(\d+)", done.stdout))
        self.diff = [line for line in done.stdout.splitlines() if re.match(r"[-+]|@@", line)]
        self.titles = [line.split(": ", 1)[1] for line in self.diff if line.startswith("--- before: ")]
        # In one line, as messages are wrapped.
        self.text = " ".join(self.output.split())


@contextlib.contextmanager
def prepared(playbook, arguments, variables):
    """A command, and where and how it runs. Extra variables are given as they are: what a lookup returns is no
    template.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(variables, file)
        file.flush()
        given = {
            name: "{{ (lookup('ansible.builtin.file', '%s') | from_json).%s }}" % (file.name, name)
            for name in variables
        }
        yield (
            [*command(playbook), "-e", json.dumps(given), *arguments],
            {"cwd": SITE or ROOT, "env": {**os.environ, **SETTINGS}},
        )


def play(playbook, *arguments, **variables):
    with prepared(playbook, arguments, variables) as (words, options):
        return Play(subprocess.run(words, **options, text=True, capture_output=True, check=False))


def kill(playbook, point, delay=0.0, **variables):
    """Start a playbook, and kill it this long after the kill point."""
    with prepared(playbook, (), variables) as (words, options):
        reached, said = run_until(words, point, delay, **options)
    assert reached, f"never came to {point!r}\n{said[-6000:]}"


def look(runbook, *arguments):
    """Return the exit code of a runbook that only looks, and what it says as JSON."""
    done = subprocess.run([*command(f"runbooks/{runbook}"), "-e", "airflow_format=json", *arguments],
                          cwd=SITE or ROOT,
                          env={**os.environ, **SETTINGS, "ANSIBLE_STDOUT_CALLBACK": "community.general.null"},
                          text=True,
                          capture_output=True,
                          check=False)
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        pytest.fail(f"{runbook}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
