"""A host, by what module validate found there."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Problems, Site, Values, placed
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow import (
    check_python,
    without_login,
)
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_common import database_address

RANGES = {
    "preflight_min_memory_mb": (1, 1000000000),
    "preflight_min_disk_mb": (1, 1000000000),
    "preflight_min_disk_rerun_mb": (1, 1000000000),
    "preflight_database_timeout": (1, 60),
    "preflight_index_timeout": (1, 60),
    "preflight_max_clock_skew": (1, 86400),
}
PYPI = "https://pypi.org/simple"
# When timers run: calendar expressions of systemd, which the host's own is asked about.
TIMES = ("airflow_backup_schedule", "airflow_clean_database_schedule", "logrotate_schedule")
# The variable that moves a port (or the option of airflow_config, and its default), the group whose hosts listen on it,
# and the units that may; the major, if the other one has no such port.
PORTS = (
    {"variable": "airflow_api_port", "group": "airflow_webserver", "units": "^airflow-"},
    {
        "option": ("scheduler", "scheduler_health_check_server_port"), "default": 8974, "group": "airflow_scheduler",
        "units": "^airflow-", "major": 3
    },
    {"variable": "postgresql_port", "group": "airflow_postgres", "units": "^postgresql"},
    {"variable": "reverse_proxy_http_port", "group": "airflow_proxy", "units": "^nginx"},
    {"variable": "reverse_proxy_https_port", "group": "airflow_proxy", "units": "^nginx"},
)
# What may be found of an Airflow that this project did not install, and the variables whose other values would leave it
# alone.
FOREIGN = {
    "user": ("airflow_user", "airflow_group", "airflow_home"),
    "path": ("airflow_install_dir", "airflow_config_dir", "airflow_home"),
    "database": ("airflow_database_name", "airflow_database_user"),
}


def check_host(
    values: Values, site: Site, found: dict[str, Any], facts: Values, ports: dict[int, dict[str, Any]],
    will_install: str, now: float,
) -> Problems:
    """What is wrong with a host. found: the answer of module validate. ports: {number: line of PORTS}. will_install:
    the Python that the run brings.
    """
    system, versions = facts["distribution"], site.supported["systems"].get(facts["distribution"], [])
    if not any(facts["distribution_version"] == v or facts["distribution_version"].startswith(v + ".")
               for v in versions):
        # The rest would only be noise.
        yield "system", "It runs {0} {1}, which is not supported. Take a host with one of: {2}.".format(
            system, facts["distribution_version"],
            ", ".join("{0} {1}".format(name, " and ".join(known)) for name, known in site.supported["systems"].items()))
        return
    if found["init"] != site.supported["init"]:
        yield "init", ("Its process 1 is {0}, not {1}, which runs the components. Boot the host (or the container) "
                       "with {1}.").format(
            found["init"], site.supported["init"])
    if facts["memtotal_mb"] < values["preflight_min_memory_mb"]:
        yield "memory", ("It has {0} MB of memory; Airflow needs {1} (preflight_min_memory_mb, {2}). Take a larger "
                         "host.").format(
            facts["memtotal_mb"], values["preflight_min_memory_mb"], site.where("preflight_min_memory_mb"))
    again = found["virtualenv"].startswith("{0}-py".format(values["airflow_version"]))
    limit = "preflight_min_disk_rerun_mb" if again else "preflight_min_disk_mb"
    full: dict[str, list[tuple[str, str, int]]] = {}
    for name, path in (
        ("airflow_install_dir", values["airflow_install_dir"]),
        ("airflow_log_dir", values["airflow_log_dir"]),
    ):
        disk = found["filesystems"][path]
        if disk["free_mb"] < values[limit]:
            full.setdefault(disk["device"], []).append((name, path, disk["free_mb"]))
    for entries in full.values():
        yield "disk", ("It has {0} MB free on the file system of {1}; {2} are needed ({3}, {4}). Free some, or put the "
                       "directory elsewhere.").format(
            entries[0][2], " and ".join("{0} ({1}, {2})".format(path, name, site.where(name))
                                        for name, path, _free in entries), values[limit], limit, site.where(limit))
    theirs = {os.path.basename(text) for kind, text in found.get("foreign") or [] if kind == "unit"}
    for port, rule in ports.items():
        for entry in found["ports"].get(str(port), []):
            # A unit that somebody else wrote may have the name of one of ours.
            if entry.get("unit", "") in theirs or not re.search(rule["units"], entry.get("unit", "")):
                name = rule.get("variable", "airflow_config")
                key = "{0} ({1})".format(".".join([name, *rule.get("option", [])]), site.where(name))
                yield "port", "Its port {0} is in use by {1}{2}. Stop it, or set another port in {3}.".format(
                    port, "{0} (pid {1}, user {2})".format(entry["process"], entry["pid"], entry["user"])
                    if "process" in entry else "a process of user {0}".format(entry["user"]),
                    ", unit {0}".format(entry["unit"]) if entry.get("unit", "").endswith(".service") else "", key)
                break
    yield from check_foreign(site, found.get("foreign") or [])
    yield from check_left(found.get("left") or [])
    yield from check_owner(values, site, found.get("runs_as") or {})
    for name, text in check_python(values, site, found["python"], will_install):
        yield name, placed(name, text, site)
    for name in TIMES:
        if values[name] in found["unknown_times"]:
            yield name, (
                "{0} ({1}) is {2}, a time that systemd on the host does not know. Valid is a calendar expression (man "
                "systemd.time) such as "
                "*-*-* 02:00 or hourly; systemd-analyze calendar tries one.").format(
                    name, site.where(name), json.dumps(values[name]))
    if found["index"]:
        yield index_text(values, site, found["index"])
    if found["database"]:
        key = "airflow_database_url" if values.get("airflow_database_url") else "airflow_database_host"
        host, port = database_address(values) or ("", 0)
        yield key, (
            "{0} ({1}): the database server {2}, port {3}, cannot be reached from the host within {4} s: {5}. "
            "Check the name and the port, and that the server's firewall or security group lets the host in."
        ).format(key, site.where(key), host, port, values["preflight_database_timeout"], found["database"])
    skew = abs(found["time"] - now)
    if skew > values["preflight_max_clock_skew"]:
        yield "clock", (
            "Its clock is {0} s away from the controller's; at most {1} are tolerated (preflight_max_clock_skew, {2}), "
            "because "
            "tokens and certificates fail. Turn on time synchronisation.").format(
                int(skew), values["preflight_max_clock_skew"], site.where("preflight_max_clock_skew"))


def check_foreign(site: Site, found: list[list[str]]) -> Problems:
    """An Airflow that somebody installed by hand. A run would take over the half of it that has the names of ours.

    found: [[kind, text]].
    """
    kinds = {kind for kind, _text in found}
    if not kinds - {"elsewhere"}:
        # The Airflow of a person's home, which nothing of ours touches.
        return
    advice = ["Back it up, stop it and move it away, then run this again."]
    names = [name for kind, variables in FOREIGN.items() if kind in kinds for name in variables]
    if names:
        advice.append("Or use other values for {0} ({1}).".format(", ".join(names), site.where(names[0])))
    if "database" in kinds:
        advice.append("To use this database, give its owner and the owner's password in airflow_database_user and "
                      "airflow_database_password.")
    if kinds & {"unit", "process"}:
        advice.append(
            "Units and processes must go in any case: systemctl disable --now, then remove the file of the unit.")
    yield "foreign", "It has an Airflow that this project did not install: {0}. {1}".format(
        "; ".join(text for _kind, text in found), " ".join(advice))


def check_left(units: list[str]) -> Problems:
    """Units of Airflow on a host that is no longer in group airflow, such as the database's host after Airflow has
    moved to another one.
    """
    if units:
        yield "left", (
            "It is not in group airflow, and these units of Airflow still run there, or start with the host: {0}. With "
            "those of the hosts in group airflow, "
            "two schedulers would work on one database. List the host under airflow: hosts: of the inventory again, in "
            "no group of a component, "
            "and run playbooks/services.yml, which stops and removes these units. Then remove the host from group "
            "airflow, and run this again "
            "(docs/remove.md).").format(", ".join(units))


def check_owner(values: Values, site: Site, runs_as: dict[str, dict[str, Any]]) -> Problems:
    """Another user, group or home for an Airflow that is installed. Its components could not write to its files.

    runs_as: {variable: {directive, units: [value], files: [owner]}}. If files already belong to the user that the site
    names, an earlier run has changed half of the host, and this run is the way back.
    """
    overrides = (values.get("airflow_services_unit_overrides") or {}).values()
    for name, found in runs_as.items():
        # A component may have a user of its own.
        if any(found["directive"] in (body.get("Service") or {}) for body in overrides):
            continue
        path = os.path.normpath if name == "airflow_home" else str
        if path(values[name]) not in [*map(path, found["units"]), *found["files"]]:
            yield name, (
                "{0} ({1}) is {2}, and the Airflow on this host is installed with {3}. site.yml cannot change this "
                "on an installed host. Set {0}: {3}. To change it, remove Airflow first, while {0} is still {3}: "
                "playbooks/remove_airflow.yml keeps the database and removes the task logs. Then set {0}: {2} and run "
                "site.yml (docs/remove.md)."
            ).format(name, site.where(name), values[name], " and ".join(found["units"]))


def index_text(values: Values, site: Site, problem: dict[str, str]) -> tuple[str, str]:
    """(variable, text) for a package index that the host cannot use."""
    index, bundle = "airflow_index_url ({0})".format(site.where("airflow_index_url")), "airflow_ca_bundle ({0})".format(
        site.where("airflow_ca_bundle"))
    url = without_login(values["airflow_index_url"] or PYPI)
    kind, said = problem["kind"], problem["said"].rstrip(".")
    if kind == "bundle":
        return "airflow_ca_bundle", ("{0}: {1} holds no certificates that can be read: {2}. Valid is a file in PEM: "
                                     "-----BEGIN CERTIFICATE-----.").format(
            bundle, values["airflow_ca_bundle"], said)
    if kind == "trust":
        return "airflow_ca_bundle", (
            "{0}: the host does not trust the certificate of {1}: {2}. Set airflow_ca_bundle to the authority's PEM "
            "file on the controller{3}."
        ).format(bundle, url, said,
                 "; it is {0} now".format(values["airflow_ca_bundle"]) if values["airflow_ca_bundle"] else "")
    if kind == "name":
        return "airflow_index_url", ("{0}: the certificate of the package index {1} is for another name: {2}. Write "
                                     "the name that the certificate has.").format(
            index, url, said)
    if kind == "status":
        advice = (
            "Valid is the address of a simple API, such as https://pypi.example.com/simple: it has a page for each "
            "package."
            if said.startswith("404") else
            "Put login and password into the address, and the address into a vault: "
            "https://login:password@pypi.example.com/simple."
            if said.startswith(("401", "403")) else "Repair the index, or name another one.")
        return "airflow_index_url", "{0}: the package index {1} answers {2}, asked for {3}. {4}".format(
            index, url, said, values["airflow_installer"], advice)
    return "airflow_index_url", (
        "{0}: the host cannot reach the package index {1} within {2} s (preflight_index_timeout): {3}. Check the "
        "address, and that the host's firewall and "
        "DNS allow it; or set airflow_index_url to an index that the host reaches, or airflow_wheel_dir to a directory "
        "on the host with wheels."
    ).format(index, url, values["preflight_index_timeout"], said)


def port_of(rule: dict[str, Any], values: Values) -> Any:
    """The port that a rule is about, or None where it is not known."""
    if "variable" in rule:
        return values.get(rule["variable"])
    section, option = rule["option"]
    config = values.get("airflow_config") or {}
    return (config.get(section) or {}).get(option) or rule["default"]


def index_url(values: Values) -> str:
    """The package index that a host is to ask; none where it has wheels, or where pip takes what the host's pip.conf
    says.
    """
    url = values["airflow_index_url"] or (PYPI if values["airflow_installer"] == "uv" else "")
    return url if url.startswith("http") and not values["airflow_wheel_dir"] else ""
