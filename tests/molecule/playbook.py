"""Run a playbook of the repository against the scenario's host, with other variables than the scenario's."""

import json
import os
import re
import subprocess

from conftest import LOG_PATH, ROOT


class Play:
    """What a playbook did: its output, whether it failed, how many tasks changed something, and the lines of its diffs."""

    def __init__(self, done):
        self.failed, self.output = done.returncode != 0, done.stdout + done.stderr
        self.changed = sum(int(number) for number in re.findall(r" changed=(\d+)", done.stdout))
        self.diff = [line for line in done.stdout.splitlines() if re.match(r"[-+]|@@", line)]
        self.titles = [line.split(": ", 1)[1] for line in self.diff if line.startswith("--- before: ")]


def play(playbook, *arguments, **variables):
    """Extra variables are given as they are: a string in them is no template."""
    done = subprocess.run(
        ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], f"playbooks/{playbook}.yml", "-e", "@/dev/stdin", *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "true", "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_LOG_PATH": LOG_PATH},
        input=as_yaml(variables),
        text=True,
        capture_output=True,
        check=False,
    )
    return Play(done)


def as_yaml(value):
    """JSON is YAML; but strings get the tag that keeps Ansible from taking {{ for a template."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    return ("!unsafe " if isinstance(value, str) else "") + json.dumps(value)
