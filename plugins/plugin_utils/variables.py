"""Variables as Ansible has them: their values, where each is set, and what the roles know. All that is private to
Ansible is in this file.
"""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Broken, NotYet

SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NOT_YET = re.compile(r"ansible_|__|role_path")


class Setting(NamedTuple):
    """A variable, and where it stands.

    where: file:line. entity: the host or group. level: beside the playbook, beside the inventory, or on the command
    line.
    """

    name: str
    where: str
    entity: str
    level: str


class Values(Mapping[str, Any]):
    """Values of variables, with their templates resolved when they are asked for. A variable that nobody set is an
    empty text.
    """

    def __init__(self, templar: Any, variables: Mapping[str, Any], lookups: dict[str, Any] | None = None) -> None:
        self.raw = variables
        self.known: dict[str, Any] = {}
        self.templar = templar.copy_with_new_env(available_variables=variables)
        # A lookup may ask a vault over the network: once is enough for all hosts.
        self.lookups = {} if lookups is None else lookups

    def __getitem__(self, name: str) -> Any:
        if name not in self.known:
            raw = self.raw.get(name, "")
            cache, key = (self.lookups,
                          raw) if isinstance(raw, str) and re.search(r"lookup|query|\bq\(", raw) else (self.known, name)
            if key not in cache:
                cache[key] = self.resolved(raw)
            self.known[name] = cache[key]
        return self.known[name]

    def resolved(self, raw: Any) -> Any:
        try:
            return self.templar.template(raw)
        except AnsibleUndefinedVariable as error:
            missing = re.search(r"'(\w+)' is undefined", str(error))
            if missing and not NOT_YET.search(missing.group(1)):
                raise Broken("{0} is undefined".format(missing.group(1))) from None
            raise NotYet(str(error)) from None
        except AnsibleError as error:
            # Its text may hold what a lookup returned.
            raise Broken("its template fails with {0}".format(type(error).__name__)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


def keys_of(node: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """(keys from the root to it, line) of every key below a node of YAML."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            yield (*above, key.value), key.start_mark.line + 1
            yield from keys_of(value, (*above, key.value))


class Scope:
    """All variables that are set anywhere, where they stand, and what the roles know."""

    def __init__(self, loader: Any, manager: Any, repository: str) -> None:
        self.loader, self.manager, self.inventory = loader, manager, manager._inventory
        self.repository = repository
        self.nodes: dict[str, Any] = {}
        self.roles = sorted(os.listdir(os.path.join(repository, "roles")))
        self.defaults_of_roles = {role: self.read_of_role(role, "defaults", "main.yml") for role in self.roles}
        self.defaults = {
            name: value
            for defaults in self.defaults_of_roles.values()
            for name, value in defaults.items()
        }
        self.source = ", ".join(
            os.path.relpath(path, repository) if os.path.realpath(path).startswith(repository) else path
            for path in self.inventory._sources)

    def read(self, path: str) -> dict[str, Any]:
        data = self.loader.load_from_file(path, cache="all", unsafe=True, trusted_as_template=True)
        return data if isinstance(data, dict) else {}

    def read_of_role(self, role: str, *file: str) -> dict[str, Any]:
        path = os.path.join(self.repository, "roles", role, *file)
        return self.read(path) if os.path.exists(path) else {}

    # What a run without a problem does not ask for is not read: each host has a process of its own that would read it.
    @functools.cached_property
    def specs(self) -> dict[str, dict[str, Any]]:
        """{variable: its argument spec} of all roles."""
        found = {name: {"type": "raw"} for name in self.defaults}
        for role in self.roles:
            specs = self.read_of_role(role, "meta", "argument_specs.yml").get("argument_specs", {})
            found.update(specs.get("main", {}).get("options") or {})
        return found

    @functools.cached_property
    def settings(self) -> list[Setting]:
        """Each Setting of the inventory, of the files beside the playbooks, and of the command line."""
        return list(self.find_settings())

    def node(self, path: str) -> Any:
        """The file as YAML has it, with lines; None for what is not YAML, such as an inventory in the INI format."""
        if path not in self.nodes:
            try:
                # As bytes: YAML takes no string that Ansible has tagged.
                self.nodes[path] = yaml.compose(self.loader.get_text_file_contents(path).encode(), Loader=SafeLoader)
            except (yaml.YAMLError, AnsibleError, OSError, UnicodeError):
                self.nodes[path] = None
        return self.nodes[path]

    def place(self, path: str, name: str, entity: str | None = None) -> str:
        """path:line, short where it lies below the current directory. entity: the host or group whose variable it is,
        in an inventory.
        """
        node = self.node(path)
        if isinstance(node, yaml.MappingNode):
            lines = [
                line
                for keys, line in keys_of(node)
                if keys[-1] == name
                and (len(keys) == 1 if entity is None else keys[-3:-1] in ((entity, "vars"), ("hosts", entity)))
            ]
        else:
            try:
                with open(path, encoding="utf-8") as text:
                    hit = re.compile(r"(^|[\s\"'{{,]){0}[\"']?\s*[:=]".format(re.escape(name)))
                    lines = [
                        number for number, line in enumerate(text, 1)
                        if not line.lstrip().startswith(("#", ";")) and hit.search(line)
                    ]
            except (OSError, UnicodeDecodeError):
                lines = []
        # Of a key that occurs twice, the last one counts.
        return self.short(path) + (":{0}".format(lines[-1]) if lines else "")

    def short(self, path: str) -> str:
        """The path, relative to the repository where it lies in there."""
        real = os.path.realpath(path)
        short = os.path.relpath(real, self.repository)
        return real if short.startswith("..") else short

    def directories(self) -> Iterator[tuple[str, str, list[str]]]:
        """(level, directory, groups or hosts) of each group_vars and host_vars, beside the inventory and beside the
        playbooks.
        """
        bases = [("inventory", os.path.dirname(s) if os.path.isfile(s) else s) for s in self.inventory._sources
                 if os.path.exists(s)]
        bases.append(("playbook", self.loader.get_basedir()))
        seen = set()
        for level, base in bases:
            for folder, entities in (("group_vars", self.inventory.groups), ("host_vars", self.inventory.hosts)):
                directory = os.path.realpath(os.path.join(base, folder))
                if os.path.isdir(directory) and directory not in seen:
                    seen.add(directory)
                    # As Ansible does: a host that is a path names no file.
                    yield level, directory, [entity for entity in entities if not entity.startswith("/")]

    def find_settings(self) -> Iterator[Setting]:
        for level, directory, entities in self.directories():
            for entity in entities:
                for path in self.loader.find_vars_files(directory, entity):
                    for name in self.read(path):
                        yield Setting(name, self.place(path, name), entity, level)
        for entities in (self.inventory.groups, self.inventory.hosts):
            for entity, item in entities.items():
                for name in item.vars:
                    yield Setting(name, self.inline(name, entity), entity, "inline")
        for name in self.manager.extra_vars:
            yield Setting(name, self.command_line(name), "all", "command line")

    def inline(self, name: str, entity: str) -> str:
        files = [
            path for source in self.inventory._sources
            for path in ([source] if os.path.isfile(source) else sorted(glob.glob(os.path.join(source, "*"))))
            if os.path.isfile(path)
        ]
        places = [self.place(path, name, entity) for path in files]
        return next((place for place in places if re.search(r":\d+$", place)), "inventory " + ", ".join(places))

    def command_line(self, name: str) -> str:
        for option in context.CLIARGS.get("extra_vars") or ():
            path = option[1:] if option.startswith("@") else ""
            if path and re.search(r":\d+$", self.place(os.path.abspath(path), name)):
                return self.place(os.path.abspath(path), name)
        return "command line, -e"

    def where(self, name: str, host: str | None) -> str:
        """Where the value stands that wins for this host."""
        groups = {group.name: group.depth
                  for group in self.inventory.get_host(host).get_groups()} if host else {"all": 0}
        best = ""
        rank: tuple[Any, ...] | None = None
        for setting in self.settings:
            if setting.name == name and (setting.entity == host or setting.entity in groups):
                this = (setting.level == "command line", setting.entity == host, groups.get(setting.entity, 0)
                        > 0, setting.level != "inline", groups.get(setting.entity, 0), setting.level == "playbook")
                if rank is None or this >= rank:
                    best, rank = setting.where, this
        home = next(("default of roles/" + role
                     for role, defaults in self.defaults_of_roles.items() if name in defaults), "not set")
        return best or "{0}, set it in {1}".format(home, self.file_to_edit())

    def file_to_edit(self) -> str:
        source = next((s for s in self.inventory._sources if os.path.exists(s)), "")
        base = os.path.dirname(source) if os.path.isfile(source) else source
        single = [
            path for path in (os.path.join(base, "group_vars", "all" + extension)
                              for extension in C.YAML_FILENAME_EXTENSIONS) if os.path.isfile(path)
        ]
        return self.short(single[0] if single else os.path.join(base, "group_vars", "all", "main.yml"))
