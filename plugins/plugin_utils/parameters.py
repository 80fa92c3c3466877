"""Parameters of operations, from the command line of this run.

Their argument specs are in module_utils/validation/rules/parameters.py.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from typing import Any

from ansible import context
from ansible.utils.display import Display
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Values
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import parameters
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection


def given(loader: Any) -> Any:
    """Return the extra variables of the command line."""
    # Not above: an Ansible that is too old loads this file too, for a message.
    from ansible.utils.vars import load_extra_vars

    return load_extra_vars(loader)


def variables_of_roles() -> set[str]:
    """Return the names of the variables that the roles know.

    A parser of YAML would take longer than the whole check.
    """
    found = set()
    for path in glob.glob(collection.path("roles/*/defaults/main.yml")):
        with open(path, encoding="utf-8") as file:
            found.update(re.findall(r"^(\w+):", file.read(), re.MULTILINE))
    return found


def is_template(value: object) -> bool:
    """Return whether a value has to be templated first, which is possible for a host only."""
    return "{{" in str(value) or "{%" in str(value)


def check_command(loader: Any) -> Iterator[str]:
    """Yield what is wrong with the parameters on the command line of this run."""
    for playbook in typed_playbooks():
        yield from check(playbook, given(loader))


def check(playbook: str, extra: Values) -> Iterator[str]:
    """Yield what is wrong with these extra variables for a playbook, and warn of former names, each once in a run."""
    yield from parameters.check_values(playbook, extra, is_template)
    # A command for another playbook, which imports this one, may have variables for that one.
    if playbook in typed_playbooks():
        yield from parameters.check_names(typed_playbooks(), extra, variables_of_roles)
    for text in parameters.renamed(playbook, extra):
        Display().warning(text)


def typed_playbooks() -> list[str]:
    """Return the playbooks of this collection that the command names."""
    return [name for name in map(collection.playbook, context.CLIARGS.get("args") or ()) if name]
