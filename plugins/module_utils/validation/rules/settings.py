"""Names and places of variables: the files of an inventory, those beside the playbooks, and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import Any

import yaml
from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean, nearest
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Problems
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import parameters

# old name -> {new: name, or "" if it is gone; since: release}
RENAMED = {"airflow_dags_lock_lease": {"new": "", "since": "1.0.0"}}


def check_names(
    settings: Iterable[Any], known: Collection[str], roles: Iterable[str], allowed: Collection[str],
    options: Callable[[], Iterable[str]] = tuple,
) -> Problems:
    """Variables that look like the product's but that no role knows. options: () -> what airflow_config may have, as
    section.option.
    """
    # The variables of role airflow_common begin with airflow_.
    prefixes = ("airflow_", *(role + "_" for role in roles))
    for setting in settings:
        name = setting.name
        if name in known or name in allowed or name.startswith(("__", "ansible_")):
            continue
        if name in parameters.NAMES:
            if setting.level != "command line":
                yield name, (
                    "{0} ({1}): this parameter of an operation counts on the command line only. Remove it from the "
                    "file; use -e {0}=..."
                ).format(name, setting.where)
            continue
        if name in RENAMED:
            new = RENAMED[name].get("new")
            yield name, "{0} ({1}): {2} in release {3}.".format(
                name, setting.where, "is called {0}".format(new) if new else "is gone", RENAMED[name].get("since"))
            continue
        mine = name.startswith(prefixes)
        near = nearest(name, known, 3 if mine else 6)
        if mine or (near and near not in name):
            asked = name.removeprefix("airflow_")
            meant = [option for option in ([] if near else options()) if option.endswith(("." + asked, "_" + asked))]
            hint = did_you_mean(name, [near])
            if len(meant) == 1:
                hint = " Airflow's own option {0} goes into airflow_config: {{{1}: {{{2}: ...}}}}.".format(
                    meant[0], *meant[0].split(".", 1))
            yield name, (
                "{0} ({1}): no role knows this variable.{2} All of them are listed in roles/*/README.md; "
                "a variable of your own that is called so goes into preflight_allowed_variables."
            ).format(name, setting.where, hint)


def check_duplicates(settings: list[Any], known: Collection[str]) -> Problems:
    """group_vars beside the playbooks silently win over those of the inventory."""
    beside = {(s.name, s.entity): s for s in settings if s.level == "playbook"}
    for setting in settings:
        if setting.level not in ("inventory", "inline") or setting.name not in known:
            continue
        # Variables inside the inventory file are weaker than any group_vars/all.
        other = beside.get((setting.name, setting.entity)) or (beside.get(
            (setting.name, "all")) if setting.level == "inline" else None)
        if other:
            yield setting.name, (
                "{0} ({1}): {2} sets it too, and silently wins. Keep one of the two; what is set for a narrower group, "
                "such as group_vars/airflow/main.yml of the inventory, wins over both."
            ).format(setting.name, setting.where, other.where)


def check_twice(node: Any, known: Collection[str], file: str, below: tuple[str, ...] = ()) -> Problems:
    """Keys that occur twice in a mapping of YAML: the last one silently wins. In what the product knows, and in all
    that lies below it.
    """
    pairs: list[tuple[Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = node.value
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(None, child) for child in node.value]
    lines: dict[str, int] = {}
    for key, value in pairs:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        path = (*below, name) if below or name in known else ()
        if path and name:
            line = key.start_mark.line + 1
            if name in lines:
                yield path[
                    0], ("{0} ({1}:{2}): line {3} sets it too, and Ansible silently ignores that line. Keep one of the "
                         "two.").format(
                        ".".join(path), file, line, lines[name])
            lines[name] = line
        yield from check_twice(value, known, file, path if name else below)


def check_layout(
    directory: str, entities: Iterable[str], extensions: Iterable[str], name_of: Callable[[str], str],
) -> Problems:
    """Ansible reads one of group_vars/X/, X, X.yml, X.yaml and X.json, and says nothing about the others. name_of makes
    paths short.
    """
    for entity in entities:
        beside = [os.path.join(directory, entity + extension) for extension in ("", *extensions)]
        found = [path for path in beside if os.path.exists(path)]
        if len(found) > 1:
            kept, folder = found[0], os.path.join(directory, entity)
            names = [name_of(path) + "/" * os.path.isdir(path) for path in found]
            yield names[0], (
                "{0}: Ansible reads only {1}, and silently ignores every variable in {0}. Move what is in {0} into "
                "{2}, then remove {3}."
            ).format(" and ".join(names[1:]), names[0],
                     name_of(os.path.join(folder, "main.yml")) if os.path.isdir(folder) else name_of(kept),
                     "it" if len(names) == 2 else "them")
