"""Refuses a command that cannot work, before Ansible parses a role, with one sentence that says what to type instead.

Ansible loads it for playbooks beside this directory, whatever ansible.cfg says. An Ansible that is too old loads it too, so it uses little of Ansible.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import sys

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.vars import BaseVarsPlugin
from ansible.release import __version__ as ansible_version

DOCUMENTATION = r"""
name: command_can_work
short_description: Refuse a command that cannot work
version_added: 1.0.0
author: The Windsock contributors
description:
  - Refuses an Ansible of another release or without the collections, an environment from before an update, and a command without an inventory where
    there is no sandbox. Brings no variables.
options:
  stage:
    description: When it runs. This is before Ansible parses a playbook.
    type: str
    default: inventory
"""

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
# As role preflight has it; a test compares the two.
OLDEST = (2, 19)
TOO_NEW = (2, 21)
# The letters are the short options without a value, which may stand before -i in one word.
NAMES_INVENTORY = re.compile(r"-(-|[CDJKbhkv]*)i")


def environment_of(repository):
    """What makes the environment that this needs. The archive of the collection has no bin/, because nothing is written below an installed collection."""
    if os.path.exists(os.path.join(repository, "bin", "setup")):
        return "Run {0}/bin/setup, then: . {0}/.venv/bin/activate".format(repository)
    return "Make an environment as {0}/docs/collection.md says".format(repository)


def check_ansible(repository, version):
    """The one of the operating system, for example. Another release may not parse our roles."""
    if not OLDEST <= tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < TOO_NEW:
        yield (
            "This is ansible-core {0}; valid is {1}.{2} or newer, older than {3}.{4}. {5}"
        ).format(version, *OLDEST, *TOO_NEW, environment_of(repository))


def required_collections(repository):
    """Read without a parser of YAML, which would take longer than all else here."""
    with open(os.path.join(repository, "requirements.yml"), encoding="utf-8") as file:
        return re.findall(r"^ *- name: (\S+)$", file.read(), re.MULTILINE)


def has_collection(name):
    try:
        return importlib.util.find_spec("ansible_collections." + name) is not None
    except ImportError:
        return False


def check_collections(repository):
    """The package ansible-core brings none."""
    missing = [name for name in required_collections(repository) if not has_collection(name)]
    if missing:
        yield (
            "The controller lacks the collections {0}. {1}. In an environment of your own: ansible-galaxy collection install -r {2}/requirements.yml"
        ).format(", ".join(missing), environment_of(repository), repository)


def check_environment(repository, prefix):
    """An environment that bin/setup made from other requirements, or has not finished."""
    stamp, wanted = os.path.join(prefix, ".stamp"), hashlib.sha256()
    # Environments of other makers have no stamp.
    if not os.path.exists(stamp) and os.path.realpath(prefix) != os.path.realpath(os.path.join(repository, ".venv")):
        return
    for name in ("uv.txt", "controller.txt"):
        with open(os.path.join(repository, "requirements", name), "rb") as file:
            wanted.update(file.read())
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read().strip() == wanted.hexdigest():
                return
    yield (
        "The controller's environment {0} was made from other requirements than those of this repository (requirements/*.txt), as after `git pull`. "
        "Run: {1}/bin/setup"
    ).format(prefix, repository)


def check_sandbox(repository, sources, named):
    """Without -i, a command is for the sandbox of this checkout, if there is one. named: whether the user named an inventory."""
    sandbox = os.path.join(repository, "inventories", "sandbox")
    if not named and [os.path.realpath(source) for source in sources] == [os.path.realpath(os.path.join(sandbox, "hosts.yml"))] \
            and not os.path.exists(os.path.join(sandbox, "host_vars", "airflow-sandbox.yml")):
        yield (
            "The command names no inventory, so it is for the sandbox of this checkout, and there is none. Name your site: -i ~/airflow-site/hosts.yml "
            "(bin/new-site creates one). Or start a sandbox: bin/sandbox"
        )


@functools.lru_cache(maxsize=None)
def problem():
    """The first thing that is wrong with this command. Looked for once, although Ansible asks for the variables of each group and host."""
    return next(find_problems(), None)


def find_problems():
    """Yield what is wrong with this command."""
    yield from check_ansible(REPOSITORY, ansible_version)
    yield from check_environment(REPOSITORY, sys.prefix)
    yield from check_collections(REPOSITORY)
    # Ansible's own options do not tell: it puts the inventory of ansible.cfg there.
    named = os.environ.get("ANSIBLE_INVENTORY") or [word for word in sys.argv[1:] if NAMES_INVENTORY.match(word)]
    if not any(context.CLIARGS.get(name) for name in ("syntax", "listtasks", "listtags")):
        yield from check_sandbox(REPOSITORY, context.CLIARGS["inventory"], named)


class VarsModule(BaseVarsPlugin):
    """The plugin."""

    def get_vars(self, loader, path, entities, cache=True):
        """Stop at a problem."""
        super().get_vars(loader, path, entities)
        if problem():
            raise AnsibleError(problem())
        return {}
