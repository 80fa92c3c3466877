# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What concerns the metadata database, its server, and its backup."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.result import (
    CONFIGURE,
    CRITICAL,
    POSTGRES,
    WARN,
    Data,
    Result,
    duration,
    error_of,
    fine,
    listed,
    several,
    size,
    wrong,
)

# What the driver says, and which cause that is.
REFUSALS = [
    ("database_password", r"password authentication failed|no password supplied|SCRAM"),
    ("database_hba", r"no pg_hba\.conf entry|pg_hba\.conf rejects"),
    ("database_connections",
     r"too many connections|too many clients|remaining connection slots|no more connections allowed"),
    ("database_login", r"not permitted to log in|permission denied for database|not currently accepting connections"),
    ("database_missing", r"(database|role) \"[^\"]*\" does not exist"),
    ("database_starting", r"starting up|shutting down|recovery mode|not yet accepting"),
    ("database_down", r"Connection refused|No such file or directory"),
    # A SYSCALL error is one of the connection below TLS.
    ("database_tls", r"\bSSL\b(?! SYSCALL)|certificate"),
    ("database_network",
     r"could not translate host name|timeout|timed out|No route to host|unreachable|no answer within"),
]
HEADLINES = {
    "database_password": "the database refuses the password of {user}",
    "database_hba": "pg_hba.conf of the database server has no rule that lets {user} in",
    "database_connections": "the database has no connection left",
    "database_login": "the role {user} may not sign in to the database",
    "database_missing": "the database or its role is not there",
    "database_starting": "the database server is starting, stopping or recovering",
    "database_down": "the database server does not run",
    "database_tls": "TLS towards the database fails",
    "database_network": "the database server can't be reached over the network",
    "database_unreachable": "the database can't be used",
}


def database_of(host: Data) -> Data:
    """What the metadata database said to this host; nothing where the host was not asked."""
    metadata = host.get("seen", {}).get("metadata") or {}
    return {"refused": metadata["error"]} if error_of(metadata) else metadata.get("database", {})


def check_database(hosts: Data, expected: Data, limits: Data) -> Iterator[Result]:
    """The server as its own superuser sees it, and the database as each Airflow host does."""
    server: Data = {}
    down = False
    for name, host in hosts.items():
        found = host.get("seen", {}).get("server") or {}
        if not found:
            continue
        if re.search("TimeoutExpired|no answer within", error_of(found)):
            yield wrong(
                "database", name, "server", WARN, "has not answered in time", "database_slow", [found["error"]], [],
                "Look again; where it stays so, see what the host is busy with: systemd-cgtop on {0}".format(name))
        elif error_of(found):
            down = True
            yield server_down(name, found["error"], host["seen"]["units"])
        else:
            server = found
            yield from check_server(name, found, expected, limits)
    connected = None
    for name, host in hosts.items():
        found = database_of(host)
        if "unusable" in found or host.get("seen", {}).get("metadata", {}).get("broken"):
            said = host["seen"]["metadata"].get("broken") or found["unusable"]
            missing = "No such file" in said and "secrets" in said
            yield wrong("database", name, "virtualenv", CRITICAL,
                        "the virtualenv's Python can't ask the database" if not missing else "a secret is not there",
                        "configuration_missing" if missing else "virtualenv_broken", [said], CONFIGURE)
        if "refused" in found:
            cause = next((cause for cause, pattern in REFUSALS if re.search(pattern, found["refused"])),
                         "database_unreachable")
            # Where the server itself said that it is down, that is the cause.
            if not (cause == "database_down" and down):
                yield refusal(name, cause, found["refused"], server, expected)
        if "connected" in found and connected is None:
            connected = found
    if connected:
        yield from check_metadata(connected, server, hosts, expected, limits)


def server_down(name: str, said: str, units: Data) -> Result:
    states = {unit: state
              for unit, state in units.items() if unit.startswith("postgresql")} if not error_of(units) else {}
    evidence = [
        "{0} is {1}{2}".format(unit, state["active"], ": " + state["said"] if state["said"] else "")
        for unit, state in sorted(states.items()) if unit != "postgresql.service" or len(states) == 1
    ]
    return wrong("database", name, "server", CRITICAL, HEADLINES["database_down"], "database_down", [said, *evidence],
                 POSTGRES)


def check_server(name: str, server: Data, expected: Data, limits: Data) -> Iterator[Result]:
    used = sum(one["number"] for one in server["sessions"])
    free = server["max_connections"] - server["reserved"]
    role = server["roles"].get(expected["database"]["user"])
    text = "{0} of {1} connections in use".format(used, free)
    if used >= free * limits["connections"] / 100:
        yield wrong("database", name, "server", WARN, text, "database_full", sessions_told(server), [],
                    "Raise postgresql_connections and run playbooks/postgresql.yml.")
    else:
        yield fine("database", name, "server", text)
    if server["hba_errors"]:
        yield wrong(
            "database",
            name,
            "pg_hba.conf",
            CRITICAL,
            "has {0} that can't be read".format(several(server["hba_errors"], "line")),
            "database_hba",
            [],
            POSTGRES,
        )
    if role and not role["login"]:
        yield wrong("database", name, "role", CRITICAL,
                    HEADLINES["database_login"].format(user=expected["database"]["user"]), "database_login", [],
                    POSTGRES)


def sessions_told(server: Data) -> list[str]:
    return [
        "{number} by {user} from {client}{application}, {idle} of them idle".format(
            **{**one, "application": " ({0})".format(one["application"]) if one["application"] else ""})
        for one in server["sessions"][:3]
    ]


def refusal(name: str, cause: str, said: str, server: Data, expected: Data) -> Result:
    external, mend, advice = expected["database"]["external"], POSTGRES, ""
    evidence = [said]
    if cause == "database_connections":
        mend, advice = [], "Raise postgresql_connections and run playbooks/postgresql.yml."
        evidence += sessions_told(server) if server else []
        # Airflow's own sessions have no name; whoever has one and holds the most can be told to go.
        held = [
            one for one in server.get("sessions", [])
            if one["application"] not in ("", "airflow-health") and one["idle"]
        ]
        if held:
            mend = [
                "playbooks/runbooks/end_database_sessions.yml", "-e", "airflow_application=" + held[0]["application"],
                "-e", "airflow_confirm=" + held[0]["application"]
            ]
    elif external or cause in ("database_starting", "database_network", "database_tls"):
        mend = []
        advice = {
            "database_starting": "Wait; look again in a minute.",
            "database_network": "Security group, route and name of {host}, port {port}.".format(**expected["database"]),
            "database_tls": "airflow_database_sslmode and airflow_database_sslrootcert have to fit the server's "
                            "certificate.",
        }.get(
            cause,
            "The server is not of this inventory: mend it there, then set airflow_database_* and run "
            "playbooks/airflow.yml and services.yml."
        )
    return wrong("database", name, "connection", CRITICAL, HEADLINES[cause].format(user=expected["database"]["user"]),
                 cause, evidence, mend, advice)


def check_metadata(found: Data, server: Data, hosts: Data, expected: Data, limits: Data) -> Iterator[Result]:
    """What concerns the whole inventory, as the first host that got an answer heard it."""
    yield from check_locks(found, server, limits)
    slow = sorted(name for name, answer in found.items() if error_of(answer))
    if slow:
        yield wrong("database", "", "answers", WARN, "no answer to {0}".format(listed(slow)), "database_slow",
                    [error_of(found[slow[0]])], [],
                    "See what runs there: SELECT * FROM pg_stat_activity WHERE state <> 'idle'.")
    else:
        about = found["server"][0]
        text = "PostgreSQL {0}, {1}, answers in {2:.0f} ms".format(
            about["version"].split(" ")[0], size(about["bytes"]), 1000 * found["connected"]
        )
        if about["read_only"] or about["standby"]:
            yield wrong("database", "", "database", CRITICAL,
                        "takes no writes: it is {0}".format("a standby" if about["standby"] else "set to read-only"),
                        "database_full", [], [],
                        "Point airflow_database_host at the primary, or end the read-only mode.")
        else:
            yield fine("database", "", "database", text)
    yield from check_sessions(found, server, limits)
    yield check_migration(found, hosts)
    fernet = found["fernet"]
    if "unusable" in fernet:
        yield wrong("database", "", "Fernet key", CRITICAL, "can't be used", "fernet_key", [fernet["unusable"]],
                    CONFIGURE)
    elif error_of(fernet):
        # Told with the other questions that got no answer.
        return
    elif fernet["unreadable"]:
        given = expected["fernet_given"]
        yield wrong(
            "database", "", "Fernet key", CRITICAL,
            "does not open {0} of {1} encrypted values".format(len(fernet["unreadable"]), fernet["tried"]),
            "fernet_key", ["unreadable: " + listed(fernet["unreadable"])], CONFIGURE if given else [], "" if given else
            "Put the right key into fernet_key of the secrets directory on every Airflow host: backups have it, and "
            "the "
            "controller's copy or the newest fernet_key.<time> beside it (docs/secrets.md). Then playbooks/airflow.yml "
            "and services.yml."
        )
    elif fernet["tried"]:
        yield fine("database", "", "Fernet key",
                   "opens all of {0} encrypted values that were tried".format(fernet["tried"]))


def check_sessions(found: Data, server: Data, limits: Data) -> Iterator[Result]:
    """Connections, as Airflow's own role can count them, where the server could not be asked itself."""
    if server or error_of(found["sessions"]) or error_of(found["server"]):
        return
    used = sum(one["number"] for one in found["sessions"])
    free = found["server"][0]["max_connections"] - found["server"][0]["reserved"]
    text = "{0} of {1} connections in use".format(used, free)
    if used >= free * limits["connections"] / 100:
        yield wrong("database", "", "connections", WARN, text, "database_full", [
            "{number} by {user}{0}".format(" ({0})".format(one["application"]) if one["application"] else "", **one)
            for one in found["sessions"][:3]
        ], [], "Raise max_connections of the server (its parameter group in RDS), or find who holds so many.")
    else:
        yield fine("database", "", "connections", text)


def check_locks(found: Data, server: Data, limits: Data) -> Iterator[Result]:
    blocked, blockers = ([] if error_of(found[key]) else found[key] for key in ("blocked", "blockers"))
    # The server's superuser sees what other roles' sessions do.
    blockers = server.get("blockers") or blockers
    waiting = [one for one in blocked if one["seconds"] >= limits["lock"]]
    if not waiting:
        return
    # Who holds others up and is held up by nobody.
    first = [one for one in blockers if one["pid"] not in {other["pid"] for other in blocked}] or blockers
    evidence = ["session {pid} ({user} from {client}{app}, {state}) has a transaction open for {age}: {query}".format(
        app=", " + one["application"] if one["application"] else "", age=duration(one["seconds"]),
        **{key: one[key] for key in ("pid", "user", "client", "state", "query")}) for one in first[:2]]
    evidence += [
        "session {0} waits {1} for {2}".format(one["pid"], duration(one["seconds"]), one["query"])
        for one in waiting[:2]
    ]
    mend = ["playbooks/runbooks/end_database_sessions.yml", "-e", "airflow_pid={0}".format(first[0]["pid"]), "-e",
            "airflow_confirm={0}".format(first[0]["pid"])] if first else []
    yield wrong(
        "database", "", "locks", CRITICAL,
        "{0} for a lock".format("1 session waits" if len(waiting) == 1 else "{0} sessions wait".format(len(waiting))),
        "database_lock", evidence, mend)


def check_migration(found: Data, hosts: Data) -> Result:
    heads, expected = found["heads"], next((host["seen"]["metadata"]["expected"] for host in hosts.values()
                                            if (host.get("seen", {}).get("metadata") or {}).get("expected")), None)
    if error_of(heads) or not expected:
        return wrong("database", "", "schema", WARN, "nobody knows whether it is the one that Airflow expects",
                     "migration_unknown", [error_of(heads) or "no host has expected-heads.json"], CONFIGURE)
    missing = {table: wanted for table, wanted in expected.items() if heads.get(table) != wanted}
    if missing:
        return wrong("database", "", "schema", CRITICAL, "is not the one that Airflow expects", "migration_missing", [
            "{0} has {1}, expected is {2}".format(table, listed(heads.get(table, ["nothing"])), listed(wanted))
            for table, wanted in missing.items()
        ], CONFIGURE)
    return fine("database", "", "schema", "is the one that Airflow expects")


# ---- the backup ------------------------------------------------------------------------------------------------------


def check_backup(hosts: Data, now: float, limits: Data) -> list[Result]:
    """One line: the newest success of all hosts."""
    found = [(name, host["seen"]["backup"]) for name, host in hosts.items()
             if host.get("seen", {}).get("backup") and not error_of(host["seen"]["backup"])]
    mend = ["playbooks/runbooks/back_up_database.yml"]
    if not found:
        return [wrong("backup", "", "backup", WARN, "none has succeeded on these hosts", "backup_old", [], mend)]
    name, note = max(found, key=lambda one: one[1]["time"])
    age = now - from_iso(note["time"])
    told = "the last good one is {0} old, {1}, on {2}".format(duration(age), size(note.get("bytes", 0)), name)
    if age > limits["backup"] * 3600:
        return [wrong("backup", "", "backup", WARN, told, "backup_old", [], mend)]
    return [fine("backup", "", "backup", told)]


def from_iso(text: str) -> int:
    """Seconds since the epoch of an ISO 8601 time in UTC."""
    import calendar

    return calendar.timegm(tuple(int(part) for part in re.findall(r"\d+", text)[:6]))
