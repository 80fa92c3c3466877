"""Hands Ansible's variables and what a host answers to the rules in module_utils/validation, and tells all that is
wrong in one message.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.parse
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version
from ansible_collections.windsock.airflow.plugins.module_utils.validation import owners
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Broken,
    NotYet,
    Site,
    Sound,
    check_values,
    major_of,
    message,
    placed,
)
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import (
    airflow_config,
    controller,
    host,
    inventory,
    settings,
)
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow import standalone_dag_processor
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_common import database_address
from ansible_collections.windsock.airflow.plugins.plugin_utils.collection import ROOT
from ansible_collections.windsock.airflow.plugins.plugin_utils.site import is_file, make_site
from ansible_collections.windsock.airflow.plugins.plugin_utils.variables import Scope, Values

NO_HOST = "Nothing was changed and no host was contacted"


class ActionModule(ActionBase):
    """The stages are explained in module_utils/validation/core.py."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(("stage", "supported", "deferred", "owner", "message"))

    def run(self, tmp=None, task_vars=None):
        """Run one stage."""
        result = super().run(tmp, task_vars)
        problems = list(controller.check_ansible(ROOT, ansible_version))
        if problems:
            # The rest calls functions that another Ansible may not have.
            return {**result, "failed": True, "msg": message([("controller", text) for text in problems], NO_HOST)}
        if self._task.args["stage"] == "role":
            return {**result, **self.check_role(task_vars)}
        self.scope = Scope(self._loader, self._task.get_variable_manager(), ROOT)
        self.site = make_site(self.scope.read, self._loader.get_basedir(), self.scope.where,
                              self._task.args["supported"])
        try:
            result.update(self.check_host(task_vars) if self._task.args["stage"] == "host" else self.check_input())
        except Broken as error:
            raise AnsibleError(str(error)) from None
        return result

    def check_role(self, task_vars):
        site = Site(where=lambda _name: "", is_file=lambda path: is_file(path, self._loader.get_basedir()))
        try:
            problems = [
                text for _name, text in owners.BY_ROLE[self._task.args["owner"]](Values(self._templar, task_vars), site)
            ]
        except (Broken, NotYet) as error:
            raise AnsibleError(str(error)) from None
        text = self._task.args.get("message", "{problems} Change it in group_vars/all/main.yml of your site.")
        return {"failed": True, "msg": text.replace("{problems}", " ".join(problems))
                } if problems else {"changed": False}

    def check_input(self):
        scope, site = self.scope, self.site
        problems = [("controller", text)
                    for check in (controller.check_python(sys.version_info[:2]), controller.check_repository(ROOT),
                                  controller.check_collections(ROOT)) for text in check]
        problems += settings.check_names(scope.settings, scope.specs, scope.roles, set(self.allowed_names()),
                                         self.known_options)
        problems += settings.check_duplicates(scope.settings, scope.specs)
        for path, node in scope.nodes.items():
            problems += settings.check_twice(node, scope.specs, scope.short(path)) if node else []
        for _level, directory, entities in scope.directories():
            problems += settings.check_layout(directory, entities, C.YAML_FILENAME_EXTENSIONS, scope.short)

        groups = {name: [member.name for member in group.get_hosts()] for name, group in scope.inventory.groups.items()}
        ours = dict.fromkeys(groups.get("airflow", []) + groups.get("airflow_postgres", []))
        set_names = {setting.name for setting in scope.settings} & set(scope.specs)
        deferred, sound = set(), {}
        lookups: dict[str, Any] = {}
        for name in ours or [None]:
            variables = scope.manager.get_vars(
                host=scope.inventory.get_host(name)) if name else dict(scope.manager.extra_vars)
            problems += inventory.check_address(name, variables.get("ansible_host"), scope.where("ansible_host", name))
            values = Values(self._templar, {**scope.defaults, **variables}, lookups)
            found, later = check_values(values, values.raw, set_names & set(variables), scope.specs, owners.DATA,
                                        site.of_host(name))
            sound[name] = Sound(values, {wrong for wrong, _text in found})
            problems += found
            deferred |= later
            members = {group for group, hosts in groups.items() if name in hosts} if name else {"airflow"}
            problems += owners.check_groups_of_host(sound[name], site.of_host(name), members)
        first = next(iter(sound.values()))
        major, standalone = major_of(first), standalone_dag_processor(first)
        external = bool(first.get("airflow_database_url") or first.get("airflow_database_host"))
        problems += inventory.check_groups(groups, scope.source, major, external, major == 2 and standalone)
        problems += inventory.check_one_site(sound, scope.where)
        problems += inventory.check_peers(groups, scope.source, major, first.get("airflow_executor"), sound,
                                          scope.where)
        if problems:
            return {"failed": True, "msg": message(problems, NO_HOST)}
        return {"changed": False, "deferred": sorted(deferred)}

    def known_options(self):
        sections = self.site.options(self.scope.defaults).get("sections", {})
        return ["{0}.{1}".format(section, option) for section, options in sections.items() for option in options]

    def allowed_names(self):
        """preflight_allowed_variables over all hosts, because names are checked in all files."""
        name, manager = "preflight_allowed_variables", self.scope.manager
        yield from manager.extra_vars.get(name) or []
        if any(setting.name == name for setting in self.scope.settings):
            for member in self.scope.inventory.hosts.values():
                value = manager.get_vars(host=member, include_hostvars=False).get(name)
                yield from value if isinstance(value, list) else []

    def check_host(self, task_vars):
        name, groups, site = task_vars["inventory_hostname"], task_vars["groups"], self.site.of_host(
            task_vars["inventory_hostname"])
        variables = {**self.scope.defaults, **task_vars}
        values, systems = Values(self._templar, variables), self.systems()
        address, is_ours, is_server = database_address(values), name in groups.get("airflow", []), name in groups.get(
            "airflow_postgres", [])
        ports = {host.port_of(rule, values): rule for rule in host.PORTS
                 if name in groups.get(rule["group"], []) and rule.get("major") in (None, major_of(values))
                 and not (rule["group"] == "airflow_postgres" and address)}
        ports.pop(None, None)
        probe = {
            "paths": [values["airflow_install_dir"], values["airflow_log_dir"]],
            "virtualenv": os.path.join(values["airflow_install_dir"], "venv"),
            "ports": list(ports),
            "python": values.get("airflow_python") or "",
            "pythons": {family: data["python_default"]
                        for family, data in systems.items()},
            "times": sorted({values[time_]
                             for time_ in host.TIMES}),
            "database": {"host": address[0], "port": address[1], "timeout": values["preflight_database_timeout"]}
            if address else {},
            "left": not is_ours,
        }
        index = ""
        if is_ours:
            probe["airflow"] = {
                key: values["airflow_" + key] for key in ("user", "home", "install_dir", "config_dir", "log_dir")}
            index = host.index_url(values)
        if is_server and not address:
            probe["server"] = {key: values["airflow_database_" + key] for key in ("name", "user", "port")}
        if index:
            probe["index"] = {
                "built": os.path.join(values["airflow_install_dir"], "venvs",
                                      "{0}-py*".format(values["airflow_version"]), "release.json"),
                "page": values["airflow_installer"], "bundle": self.text(values["airflow_ca_bundle"]),
                "timeout": values["preflight_index_timeout"], "given": bool(values["airflow_index_url"])
            }
        result = self._execute_module(module_name="windsock.airflow.validate",
                                      module_args={
                                          "stage": "host", "probe": probe, "index_url": index,
                                          "database_url": self.database_url(values) if "server" in probe else ""
                                      },
                                      task_vars=task_vars)
        if result.get("failed") or "found" not in result:
            return result
        found = result.pop("found")
        raw_facts = result["ansible_facts"]
        # So that no later play gathers them again (what Ansible's own action gather_facts does).
        raw_facts["_ansible_facts_gathered"] = True
        facts = {fact.removeprefix("ansible_"): value for fact, value in raw_facts.items()}

        values = Values(self._templar, {**variables, "ansible_facts": facts})
        version = values.resolved(systems.get(facts["os_family"], {}).get(
            "python_default_version", "")) if not values.get("airflow_python") else ""
        late = self._task.args.get("deferred") or []
        problems, _deferred = check_values(values, values.raw, late, self.scope.specs, owners.DATA, site)
        if "airflow_config" in late and not problems:
            problems += [(option, placed(option, text, site))
                         for option, text in airflow_config.check_config_options(values, site)]
        problems += host.check_host(values, site, found, facts, ports, version, time.time())
        if problems:
            result.update(failed=True, msg=message(problems, "Nothing was changed on {0}".format(name)))
            # Facts of a host that is refused are of no use, and many lines.
            result.pop("ansible_facts")
        return result

    def database_url(self, values):
        """The address of the database on its own host; empty where the inventory gives no password."""
        user, password = (urllib.parse.quote(str(values.get("airflow_database_" + name) or ""), safe="")
                          for name in ("user", "password"))
        return "postgresql://{0}:{1}@127.0.0.1:{2}/{3}".format(
            user, password, values["airflow_database_port"], values["airflow_database_name"]) if password else ""

    def text(self, path):
        """A file of the controller, where there is one."""
        there = path and is_file(path, self._loader.get_basedir())
        return self._loader.get_text_file_contents(self._loader.path_dwim(os.path.expanduser(path))) if there else ""

    def systems(self):
        """{os_family: its data}, which say which Python there is."""
        path = os.path.join(ROOT, "roles", "airflow_common", "vars", "main", "systems.yml")
        return self.scope.read(path)["__airflow_systems"]
