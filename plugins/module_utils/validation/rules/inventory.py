"""Groups and hosts of an inventory, and hosts that need each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean, nearest
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Problems, Values
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_common import database_address

# Groups that the roles know. A group that looks like one of them but isn't is taken for a slip of the pen.
GROUPS = (
    "airflow", "airflow_webserver", "airflow_scheduler", "airflow_dag_processor", "airflow_triggerer",
    "airflow_worker", "airflow_flower", "airflow_postgres", "airflow_pgbouncer", "airflow_redis", "airflow_proxy")
# Those of them that run no component of Airflow.
GROUPS_OF_SERVICES = (
    "airflow_postgres", "airflow_pgbouncer", "airflow_redis", "airflow_proxy")
# Those that no role installs anything on yet.
GROUPS_OF_NOTHING = (
    "airflow_worker", "airflow_flower", "airflow_pgbouncer", "airflow_redis")
# Groups that need a host, per major of Airflow.
GROUPS_REQUIRED = {
    "2": ("airflow_webserver", "airflow_scheduler"),
    "3": ("airflow_webserver", "airflow_scheduler", "airflow_dag_processor"),
}


def check_address(host: str | None, address: object, place: str) -> Problems:
    """The shipped inventories have an address that no host has (RFC 5737). SSH would wait for it for a minute."""
    if str(address).startswith("192.0.2."):
        yield "ansible_host", ("ansible_host of {0} ({1}): is {2}, an address of examples. Put the address of your "
                               "host there.").format(
            host, place, address)


def check_one_site(hosts: Mapping[Any, Values], where: Callable[..., str]) -> Problems:
    """All hosts of an inventory have the same secrets."""
    ids = {host: values.get("airflow_site_id") or "" for host, values in hosts.items()}
    if len(set(ids.values())) > 1:
        yield "airflow_site_id", ("airflow_site_id differs between the hosts: {0}. Set it once, in "
                                  "group_vars/all/main.yml.").format(
            "; ".join("{0} has {1} ({2})".format(host, json.dumps(value), where("airflow_site_id", host))
                      for host, value in ids.items()))


def check_groups(
    groups: Mapping[str, list[str]], source: str, major: int, external: bool, standalone: bool = False,
) -> Problems:
    """groups: {name: [hosts]}. standalone: DAG files are parsed outside of the scheduler."""
    for name in sorted(groups):
        if name not in GROUPS:
            near = nearest(name, GROUPS, 4)
            if near and not groups.get(near):
                yield name, "Group {0} ({1}): no role knows it.{2}".format(name, source, did_you_mean(name, [near]))
    if standalone and not groups.get("airflow_dag_processor"):
        yield "groups", (
            "The inventory ({0}) has no host in airflow_dag_processor, but airflow_config has "
            "scheduler.standalone_dag_processor, with which the "
            "scheduler parses no DAG. Put a host there, or leave the option out.").format(source)
    missing = [name for name in GROUPS_REQUIRED.get(str(major), []) if not groups.get(name)]
    if missing:
        yield "groups", "The inventory ({0}) has no host in {1}. Airflow {2} needs at least one in each of {3}.".format(
            source, ", ".join(missing), major, ", ".join(GROUPS_REQUIRED[str(major)]))
    for name in GROUPS_OF_NOTHING:
        if groups.get(name):
            yield "groups", (
                "The inventory ({0}) has {1} in group {2}, and no role installs anything for that group yet: nothing "
                "would run "
                "there. Take the group out of the inventory. LocalExecutor runs tasks on the hosts of "
                "airflow_scheduler."
            ).format(source, ", ".join(groups[name]), name)
    components = sorted(set(GROUPS) - set(GROUPS_OF_SERVICES) - {"airflow"})
    parts = [name for name in groups if name in components]
    members = {host for name in parts for host in groups[name]}
    outside = sorted(members - set(groups.get("airflow", [])))
    if outside:
        yield "groups", ("The inventory ({0}) has {1} in a component's group that isn't a child of group airflow. Put "
                         "{2} under airflow: children:.").format(
            source, ", ".join(outside), ", ".join(sorted(name for name in parts if set(groups[name]) & set(outside))))
    # Airflow 2 parses DAG files in the scheduler, unless it is told otherwise.
    unused = {*GROUPS_OF_NOTHING, *(["airflow_dag_processor"] if major == 2 and not standalone else [])}
    idle = sorted(set(groups.get("airflow", [])) - {host for name in set(parts) - unused for host in groups[name]})
    if idle:
        yield "groups", (
            "The inventory ({0}) has {1} in group airflow but in no group whose component Airflow {2} has, so nothing "
            "would "
            "run there. Valid are {3}. To stop and remove the components of a host that leaves, run "
            "playbooks/services.yml (docs/remove.md)."
        ).format(source, ", ".join(idle), major, ", ".join(name for name in components if name not in unused))
    alone = sorted(set(groups.get("airflow_proxy", [])) - set(groups.get("airflow_webserver", [])))
    if alone:
        yield "groups", (
            "The inventory ({0}) has {1} in group airflow_proxy but not in airflow_webserver. The proxy talks to the "
            "API server of its own host, over "
            "loopback: put it in both.").format(source, ", ".join(alone))
    servers = groups.get("airflow_postgres", [])
    if not external and len(servers) != 1:
        yield "groups", (
            "The inventory ({0}) has {1} in group airflow_postgres. The metadata database needs exactly one host "
            "there, "
            "or an external server (airflow_database_host, airflow_database_url).").format(
                source, "{0} hosts ({1})".format(len(servers), ", ".join(servers)) if servers else "no host")


def check_peers(
    groups: Mapping[str, list[str]], source: str, major: int, executor: Any, of_host: Mapping[Any, Values],
    where: Callable[..., str],
) -> Problems:
    """Hosts that need each other. of_host: the values of each host. where: gives a variable's place for a host."""
    hosts, servers = groups.get("airflow", []), groups.get("airflow_postgres", [])
    values = of_host.get(servers[0]) if len(servers) == 1 else None
    remote = [host for host in hosts if host not in servers]
    if values is not None and remote and not database_address(values):
        listens = [
            a for a in values.get("postgresql_listen_addresses") or [] if a not in ("127.0.0.1", "::1", "localhost")
        ]
        for name, fine, example in (("postgresql_listen_addresses", listens, "[127.0.0.1, 10.20.0.5]"),
                                    ("postgresql_allowed_networks", values.get("postgresql_allowed_networks"),
                                     "[10.20.0.0/24]")):
            if not fine:
                yield name, ("{0} ({1}): lets nobody in from outside of {2}, but Airflow runs on {3}. Set it for {2}, "
                             "such as {0}: {4}.").format(
                    name, where(name, servers[0]), servers[0], ", ".join(remote), example)
    for host in sorted(set(groups.get("airflow_scheduler", [])) - set(groups.get("airflow_webserver", []))):
        config = of_host[host].get("airflow_config") if host in of_host else None
        url = config.get("core", {}).get("execution_api_server_url") if isinstance(config, dict) else None
        if major == 3 and "LocalExecutor" in (executor or "") and not url:
            yield "airflow_webserver", (
                "The inventory ({0}) has {1} in airflow_scheduler but not in airflow_webserver. Tasks run beside the "
                "scheduler and report to the API "
                "server of their own host: put it in both, or set execution_api_server_url of section core in "
                "airflow_config."
            ).format(source, host)
