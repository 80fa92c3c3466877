"""Checks the input of an installation, then its hosts, and tells all that is wrong in one message.

What is wrong is found by plain functions on plain data; the class at the end reads Ansible's own structures for them.
Messages never hold the value of a secret.
"""

from __future__ import annotations

import collections
import glob
import importlib.util
import json
import os
import re
import shutil
import stat
import sys
import time
import urllib.parse

import yaml
from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_objects, airflow_secret_kinds
from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean, distance, nearest
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection

# A variable, where it stands (file:line), for which host or group, and whether that is beside the playbook, the inventory, or on the command line.
Setting = collections.namedtuple("Setting", "name where entity level")
SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PYPI = "https://pypi.org/simple"
SECRET_NAME = re.compile(r"password|secret|key|url|token")
NOT_YET = re.compile(r"ansible_|__|role_path")


class NotYet(Exception):
    """The value depends on what is not known at this stage, such as facts."""


def hidden(name, spec):
    return bool(spec.get("no_log") or SECRET_NAME.search(name))


def shown(name, spec, value):
    return "(not shown)" if hidden(name, spec) else json.dumps(value, default=str)


def numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", str(version))[:3])


def major_of(get):
    """The major of airflow_version as a number; that of the default where it is not known yet."""
    return (numbers(maybe(get, "airflow_version") or "") or (3,))[0]


def in_range(version, limits):
    """Compares as many numbers as the limit has: 3.12.4 is at most 3.12."""
    low, high, below = (numbers(limits.get(key, "")) for key in ("at_least", "at_most", "below"))
    version = numbers(version)
    return version >= low and (not high or version[: len(high)] <= high) and (not below or version < below)


def range_text(limits):
    words = [("at_least", "{0} or newer"), ("at_most", "{0} or older"), ("below", "older than {0}")]
    if limits.get("at_least") and limits.get("at_most"):
        return "{at_least} to {at_most}".format(**limits)
    return ", ".join(text.format(limits[key]) for key, text in words if limits.get(key))


# ---- names ------------------------------------------------------------------------------------------------------------------------


def check_names(settings, known, roles, renamed, allowed, options=()):
    """Variables that look like the product's but that no role knows. options: what airflow_config may have, section.option."""
    prefixes = tuple(role + "_" for role in roles)
    for setting in settings:
        name = setting.name
        if name in known or name in allowed or name.startswith("__"):
            continue
        if name in renamed:
            new = renamed[name].get("new")
            yield name, "{0} ({1}): {2} in release {3}.".format(
                name, setting.where, "is called {0}".format(new) if new else "is gone", renamed[name].get("since"))
            continue
        mine = name.startswith(prefixes)
        near = nearest(name, known, 3 if mine else 6)
        if mine or (near and near not in name):
            asked = name.removeprefix("airflow_")
            meant = [option for option in options if option.endswith(("." + asked, "_" + asked))]
            hint = " Did you mean {0}?".format(near) if near else ""
            if not near and len(meant) == 1:
                hint = " Airflow's own option {0} goes into airflow_config: {{{1}: {{{2}: ...}}}}.".format(meant[0], *meant[0].split(".", 1))
            yield name, (
                "{0} ({1}): no role knows this variable.{2} All of them are listed in roles/*/README.md; "
                "a variable of your own that is called so goes into preflight_allowed_variables."
            ).format(name, setting.where, hint)


def check_duplicates(settings, known):
    """group_vars beside the playbooks silently win over those of the inventory."""
    beside = {(s.name, s.entity): s for s in settings if s.level == "playbook"}
    for setting in settings:
        if setting.level not in ("inventory", "inline") or setting.name not in known:
            continue
        # Variables inside the inventory file are weaker than any group_vars/all.
        other = beside.get((setting.name, setting.entity)) or (beside.get((setting.name, "all")) if setting.level == "inline" else None)
        if other:
            yield setting.name, (
                "{0} ({1}): {2} sets it too, and silently wins. Keep one of the two; what is set for a narrower group, "
                "such as group_vars/airflow/main.yml of the inventory, wins over both."
            ).format(setting.name, setting.where, other.where)


def check_twice(node, known, file, below=()):
    """Keys that occur twice in a mapping of YAML: the last one silently wins. In what the product knows, and in all that lies below it."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(None, child) for child in node.value] if isinstance(node, yaml.SequenceNode) else []
    lines = {}
    for key, value in pairs:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        path = (*below, name) if below or name in known else ()
        if path and name:
            line = key.start_mark.line + 1
            if name in lines:
                yield path[0], "{0} ({1}:{2}): line {3} sets it too, and Ansible silently ignores that line. Keep one of the two.".format(
                    ".".join(path), file, line, lines[name])
            lines[name] = line
        yield from check_twice(value, known, file, path if name else below)


def check_layout(directory, entities, extensions, name_of):
    """Ansible reads one of group_vars/X/, X, X.yml, X.yaml and X.json, and says nothing about the others. name_of makes paths short."""
    for entity in entities:
        beside = [os.path.join(directory, entity + extension) for extension in ("", *extensions)]
        found = [path for path in beside if os.path.exists(path)]
        if len(found) > 1:
            kept, folder = found[0], os.path.join(directory, entity)
            names = [name_of(path) + "/" * os.path.isdir(path) for path in found]
            yield names[0], (
                "{0}: Ansible reads only {1}, and silently ignores every variable in {0}. Move what is in {0} into {2}, then remove {3}."
            ).format(" and ".join(names[1:]), names[0], name_of(os.path.join(folder, "main.yml")) if os.path.isdir(folder) else name_of(kept),
                     "it" if len(names) == 2 else "them")


# ---- types ------------------------------------------------------------------------------------------------------------------------

WANTED = {
    "str": "a string", "path": "a path", "int": "a whole number", "float": "a number", "bool": "true or false",
    "list": "a list", "dict": "a dictionary", "raw": "anything",
}


def type_problem(name, spec, value, path=""):
    """What is wrong with the type of a value, strictly: templates do arithmetic and tests with it."""
    path = path or name
    kind = spec.get("type", "str")
    text = isinstance(value, str)
    fine = {
        "str": text or (isinstance(value, int) and not isinstance(value, bool)),
        "path": text,
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "list": isinstance(value, (list, tuple)),
        "dict": isinstance(value, dict),
    }.get(kind, True)
    if value is None and not fine:
        return "{0} has no value; {1} belongs there{2}.".format(path, WANTED[kind], ', "" for none' if kind in ("str", "path") else "")
    if not fine:
        hint = ""
        plain = as_plain(kind, value)
        if plain:
            hint = " Write it without quotes; on the command line -e '{{\"{0}\": {1}}}'.".format(name, plain)
        elif kind == "str" and isinstance(value, (float, bool)):
            hint = " Put it in quotes."
        return "{0} is {1}, {2}, where {3} belongs.{4}".format(path, shown(path, spec, value), type_text(value), WANTED[kind], hint)
    if spec.get("choices") and kind != "list" and value not in spec["choices"]:
        return "{0} is {1}; valid are {2}.{3}".format(
            path, shown(path, spec, value), ", ".join(map(str, spec["choices"])), did_you_mean(str(value), [str(c) for c in spec["choices"]]))
    if kind == "list" and (spec.get("elements") or spec.get("options")):
        inner = {key: spec[key] for key in ("options", "no_log", "choices") if key in spec}
        inner["type"] = spec.get("elements", "dict")
        problems = (type_problem(name, inner, item, "{0}[{1}]".format(path, number)) for number, item in enumerate(value))
        return next(filter(None, problems), None)
    if kind == "dict" and spec.get("options"):
        for key, item in value.items():
            if key not in spec["options"]:
                return "{0} has the key {1}; valid are {2}.{3}".format(
                    path, key, ", ".join(sorted(spec["options"])), did_you_mean(str(key), list(spec["options"])))
            problem = type_problem(name, spec["options"][key], item, "{0}.{1}".format(path, key))
            if problem:
                return problem
        missing = sorted(key for key, option in spec["options"].items() if option.get("required") and key not in value)
        if missing:
            return "{0} lacks {1}.".format(path, ", ".join(missing))
    return None


def type_text(value):
    for kind, text in ((bool, "a yes/no"), ((int, float), "a number"), (str, "a string"), (dict, "a dictionary"), ((list, tuple), "a list")):
        if isinstance(value, kind):
            return text
    return "a " + type(value).__name__


def as_plain(kind, value):
    """The number or truth value that a string was meant to be, as JSON has it; None where it was not."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if kind in ("int", "float") and re.fullmatch(r"-?\d+", text):
        return text
    if kind == "bool":
        return {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}.get(text)
    return None


def range_problem(name, value, ranges):
    if name in ranges:
        low, high = ranges[name]
        if not low <= value <= high:
            return "{0} is {1}; valid is {2} to {3}.".format(name, value, low, high)
    return None


# ---- secrets ----------------------------------------------------------------------------------------------------------------------


def placeholder(value, pattern):
    return re.search(re.sub(r"\s", "", pattern), re.sub(r"[-_ ]", "", value.strip()), re.IGNORECASE) is not None


def secret_problem(rule, value, pattern):
    """What is wrong with a secret that was given. Never says the value."""
    if not isinstance(value, str) or value == "":
        return None
    if placeholder(value, pattern):
        return "is a placeholder. Put a real secret there (a vault is the place for it), or leave it empty and one is generated."
    if value != value.strip():
        return "begins or ends with a blank or a new line."
    if rule.get("kind") == "fernet":
        return airflow_secret_kinds.fernet_problem(value)
    if len(value) < rule.get("shortest", 0):
        return "is too short: {0} characters or more.".format(rule["shortest"])
    return None


def nested_secrets(name, spec, value):
    """Values inside of lists and dictionaries whose option is marked no_log."""
    if isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from nested_secrets("{0}[{1}]".format(name, number), spec, item)
    elif isinstance(value, dict):
        for key, option in (spec.get("options") or {}).items():
            if key in value:
                if option.get("no_log") and isinstance(value[key], str):
                    yield "{0}.{1}".format(name, key), value[key]
                yield from nested_secrets("{0}.{1}".format(name, key), option, value[key])


# ---- what belongs together --------------------------------------------------------------------------------------------------------


def parse_url(url):
    """(host, port, password), or None for what is no PostgreSQL address."""
    try:
        parts = urllib.parse.urlsplit(url)
        if not re.fullmatch(r"postgres(ql)?(\+\w+)?", parts.scheme) or not parts.hostname or not parts.path.strip("/"):
            return None
        return parts.hostname, parts.port or 5432, urllib.parse.unquote(parts.password or "")
    except ValueError:
        return None


def check_together(get, where, rules, is_file):
    """Variables that contradict each other, for one host. `get` may raise NotYet."""
    for names in rules["exclusive"]:
        given = [name for name in names if maybe(get, name)]
        if len(given) > 1:
            yield given[0], "{0}: only one of them may be set; leave the others empty.".format(
                " and ".join("{0} ({1})".format(name, where(name)) for name in given))
    url = maybe(get, "airflow_database_url")
    if url:
        parsed = parse_url(url)
        if parsed is None:
            yield "airflow_database_url", (
                "airflow_database_url ({0}): is no address of a PostgreSQL database. Valid is postgresql://user:password@host:port/name"
                "?sslmode=verify-full, with special characters of the password percent-encoded. It is not shown, as it may hold a password."
            ).format(where("airflow_database_url"))
        elif parsed[2]:
            problem = secret_problem({}, parsed[2], rules["placeholders"])
            if problem:
                yield "airflow_database_url", "airflow_database_url ({0}): its password {1}".format(
                    where("airflow_database_url"), problem.replace(", or leave it empty and one is generated", ""))
        options = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, keep_blank_values=True)) if parsed else {}
        foreign = sorted(set(options) - set(rules["database_url_options"]))
        if foreign:
            yield "airflow_database_url", (
                "airflow_database_url ({0}): has the option {1}; valid are {2}. Certificates are files on the hosts: authorities go into "
                "airflow_database_sslrootcert, the client's own into airflow_environment, as PGSSLCERT and PGSSLKEY."
            ).format(where("airflow_database_url"), ", ".join(foreign), ", ".join(rules["database_url_options"]))
    yield from check_site_id(get, where)
    yield from check_executor(get, where, rules)
    yield from check_secrets_source(get, where, rules)
    yield from check_secrets_backend(get, where, rules)
    yield from check_secrets_elsewhere(get, where, rules)
    yield from check_secrets_in_config(get, where, rules)
    yield from check_remote_logs(get, where, rules)
    yield from check_ecs(get, where, rules)
    yield from check_alerts(get, where)
    if maybe(get, "airflow_database_host") and maybe(get, "airflow_database_password") == "" \
            and maybe(get, "airflow_secrets_source") not in (*rules["secrets_names"], "ansible_vault"):
        yield "airflow_database_password", (
            "airflow_database_password ({0}): is empty, but airflow_database_host ({1}) names an external server, whose password can't be "
            "generated. Set it, best in a vault."
        ).format(where("airflow_database_password"), where("airflow_database_host"))
    constraints = maybe(get, "airflow_constraints") or ""
    files = list(rules["files"]) + (["airflow_constraints"] if re.match(r"[./~]", constraints) else [])
    for name in files:
        path = maybe(get, name)
        if path and not is_file(path):
            yield name, "{0} ({1}): there is no file {2} on the controller. Give its absolute path.".format(name, where(name), path)
    if constraints and constraints != "official" and not re.match(r"[./~]|https://|file://|http://", constraints):
        yield "airflow_constraints", (
            'airflow_constraints ({0}): is {1}; valid are "official", an address (https://...) or a file on the controller with its whole path.'
        ).format(where("airflow_constraints"), json.dumps(constraints))
    index = maybe(get, "airflow_index_url")
    if index and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?|file:///\S*", index):
        yield "airflow_index_url", (
            "airflow_index_url ({0}): is {1}; valid is the address of a simple API, such as https://pypi.example.com/simple."
        ).format(where("airflow_index_url"), json.dumps(without_login(index)) if "://" in index or "@" not in index else "no address (it is not shown)")
    for package in maybe(get, "airflow_extra_packages") or []:
        if re.search(r"git\+https?://[^/\s]*@", package):
            yield "airflow_extra_packages", (
                "airflow_extra_packages ({0}): {1} has a login in its address, and every user of the host can read the arguments of git. Leave it out, "
                "and use an SSH key or git's credential helper for root on the hosts."
            ).format(where("airflow_extra_packages"), json.dumps(re.sub(r"//[^/\s]*@", "//", package)))
    python = maybe(get, "airflow_python")
    if python and not re.fullmatch(r"/\S*python3\.[0-9]+", python):
        yield "airflow_python", (
            "airflow_python ({0}): is {1}; valid is an absolute path that ends in the version, such as /usr/bin/python3.12."
        ).format(where("airflow_python"), json.dumps(python))


def check_site_id(get, where):
    """The name of a directory on the controller, and what tells two sites apart."""
    value = maybe(get, "airflow_site_id")
    if value and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(value)):
        yield "airflow_site_id", (
            "airflow_site_id ({0}): is {1}; valid is a UUID in lower case, such as {2}. bin/new-site writes one. If the site had another id before, "
            "put that one back: the controller finds its copy of the secrets by it."
        ).format(where("airflow_site_id"), json.dumps(value), "0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11")


def check_address(host, address, place):
    """The shipped inventories have an address that no host has (RFC 5737). SSH would wait for it for a minute."""
    if str(address).startswith("192.0.2."):
        yield "ansible_host", "ansible_host of {0} ({1}): is {2}, an address of examples. Put the address of your host there.".format(host, place, address)


def check_one_site(getters, where):
    """All hosts of an inventory have the same secrets."""
    ids = {host: maybe(get, "airflow_site_id") or "" for host, get in getters.items()}
    if len(set(ids.values())) > 1:
        yield "airflow_site_id", "airflow_site_id differs between the hosts: {0}. Set it once, in group_vars/all/main.yml.".format(
            "; ".join("{0} has {1} ({2})".format(host, json.dumps(value), where("airflow_site_id", host)) for host, value in ids.items()))


def check_executor(get, where, rules):
    """Names of executors. Import paths are tried by Airflow itself, before anything is switched to it."""
    known = rules["executors"].get(str(major_of(get)))
    given = [("airflow_executor", "", maybe(get, "airflow_executor") or "")]
    # Both take the place of the variable.
    given += [("airflow_config", "core.executor ", value)
              for section, option, value in options_of(maybe(get, "airflow_config")) if (section, option) == ("core", "executor") and value is not None]
    environment = maybe(get, "airflow_environment")
    if isinstance(environment, dict) and "AIRFLOW__CORE__EXECUTOR" in environment:
        given.append(("airflow_environment", "AIRFLOW__CORE__EXECUTOR ", environment["AIRFLOW__CORE__EXECUTOR"]))
    for variable, option, value in given if known else []:
        named = "{0} ({1}): {2}has ".format(variable, where(variable), option)
        # A team's executors follow its name and =, a single one may follow an alias and a colon.
        for name in (re.split(r"[=:]", part)[-1].strip() for part in re.split(r"[,;]", str(value))):
            if re.fullmatch(rules["executors_without_workers"], name):
                yield variable, named + (
                    "{0}, and no role installs Celery workers yet: its tasks would wait for ever. Valid are {1} and the import path of "
                    "another class. Use LocalExecutor, which runs tasks on the hosts of airflow_scheduler."
                ).format(json.dumps(name), ", ".join(known))
            elif "." not in name and name not in known:
                yield variable, named + (
                    "{0}; valid are {1} and the import path of a class, one or several with commas between them.{2}"
                ).format(json.dumps(name), ", ".join(known), did_you_mean(name, known))


def check_unit_overrides(get, where, components, sections):
    """Directives for a component that is not there would be in no unit. Those that systemd does not know are refused by it, on the host."""
    named = "airflow_services_unit_overrides ({0}): ".format(where("airflow_services_unit_overrides"))
    for component, body in (maybe(get, "airflow_services_unit_overrides") or {}).items():
        if component not in components:
            yield "airflow_services_unit_overrides", named + "there is no component {0}; Airflow {1} has {2}.{3}".format(
                component, get("airflow_version"), ", ".join(components), did_you_mean(str(component), components))
        elif not isinstance(body, dict) or any(not isinstance(directives, dict) for directives in body.values()):
            yield "airflow_services_unit_overrides", named + "{0} needs sections with directives, such as {0}: {{Service: {{MemoryHigh: 8G}}}}.".format(
                component)
        else:
            for section in sorted(set(body) - set(sections)):
                yield "airflow_services_unit_overrides", named + "{0} has the section {1}; valid are {2}.{3}".format(
                    component, section, ", ".join(sections), did_you_mean(str(section), sections))


def check_auth(get, where, rules):
    """airflow_auth: what each kind of sign-in needs, and that it does not let in everybody."""
    auth = maybe(get, "airflow_auth")
    if not auth:
        return
    named, rules = "airflow_auth ({0}): ".format(where("airflow_auth")), rules["auth"]
    page = " docs/sign_in.md has an example for each."
    kind = auth.get("type")
    if kind is None:
        yield "airflow_auth", named + "lacks type; valid are {0}.{1}".format(", ".join(rules["types"]), page)
        return
    allowed = [rules["types"][kind]]
    what = "type {0}".format(kind)
    if kind == "oauth":
        provider = auth.get("provider")
        if provider is None:
            yield "airflow_auth", named + "lacks provider; valid are {0}.{1}".format(", ".join(rules["providers"]), page)
            return
        allowed.append(rules["providers"][provider])
        what = "provider {0}".format(provider)
    needs, may = [key for rule in allowed for key in rule["needs"]], [key for rule in allowed for key in rule["may"]]
    missing = [key for key in needs if auth.get(key) in (None, "", [])]
    if missing:
        yield "airflow_auth", named + "{0} lacks {1}.{2}".format(what, ", ".join(missing), page)
    foreign = sorted(set(auth) - {"type"} - set(needs) - set(may))
    if foreign:
        yield "airflow_auth", named + "{0} has no {1}; valid are {2}.".format(what, ", ".join(foreign), ", ".join(sorted(["type"] + needs + may)))
    for key, roles in (auth.get("roles") or {}).items():
        if not (isinstance(roles, (list, tuple)) and all(isinstance(role, str) for role in roles)):
            yield "airflow_auth", named + "roles: {0} is to be a list of roles, such as [Op].".format(json.dumps(key))
    if kind == "oauth":
        yield from ((name, named + text) for name, text in check_oauth(auth, get, where, rules))
    if kind == "ldap":
        yield from ((name, named + text) for name, text in check_ldap(auth))


def check_oauth(auth, get, where, rules):
    """A provider proves who somebody is, not that they may come in."""
    domains = auth.get("allowed_domains") or []
    if not domains and not auth.get("allowed_groups"):
        yield "airflow_auth", (
            "neither allowed_domains nor allowed_groups is set, so everybody with an account of the provider could sign in. Set one of them, such as "
            "allowed_domains: [example.com]."
        )
    for domain in domains:
        if not re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]([a-z0-9-]*[a-z0-9])?", domain.lower()):
            yield "airflow_auth", (
                "allowed_domains has {0}, which is no domain. Valid is what follows the @ of the addresses, whole and without a wildcard, such as "
                "example.com; a subdomain is another one."
            ).format(json.dumps(domain))
        elif domain.lower() in rules["public_domains"] and not auth.get("allowed_groups"):
            yield "airflow_auth", (
                "allowed_domains has {0}, where anybody gets an address. Take the domain of your organisation, or allowed_groups."
            ).format(json.dumps(domain))
    issuer = auth.get("issuer")
    if issuer and (not re.fullmatch(r"https://[^\s/?#@]+(/[^\s?#]*)?", issuer) or "/.well-known" in issuer):
        yield "airflow_auth", (
            "issuer is {0}; valid is the provider's address, https://..., without what its configuration has below it (/.well-known/...)."
        ).format(json.dumps(issuer))
    name = auth.get("name", "x")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name):
        yield "airflow_auth", "name is {0}; valid are lower-case letters, digits and -, because it is part of an address.".format(json.dumps(name))
    url = maybe(get, "airflow_api_base_url")
    if url is not None and not url.startswith("https://"):
        yield "airflow_auth", (
            "people come back from the provider with a code that signs them in, so airflow_api_base_url ({0}) has to be https://...; it is {1}. Put the host "
            "into group airflow_proxy, or set the address that your own proxy has."
        ).format(where("airflow_api_base_url"), json.dumps(url))


def check_ldap(auth):
    """The directory gets the passwords."""
    server, start_tls = auth.get("server") or "", auth.get("start_tls", False)
    if server and not re.fullmatch(r"ldaps?://[^\s/:]+(:[0-9]+)?", server):
        yield "airflow_auth", "server is {0}; valid is ldaps://host or ldaps://host:port.".format(json.dumps(server))
    elif server.startswith("ldap://") and not start_tls:
        yield "airflow_auth", "server is {0}, which sends passwords in clear. Take ldaps://, or set start_tls: true.".format(json.dumps(server))
    elif server.startswith("ldaps://") and start_tls:
        yield "airflow_auth", "server is {0}, which is encrypted already; leave start_tls out, or take ldap://.".format(json.dumps(server))
    own = auth.get("search_filter") or "()"
    if not (own.startswith("(") and own.endswith(")") and own.count("(") == own.count(")")):
        yield "airflow_auth", "search_filter is {0}; valid is an LDAP filter in brackets, such as (objectClass=person).".format(json.dumps(own))


def check_proxy(get, where):
    """What a host in group airflow_proxy needs."""
    url, address = maybe(get, "airflow_api_base_url"), maybe(get, "airflow_api_host")
    if url is not None and not re.fullmatch(r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?", url):
        yield "airflow_api_base_url", (
            "airflow_api_base_url ({0}): is {1}, but the host is in group airflow_proxy, which puts TLS in front of the API server. Valid is https:// and "
            "the host name that browsers use, in lower case and without a path, such as https://airflow.example.com."
        ).format(where("airflow_api_base_url"), json.dumps(url))
    if address is not None and address != "127.0.0.1":
        yield "airflow_api_host", (
            "airflow_api_host ({0}): is {1}, but the host is in group airflow_proxy, whose nginx is the only way to the API server. Valid is 127.0.0.1, "
            "the default; reverse_proxy_listen_addresses says where nginx listens."
        ).format(where("airflow_api_host"), json.dumps(address))


def check_secrets_source(get, where, rules):
    """Where the secrets come from that nobody gave."""
    source, name = maybe(get, "airflow_secrets_source"), maybe(get, "airflow_secrets_name")
    rule = rules["secrets_names"].get(source)
    if rule and name is not None and not re.fullmatch(rule["pattern"], name):
        yield "airflow_secrets_name", (
            "airflow_secrets_name ({0}): is {1}; airflow_secrets_source ({2}) is {3}, which needs a name such as {4}, one for each environment."
        ).format(where("airflow_secrets_name"), json.dumps(name), where("airflow_secrets_source"), source, rule["example"])
    if source == "ansible_vault":
        needless = set()
        if maybe(get, "airflow_database_url"):
            needless.add("airflow_database_password")
        if major_of(get) == 2:
            needless.add("airflow_jwt_secret")
        for secret in rules["secrets_with_source"]:
            if secret not in needless and maybe(get, secret) == "":
                yield secret, (
                    "{0} ({1}): is empty, but airflow_secrets_source ({2}) is ansible_vault, which leaves none to be generated. Set it to a variable "
                    "that `ansible-vault encrypt` has encrypted, or take another source."
                ).format(secret, where(secret), where("airflow_secrets_source"))


def check_secrets_backend(get, where, rules):
    """Where Airflow looks for connections and variables besides."""
    value = maybe(get, "airflow_secrets_backend")
    if isinstance(value, dict) and value:
        backend = value.get("backend")
        if backend not in rules["secrets_backends"] and not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", str(backend)):
            yield "airflow_secrets_backend", "airflow_secrets_backend ({0}): its backend is {1}; valid are {2}, or the import path of a class.{3}".format(
                where("airflow_secrets_backend"), json.dumps(backend), ", ".join(rules["secrets_backends"]),
                did_you_mean(str(backend), rules["secrets_backends"]))


def options_of(config):
    """(section, option, value) of airflow_config."""
    for section, options in (config if isinstance(config, dict) else {}).items():
        for option, value in (options if isinstance(options, dict) else {}).items():
            yield section, str(option), value


def check_secrets_elsewhere(get, where, rules):
    """Airflow would take a secret from there, and what the roles read, write and rotate is the file that it has in place of that."""
    pattern = rules["secrets_elsewhere"]
    environment = maybe(get, "airflow_environment")
    named = [("airflow_environment", name) for name in (environment if isinstance(environment, dict) else {})
             if re.fullmatch("AIRFLOW__[A-Z_]+__({0})".format(pattern), str(name), re.IGNORECASE)]
    named += [("airflow_config", "{0}.{1}".format(section, option)) for section, option, value in options_of(maybe(get, "airflow_config"))
              if value is not None and re.fullmatch(pattern, option, re.IGNORECASE)]
    for variable, name in named:
        yield variable, (
            "{0} ({1}): has {2}, which Airflow would use instead of the file that holds this secret and that rotations change. Set "
            "airflow_fernet_key, airflow_api_secret_key, airflow_jwt_secret, airflow_database_password or airflow_database_url instead."
        ).format(variable, where(variable), name)


def check_secrets_in_config(get, where, rules):
    """airflow.cfg, and what changes in it, is shown by --diff."""
    known = rules["config_secrets"].get(str(major_of(get)), [])
    for section, option, value in options_of(maybe(get, "airflow_config")):
        name = "{0}.{1}".format(section, option)
        if not holds_secret(option, value, name in known, rules) or re.fullmatch(rules["secrets_elsewhere"], option, re.IGNORECASE):
            continue
        named = "airflow_config ({0}): has {1}, a secret that --diff of airflow.cfg would show. ".format(where("airflow_config"), name)
        if name in rules["config_secrets_elsewhere"]:
            yield "airflow_config", named + rules["config_secrets_elsewhere"][name]
            continue
        yield "airflow_config", named + "Set {0}airflow_environment: AIRFLOW__{1}__{2}, which is shown nowhere.".format(
            "{0}_cmd to a command that prints it, or ".format(name) if name in known else "", re.sub(r"\W", "_", section.upper()), option.upper())


def options_file(repository, version):
    """The file with the options of airflow.cfg that this version has."""
    return os.path.join(repository, "roles", "preflight", "files", "airflow_options", version + ".yml")


def check_config_options(get, where, rules, known, all_sections=dict):
    """Sections and options that Airflow would refuse on the host, once its virtualenv is built. known: what bin/config-options has written of this
    version, nothing of others. Sections of providers are as their versions in the lock have them; a site's own section is left to Airflow.
    all_sections: returns Airflow's own sections in all known versions, each with the newest of these versions."""
    locked = not maybe(get, "airflow_lock") and not maybe(get, "airflow_constraints")
    version, config = get("airflow_version"), maybe(get, "airflow_config")
    own, of_providers = (known or {}).get("sections", {}), (known or {}).get("sections_of_providers", {})
    for section, options in config.items() if isinstance(config, dict) and known else ():
        named = "airflow_config ({0}): ".format(where("airflow_config"))
        if options is not None and not isinstance(options, dict):
            yield "airflow_config", named + "section {0} is {1}, where a dictionary of options belongs.".format(section, type_text(options))
            continue
        there = {**of_providers.get(section, {}), **own.get(section, {})}
        near = nearest(str(section), [*own, *of_providers]) if not there else ""
        # Two letters at most: a provider that is not in the lock may have a section that is called alike.
        if near and distance(str(section).lower(), near, 2) <= 2:
            yield "airflow_config", named + "Airflow {0} has no section {1}. Did you mean {2}?".format(version, section, near)
        judged = there and (section in own or locked)
        other = all_sections().get(section) if not there and not near else None
        for option, value in (options or {}).items():
            name = "{0}.{1}".format(section, option)
            if value is None or name in rules["config_secrets_elsewhere"]:
                continue
            new = name
            while new in known["renamed"]:
                new = known["renamed"][new]
            bare = re.sub("_cmd$|_secret$", "", str(option)) if option not in there else option
            if new != name:
                yield "airflow_config", named + "{0} is called {1} in Airflow {2}. Write {1}.".format(name, new, version)
            elif other:
                yield "airflow_config", named + "Airflow {0} has no section {1}, which Airflow {2} has.{3} Remove {4}.".format(
                    version, section, other, option_meant(option, there, section, own, of_providers), name)
            elif judged and bare not in there:
                yield "airflow_config", named + "Airflow {0} has no option {1}.{2} All of them are in {3}.".format(
                    version, name, option_meant(option, there, section, own, of_providers), options_file("", version))
            elif judged and bare == option and not fits(value, there[option]):
                yield "airflow_config", named + "{0} is {1}; valid is {2}.".format(
                    name, shown(str(option), {}, value), {"integer": "a whole number", "float": "a number", "boolean": "true or false"}[there[option]])


def option_meant(option, there, section, *known):
    """The option that was meant: of this section, else one of the same name elsewhere."""
    near = nearest(option, there)
    elsewhere = sorted({other for sections in known for other, options in sections.items() if option in options and other != section})
    return " Did you mean {0}?".format(near) if near else " Section {0} has it.".format(" and ".join(elsewhere)) if elsewhere else ""


def fits(value, kind):
    """Whether Airflow can read the value, as airflow.cfg will have it. Some types of its reference are looser than these three."""
    text = str(value).strip()
    if kind == "boolean":
        return text.lower() in ("true", "t", "1", "false", "f", "0")
    try:
        {"integer": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return False
    return True


def holds_secret(name, value, sensitive, rules):
    """Whether the value of an option, or anything in it, is a secret: by what Airflow says of the option, else by the name."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    if isinstance(value, dict):
        return any(holds_secret(str(key), inner, False, rules) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return any(holds_secret(name, inner, sensitive, rules) for inner in value)
    # An address without a login has nothing to hide.
    harmless = not isinstance(value, str) or re.fullmatch(r"|[\w+.-]+://[^@?\s]*", value)
    return not harmless and (sensitive or re.search(rules["secret_option"], name, re.IGNORECASE) is not None)


def check_remote_logs(get, where, rules):
    """Where task logs go."""
    value = maybe(get, "airflow_remote_base_log_folder")
    if value and not re.fullmatch(rules["remote_log_folders"], value):
        yield "airflow_remote_base_log_folder", (
            "airflow_remote_base_log_folder ({0}): is {1}; valid are s3://bucket/prefix and cloudwatch://arn:aws:logs:<region>:<account>:log-group:<name>. "
            "Other places need the package of their provider, and go into airflow_config.logging."
        ).format(where("airflow_remote_base_log_folder"), json.dumps(value))


def check_ecs(get, where, rules):
    """An executor that starts containers has to know where."""
    ecs = maybe(get, "airflow_ecs")
    wanted = isinstance(ecs, dict) and ecs or "AwsEcsExecutor" in (maybe(get, "airflow_executor") or "")
    missing = [name for name in rules["ecs_needs"] if not (ecs or {}).get(name)] if wanted else []
    if missing:
        yield "airflow_ecs", "airflow_ecs ({0}): lacks {1}, which AwsEcsExecutor needs. roles/airflow_common/README.md explains them.".format(
            where("airflow_ecs"), ", ".join(missing))


def check_backup(get, where, made, has_gpg):
    """made: whether the pair of keys is there that site.yml makes where the inventory names no recipients."""
    directory, recipients = maybe(get, "airflow_backup_dir"), maybe(get, "airflow_backup_recipients")
    if directory is not None and not re.fullmatch(r"(/[^/\s]+){2,}", directory):
        yield "airflow_backup_dir", (
            "airflow_backup_dir ({0}) is {1}; valid is an absolute path of two levels or more, without spaces, such as /var/backups/airflow."
        ).format(where("airflow_backup_dir"), directory)
    for number, recipient in enumerate(recipients or []):
        if "PRIVATE KEY" in str(recipient) or "BEGIN PGP PUBLIC KEY BLOCK" not in str(recipient):
            yield "airflow_backup_recipients", (
                "airflow_backup_recipients[{0}] ({1}) is no armored OpenPGP public key. Make one with: gpg --armor --export <address>"
            ).format(number, where("airflow_backup_recipients"))
    if recipients == [] and not made(maybe(get, "airflow_secrets_copy_dir")):
        if maybe(get, "airflow_secrets_copy_dir") == "":
            yield "airflow_backup_recipients", (
                "airflow_backup_recipients ({0}) is empty and airflow_secrets_copy_dir ({1}) too, so there is nobody that keys in a backup could be sealed "
                "for. Set one of them: docs/backup.md."
            ).format(where("airflow_backup_recipients"), where("airflow_secrets_copy_dir"))
        elif not has_gpg:
            yield "airflow_backup_recipients", (
                "airflow_backup_recipients ({0}) is empty, and the controller lacks gpg, which makes the keys that backups are sealed for. Install it "
                "(apt-get install gnupg, brew install gnupg), or name recipients: docs/backup.md."
            ).format(where("airflow_backup_recipients"))


def check_backup_dir(get, where, rules):
    """The removal deletes Airflow's directories and leaves the backups, or the other way round."""
    def within(path, directory):
        return (path.rstrip("/") + "/").startswith(directory.rstrip("/") + "/")

    backups, apart = maybe(get, "airflow_backup_dir"), rules["apart_from_backups"]
    directories = [(maybe(get, name), "{0} ({1})".format(name, where(name))) for name in apart["variables"]]
    directories += [(path, "a directory of PostgreSQL") for path in apart["directories"]]
    for directory, named in directories:
        if backups and directory and (within(backups, directory) or within(directory, backups)):
            yield "airflow_backup_dir", (
                "airflow_backup_dir ({0}) is {1}, and {2} is {3}. One would be removed with the other. Take a directory outside of it that holds "
                "nothing but backups, such as /var/backups/airflow, and move the backups that exist there."
            ).format(where("airflow_backup_dir"), backups, named, directory)


def has_backup_key(directory):
    return bool(directory) and os.path.exists(os.path.join(os.path.expanduser(directory), "backup_key"))


def check_alerts(get, where):
    """Who hears of failures."""
    value = maybe(get, "airflow_alerts")
    if not isinstance(value, dict) or not value:
        return
    wrong, email = [], value.get("email")
    if not any(value.get(name) for name in ("email", "slack_webhook_url", "sns_topic_arn")):
        wrong.append("names nobody: give it email, slack_webhook_url or sns_topic_arn, or leave it empty.")
    if isinstance(email, dict):
        missing = [name for name in ("to", "from", "host") if not email.get(name)]
        wrong += ["email lacks {0}.".format(", ".join(missing))] if missing else []
        to = email.get("to") if isinstance(email.get("to"), list) else []
        wrong += ["email.to has {0}, which is no address.".format(json.dumps(one)) for one in to if not re.fullmatch(r"[^@\s]+@[^@\s]+", str(one))]
        if email.get("user") and email.get("security") == "none":
            wrong.append("email would send a password in clear: leave user out, or take security starttls or tls.")
    # The address is a secret, and not repeated.
    if value.get("slack_webhook_url") and not re.fullmatch(r"https?://[^\s/]+/\S+", str(value["slack_webhook_url"])):
        wrong.append("slack_webhook_url is no address; valid is one such as https://hooks.slack.com/services/...")
    topic = value.get("sns_topic_arn")
    if topic and not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w-]+", str(topic)):
        wrong.append("sns_topic_arn is {0}; valid is one such as arn:aws:sns:eu-central-1:123456789012:airflow-alerts.".format(json.dumps(topic)))
    limit = value.get("limit", 1)
    if not isinstance(limit, int) or limit < 1:
        wrong.append("limit is {0}; valid are messages an hour, 1 or more.".format(json.dumps(limit)))
    for text in wrong:
        yield "airflow_alerts", "airflow_alerts ({0}): {1} docs/alerts.md has examples.".format(where("airflow_alerts"), text)


def maybe(get, name):
    try:
        return get(name)
    except NotYet:
        return None


# ---- Airflow's version ------------------------------------------------------------------------------------------------------------


def find_locks(repository):
    """{version: [python, ...]} of the locks in the repository."""
    found = {}
    for path in glob.glob(os.path.join(repository, "locks", "airflow-*-py*.txt")):
        version, python = re.fullmatch(r"airflow-(.+)-py(.+)\.txt", os.path.basename(path)).groups()
        found.setdefault(version, []).append(python)
    return {version: sorted(pythons, key=numbers) for version, pythons in sorted(found.items(), key=lambda item: numbers(item[0]))}


def check_version(get, where, rules, locks):
    version = str(get("airflow_version"))
    named = "airflow_version ({0}): ".format(where("airflow_version"))
    minors = list(rules["airflow_python"])
    if not re.fullmatch(r"\d+\.\d+\.\d+\S*", version):
        yield "airflow_version", named + '{0} is no version; valid is three numbers in quotes, such as "{1}".'.format(
            json.dumps(version), list(locks)[-1] if locks else "3.3.2")
    elif ".".join(version.split(".")[:2]) not in minors:
        yield "airflow_version", named + (
            "{0} is of no release that these roles install: {1}. Take one of them{2}."
        ).format(version, ", ".join(minors), "; a newer one is tried by adding it, with its Pythons, to airflow_python in roles/preflight/vars/main.yml"
                 if numbers(version) > numbers(minors[-1]) else "")
    elif not maybe(get, "airflow_lock") and not maybe(get, "airflow_constraints") and version not in locks:
        yield "airflow_version", named + (
            "{0} has no lock in locks/, and neither airflow_lock nor airflow_constraints is set. Versions with a lock: {1}. "
            'Take one of them, make a lock with bin/lock (`bin/lock --help`), or set airflow_constraints: official.'
        ).format(version, ", ".join(locks) or "none")


def check_python(get, where, rules, locks, python, will_install):
    """The host's Python against Airflow's version and its locks."""
    version = str(get("airflow_version"))
    minor = ".".join(version.split(".")[:2])
    path = python["path"]
    key = "airflow_python ({0})".format(where("airflow_python"))
    limits = rules["airflow_python"].get(minor)
    valid = range_text(limits) if limits else "any"
    if not python["exists"] and not will_install:
        yield "airflow_python", "{0}: there is no {1} on the host. Install it, or name another one; Airflow {2} runs on Python {3}.".format(
            key, path, version, valid)
        return
    if python.get("error"):
        yield "airflow_python", "{0}: {1} can't make virtualenvs ({2}). Install its venv package.".format(key, path, python["error"])
    have = ".".join(map(str, python.get("version") or numbers(will_install)))
    suffix = re.search(r"python(3\.\d+)$", path)
    if suffix and have and suffix.group(1) != have:
        yield "airflow_python", "{0}: {1} is Python {2}, not what its name says.".format(key, path, have)
    if have and limits and not in_range(have, limits):
        old = numbers(have) < numbers(limits["at_least"])
        yield "airflow_python", (
            "{0}: {1} is Python {2}, too {3} for Airflow {4} (airflow_version: {5}), which runs on {6}. "
            "Set airflow_python to the path of such a Python on the host, or airflow_version to one that runs on {2}{7}."
        ).format(key, path, have, "old" if old else "new", version, where("airflow_version"), valid,
                 "".join(": " + ", ".join(v for v, ps in locks.items() if have in ps) for _ in [0] if any(have in ps for ps in locks.values())))
    elif have and version in locks and have not in locks[version] and not maybe(get, "airflow_lock") and not maybe(get, "airflow_constraints"):
        yield "airflow_version", (
            "airflow_version ({0}): {1} has no lock for the host's Python {2} ({3}); it has locks for {4}. Make one with bin/lock "
            "(`bin/lock --help`), set airflow_constraints: official, or set airflow_python to another Python of the host."
        ).format(where("airflow_version"), version, have, path, ", ".join(locks[version]))


# ---- inventory --------------------------------------------------------------------------------------------------------------------


def standalone_dag_processor(get):
    """Whether DAG files are parsed outside of Airflow 2's scheduler."""
    scheduler = (maybe(get, "airflow_config") or {}).get("scheduler")
    return isinstance(scheduler, dict) and str(scheduler.get("standalone_dag_processor")).lower() in ("true", "t", "1")


def check_groups(groups, source, rules, major, external, standalone=False):
    """groups: {name: [hosts]}. standalone: DAG files are parsed outside of the scheduler."""
    for name in sorted(groups):
        if name not in rules["groups"]:
            near = nearest(name, rules["groups"], 4)
            if near and not groups.get(near):
                yield name, "Group {0} ({1}): no role knows it. Did you mean {2}?".format(name, source, near)
    if standalone and not groups.get("airflow_dag_processor"):
        yield "groups", (
            "The inventory ({0}) has no host in airflow_dag_processor, but airflow_config has scheduler.standalone_dag_processor, with which the "
            "scheduler parses no DAG. Put a host there, or leave the option out."
        ).format(source)
    missing = [name for name in rules["groups_required"].get(str(major), []) if not groups.get(name)]
    if missing:
        yield "groups", "The inventory ({0}) has no host in {1}. Airflow {2} needs at least one in each of {3}.".format(
            source, ", ".join(missing), major, ", ".join(rules["groups_required"][str(major)]))
    for name in rules["groups_of_nothing"]:
        if groups.get(name):
            yield "groups", (
                "The inventory ({0}) has {1} in group {2}, and no role installs anything for that group yet: nothing would run "
                "there. Take the group out of the inventory. LocalExecutor runs tasks on the hosts of airflow_scheduler."
            ).format(source, ", ".join(groups[name]), name)
    components = sorted(set(rules["groups"]) - set(rules["groups_of_services"]) - {"airflow"})
    parts = [name for name in groups if name in components]
    members = {host for name in parts for host in groups[name]}
    outside = sorted(members - set(groups.get("airflow", [])))
    if outside:
        yield "groups", "The inventory ({0}) has {1} in a component's group that isn't a child of group airflow. Put {2} under airflow: children:.".format(
            source, ", ".join(outside), ", ".join(sorted(name for name in parts if set(groups[name]) & set(outside))))
    # Airflow 2 parses DAG files in the scheduler, unless it is told otherwise.
    unused = {*rules["groups_of_nothing"], *(["airflow_dag_processor"] if major == 2 and not standalone else [])}
    idle = sorted(set(groups.get("airflow", [])) - {host for name in set(parts) - unused for host in groups[name]})
    if idle:
        yield "groups", (
            "The inventory ({0}) has {1} in group airflow but in no group whose component Airflow {2} has, so nothing would "
            "run there. Valid are {3}. To stop and remove the components of a host that leaves, run playbooks/services.yml (docs/remove.md)."
        ).format(source, ", ".join(idle), major, ", ".join(name for name in components if name not in unused))
    alone = sorted(set(groups.get("airflow_proxy", [])) - set(groups.get("airflow_webserver", [])))
    if alone:
        yield "groups", (
            "The inventory ({0}) has {1} in group airflow_proxy but not in airflow_webserver. The proxy talks to the API server of its own host, over "
            "loopback: put it in both."
        ).format(source, ", ".join(alone))
    servers = groups.get("airflow_postgres", [])
    if not external and len(servers) != 1:
        yield "groups", (
            "The inventory ({0}) has {1} in group airflow_postgres. The metadata database needs exactly one host there, "
            "or an external server (airflow_database_host, airflow_database_url)."
        ).format(source, "{0} hosts ({1})".format(len(servers), ", ".join(servers)) if servers else "no host")


def check_peers(groups, source, major, executor, getters, where):
    """Hosts that need each other. `getters` has a getter per host, `where` gives a variable's place for a host."""
    hosts, servers = groups.get("airflow", []), groups.get("airflow_postgres", [])
    get = getters.get(servers[0]) if len(servers) == 1 else None
    remote = [host for host in hosts if host not in servers]
    if get and remote and not database_address(get):
        listens = [a for a in maybe(get, "postgresql_listen_addresses") or [] if a not in ("127.0.0.1", "::1", "localhost")]
        for name, fine, example in (("postgresql_listen_addresses", listens, "[127.0.0.1, 10.20.0.5]"),
                                    ("postgresql_allowed_networks", maybe(get, "postgresql_allowed_networks"), "[10.20.0.0/24]")):
            if not fine:
                yield name, "{0} ({1}): lets nobody in from outside of {2}, but Airflow runs on {3}. Set it for {2}, such as {0}: {4}.".format(
                    name, where(name, servers[0]), servers[0], ", ".join(remote), example)
    for host in sorted(set(groups.get("airflow_scheduler", [])) - set(groups.get("airflow_webserver", []))):
        config = maybe(getters[host], "airflow_config") if host in getters else None
        url = config.get("core", {}).get("execution_api_server_url") if isinstance(config, dict) else None
        if major == 3 and "LocalExecutor" in (executor or "") and not url:
            yield "airflow_webserver", (
                "The inventory ({0}) has {1} in airflow_scheduler but not in airflow_webserver. Tasks run beside the scheduler and report to the API "
                "server of their own host: put it in both, or set execution_api_server_url of section core in airflow_config."
            ).format(source, host)


# ---- controller -------------------------------------------------------------------------------------------------------------------


def check_controller(rules, repository, version=ansible_version, python=sys.version_info[:2], collections_needed=(), mode=None, prefix=sys.prefix):
    if not in_range(version, rules["ansible_core"]):
        yield "ansible-core", (
            "The controller runs ansible-core {0} of {1}; valid is {2}. Use the environment of this repository: {3}/bin/setup, then: . {3}/.venv/bin/activate"
        ).format(version, prefix, range_text(rules["ansible_core"]), repository)
    if not in_range(".".join(map(str, python)), rules["python"]):
        yield "python", "The controller's Ansible runs on Python {0}; valid is {1}.".format(".".join(map(str, python)), range_text(rules["python"]))
    mode = os.stat(repository).st_mode if mode is None else mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield "repository", "{0} can be written by every user of the controller, who could run anything on your hosts. Run: chmod o-w {0}".format(repository)
    missing = [name for name in collections_needed if not has_collection(name)]
    if missing:
        yield "collections", (
            "The controller lacks the collections {0}. Use the environment of this repository: {1}/bin/setup, then: . {1}/.venv/bin/activate. "
            "In an environment of your own: ansible-galaxy collection install -r {1}/requirements.yml").format(", ".join(missing), repository)


def has_collection(name):
    try:
        return importlib.util.find_spec("ansible_collections." + name) is not None
    except ImportError:
        return False


# ---- host -------------------------------------------------------------------------------------------------------------------------


def check_host(found, facts, get, where, rules, locks, ports, will_install, now):
    """What is wrong with a host, from what module preflight found there."""
    system, versions = facts["distribution"], rules["systems"].get(facts["distribution"], [])
    if not any(facts["distribution_version"] == v or facts["distribution_version"].startswith(v + ".") for v in versions):
        # The rest would only be noise.
        yield "system", "It runs {0} {1}, which is not supported. Take a host with one of: {2}.".format(
            system, facts["distribution_version"], ", ".join("{0} {1}".format(name, " and ".join(known)) for name, known in rules["systems"].items()))
        return
    if found["init"] != rules["init"]:
        yield "init", "Its process 1 is {0}, not {1}, which runs the components. Boot the host (or the container) with {1}.".format(
            found["init"], rules["init"])
    if facts["memtotal_mb"] < get("preflight_min_memory_mb"):
        yield "memory", "It has {0} MB of memory; Airflow needs {1} (preflight_min_memory_mb, {2}). Take a larger host.".format(
            facts["memtotal_mb"], get("preflight_min_memory_mb"), where("preflight_min_memory_mb"))
    again = found["virtualenv"].startswith("{0}-py".format(get("airflow_version")))
    limit = "preflight_min_disk_rerun_mb" if again else "preflight_min_disk_mb"
    full = {}
    for name, path in (("airflow_install_dir", get("airflow_install_dir")), ("airflow_log_dir", get("airflow_log_dir"))):
        disk = found["filesystems"][path]
        if disk["free_mb"] < get(limit):
            full.setdefault(disk["device"], []).append((name, path, disk["free_mb"]))
    for entries in full.values():
        yield "disk", "It has {0} MB free on the file system of {1}; {2} are needed ({3}, {4}). Free some, or put the directory elsewhere.".format(
            entries[0][2], " and ".join("{0} ({1}, {2})".format(path, name, where(name)) for name, path, _free in entries), get(limit), limit, where(limit))
    theirs = {os.path.basename(text) for kind, text in found.get("foreign") or [] if kind == "unit"}
    for port, rule in ports.items():
        for entry in found["ports"].get(str(port), []):
            # A unit that somebody else wrote may have the name of one of ours.
            if entry.get("unit", "") in theirs or not re.search(rule["units"], entry.get("unit", "")):
                name = rule.get("variable", "airflow_config")
                key = "{0} ({1})".format(".".join([name, *rule.get("option", [])]), where(name))
                yield "port", "Its port {0} is in use by {1}{2}. Stop it, or set another port in {3}.".format(
                    port, "{0} (pid {1}, user {2})".format(entry["process"], entry["pid"], entry["user"]) if "process" in entry
                    else "a process of user {0}".format(entry["user"]),
                    ", unit {0}".format(entry["unit"]) if entry.get("unit", "").endswith(".service") else "", key)
                break
    yield from check_foreign(found.get("foreign") or [], where, rules)
    yield from check_left(found.get("left") or [])
    yield from check_python(get, where, rules, locks, found["python"], will_install)
    for name in rules["times"]:
        if get(name) in found["unknown_times"]:
            yield name, (
                "{0} ({1}) is {2}, a time that systemd on the host does not know. Valid is a calendar expression (man systemd.time) such as "
                "*-*-* 02:00 or hourly; systemd-analyze calendar tries one."
            ).format(name, where(name), json.dumps(get(name)))
    if found["index"]:
        yield index_text(found["index"], get, where)
    if found["database"]:
        key = "airflow_database_url" if maybe(get, "airflow_database_url") else "airflow_database_host"
        host, port = database_address(get)
        yield key, (
            "{0} ({1}): the database server {2}, port {3}, cannot be reached from the host within {4} s: {5}. "
            "Check the name and the port, and that the server's firewall or security group lets the host in."
        ).format(key, where(key), host, port, get("preflight_database_timeout"), found["database"])
    skew = abs(found["time"] - now)
    if skew > get("preflight_max_clock_skew"):
        yield "clock", (
            "Its clock is {0} s away from the controller's; at most {1} are tolerated (preflight_max_clock_skew, {2}), because "
            "tokens and certificates fail. Turn on time synchronisation."
        ).format(int(skew), get("preflight_max_clock_skew"), where("preflight_max_clock_skew"))


def check_foreign(found, where, rules):
    """An Airflow that somebody installed by hand. A run would take over the half of it that has the names of ours.

    found: [[kind, text]].
    """
    kinds = {kind for kind, _text in found}
    if not kinds - {"elsewhere"}:
        # The Airflow of a person's home, which nothing of ours touches.
        return
    advice = ["Back it up, stop it and move it away, then run this again."]
    names = [name for kind, variables in rules["foreign"].items() if kind in kinds for name in variables]
    if names:
        advice.append("Or use other values for {0} ({1}).".format(", ".join(names), where(names[0])))
    if "database" in kinds:
        advice.append("To use this database, give its owner and the owner's password in airflow_database_user and "
                      "airflow_database_password.")
    if kinds & {"unit", "process"}:
        advice.append("Units and processes must go in any case: systemctl disable --now, then remove the file of the unit.")
    yield "foreign", "It has an Airflow that this project did not install: {0}. {1}".format(
        "; ".join(text for _kind, text in found), " ".join(advice))


def check_left(units):
    """Units of Airflow on a host that is no longer in group airflow, such as the database's host after Airflow has moved to another one."""
    if units:
        yield "left", (
            "It is not in group airflow, and these units of Airflow still run there, or start with the host: {0}. With those of the hosts in group airflow, "
            "two schedulers would work on one database. List the host under airflow: hosts: of the inventory again, in no group of a component, "
            "and run playbooks/services.yml, which stops and removes these units. Then remove the host from group airflow, and run this again "
            "(docs/remove.md)."
        ).format(", ".join(units))


def index_text(problem, get, where):
    """(variable, text) for a package index that the host cannot use."""
    index, bundle = "airflow_index_url ({0})".format(where("airflow_index_url")), "airflow_ca_bundle ({0})".format(where("airflow_ca_bundle"))
    url = without_login(get("airflow_index_url") or PYPI)
    kind, said = problem["kind"], problem["said"].rstrip(".")
    if kind == "bundle":
        return "airflow_ca_bundle", "{0}: {1} holds no certificates that can be read: {2}. Valid is a file in PEM: -----BEGIN CERTIFICATE-----.".format(
            bundle, get("airflow_ca_bundle"), said)
    if kind == "trust":
        return "airflow_ca_bundle", (
            "{0}: the host does not trust the certificate of the package index {1} ({2}): {3}. Set airflow_ca_bundle to a file on the controller with "
            "the authority that signed this certificate, in PEM{4}."
        ).format(bundle, url, index, said, "; it is {0} now".format(get("airflow_ca_bundle")) if get("airflow_ca_bundle") else "")
    if kind == "name":
        return "airflow_index_url", "{0}: the certificate of the package index {1} is for another name: {2}. Write the name that the certificate has.".format(
            index, url, said)
    if kind == "status":
        advice = ("Valid is the address of a simple API, such as https://pypi.example.com/simple: it has a page for each package." if said.startswith("404")
                  else "Put login and password into the address, and the address into a vault: https://login:password@pypi.example.com/simple."
                  if said.startswith(("401", "403")) else "Repair the index, or name another one.")
        return "airflow_index_url", "{0}: the package index {1} answers {2}, asked for {3}. {4}".format(index, url, said, get("airflow_installer"), advice)
    return "airflow_index_url", (
        "{0}: the host cannot reach the package index {1} within {2} s (preflight_index_timeout): {3}. Check the address, and that the host's firewall and "
        "DNS allow it; or set airflow_index_url to an index that the host reaches, or airflow_wheel_dir to a directory on the host with wheels."
    ).format(index, url, get("preflight_index_timeout"), said)


def without_login(url):
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", url)


def port_of(rule, get):
    """The port that a rule is about, or None where it is not known."""
    if "variable" in rule:
        return maybe(get, rule["variable"])
    section, option = rule["option"]
    config = maybe(get, "airflow_config") or {}
    return (config.get(section) or {}).get(option) or rule["default"]


def database_address(get):
    """(host, port) of an external database, or None."""
    url, host = maybe(get, "airflow_database_url"), maybe(get, "airflow_database_host")
    if url:
        parsed = parse_url(url)
        return parsed[:2] if parsed else None
    return (host, get("airflow_database_port")) if host else None


def message(problems, title):
    """Always several lines, because YAML output folds and quotes a single one."""
    texts = list(collections.OrderedDict.fromkeys(text for _name, text in problems))
    title = "{0}: {1} problem{2}.".format(title, len(texts), "" if len(texts) == 1 else "s")
    return "\n".join([title] + ["{0}. {1}".format(number, text) for number, text in enumerate(texts, 1)])


# ---- Ansible ----------------------------------------------------------------------------------------------------------------------


def keys_of(node, above=()):
    """(keys from the root to it, line) of every key below a node of YAML."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            yield (*above, key.value), key.start_mark.line + 1
            yield from keys_of(value, (*above, key.value))


class Scope:
    """All variables that are set anywhere, where they stand, and what the roles know."""

    def __init__(self, loader, manager, repository):
        self.loader, self.manager, self.inventory = loader, manager, manager._inventory
        self.repository, self.nodes = repository, {}
        self.specs, self.defaults, self.roles, self.home = {}, {}, [], {}
        for role in sorted(glob.glob(os.path.join(repository, "roles", "*", ""))):
            self.read_role(os.path.normpath(role))
        self.settings = list(self.find_settings())

    def read(self, path):
        data = self.loader.load_from_file(path, cache="all", unsafe=True, trusted_as_template=True)
        return data if isinstance(data, dict) else {}

    def read_role(self, path):
        role = os.path.basename(path)
        self.roles.append(role)
        file = os.path.join(path, "defaults", "main.yml")
        defaults = self.read(file) if os.path.exists(file) else {}
        self.defaults.update(defaults)
        self.home.update({name: "default of roles/{0}".format(role) for name in defaults})
        file = os.path.join(path, "meta", "argument_specs.yml")
        options = self.read(file).get("argument_specs", {}).get("main", {}).get("options", {}) if os.path.exists(file) else {}
        self.specs.update({name: options.get(name, {"type": "raw"}) for name in list(defaults) + list(options)})

    def node(self, path):
        """The file as YAML has it, with lines; None for what is not YAML, such as an inventory in the INI format."""
        if path not in self.nodes:
            try:
                # As bytes: YAML takes no string that Ansible has tagged.
                self.nodes[path] = yaml.compose(self.loader.get_text_file_contents(path).encode(), Loader=SafeLoader)
            except (yaml.YAMLError, AnsibleError, OSError, UnicodeError):
                self.nodes[path] = None
        return self.nodes[path]

    def place(self, path, name, entity=None):
        """path:line, short where it lies below the current directory. entity: the host or group whose variable it is, in an inventory."""
        node = self.node(path)
        if isinstance(node, yaml.MappingNode):
            lines = [line for keys, line in keys_of(node)
                     if keys[-1] == name and (len(keys) == 1 if entity is None else keys[-3:-1] in ((entity, "vars"), ("hosts", entity)))]
        else:
            try:
                with open(path, encoding="utf-8") as text:
                    hit = re.compile(r"(^|[\s\"'{{,]){0}[\"']?\s*[:=]".format(re.escape(name)))
                    lines = [number for number, line in enumerate(text, 1) if not line.lstrip().startswith(("#", ";")) and hit.search(line)]
            except (OSError, UnicodeDecodeError):
                lines = []
        # Of a key that occurs twice, the last one counts.
        return self.short(path) + (":{0}".format(lines[-1]) if lines else "")

    def short(self, path):
        """The path, relative to the repository where it lies in there."""
        real = os.path.realpath(path)
        short = os.path.relpath(real, self.repository)
        return real if short.startswith("..") else short

    def directories(self):
        """(level, directory, groups or hosts) of each group_vars and host_vars, beside the inventory and beside the playbooks."""
        bases = [("inventory", os.path.dirname(s) if os.path.isfile(s) else s) for s in self.inventory._sources if os.path.exists(s)]
        bases.append(("playbook", self.loader.get_basedir()))
        seen = set()
        for level, base in bases:
            for folder, entities in (("group_vars", self.inventory.groups), ("host_vars", self.inventory.hosts)):
                directory = os.path.realpath(os.path.join(base, folder))
                if os.path.isdir(directory) and directory not in seen:
                    seen.add(directory)
                    # As Ansible does: a host that is a path names no file.
                    yield level, directory, [entity for entity in entities if not entity.startswith("/")]

    def find_settings(self):
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

    def inline(self, name, entity):
        files = [path for source in self.inventory._sources
                 for path in ([source] if os.path.isfile(source) else sorted(glob.glob(os.path.join(source, "*")))) if os.path.isfile(path)]
        places = [self.place(path, name, entity) for path in files]
        return next((place for place in places if re.search(r":\d+$", place)), "inventory " + ", ".join(places))

    def command_line(self, name):
        for option in context.CLIARGS.get("extra_vars") or ():
            path = option[1:] if option.startswith("@") else ""
            if path and re.search(r":\d+$", self.place(os.path.abspath(path), name)):
                return self.place(os.path.abspath(path), name)
        return "command line, -e"

    def where(self, name, host):
        """Where the value stands that wins for this host."""
        groups = {group.name: group.depth for group in self.inventory.get_host(host).get_groups()} if host else {"all": 0}
        best, rank = None, None
        for setting in self.settings:
            if setting.name == name and (setting.entity == host or setting.entity in groups):
                this = (setting.level == "command line", setting.entity == host, groups.get(setting.entity, 0) > 0, setting.level != "inline",
                        groups.get(setting.entity, 0), setting.level == "playbook")
                if rank is None or this >= rank:
                    best, rank = setting.where, this
        return best or "{0}, set it in {1}".format(self.home.get(name, "not set"), self.file_to_edit())

    def file_to_edit(self):
        source = next((s for s in self.inventory._sources if os.path.exists(s)), "")
        base = os.path.dirname(source) if os.path.isfile(source) else source
        single = [path for path in (os.path.join(base, "group_vars", "all" + extension) for extension in C.YAML_FILENAME_EXTENSIONS) if os.path.isfile(path)]
        return self.short(single[0] if single else os.path.join(base, "group_vars", "all", "main.yml"))


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(("stage", "rules", "deferred"))

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self.rules = self._task.args["rules"]
        if not in_range(ansible_version, self.rules["ansible_core"]):
            # The rest calls functions that another Ansible may not have.
            problems = list(check_controller(self.rules, collection.ROOT))
            result.update(failed=True, msg=message(problems, "Nothing was changed and no host was contacted"))
            return result
        self.scope = Scope(self._loader, self._task.get_variable_manager(), collection.ROOT)
        self.locks = find_locks(collection.ROOT)
        self.lookups = {}
        if self._task.args["stage"] == "host":
            result.update(self.host_stage(task_vars))
        else:
            result.update(self.input_stage())
        return result

    # -- values

    def getter(self, variables):
        """A function that gives the value of a variable, with its templates resolved."""
        variables = dict(self.scope.defaults, **variables)
        templar = self._templar.copy_with_new_env(available_variables=variables)
        values = {}

        def get(name):
            if name not in values:
                raw = variables.get(name, "")
                # A lookup may ask a vault over the network: once is enough.
                slow = isinstance(raw, str) and re.search(r"lookup|query|\bq\(", raw)
                if slow and raw in self.lookups:
                    values[name] = self.lookups[raw]
                else:
                    values[name] = templar.template(raw)
                    if slow:
                        self.lookups[raw] = values[name]
            return values[name]

        def careful(name):
            try:
                return get(name)
            except AnsibleUndefinedVariable as error:
                missing = re.search(r"'(\w+)' is undefined", str(error))
                if missing and not NOT_YET.search(missing.group(1)):
                    raise AnsibleError("{0} is undefined".format(missing.group(1))) from None
                raise NotYet from None
            except AnsibleError as error:
                # Its text may hold what a lookup returned.
                raise AnsibleError("its template fails with {0}".format(type(error).__name__)) from None

        careful.raw = variables
        return careful

    def check_values(self, host, get, names, deferred):
        def where(name):
            return self.scope.where(name, host)

        problems = []
        for name in sorted(names):
            spec = self.scope.specs[name]
            try:
                value = get(name)
            except NotYet:
                deferred.add(name)
                continue
            except AnsibleError as error:
                problems.append((name, "{0} ({1}): can't be evaluated: {2}.".format(name, where(name), error)))
                continue
            problem = type_problem(name, spec, value)
            if not problem and spec.get("type") in ("int", "float"):
                problem = range_problem(name, value, self.rules["ranges"])
            if problem:
                problems.append((name, "{0} ({1}): {2}".format(name, where(name), problem[len(name) + 1:] if problem.startswith(name + " ") else problem)))
                continue
            objects, kind = airflow_objects, name[len("airflow_"):]
            if kind in objects.KINDS:
                problems += [(name, "{0} ({1}): {2}".format(name, where(name), text)) for text in objects.check({kind: value})[1]]
            secrets = [(name, value, self.rules["secrets"].get(name, {}))] if name in self.rules["secrets"] else []
            secrets += [(path, inner, {}) for path, inner in nested_secrets(name, spec, value)]
            for path, secret, rule in secrets:
                problem = secret_problem(rule, secret, self.rules["placeholders"])
                if problem:
                    problems.append((name, "{0} ({1}): {2}".format(path, where(name), problem)))
        # A variable that only passes on another one that is wrong is not wrong itself.
        wrong = {name for name, _text in problems}
        return [(name, text) for name, text in problems
                if not any(re.search(r"\b{0}\b".format(other), str(get.raw.get(name))) for other in wrong - {name} if "{{" in str(get.raw.get(name)))]

    # -- stages

    def input_stage(self):
        scope, rules = self.scope, self.rules
        needed = scope.read(os.path.join(scope.repository, "requirements.yml")).get("collections", []) if os.path.exists(
            os.path.join(scope.repository, "requirements.yml")) else []
        problems = list(check_controller(rules, scope.repository, collections_needed=[c["name"] if isinstance(c, dict) else c for c in needed]))

        allowed = set(scope.manager.extra_vars.get("preflight_allowed_variables") or [])
        for setting in scope.settings:
            if setting.name == "preflight_allowed_variables":
                allowed.update(self.allowed())
        own = self.options(scope.defaults.get).get("sections", {})
        problems += check_names(scope.settings, scope.specs, scope.roles, rules["renamed"], allowed,
                                ["{0}.{1}".format(section, option) for section, options in own.items() for option in options])
        problems += check_duplicates(scope.settings, scope.specs)
        for path, node in scope.nodes.items():
            problems += check_twice(node, scope.specs, scope.short(path)) if node else []
        for _level, directory, entities in scope.directories():
            problems += check_layout(directory, entities, C.YAML_FILENAME_EXTENSIONS, scope.short)

        groups = {name: [host.name for host in group.get_hosts()] for name, group in scope.inventory.groups.items()}
        ours = list(collections.OrderedDict.fromkeys(groups.get("airflow", []) + groups.get("airflow_postgres", [])))
        set_names = {setting.name for setting in scope.settings} & set(scope.specs)
        deferred, getters = set(), {}
        for host in ours or [None]:
            variables = scope.manager.get_vars(host=scope.inventory.get_host(host)) if host else dict(scope.manager.extra_vars)
            getters[host] = get = self.getter(variables)
            problems += check_address(host, variables.get("ansible_host"), scope.where("ansible_host", host))
            mine = {name for name in set_names if name in variables}
            found = self.check_values(host, get, mine, deferred)
            problems += found
            bad = {name for name, _text in found}

            def where(name, host=host):
                return scope.where(name, host)

            def unspoilt(name, get=get, bad=frozenset(bad)):
                if name in bad:
                    raise NotYet
                try:
                    return get(name)
                except AnsibleError:
                    raise NotYet from None

            if host in groups.get("airflow", []) or host is None:
                problems += check_together(unspoilt, where, rules, self.is_file)
                problems += check_auth(unspoilt, where, rules)
                problems += check_config_options(unspoilt, where, rules, self.options(unspoilt), self.all_sections)
                problems += check_backup(unspoilt, where, has_backup_key, shutil.which("gpg"))
                problems += check_backup_dir(unspoilt, where, rules)
                problems += check_unit_overrides(unspoilt, where, self.components(unspoilt), rules["unit_sections"])
                if "airflow_version" not in bad:
                    problems += check_version(unspoilt, where, rules, self.locks)
            if host in groups.get("airflow_proxy", []):
                problems += check_proxy(unspoilt, where)
            getters[host] = unspoilt
        get = getters[next(iter(getters))]
        major = major_of(get)
        external = bool(maybe(get, "airflow_database_url") or maybe(get, "airflow_database_host"))
        source = ", ".join(os.path.relpath(s, scope.repository) if os.path.realpath(s).startswith(scope.repository) else s
                           for s in scope.inventory._sources)
        problems += check_groups(groups, source, rules, major, external, major == 2 and standalone_dag_processor(get))
        problems += check_one_site(getters, scope.where)
        problems += check_peers(groups, source, major, maybe(get, "airflow_executor"), getters, scope.where)
        if problems:
            return {"failed": True, "msg": message(problems, "Nothing was changed and no host was contacted")}
        return {"changed": False, "deferred": sorted(deferred)}

    def allowed(self):
        """preflight_allowed_variables over all hosts, because names are checked in all files."""
        for host in self.scope.inventory.hosts.values():
            value = self.scope.manager.get_vars(host=host, include_hostvars=False).get("preflight_allowed_variables")
            yield from value if isinstance(value, list) else []

    def is_file(self, path):
        path = os.path.expanduser(path)
        return os.path.isfile(os.path.join(self._loader.get_basedir(), path))

    def host_stage(self, task_vars):
        host, rules = task_vars["inventory_hostname"], self.rules
        get = self.getter(task_vars)
        systems = self.systems()
        address = database_address(get)
        ports = {}
        for rule in rules["ports"]:
            if host in task_vars["groups"].get(rule["group"], []) and rule.get("major") in (None, major_of(get)):
                number = port_of(rule, get)
                if number and not (rule["group"] == "airflow_postgres" and address):
                    ports[number] = rule
        probe = {
            "paths": [get("airflow_install_dir"), get("airflow_log_dir")],
            "virtualenv": os.path.join(get("airflow_install_dir"), "venv"),
            "ports": list(ports),
            "python": maybe(get, "airflow_python") or "",
            "pythons": {family: data.get("__airflow_python_default", "") for family, data in systems.items()},
            "times": sorted({get(name) for name in rules["times"]}),
            "database": {"host": address[0], "port": address[1], "timeout": get("preflight_database_timeout")} if address else {},
        }
        probe["left"] = host not in task_vars["groups"].get("airflow", [])
        if not probe["left"]:
            probe["airflow"] = {name: get("airflow_" + name) for name in ("user", "home", "install_dir", "config_dir")}
        if host in task_vars["groups"].get("airflow_postgres", []) and not address:
            probe["server"] = {name: get("airflow_database_" + name) for name in ("name", "user", "port")}
        index = self.index(get) if host in task_vars["groups"].get("airflow", []) else ""
        if index:
            probe["index"] = {
                "built": os.path.join(get("airflow_install_dir"), "venvs", "{0}-py*".format(get("airflow_version")), "release.json"),
                "page": get("airflow_installer"), "bundle": self.text(get("airflow_ca_bundle")), "timeout": get("preflight_index_timeout"),
                "given": bool(get("airflow_index_url"))}
        result = self._execute_module(module_name="windsock.airflow.validate", module_args={
            "stage": "host", "probe": probe, "index_url": index,
            "database_url": self.database_url(get) if "server" in probe else ""}, task_vars=task_vars)
        if result.get("failed") or "found" not in result:
            return result
        found = result.pop("found")
        raw_facts = result["ansible_facts"]
        # So that no later play gathers them again (what Ansible's own action gather_facts does).
        raw_facts["_ansible_facts_gathered"] = True
        facts = {name.removeprefix("ansible_"): value for name, value in raw_facts.items()}

        family = systems.get(facts["os_family"], {})
        get = self.getter(dict(task_vars, ansible_facts=facts))
        version = self._templar.copy_with_new_env(available_variables={"ansible_facts": facts}).template(
            family.get("__airflow_python_default_version", "")) if not maybe(get, "airflow_python") else ""
        late, deferred = self._task.args.get("deferred") or [], set()
        problems = self.check_values(host, get, late, deferred)
        if "airflow_config" in late and not problems:
            problems += check_config_options(get, lambda name: self.scope.where(name, host), rules, self.options(get), self.all_sections)
        problems += check_host(found, facts, get, lambda name: self.scope.where(name, host), rules, self.locks, ports, version, time.time())
        if problems:
            result.update(failed=True, msg=message(problems, "Nothing was changed on {0}".format(host)))
            # Facts of a host that is refused are of no use, and many lines.
            result.pop("ansible_facts")
        return result

    def database_url(self, get):
        """The address of the database on its own host; empty where the inventory gives no password."""
        names = ("airflow_database_user", "airflow_database_password")
        user, password = (urllib.parse.quote(str(maybe(get, name) or ""), safe="") for name in names)
        return "postgresql://{0}:{1}@127.0.0.1:{2}/{3}".format(
            user, password, get("airflow_database_port"), get("airflow_database_name")) if password else ""

    def index(self, get):
        """The package index that a host is to ask; none where it has wheels, or where pip takes what the host's pip.conf says."""
        url = get("airflow_index_url") or (PYPI if get("airflow_installer") == "uv" else "")
        return url if url.startswith("http") and not get("airflow_wheel_dir") else ""

    def text(self, path):
        """A file of the controller, where there is one."""
        return self._loader.get_text_file_contents(self._loader.path_dwim(os.path.expanduser(path))) if path and self.is_file(path) else ""

    def components(self, get):
        """Names of the components that this Airflow has; none where the version is not one."""
        path = os.path.join(self.scope.repository, "roles", "airflow_common", "vars", "airflow_{0}.yml".format(major_of(get)))
        data = self.scope.read(path) if os.path.exists(path) else {}
        return list(data.get("__airflow_components", {})) + list(data["__airflow_components_optional"] if data and standalone_dag_processor(get) else [])

    def options(self, get):
        """What airflow.cfg may have, where this version is one of those that are known."""
        path = options_file(self.scope.repository, str(maybe(get, "airflow_version")))
        return self.scope.read(path) if os.path.exists(path) else {}

    def all_sections(self):
        """Airflow's own sections in all versions that are known, each with the newest of these versions."""
        directory, name = os.path.split(options_file(self.scope.repository, ""))
        versions = sorted((file.removesuffix(name) for file in os.listdir(directory)), key=numbers)
        return {section: version for version in versions for section in self.scope.read(options_file(self.scope.repository, version))["sections"]}

    def systems(self):
        """vars/<os_family>.yml of role airflow_common, which say which Python there is."""
        found = {}
        for path in glob.glob(os.path.join(self.scope.repository, "roles", "airflow_common", "vars", "*.yml")):
            data = self.scope.read(path)
            if "__airflow_python_default" in data:
                found[os.path.splitext(os.path.basename(path))[0]] = data
        return found
