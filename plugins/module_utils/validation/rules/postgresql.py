"""The PostgreSQL server: its variables, and whether it may be shared with other applications."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    check_ranges,
    is_true,
)

RANGES = {
    "postgresql_port": (1024, 65535),
    "postgresql_memory_percent": (5, 100),
    "postgresql_max_connections": (10, 10000),
    "postgresql_effective_io_concurrency": (0, 1000),
}
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
NAME = r"[a-z_][a-z0-9_.-]{0,62}"
# Settings that have a variable of their own.
MANAGED = {
    "effective_cache_size", "hba_file", "listen_addresses", "maintenance_work_mem", "max_connections",
    "password_encryption", "port", "shared_buffers", "ssl", "ssl_cert_file", "ssl_key_file", "work_mem"
}


def check_role(values: Values, site: Site) -> Problems:
    yield from check_ranges(values, RANGES)
    yield from check_server(values)
    yield from check_networks(values)
    yield from check_names(values)


def check_server(values: Values) -> Problems:
    system, own, known = values["ansible_facts"]["distribution"], values["__postgresql_distribution_version"], values[
        "__postgresql_versions"]
    if values["__postgresql_major"] not in known:
        yield "postgresql_version", ('postgresql_version is "{0}"; on {1} it may be empty (the distribution\'s {2}) or '
                                     'one of {3}.').format(
            values["postgresql_version"], system, own, ", ".join(known))
    if bool(values["postgresql_pgdg_key_url"]) != bool(values["postgresql_pgdg_key_checksum"]):
        yield "postgresql_pgdg_key_url", (
            "postgresql_pgdg_key_url and postgresql_pgdg_key_checksum belong together: set both, or none for the "
            "project's own key."
        )
    # The file of the repository is readable by every user of the host, and the journal has the address of the key.
    for name in ("postgresql_pgdg_url", "postgresql_pgdg_key_url"):
        if re.search("//[^/ ]*@", values[name]):
            yield name, (
                "{0} has a login, which others on the host could read. Take the login out of the address. For the "
                "repository, put it into "
                "/etc/apt/auth.conf.d/pgdg.conf on the host, with mode 0600: machine <host> login <user> password "
                "<password>."
            ).format(name)
    if bool(values["postgresql_tls_certificate"]) != bool(values["postgresql_tls_key"]):
        yield "postgresql_tls_key", ("postgresql_tls_certificate and postgresql_tls_key belong together: set both, or "
                                     "none.")
    managed = [name for name in values["postgresql_settings"] if name in MANAGED]
    if managed and is_true(values["postgresql_manage_settings"]):
        yield "postgresql_settings", ("postgresql_settings sets {0}: that has a variable of its own "
                                      "(roles/postgresql/README.md).").format(
            ", ".join(managed))
    wrong = [name for name in values["postgresql_settings"] if not re.fullmatch("[a-z][a-z0-9_.]*", name)]
    if wrong:
        yield "postgresql_settings", ("postgresql_settings sets {0}: names of settings are lower-case letters, digits, "
                                      "underscores and dots.").format(
            ", ".join(wrong))


def check_networks(values: Values) -> Problems:
    networks, addresses = values["postgresql_allowed_networks"], values["postgresql_listen_addresses"]
    if not addresses:
        yield "postgresql_listen_addresses", ("postgresql_listen_addresses is empty; Airflow connects over TCP, so it "
                                              "needs at least 127.0.0.1.")
    wrong = [network for network in networks if not is_network(network)]
    if wrong:
        yield "postgresql_allowed_networks", (
            "postgresql_allowed_networks has {0}; valid are networks such as 10.20.0.0/24 with a prefix of 8 bits or "
            "more (IPv6: 32). "
            "The whole Internet is no valid network.").format(", ".join(wrong))
    if networks and not set(addresses) - LOOPBACK:
        yield "postgresql_allowed_networks", (
            "postgresql_allowed_networks lets {0} in, but postgresql_listen_addresses has loopback only: add the "
            "host's private address to it."
        ).format(", ".join(networks))
    if networks and not values["postgresql_tls_certificate"] and not values["__postgresql_tls_by_default"]:
        yield "postgresql_allowed_networks", (
            "postgresql_allowed_networks needs TLS, which is off on {0}: set postgresql_tls_certificate and "
            "postgresql_tls_key."
        ).format(values["ansible_facts"]["distribution"])


def is_network(text: str) -> bool:
    """With a prefix of 8 bits or more, of 32 in IPv6. PostgreSQL takes bits behind the prefix, and no blank."""
    try:
        net = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return re.fullmatch(r"[0-9a-fA-F.:]+/[0-9]+", text) is not None and net.prefixlen >= {4: 8, 6: 32}[net.version]


def check_names(values: Values) -> Problems:
    users, databases = values["postgresql_users"], values["postgresql_databases"]
    names = [user["name"] for user in users]
    wrong = [name for name in names + [database["name"] for database in databases] if not re.fullmatch(NAME, name)]
    if wrong:
        yield "postgresql_users", (
            "postgresql_users or postgresql_databases has the name {0}; names are lower-case letters, digits, "
            "underscores, dots and dashes, 63 at most, "
            "and start with a letter.").format(", ".join(wrong))
    if "postgres" in names:
        yield "postgresql_users", (
            "postgresql_users has postgres; the superuser gets no password, it signs in as the system's user postgres "
            "only."
        )
    without = [user["name"] for user in users if user["password"] == ""]
    if without:
        yield "postgresql_users", "postgresql_users has no password for {0}.".format(", ".join(without))
    strangers = {name
                 for database in databases
                 for name in (database["owner"], *database.get("users", []))} - set(names)
    if strangers:
        yield "postgresql_databases", "postgresql_databases names {0}, which is not in postgresql_users.".format(
            ", ".join(sorted(strangers)))


def check_neighbours(values: Values, site: Site) -> Problems:
    """Whoever else uses the server keeps access to it. __postgresql_neighbours: what files/neighbours.py says of the
    server.
    """
    said, networks, addresses = values["__postgresql_neighbours"], values["postgresql_allowed_networks"], values[
        "postgresql_listen_addresses"]
    if said["error"]:
        yield "server", said["error"]
    if said["others"] and not is_true(values["postgresql_shared"]):
        yield "postgresql_shared", (
            "its PostgreSQL server also serves other applications ({0}). This role would write {1}/pg_hba.conf anew "
            "and lock them out. To share this "
            "server, set postgresql_shared: true in group_vars/all/main.yml of your site: their rules stay, ours stand "
            "beside them, and a copy of the "
            "file is kept. To keep the server for this project alone, list what it manages in postgresql_databases and "
            "postgresql_users, and remove "
            "the rest.").format(", ".join(said["others"]), values["__postgresql_config_dir"])
    if said["taken"]:
        yield "airflow_database_name", (
            "its PostgreSQL server was set up by somebody else, and {0}. This role would change the owner or the "
            "password. Set other names in "
            "airflow_database_name and airflow_database_user (or postgresql_databases).").format("; ".join(
                said["taken"]))
    # A server that keeps its own settings, with those that the site asks for.
    if not said["settings"] or is_true(values["postgresql_manage_settings"]):
        return
    theirs = {**said["settings"], **values["postgresql_settings"]}
    port, listens, connections = theirs.get("port"), theirs.get("listen_addresses", "*"), theirs.get("max_connections")
    if port is not None and whole(port) != int(values["postgresql_port"]):
        yield "postgresql_port", ("the shared PostgreSQL server listens on port {0}, and postgresql_port is {1}. Set "
                                  "airflow_database_port: {0}.").format(
            port, values["postgresql_port"])
    there = loopback_by_number(address.strip() for address in listens.split(","))
    if not there & {"*", "0.0.0.0"} and loopback_by_number(addresses) - there:
        yield "postgresql_listen_addresses", (
            "the shared PostgreSQL server listens on {0}, and postgresql_listen_addresses is {1}. Set "
            "postgresql_listen_addresses to addresses of the "
            "server, or set listen_addresses in postgresql_settings to all that both need (restarts the server)."
        ).format(listens or "no address", ", ".join(addresses))
    if connections is not None and whole(connections) < int(values["postgresql_max_connections"]):
        yield "postgresql_max_connections", (
            "the shared PostgreSQL server has max_connections {0}, and Airflow alone may need {1} "
            "(postgresql_max_connections). Set max_connections in "
            "postgresql_settings to the sum of what both need (restarts the server), or lower "
            "airflow_database_pool_size or postgresql_connections."
        ).format(connections, values["postgresql_max_connections"])
    if values["postgresql_tls_certificate"]:
        yield "postgresql_tls_certificate", (
            "postgresql_tls_certificate is {0}, which would replace the certificate of a shared PostgreSQL server. "
            "Leave it and postgresql_tls_key "
            "empty, or set postgresql_manage_settings: true.").format(values["postgresql_tls_certificate"])
    if networks and str(theirs.get("ssl", "on")).lower() not in ("on", "true", "yes", "1"):
        yield "postgresql_allowed_networks", (
            "postgresql_allowed_networks lets {0} in over TLS only, and the shared PostgreSQL server has TLS off. Turn "
            "it on there (ssl, ssl_cert_file "
            "and ssl_key_file), or leave postgresql_allowed_networks empty.").format(", ".join(networks))


def loopback_by_number(addresses: Iterable[str]) -> set[str]:
    return {"127.0.0.1" if address == "localhost" else address for address in addresses}


def whole(value: object) -> int:
    return int(str(value)) if str(value).isdigit() else 0
