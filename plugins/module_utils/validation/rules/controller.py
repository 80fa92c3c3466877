"""The controller, and the command that was typed. Other rules need its Ansible to be valid, so this imports little."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import in_range, range_text

# All is tested with the release in requirements/controller.txt, the checks with 2.20 too.
OLDEST = (2, 19)
TOO_NEW = (2, 21)
PYTHON = {"at_least": "3.11"}


def environment_of(repository: str) -> str:
    """What makes the environment that this needs. The archive of the collection has no bin/, because nothing is written
    below an installed collection.
    """
    if os.path.exists(os.path.join(repository, "bin", "setup")):
        return "Run {0}/bin/setup, then: . {0}/.venv/bin/activate".format(repository)
    return "Make an environment as {0}/docs/collection.md says".format(repository)


def check_ansible(repository: str, version: str) -> Iterator[str]:
    """The one of the operating system, for example. Another release may not parse our roles."""
    if not OLDEST <= tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < TOO_NEW:
        yield "This is ansible-core {0}; valid is {1}.{2} or newer, older than {3}.{4}. {5}".format(
            version, *OLDEST, *TOO_NEW, environment_of(repository))


def required_collections(repository: str) -> list[str]:
    """Read without a parser of YAML, which would take longer than all else here."""
    with open(os.path.join(repository, "requirements.yml"), encoding="utf-8") as file:
        return re.findall(r"^ *- name: (\S+)$", file.read(), re.MULTILINE)


def has_collection(name: str) -> bool:
    try:
        return importlib.util.find_spec("ansible_collections." + name) is not None
    except ImportError:
        return False


def check_collections(repository: str) -> Iterator[str]:
    """The package ansible-core brings none."""
    missing = [name for name in required_collections(repository) if not has_collection(name)]
    if missing:
        yield (
            "The controller lacks the collections {0}. {1}. In an environment of your own: ansible-galaxy collection "
            "install -r {2}/requirements.yml"
        ).format(", ".join(missing), environment_of(repository), repository)


def check_python(version: tuple[int, ...] = sys.version_info[:2]) -> Iterator[str]:
    """Ansible's own."""
    if not in_range(".".join(map(str, version)), PYTHON):
        yield "The controller's Ansible runs on Python {0}; valid is {1}.".format(
            ".".join(map(str, version)), range_text(PYTHON)
        )


def check_repository(repository: str, mode: int | None = None) -> Iterator[str]:
    """Whoever writes into it runs anything on the hosts."""
    mode = os.stat(repository).st_mode if mode is None else mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield ("{0} can be written by every user of the controller, who could run anything on your hosts. Run: chmod "
               "o-w {0}").format(
            repository)


def check_environment(repository: str, prefix: str) -> Iterator[str]:
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
        "The controller's environment {0} was made from other requirements than those of this repository "
        "(requirements/*.txt), as after `git pull`. "
        "Run: {1}/bin/setup").format(prefix, repository)


def check_inventory(sources: Iterable[str]) -> Iterator[str]:
    """Ansible warns of an inventory that is absent, runs on no host and ends with 0. A list of hosts has a comma."""
    for source in sources:
        if "," not in source and not os.path.exists(source):
            yield "The inventory {0} does not exist. Name your site: -i ~/airflow-site/hosts.yml".format(source)


def check_sandbox(repository: str, sources: list[str], named: bool) -> Iterator[str]:
    """Without -i, a command is for the sandbox of this checkout, if there is one. named: whether the user named an
    inventory.
    """
    sandbox = os.path.join(repository, "inventories", "sandbox")
    hosts = os.path.realpath(os.path.join(sandbox, "hosts.yml"))
    if not named and [os.path.realpath(source) for source in sources] == [hosts] \
            and not os.path.exists(os.path.join(sandbox, "host_vars", "airflow-sandbox.yml")):
        yield (
            "The command names no inventory, so it is for the sandbox of this checkout, and there is none. Name your "
            "site: -i ~/airflow-site/hosts.yml "
            "(bin/new-site creates one). Or start a sandbox: bin/sandbox")
