# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What observations mean: plain functions from what module airflow_health saw on all hosts to results, and from results to causes.

A result is a line of the report: OK, WARN or CRITICAL, and where it is not OK, the cause with its evidence and the command that mends it.
WARN is what will become a problem; CRITICAL is what does not work now. CAUSES says which cause explains which other, so that a database that is down
is named before the scheduler that therefore does not beat.
"""

from __future__ import annotations

import collections
import json
import os
import re

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import nearest

OK, WARN, CRITICAL = "OK", "WARN", "CRITICAL"

# section: where it stands in the report. what: the thing that was looked at. mend: what follows `ansible-playbook`, empty where no playbook can do it;
# then `advice` says what to do.
Result = collections.namedtuple("Result", "section host what status text cause evidence mend advice")

# Each cause, and the causes that follow from it, which come later in this list. An inventory-wide cause explains them on all hosts, any other on its own.
_WAITS = ["queue_waits"]
# Nobody parses DAG files, so that Airflow takes the DAGs for removed.
_UNPARSED = ["stale_dags", *_WAITS]
_SILENT = ["component_failing", "component_hung", "component_starting", "api_unwell", *_UNPARSED]
_NO_ANSWER = ["database_slow", "migration_unknown", *_SILENT]
_NO_DATABASE = ["database_unreachable", *_NO_ANSWER]
CAUSES = {
    "unreachable": _NO_DATABASE,
    "not_asked": [],
    "disk_read_only": ["database_down", "component_stopped", *_NO_DATABASE],
    "disk_full": ["database_down", "component_stopped", *_NO_DATABASE],
    "inodes_used_up": ["database_down", "component_stopped", *_NO_DATABASE],
    "memory_used_up": ["database_down", "component_stopped", *_SILENT],
    "clock": [*_SILENT],
    "database_down": [*_NO_DATABASE, "backup_old"],
    "database_connections": [*_NO_DATABASE, "database_full"],
    "database_login": _NO_DATABASE,
    "database_hba": _NO_DATABASE,
    "database_password": _NO_DATABASE,
    "database_missing": _NO_DATABASE,
    "database_tls": _NO_DATABASE,
    "database_network": _NO_DATABASE,
    "database_starting": _NO_DATABASE,
    "configuration_missing": ["component_stopped", "secrets_not_taken_over", *_NO_DATABASE],
    "database_unreachable": _NO_ANSWER,
    "database_lock": _NO_ANSWER,
    "database_full": [],
    "database_slow": _WAITS,
    "virtualenv_broken": ["component_stopped", "component_stale", "fernet_key", "migration_unknown", *_SILENT],
    "migration_missing": ["component_stopped", *_SILENT],
    "migration_unknown": [],
    "directory_not_writable": ["component_stopped", *_SILENT],
    "fernet_key": ["secrets_not_taken_over", *_WAITS],
    "secrets_differ": ["secrets_not_taken_over", *_WAITS],
    "secrets_overridden": _WAITS,
    "secrets_not_taken_over": ["component_stale", *_WAITS],
    "versions_differ": ["component_stale"],
    "bind_address": ["component_failing", "component_starting", "api_unwell", "component_stale", "proxy_unwell", *_WAITS],
    "component_missing": _UNPARSED,
    "component_stopped": ["api_unwell", "proxy_unwell", "target_disabled", *_UNPARSED],
    "component_frozen": ["component_hung", "api_unwell", "proxy_unwell", *_UNPARSED],
    "component_failing": ["api_unwell", "proxy_unwell", *_UNPARSED],
    "component_hung": _UNPARSED,
    "component_starting": ["api_unwell", "proxy_unwell", "stale_dags"],
    "api_unwell": ["proxy_unwell", *_WAITS],
    "component_stale": [],
    "target_disabled": [],
    "drained": [],
    "proxy_stopped": ["proxy_unwell"],
    "certificate": [],
    "proxy_unwell": [],
    "release_differs": ["import_error", "missing_package", "stale_dags"],
    "missing_package": ["stale_dags"],
    "import_error": ["stale_dags"],
    "stale_dags": _WAITS,
    "pool_full": _WAITS,
    "slots_full": _WAITS,
    "paused_runs": [],
    "queue_waits": [],
    "aws": [],
    "release_touched": [],
    "backup_old": [],
    "watchdog": [],
    "failed_tasks": [],
    "failed_units": [],
    # About the DAG or task that diagnose was asked for.
    "dag_unknown": [],
    "dag_ignored": [],
    "dag_paused": [],
    "dag_limit": [],
    "task_state": [],
}
RANK = {cause: rank for rank, cause in enumerate(CAUSES)}
EVERYWHERE = re.compile(r"database_|migration_|pool_|slots_|paused_|fernet_key|secrets_differ|versions_differ|release_differs")

# Seconds after which every DAG of a release that was put in place has been parsed: a deploy waits as long by default.
PARSED = 120
# Seconds of silence after which runbook clear_stuck_tasks, run as it is, takes a task for stuck.
STUCK = 900

CONFIGURE = ["playbooks/airflow.yml", "playbooks/services.yml"]
SERVICES = ["playbooks/services.yml"]
POSTGRES = ["playbooks/postgres.yml"]

# What the driver says, and which cause that is.
REFUSALS = [
    ("database_password", r"password authentication failed|no password supplied|SCRAM"),
    ("database_hba", r"no pg_hba\.conf entry|pg_hba\.conf rejects"),
    ("database_connections", r"too many connections|too many clients|remaining connection slots|no more connections allowed"),
    ("database_login", r"not permitted to log in|permission denied for database|not currently accepting connections"),
    ("database_missing", r"(database|role) \"[^\"]*\" does not exist"),
    ("database_starting", r"starting up|shutting down|recovery mode|not yet accepting"),
    ("database_down", r"Connection refused|No such file or directory"),
    ("database_tls", r"\bSSL\b|certificate"),
    ("database_network", r"could not translate host name|timeout|timed out|No route to host|unreachable|no answer within"),
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
# What a component's last words tell.
LAST_WORDS = [
    ("bind_address", r"Cannot assign requested address|Address already in use|Can't connect to \("),
    ("virtualenv_broken", r"ModuleNotFoundError|ImportError|No module named"),
    ("directory_not_writable", r"PermissionError|Permission denied|Read-only file system"),
    ("disk_full", r"No space left on device"),
]


# ---- words -------------------------------------------------------------------------------------------------------------------------


def duration(seconds):
    """A span of time, as people say it."""
    seconds = int(seconds or 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return "{0} {1}".format(seconds // size, unit)
    return "{0} s".format(seconds)


def size(number):
    """Bytes, as people say it."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if number >= 1000 ** power:
            return "{0:.1f} {1}".format(number / 1000 ** power, unit)
    return "{0} B".format(int(number))


def several(number, word):
    return "{0} {1}{2}".format(number, word, "" if number == 1 else "s")


def listed(items, most=3):
    items = [str(item) for item in items]
    return ", ".join(items[:most]) + (" and {0} more".format(len(items) - most) if len(items) > most else "")


def fine(section, host, what, text):
    return Result(section, host, what, OK, text, "", (), (), "")


def wrong(section, host, what, status, text, cause, evidence=(), mend=(), advice=""):
    return Result(section, host, what, status, text, cause, tuple(line for line in evidence if line), tuple(mend), advice)


def error_of(answer):
    """Why a question has no answer; nothing where it has one."""
    return answer.get("error", "") if isinstance(answer, dict) else ""


# ---- a host ------------------------------------------------------------------------------------------------------------------------


def check_host(name, host, now, limits):
    """What concerns the machine."""
    if host.get("unreachable"):
        yield wrong("hosts", name, "host", CRITICAL, "can't be reached", "unreachable", [host["unreachable"]], [],
                    "Is it up, and do its security group and SSH key let you in? aws ec2 describe-instance-status, or its console.")
        return
    if host.get("failed"):
        said = host["failed"]
        if re.search(r"usable temporary directory|No space left", said):
            yield wrong("hosts", name, "disk", CRITICAL, "no directory that Ansible can write to", "disk_full", [said],
                        *free_space(name, {"paths": ["/"]}, {})[:2])
        else:
            yield wrong("hosts", name, "host", CRITICAL, "could not be asked", "not_asked", [said], [], "Mend what it says: sudo, Python or the connection.")
        return
    seen = host["seen"]
    machine, memory = seen["host"], seen["memory"]
    parts = []
    if not error_of(machine):
        parts += ["up " + duration(machine["uptime"]), "load {0} on {1}".format(machine["load"], several(machine["cpus"], "core"))]
    if not error_of(memory):
        parts.append("memory {0} of {1} free".format(size(memory["available"]), size(memory["total"])))
    if not error_of(seen.get("releases", {})) and seen["releases"].get("airflow"):
        parts.append("Airflow " + seen["releases"]["airflow"])
    yield fine("hosts", name, "host", ", ".join(parts))
    if not error_of(memory) and memory["available"] < memory["total"] * limits["memory"] / 100:
        yield wrong("hosts", name, "memory", CRITICAL, "{0} of {1} left".format(size(memory["available"]), size(memory["total"])), "memory_used_up",
                    [], [], "Find what takes it (systemd-cgtop -m on the host); lower airflow_parallelism, or take a larger host.")
    yield from check_disks(name, seen["disks"], host["components"], limits)
    yield from check_clock(name, seen, now, limits)
    for directory in (seen["owners"].values() if not error_of(seen["owners"]) and host["components"] else ()):
        if not directory["writable"]:
            yield wrong("hosts", name, "directory", CRITICAL, "the components can't write to {0}".format(directory["path"]), "directory_not_writable",
                        ["its owner has the number {0}, its mode is {1}".format(directory["owner"], directory["mode"].replace("0o", "0"))], CONFIGURE)
    # Those that have a line of their own are judged there.
    others = [unit for unit in (seen["failed_units"] if isinstance(seen["failed_units"], list) else []) if unit not in seen["units"]]
    if others:
        yield wrong("hosts", name, "units", WARN, "failed: " + listed(others), "failed_units", [], [], "systemctl status {0} on {1}".format(others[0], name))


def free_space(name, disk, components):
    """(mend, advice, evidence) for a disk that is full."""
    if "/" not in disk["paths"] and "/tmp" in disk["paths"]:
        held = {component: disk["private"].get(one["unit"] + ".service", 0) for component, one in components.items()} if "private" in disk else {}
        component = max(held, key=held.get, default="")
        if component and held[component] > disk["bytes"] / 5:
            return restart(component, name), "", "{0} of it are in the private /tmp of {1}".format(size(held[component]), components[component]["unit"])
        return [], "See what fills it: du -xah /tmp | sort -h | tail -n 20 on {0}".format(name), ""
    return ["playbooks/runbooks/free_disk_space.yml", "-e", "airflow_confirm=" + name], "", ""


def check_disks(name, disks, components, limits):
    if error_of(disks):
        yield wrong("hosts", name, "disk", CRITICAL, "can't be asked", "not_asked", [disks["error"]], [], "Is a network file system dead? df on the host.")
        return
    for disk in disks:
        where = disk_name(disk["paths"])
        used = 100 - 100 * disk["free"] / max(disk["bytes"], 1)
        # Some file systems count no inodes.
        inodes = 100 - 100 * disk["inodes_free"] / disk["inodes"] if disk["inodes"] else 0
        mend, advice, holder = free_space(name, disk, components)
        told = "{0} has {1} of {2} free".format(where, size(disk["free"]), size(disk["bytes"]))
        if disk["read_only"]:
            yield wrong("hosts", name, "disk", CRITICAL, where + " is mounted read-only", "disk_read_only", [], [],
                        "The kernel does that after an error: dmesg on the host, then replace the volume.")
        elif used >= limits["disk_full"]:
            yield wrong("hosts", name, "disk", CRITICAL, "{0} is full".format(where), "disk_full", [told, holder], mend, advice)
        elif inodes >= limits["disk_full"]:
            yield wrong("hosts", name, "disk", CRITICAL, "{0} has no inode left for another file".format(where), "inodes_used_up",
                        ["{0} of {1} are free".format(disk["inodes_free"], disk["inodes"])], mend, advice)
        elif max(used, inodes) >= limits["disk"]:
            yield wrong("hosts", name, "disk", WARN, "{0} {1:.0f} % used".format(told, max(used, inodes)), "disk_full", [holder], mend, advice)
        else:
            yield fine("hosts", name, "disk", told)


def disk_name(paths):
    """The directories of ours that make a file system worth a line; the root where it holds them all."""
    return "/" if "/" in paths else listed(sorted(paths), 2)


def ahead_of_database(seen):
    """Return the seconds that the host's clock is ahead of the database's; nothing if the host could not ask it."""
    database = seen["metadata"].get("database", {}) if not error_of(seen["metadata"]) else {}
    if isinstance(database.get("clock"), list) and "host_clock" in database:
        return database["host_clock"] - database["clock"][0]["now"]
    return None


def check_clock(name, seen, now, limits):
    machine = seen["host"]
    if error_of(machine):
        return
    # The controller has waited for the slowest host since, so only minutes count against it. A database on the same host has the same clock.
    skews = [("the controller", machine["time"] - now, limits["clock"] + 60)]
    ahead = ahead_of_database(seen)
    if ahead is not None:
        skews.append(("the database server", ahead, limits["clock"]))
    wrongs = ["{0} {1} {2}".format(duration(abs(skew)), "ahead of" if skew > 0 else "behind", against)
              for against, skew, allowed in skews if abs(skew) > allowed]
    kept = seen["clock"].get("NTP"), seen["clock"].get("NTPSynchronized")
    if wrongs:
        yield wrong("hosts", name, "clock", CRITICAL, " and ".join(wrongs), "clock", ["kept by NTP: " + (kept[1] or "unknown")], [],
                    "Tokens and heartbeats fail. Have chrony run on {0}: apt install chrony; chronyc makestep".format(name))
    # A service that has just started asks for some minutes. Where there is none, somebody else keeps the clock, as in a container.
    elif kept == ("yes", "no") and machine["uptime"] > 900:
        yield wrong("hosts", name, "clock", WARN, "is not synchronised, although a time service runs", "clock", [], [],
                    "Its servers may be out of reach: chronyc sources, or timedatectl timesync-status, on {0}".format(name))


# ---- components --------------------------------------------------------------------------------------------------------------------


def check_components(name, host, jobs, limits, expected):
    """A line for each component that the inventory has here. jobs: seconds since the heartbeat of a job, by its number and by (type, host name); None where
    nobody knows."""
    if "seen" not in host or not host["components"]:
        return
    seen, units = host["seen"], host["seen"]["units"]
    if error_of(units):
        yield wrong("components", name, "systemd", CRITICAL, "can't be asked", "not_asked", [units["error"]], [], "systemctl is-system-running on the host")
        return
    for component_name, component in host["components"].items():
        unit = units.get(component["unit"] + ".service", {"load": "not-found"})
        yield judge_component(name, component_name, component, unit, seen, jobs, limits, expected)
    if error_of(seen["drift"]):
        yield wrong("components", name, "files", WARN, "nobody can tell what the components were started with", "not_asked", [seen["drift"]["error"]],
                    CONFIGURE)
    target = units.get("airflow.target", {})
    if target.get("enabled") != "enabled":
        yield wrong("components", name, "airflow.target", CRITICAL, "is not enabled: nothing starts when the host does", "target_disabled",
                    ["systemctl is-enabled airflow.target: {0}".format(target.get("enabled") or "not-found")], SERVICES)


def judge_component(name, component_name, component, unit, seen, jobs, limits, expected):
    label = component["unit"]
    service = label + ".service"

    def no(status, text, cause, evidence=(), mend=(), advice=""):
        return wrong("components", name, label, status, text, cause, evidence, mend, advice)

    if unit["load"] in ("not-found", "bad-setting", "error"):
        return no(CRITICAL, "has no unit that systemd can read ({0})".format(unit["load"]), "component_missing", [], SERVICES)
    if unit["load"] == "masked":
        return no(CRITICAL, "is masked, so nothing can start it", "component_stopped", [], [],
                  "systemctl unmask {0} on {1}, then playbooks/services.yml".format(service, name))
    if seen["drained"] and unit["active"] == "inactive":
        return no(WARN, "is drained", "drained", [seen["drained"]], ["playbooks/runbooks/undrain_host.yml", "-e", "airflow_confirm=" + name])
    since, last = duration(unit["since"]), [unit["said"] and "its journal: " + unit["said"]]
    address = wrong_address(component_name, expected, seen["listeners"])
    if unit["active"] in ("inactive", "failed"):
        text = "stopped {0} ago".format(since) if unit["since"] else "does not run"
        if unit["result"] not in ("success", ""):
            text += " ({0}, status {1})".format(unit["result"], unit["status"])
        return no(CRITICAL, text, by_last_words(unit["said"], "component_stopped"), last, SERVICES)
    if address and unit["active"] != "deactivating":
        return no(CRITICAL, address, "bind_address", ["airflow_api_host is {host}, airflow_api_port {port}".format(**expected["api"]), *last], CONFIGURE)
    if unit["active"] == "deactivating":
        return no(WARN, "stops since {0}: it waits for its running tasks".format(since), "component_starting", [], [], "Wait, or see which tasks run.")
    if unit["active"] != "active":
        # One that died with its database comes back by itself; one that dies again and again does not.
        if unit["restarts"] < 3 and (unit["started"] or 0) < limits["start"] and unit["sub"] != "auto-restart":
            return no(WARN, "starts since {0}".format(duration(unit["started"])), "component_starting", last, [], "Look again in half a minute.")
        cause = by_last_words(unit["said"], "component_failing")
        return no(CRITICAL, "does not come up ({0}, {1} so far)".format(unit["sub"], several(unit["restarts"], "restart")), cause, last,
                  CONFIGURE)
    beat = heartbeat(component_name, component, seen, jobs)
    if unit["frozen"]:
        return no(CRITICAL, "is alive and does nothing: its process is stopped (SIGSTOP)", "component_frozen",
                  ["active since {0}, its process has state T".format(since), beat is not None and "last heartbeat {0} ago".format(duration(beat))],
                  recover(component_name, name))
    if "job_type" in component and jobs is not None:
        young = (unit["started"] or 0) < limits["start"]
        if beat is None or beat > limits["heartbeat"]:
            if young:
                return no(WARN, "started {0} ago, no heartbeat yet".format(duration(unit["started"])), "component_starting", [], [],
                          "Look again in half a minute.")
            return no(CRITICAL, "is alive and does not beat", "component_hung",
                      ["active since {0}, {1}".format(since, "last heartbeat {0} ago".format(duration(beat)) if beat is not None else "no heartbeat at all")],
                      recover(component_name, name))
    answer = seen["answers"].get(component_name, {}) if not error_of(seen["answers"]) else {}
    problem = answer_problem(component["check"], answer)
    if problem:
        young = (unit["started"] or 0) < limits["start"]
        return no(WARN if young else CRITICAL, problem, "component_starting" if young else "api_unwell", last, recover(component_name, name))
    stale = judge_drift(name, component_name, label, seen)
    if stale:
        return stale
    parts = ["runs " + since]
    if unit["restarts"]:
        parts.append("restarted {0} by systemd".format("once" if unit["restarts"] == 1 else "{0} times".format(unit["restarts"])))
    parts.append("last heartbeat {0} ago".format(duration(beat)) if beat is not None else "answers")
    return fine("components", name, label, ", ".join(parts))


def recover(component_name, name):
    """The scheduler's running tasks are worth a runbook of their own."""
    if component_name == "scheduler":
        return ["playbooks/runbooks/recover_scheduler.yml", "-e", "airflow_confirm=" + name]
    return restart(component_name, name)


def restart(component_name, name):
    return ["playbooks/runbooks/restart_airflow.yml", "-e", "airflow_component=" + component_name, "--limit", name]


def by_last_words(said, otherwise):
    return next((cause for cause, pattern in LAST_WORDS if re.search(pattern, said or "")), otherwise)


def heartbeat(component_name, component, seen, jobs):
    """Seconds since the component has beaten: in the row that it was seen to beat in, whatever name Airflow gives the host, else under the host's name."""
    if "job_type" not in component or jobs is None or error_of(seen["host"]):
        return None
    beats = seen["beats"] if not error_of(seen["beats"]) else {}
    age = jobs.get(beats[component_name] if component_name in beats else (component["job_type"], seen["host"]["name"]))
    # The database has subtracted a time of the host's clock from a time of its own.
    return age if age is None else age + (ahead_of_database(seen) or 0)


def wrong_address(component_name, expected, listeners):
    """Where the API server listens, if that is not where it should."""
    if component_name not in ("api-server", "webserver") or error_of(listeners):
        return ""
    wanted, port = expected["api"]["host"], str(expected["api"]["port"])
    found = listeners.get(port, [])
    same = {wanted, "::" if wanted == "0.0.0.0" else wanted}
    return "listens on {0}, not on {1}, port {2}".format(listed(found), wanted, port) if found and not same & set(found) else ""


def answer_problem(check, answer):
    """What is wrong with what a health endpoint says. The API server's is always 200: its body tells."""
    if not check.get("url") or not answer:
        return ""
    if error_of(answer):
        return "does not answer at {0}: {1}".format(check["url"], answer["error"])
    if answer["status"] >= 400:
        return "{0} answers {1}".format(check["url"], answer["status"])
    if check["kind"] == "body":
        value = answer.get("body")
        for key in check["path"]:
            value = value.get(key) if isinstance(value, dict) else None
        if value != check["value"]:
            return "says that {0} is {1}".format(".".join(check["path"]), value)
    return ""


def judge_drift(name, component_name, label, seen):
    """A component that runs on other files than those that lie there."""
    found = seen["drift"].get(component_name)
    if error_of(seen["drift"]) or not found or not found["due"]:
        return None
    if found["missing"]:
        return wrong("components", name, label, CRITICAL, "runs, but could not start again: {0} is not there".format(listed(found["missing"])),
                     "configuration_missing", [], CONFIGURE)
    kept = [os.path.basename(path) for path in found["changed"] if "/secrets/" in path]
    others = [path for path in found["changed"] if "/secrets/" not in path]
    if kept:
        return wrong("components", name, label, CRITICAL, "runs with another {0} than the file has".format(" and ".join(sorted(kept))),
                     "secrets_not_taken_over",
                     ["the file changed after {0} had started; whoever has started since signs with the new one".format(label)], SERVICES)
    text = "runs on an older " + listed(others) if others else "was not started with what lies on the disk now"
    return wrong("components", name, label, WARN, text, "component_stale", [], SERVICES)


def check_overrides(name, host):
    """A component that has a secret of its own in its environment, where the others read the file."""
    if "seen" not in host or error_of(host["seen"]["units"]):
        return
    for unit_name, unit in host["seen"]["units"].items():
        if unit.get("overrides"):
            yield wrong("components", name, unit_name.replace(".service", ""), CRITICAL,
                        "has {0} in its environment, so it does not use the secret that the others do".format(listed(sorted(unit["overrides"]))),
                        "secrets_overridden", ["drop-ins: " + listed(unit["drop_ins"])] if unit["drop_ins"] else [], [],
                        "Take it out of {0} on {1} (systemctl edit {2}), then playbooks/services.yml".format(
                            listed(unit["drop_ins"]) or "/etc/airflow/environment", name, unit_name))


# ---- the proxy ---------------------------------------------------------------------------------------------------------------------


def check_proxy(name, host, now, limits):
    if "seen" not in host or not host["seen"].get("proxy"):
        return
    proxy, mend = host["seen"]["proxy"], ["playbooks/proxy.yml"]
    unit = host["seen"]["units"].get("nginx.service", {}) if not error_of(host["seen"]["units"]) else {}
    if unit.get("active") != "active":
        yield wrong("proxy", name, "nginx", CRITICAL, "does not run ({0})".format(unit.get("active", "unknown")), "proxy_stopped", [unit.get("said")], mend)
    elif error_of(proxy) or proxy.get("status", 0) >= 500:
        yield wrong("proxy", name, "nginx", CRITICAL, "answers {0}".format(proxy["status"]) if "status" in proxy else "does not answer", "proxy_unwell",
                    [error_of(proxy)], mend)
    else:
        yield fine("proxy", name, "nginx", "answers {0}".format(proxy["status"]))
    if error_of(proxy):
        return
    left = proxy["expires"] - now
    if left < 0:
        yield wrong("proxy", name, "certificate", CRITICAL, "expired {0} ago".format(duration(-left)), "certificate", [proxy["subject"]], mend)
    elif left < limits["certificate"] * 86400:
        yield wrong("proxy", name, "certificate", WARN, "expires in {0}".format(duration(left)), "certificate", [proxy["subject"]], mend)
    else:
        yield fine("proxy", name, "certificate", "good for {0}".format(duration(left)))


# ---- the database ------------------------------------------------------------------------------------------------------------------


def database_of(host):
    """What the metadata database said to this host; nothing where the host was not asked."""
    metadata = host.get("seen", {}).get("metadata") or {}
    return {"refused": metadata["error"]} if error_of(metadata) else metadata.get("database", {})


def check_database(hosts, expected, limits):
    """The server as its own superuser sees it, and the database as each Airflow host does."""
    server = {}
    down = False
    for name, host in hosts.items():
        found = host.get("seen", {}).get("server") or {}
        if not found:
            continue
        if re.search("TimeoutExpired|no answer within", error_of(found)):
            yield wrong("database", name, "server", WARN, "has not answered in time", "database_slow", [found["error"]], [],
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
            yield wrong("database", name, "virtualenv", CRITICAL, "the virtualenv's Python can't ask the database" if not missing else "a secret is not there",
                        "configuration_missing" if missing else "virtualenv_broken", [said],
                        CONFIGURE)
        if "refused" in found:
            cause = next((cause for cause, pattern in REFUSALS if re.search(pattern, found["refused"])), "database_unreachable")
            # Where the server itself said that it is down, that is the cause.
            if not (cause == "database_down" and down):
                yield refusal(name, cause, found["refused"], server, expected)
        if "connected" in found and connected is None:
            connected = found
    if connected:
        yield from check_metadata(connected, server, hosts, expected, limits)


def server_down(name, said, units):
    states = {unit: state for unit, state in units.items() if unit.startswith("postgresql")} if not error_of(units) else {}
    evidence = ["{0} is {1}{2}".format(unit, state["active"], ": " + state["said"] if state["said"] else "") for unit, state in sorted(states.items())
                if unit != "postgresql.service" or len(states) == 1]
    return wrong("database", name, "server", CRITICAL, HEADLINES["database_down"], "database_down", [said, *evidence], POSTGRES)


def check_server(name, server, expected, limits):
    used = sum(one["number"] for one in server["sessions"])
    free = server["max_connections"] - server["reserved"]
    role = server["roles"].get(expected["database"]["user"])
    text = "{0} of {1} connections in use".format(used, free)
    if used >= free * limits["connections"] / 100:
        yield wrong("database", name, "server", WARN, text, "database_full", sessions_told(server), [],
                    "Raise postgresql_connections and run playbooks/postgres.yml.")
    else:
        yield fine("database", name, "server", text)
    if server["hba_errors"]:
        yield wrong("database", name, "pg_hba.conf", CRITICAL, "has {0} that can't be read".format(several(server["hba_errors"], "line")), "database_hba", [],
                    POSTGRES)
    if role and not role["login"]:
        yield wrong("database", name, "role", CRITICAL, HEADLINES["database_login"].format(user=expected["database"]["user"]), "database_login", [], POSTGRES)


def sessions_told(server):
    return ["{number} by {user} from {client}{application}, {idle} of them idle".format(**{
        **one, "application": " ({0})".format(one["application"]) if one["application"] else ""}) for one in server["sessions"][:3]]


def refusal(name, cause, said, server, expected):
    external, mend, advice = expected["database"]["external"], POSTGRES, ""
    evidence = [said]
    if cause == "database_connections":
        mend, advice = [], "Raise postgresql_connections and run playbooks/postgres.yml."
        evidence += sessions_told(server) if server else []
        # Airflow's own sessions have no name; whoever has one and holds the most can be told to go.
        held = [one for one in server.get("sessions", []) if one["application"] not in ("", "airflow-health") and one["idle"]]
        if held:
            mend = ["playbooks/runbooks/end_database_sessions.yml", "-e", "airflow_application=" + held[0]["application"],
                    "-e", "airflow_confirm=" + held[0]["application"]]
    elif external or cause in ("database_starting", "database_network", "database_tls"):
        mend = []
        advice = {
            "database_starting": "Wait; look again in a minute.",
            "database_network": "Security group, route and name of {host}, port {port}.".format(**expected["database"]),
            "database_tls": "airflow_database_sslmode and airflow_database_sslrootcert have to fit the server's certificate.",
        }.get(cause, "The server is not of this inventory: mend it there, then set airflow_database_* and run playbooks/airflow.yml and services.yml.")
    return wrong("database", name, "connection", CRITICAL, HEADLINES[cause].format(user=expected["database"]["user"]), cause, evidence, mend, advice)


def check_metadata(found, server, hosts, expected, limits):
    """What concerns the whole inventory, as the first host that got an answer heard it."""
    yield from check_locks(found, server, limits)
    slow = sorted(name for name, answer in found.items() if error_of(answer))
    if slow:
        yield wrong("database", "", "answers", WARN, "no answer to {0}".format(listed(slow)), "database_slow", [error_of(found[slow[0]])], [],
                    "See what runs there: SELECT * FROM pg_stat_activity WHERE state <> 'idle'.")
    else:
        about = found["server"][0]
        text = "PostgreSQL {0}, {1}, answers in {2:.0f} ms".format(about["version"].split(" ")[0], size(about["bytes"]), 1000 * found["connected"])
        if about["read_only"] or about["standby"]:
            yield wrong("database", "", "database", CRITICAL, "takes no writes: it is {0}".format("a standby" if about["standby"] else "set to read-only"),
                        "database_full", [], [], "Point airflow_database_host at the primary, or end the read-only mode.")
        else:
            yield fine("database", "", "database", text)
    yield from check_sessions(found, server, limits)
    yield check_migration(found, hosts)
    fernet = found["fernet"]
    if "unusable" in fernet:
        yield wrong("database", "", "Fernet key", CRITICAL, "can't be used", "fernet_key", [fernet["unusable"]], CONFIGURE)
    elif error_of(fernet):
        # Told with the other questions that got no answer.
        return
    elif fernet["unreadable"]:
        given = expected["fernet_given"]
        yield wrong("database", "", "Fernet key", CRITICAL, "does not open {0} of {1} encrypted values".format(len(fernet["unreadable"]), fernet["tried"]),
                    "fernet_key",
                    ["unreadable: " + listed(fernet["unreadable"])], CONFIGURE if given else [],
                    "" if given else "Put the right key into fernet_key of the secrets directory on every Airflow host: backups have it, and the "
                    "controller's copy or the newest fernet_key.<time> beside it (docs/secrets.md). Then playbooks/airflow.yml and services.yml.")
    elif fernet["tried"]:
        yield fine("database", "", "Fernet key", "opens all of {0} encrypted values that were tried".format(fernet["tried"]))


def check_sessions(found, server, limits):
    """Connections, as Airflow's own role can count them, where the server could not be asked itself."""
    if server or error_of(found["sessions"]) or error_of(found["server"]):
        return
    used = sum(one["number"] for one in found["sessions"])
    free = found["server"][0]["max_connections"] - found["server"][0]["reserved"]
    text = "{0} of {1} connections in use".format(used, free)
    if used >= free * limits["connections"] / 100:
        yield wrong("database", "", "connections", WARN, text, "database_full", [
            "{number} by {user}{0}".format(" ({0})".format(one["application"]) if one["application"] else "", **one) for one in found["sessions"][:3]], [],
            "Raise max_connections of the server (its parameter group in RDS), or find who holds so many.")
    else:
        yield fine("database", "", "connections", text)


def check_locks(found, server, limits):
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
    evidence += ["session {0} waits {1} for {2}".format(one["pid"], duration(one["seconds"]), one["query"]) for one in waiting[:2]]
    mend = ["playbooks/runbooks/end_database_sessions.yml", "-e", "airflow_pid={0}".format(first[0]["pid"]), "-e",
            "airflow_confirm={0}".format(first[0]["pid"])] if first else []
    yield wrong("database", "", "locks", CRITICAL,
                "{0} for a lock".format("1 session waits" if len(waiting) == 1 else "{0} sessions wait".format(len(waiting))), "database_lock", evidence, mend)


def check_migration(found, hosts):
    heads, expected = found["heads"], next((host["seen"]["metadata"]["expected"] for host in hosts.values()
                                            if (host.get("seen", {}).get("metadata") or {}).get("expected")), None)
    if error_of(heads) or not expected:
        return wrong("database", "", "schema", WARN, "nobody knows whether it is the one that Airflow expects", "migration_unknown",
                     [error_of(heads) or "no host has expected-heads.json"], CONFIGURE)
    missing = {table: wanted for table, wanted in expected.items() if heads.get(table) != wanted}
    if missing:
        return wrong("database", "", "schema", CRITICAL, "is not the one that Airflow expects", "migration_missing",
                     ["{0} has {1}, expected is {2}".format(table, listed(heads.get(table, ["nothing"])), listed(wanted)) for table,
                      wanted in missing.items()], CONFIGURE)
    return fine("database", "", "schema", "is the one that Airflow expects")


# ---- whether hosts agree -----------------------------------------------------------------------------------------------------------


def check_agreement(hosts, expected):
    seen = {name: host["seen"] for name, host in hosts.items() if "seen" in host and host["components"]}
    yield from check_secrets({name: one["secrets"] for name, one in seen.items()})
    releases = {name: one["releases"] for name, one in seen.items() if not error_of(one["releases"])}
    for name, one in seen.items():
        if error_of(one["releases"]):
            yield wrong("agreement", name, "releases", CRITICAL, "can't be read", "virtualenv_broken", [one["releases"]["error"]],
                        CONFIGURE)
    for name, release in releases.items():
        if not release["airflow"]:
            yield wrong("agreement", name, "virtualenv", CRITICAL, "{0} is no complete virtualenv".format(release["venv"]), "virtualenv_broken", [],
                        CONFIGURE)
        elif release["missing"]:
            yield wrong("agreement", name, "virtualenv", CRITICAL, "lacks {0} of its packages".format(len(release["missing"])), "virtualenv_broken",
                        [listed(release["missing"])], [],
                        "systemctl stop airflow.target 'airflow*'; rm /opt/airflow/venvs/{0}/release.json on {1}, "
                        "then site.yml builds it anew.".format(release["venv"], name))
    versions = {release["airflow"] for release in releases.values() if release["airflow"]}
    if len(versions) > 1 or versions and versions != {expected["version"]}:
        yield wrong("agreement", "", "version", CRITICAL if len(versions) > 1 else WARN, "Airflow {0} on the hosts, {1} in the inventory".format(
            listed(sorted(versions)), expected["version"]), "versions_differ",
            ["{0}: {1}".format(name, release["venv"]) for name, release in releases.items()], ["site.yml"])
    elif versions:
        yield fine("agreement", "", "version",
                   "Airflow {0} everywhere, virtualenv {1}".format(expected["version"], listed(sorted({r["venv"] for r in releases.values()}))))
    yield from check_dag_releases(releases)


def check_secrets(secrets):
    found = {name: one for name, one in secrets.items() if not error_of(one)}
    kinds = sorted({kind for one in found.values() for kind in one})
    for kind in kinds:
        values = {name: one.get(kind, {}) for name, one in found.items()}
        empty = [name for name, value in values.items() if value.get("empty", True)]
        if empty:
            yield wrong("agreement", listed(empty), "secrets", CRITICAL, "{0} is empty or not there".format(kind), "configuration_missing", [], CONFIGURE)
        by_hash = collections.Counter(value.get("hash") for value in values.values() if value)
        if len(by_hash) > 1:
            usual = by_hash.most_common(1)[0][0]
            odd = sorted(name for name, value in values.items() if value.get("hash") != usual)
            yield wrong("agreement", "", "secrets", CRITICAL, "{0} is not the same on all hosts: {1} differs".format(kind, listed(odd)), "secrets_differ", [],
                        CONFIGURE)
    if len(found) > 1:
        yield fine("agreement", "", "secrets", "compared on {0}".format(several(len(found), "host")))


def check_dag_releases(releases):
    active = collections.Counter(release["dags"] for release in releases.values())
    if not active:
        return
    recorded = collections.Counter(release["recorded"] for release in releases.values() if release["recorded"]).most_common(1)
    wanted = recorded[0][0] if recorded else active.most_common(1)[0][0]
    odd = sorted(name for name, release in releases.items() if release["dags"] != wanted)
    if odd:
        held = all(wanted in release["releases"] for release in releases.values())
        yield wrong("agreement", "", "DAG release", CRITICAL, "{0} on {1}; the last deploy brought {2}".format(
            listed(sorted({releases[name]["dags"] or "none" for name in odd})), listed(odd), wanted), "release_differs", [],
            ["playbooks/rollback_dags.yml", "-e", "airflow_release=" + wanted] if held else ["playbooks/deploy_dags.yml"])
    else:
        one = next(iter(releases.values()))
        yield fine("agreement", "", "DAG release",
                   "{0}{1}, since {2}".format(wanted, " ({0})".format(one["source"]) if one.get("source") else "", one.get("when")))
    touched = {name: release["touched"] for name, release in releases.items() if release.get("touched")}
    for name, files in touched.items():
        yield wrong("agreement", name, "DAG release", WARN, "was changed by hand: {0}".format(listed(files)), "release_touched", [], [],
                    "Bring the change into your DAGs' repository and deploy it; another release takes the place of this one.")


# ---- DAGs and tasks ----------------------------------------------------------------------------------------------------------------


def check_work(found, hosts, expected):
    """Queue, pools, DAGs."""
    limits = expected["limits"]
    rows = {name: answer for name, answer in found.items() if isinstance(answer, list)}
    states = {row["state"]: row for row in rows.get("tasks", [])}
    yield from check_queue(states, rows, hosts, limits)
    yield from check_pools(rows, expected)
    yield from check_imports(rows, hosts)
    yield from check_stale(rows, hosts)
    dags = (rows.get("dags") or [None])[0]
    if dags:
        yield fine("work", "", "DAGs", "{0}, {1} of them paused".format(several(dags["number"], "DAG"), dags["paused"]))
    for row in rows.get("paused", []):
        yield wrong("work", "", "DAGs", CRITICAL if row["seconds"] >= limits["queue"] else WARN,
                    "{0} is paused and has {1} that can't go on".format(row["dag_id"], several(row["runs"], "run")), "paused_runs",
                    ["the oldest waits {0}".format(duration(row["seconds"]))], unpause(row["dag_id"]))
    failed = (rows.get("failed") or [None])[0]
    if failed:
        text = "{0} failed within a day".format(several(failed["number"], "task"))
        if failed["number"] >= limits["failed_tasks"]:
            yield wrong("work", "", "tasks", WARN, text, "failed_tasks", ["among them " + listed(failed["tasks"] or [])], [],
                        "Their logs: the UI, or playbooks/runbooks/show_logs.yml")
        else:
            yield fine("work", "", "tasks", text)


def names_of(row):
    return "{dag_id}.{task_id} of {run_id}".format(**row)


def told_of(row):
    """How long a task has held its slot, and that nobody has heard of it where that is so."""
    return "for {0} by {1}{2}".format(duration(row["seconds"]), names_of(row), ", silent for " + duration(row["silent"]) if unheard([row]) else "")


def unheard(rows):
    """Those of the tasks that nobody works on any more, so that clear_stuck_tasks takes them for stuck."""
    return [row for row in rows if (row["silent"] or 0) >= STUCK]


def clear(rows):
    """The command that clears the tasks of the first one's DAG that nobody works on."""
    return ["playbooks/runbooks/clear_stuck_tasks.yml", "-e", "airflow_confirm=" + rows[0]["dag_id"]] if rows else []


def parallelism(hosts):
    """Tasks that all schedulers together may run at once, where they run them themselves."""
    settings = [host["seen"]["settings"] for host in hosts.values() if "seen" in host and "scheduler" in host["components"]]
    local = [one for one in settings if not error_of(one) and "LocalExecutor" in one["executor"]]
    return sum(one["parallelism"] for one in local)


def unpause(dag_id):
    """The command that unpauses a DAG, whoever has paused it."""
    return ["playbooks/dag_state.yml", "-e", json.dumps({"airflow_dag_state": {dag_id: {"paused": False}}})]


def check_queue(states, rows, hosts, limits):
    number = {state: states.get(state, {}).get("number", 0) for state in ("scheduled", "queued", "running")}
    oldest = max([states[state]["seconds"] or 0 for state in ("scheduled", "queued") if state in states] or [0])
    text = "{running} running, {queued} queued, {scheduled} scheduled".format(**number)
    waits = number["queued"] + number["scheduled"]
    if waits:
        text += ", the oldest waits {0}".format(duration(oldest))
    slots = parallelism(hosts)
    if slots and number["running"] + number["queued"] >= slots and waits and oldest >= limits["queue"]:
        running = rows.get("running", [])
        silent = unheard(running)
        yield wrong("work", "", "queue", CRITICAL, text, "slots_full",
                    ["there is room for {0} at once, and {1} run or are queued".format(slots, number["running"] + number["queued"]),
                     *("runs {0}".format(told_of(row)) for row in running[:3])], clear(silent),
                    "" if silent else "They are alive: wait for them, mark one as failed in the UI, or raise airflow_parallelism and run playbooks/airflow.yml "
                    "and services.yml.")
    elif waits and oldest >= limits["queue"]:
        waiting = rows.get("waiting", [])
        yield wrong("work", "", "queue", CRITICAL, text, "queue_waits",
                    ["waits {0}: {1}".format(duration(row["seconds"]), names_of(row)) for row in waiting[:3]],
                    ["playbooks/runbooks/diagnose.yml", "-e", "airflow_dag_id=" + waiting[0]["dag_id"]] if waiting else [])
    else:
        yield fine("work", "", "queue", text)


def check_pools(rows, expected):
    pools = rows.get("pools", [])
    full = [pool for pool in pools if pool["slots"] >= 0 and pool["used"] >= pool["slots"] and pool["waiting"]
            and (pool["seconds"] or 0) >= expected["limits"]["queue"]]
    for pool in full:
        holders = [row for row in rows.get("holders", []) if row["pool"] == pool["pool"]]
        declared = expected["pools"].get(pool["pool"], {}).get("slots", pool["slots"])
        other = int(declared) > pool["slots"]
        silent = unheard(holders)
        yield wrong("work", "", "pool", CRITICAL, "{0} is full: {1} of {2} in use, {3} waiting for {4}".format(
            pool["pool"], pool["used"], several(pool["slots"], "slot"), several(pool["waiting"], "task"), duration(pool["seconds"])), "pool_full",
            [other and "the inventory gives it {0}".format(several(int(declared), "slot")),
             *("held {0}".format(told_of(row)) for row in holders)],
            ["playbooks/state.yml"] if other else clear(silent),
            "" if other or silent else "{0}give it slots: airflow_pools in the inventory and playbooks/state.yml, or in the UI.".format(
                "They are alive: wait for them, mark one as failed in the UI, or " if holders else "Nothing holds it: "))
    if pools and not full:
        busiest = max(pools, key=lambda pool: pool["used"] / pool["slots"] if pool["slots"] > 0 else 0)
        yield fine("work", "", "pools",
                   "{0}; busiest {1}, {2} of {3} in use".format(several(len(pools), "pool"), busiest["pool"], busiest["used"], busiest["slots"]))


def import_problem(rows, hosts, about=""):
    """The cause that import errors are, as a result; nothing where there is none."""
    errors = [row for row in rows if not about or about in row["filename"]]
    if not errors:
        return None
    package = next((match[1] for row in errors for match in [re.search(r"No module named '([^'.]+)", row["said"])] if match), "")
    releases = [host["seen"]["releases"] for host in hosts.values() if "seen" in host and not error_of(host["seen"]["releases"])]
    back = any(len(release.get("releases", [])) > 1 for release in releases)
    text = "{0} can't be imported".format(several(len(errors), "DAG file") if len(errors) > 1 else errors[0]["filename"])
    return wrong("work", "", "DAG files", CRITICAL, text, "missing_package" if package else "import_error",
                 ["{0}: {1}".format(row["filename"], row["said"]) for row in errors[:3]], ["playbooks/rollback_dags.yml"] if back else [],
                 "Then add {0} to airflow_extra_packages and run site.yml, and deploy again.".format(package) if package else
                 "Then mend the file and deploy again: playbooks/deploy_dags.yml")


def check_imports(rows, hosts):
    problem = import_problem(rows.get("import_errors", []), hosts)
    if problem:
        yield problem
    elif "import_errors" in rows:
        yield fine("work", "", "DAG files", "all can be imported")


def check_stale(rows, hosts):
    """DAGs of the release in place that Airflow takes for removed. It starts none of their runs, and says nothing."""
    releases = [host["seen"]["releases"] for host in hosts.values() if "seen" in host]
    release = next((one for one in releases if not error_of(one) and one["dags"]), None)
    if not release or release["placed"] < PARSED or "stale" not in rows:
        return
    if release["dag_ids"]:
        stale = [row for row in rows["stale"] if row["dag_id"] in release["dag_ids"]]
    else:
        # Nobody knows the DAGs of a release that was not validated. Files without a single DAG are no accident.
        stale = rows["stale"] if release["dag_files"] and rows.get("dags") and not rows["dags"][0]["number"] else []
    if not stale:
        return
    name, component = parser_of(hosts)
    waiting = [row for row in stale if row["runs"]]
    last = [row["seconds"] for row in stale if row["seconds"] is not None]
    yield wrong("work", "", "DAGs", CRITICAL, "{0} of the release in place {1} not parsed any more".format(
        several(len(stale), "DAG"), "is" if len(stale) == 1 else "are"), "stale_dags",
        [listed(row["dag_id"] for row in stale), last and "last parsed {0} ago".format(duration(min(last))),
         waiting and "{0} cannot go on".format(several(sum(row["runs"] for row in waiting), "unfinished run"))],
        restart(component, name) if name else [],
        "" if name else "No host of this report parses DAG files: playbooks/services.yml")


def parser_of(hosts):
    """The (host, component) that parses DAG files: the DAG processor, in Airflow 2 without one the scheduler."""
    return next(((name, component) for component in ("dag-processor", "scheduler") for name, host in hosts.items()
                 if component in host["components"]), ("", ""))


def check_backup(hosts, now, limits):
    """One line: the newest success of all hosts."""
    found = [(name, host["seen"]["backup"]) for name, host in hosts.items() if host.get("seen", {}).get("backup") and not error_of(host["seen"]["backup"])]
    mend = ["playbooks/runbooks/back_up_database.yml"]
    if not found:
        return [wrong("backup", "", "backup", WARN, "none has succeeded on these hosts", "backup_old", [], mend)]
    name, note = max(found, key=lambda one: one[1]["time"])
    age = now - from_iso(note["time"])
    told = "the last good one is {0} old, {1}, on {2}".format(duration(age), size(note.get("bytes", 0)), name)
    if age > limits["backup"] * 3600:
        return [wrong("backup", "", "backup", WARN, told, "backup_old", [], mend)]
    return [fine("backup", "", "backup", told)]


def from_iso(text):
    """Seconds since the epoch of an ISO 8601 time in UTC."""
    import calendar

    return calendar.timegm(tuple(int(part) for part in re.findall(r"\d+", text)[:6]))


def check_watchdog(hosts):
    for name, host in hosts.items():
        entries = host.get("seen", {}).get("watchdog")
        if isinstance(entries, list) and entries:
            last = entries[-1]
            yield wrong("components", name, "watchdog", WARN, "{0} within a day, the last of {1}".format(several(len(entries), "restart"), last.get("unit")),
                        "watchdog",
                        [str(last.get("reason", "")), str(last.get("evidence", ""))], [], "What it kept beside restarts.jsonl says what the component did.")


def check_aws(hosts):
    for name, host in hosts.items():
        aws = (host.get("seen", {}).get("metadata") or {}).get("aws")
        if not aws:
            continue
        code = aws.get("code", "")
        if re.search(r"Skewed|RequestExpired|SignatureDoesNotMatch|Signature", code):
            text, advice = "AWS refuses the signature: the host's clock or its key is wrong", "chronyc tracking on the host; airflow_environment for keys."
        elif code == "NoCredentials":
            text, advice = "has no role: no instance profile and no key", "Attach the instance profile of role aws_iam: playbooks/aws/."
        elif code:
            text, advice = "AWS refuses {0}: {1}".format(aws.get("operation", "to say who this host is"), code), "The role's policy: roles/aws_iam/README.md"
        elif error_of(aws):
            text, advice = "can't be asked", "boto3 in the virtualenv, AWS_* in airflow_environment, and the way to AWS."
        elif aws.get("denied"):
            text, advice = "may not {0}".format(listed(aws["denied"])), "The role's policy: roles/aws_iam/README.md, then playbooks/aws/."
        else:
            yield fine("hosts", name, "AWS", aws.get("arn", ""))
            continue
        yield wrong("hosts", name, "AWS", CRITICAL, text, "aws", [aws.get("error"), aws.get("arn")], [], advice)


# ---- one DAG, one task -------------------------------------------------------------------------------------------------------------


def check_dag(dag_id, task_id, found, hosts):
    """Why a DAG does not appear, or a task does not run."""

    def no(cause, text, evidence=(), mend=(), advice=""):
        return wrong("question", "", task_id and "{0}.{1}".format(dag_id, task_id) or dag_id, CRITICAL, text, cause, evidence, mend, advice)

    dag = (found.get("dag") or [None])[0] if isinstance(found.get("dag"), list) else None
    files, ignored = set(), {}
    for host in hosts.values():
        answer = host.get("seen", {}).get("dag_files") or {}
        files.update(answer.get("files", []))
        ignored.update({one["file"]: one["pattern"] for one in answer.get("ignored", [])})
    errors = found["import_errors"] if isinstance(found.get("import_errors"), list) else []
    if dag is None or not dag["active"]:
        for file, pattern in sorted(ignored.items()):
            yield no("dag_ignored", "{0} is left out by .airflowignore".format(file), ["the line is: " + pattern], [], "Change .airflowignore and deploy.")
        broken = [problem for file in sorted(files) for problem in [import_problem(errors, hosts, file)] if problem]
        yield from broken
        if not broken and not ignored:
            known = [row["dag_id"] for row in found["known"]] if isinstance(found.get("known"), list) else []
            near = nearest(dag_id, known)
            if files:
                yield no("dag_unknown", "is in {0}, and Airflow does not know it".format(listed(sorted(files))),
                         ["near to it: " + near] if near else [],
                         ["playbooks/services.yml"], "Is the DAG processor up, and does the file make a DAG at its top level?")
            else:
                yield no("dag_unknown", "is in no file of the release in place", ["near to it: " + near] if near else [], ["playbooks/deploy_dags.yml"])
        return
    if dag["paused"]:
        yield no("dag_paused", "is paused: the scheduler passes over it", [], unpause(dag_id))
    runs = {row["state"]: row["number"] for row in found["dag_runs"]} if isinstance(found.get("dag_runs"), list) else {}
    tasks = {row["state"]: row["number"] for row in found["dag_tasks"]} if isinstance(found.get("dag_tasks"), list) else {}
    if runs.get("queued") and dag["max_active_runs"] and runs.get("running", 0) >= dag["max_active_runs"]:
        yield no("dag_limit", "has {0} queued: max_active_runs is {1}, and as many run".format(several(runs["queued"], "run"), dag["max_active_runs"]), [], [],
                 "Wait for them, or raise max_active_runs in the DAG and deploy.")
    if tasks.get("scheduled") and dag["max_active_tasks"] and tasks.get("running", 0) + tasks.get("queued", 0) >= dag["max_active_tasks"]:
        yield no("dag_limit", "has {0} waiting: max_active_tasks is {1}, and as many run".format(several(tasks["scheduled"], "task"), dag["max_active_tasks"]),
                 [], [],
                 "Wait for them, or raise max_active_tasks in the DAG and deploy.")
    if task_id:
        task = (found.get("task") or [None])[0] if isinstance(found.get("task"), list) else None
        if task is None:
            yield no("task_state", "has no run yet", [], [], "Start one in the UI, or with playbooks/runbooks/trigger_dag.yml.")
        elif task["state"] in ("failed", "up_for_retry", "upstream_failed"):
            yield no("task_state", "is {0}".format(task["state"]), ["run {run_id}, try {try_number}, on {hostname}".format(**task)],
                     ["playbooks/runbooks/show_logs.yml", "-e", "airflow_dag_id=" + dag_id, "-e", "airflow_task_id=" + task_id])


# ---- all of it ---------------------------------------------------------------------------------------------------------------------


def examine(hosts, expected, now, dag_id="", task_id=""):
    """Return the results of all checks. hosts: {name: {components, and seen, unreachable or failed}}; expected: what the inventory says."""
    limits = expected["limits"]
    connected = next((found for found in map(database_of, hosts.values()) if "connected" in found), {})
    jobs = None
    if isinstance(connected.get("jobs"), list):
        jobs = {}
        for row in sorted(connected["jobs"], key=lambda row: -row["seconds"]):
            # The newest of several is the living one.
            jobs[row["id"]] = jobs[row["job_type"], row["hostname"]] = row["seconds"]
    results = []
    for name, host in hosts.items():
        results += check_host(name, host, now, limits)
    results += check_aws(hosts)
    for name, host in hosts.items():
        results += [*check_components(name, host, jobs, limits, expected), *check_overrides(name, host), *check_proxy(name, host, now, limits)]
    results += check_watchdog(hosts)
    results += check_database(hosts, expected, limits)
    results += check_agreement(hosts, expected)
    if connected:
        results += check_work(connected, hosts, expected)
        if dag_id:
            results += check_dag(dag_id, task_id, connected, hosts)
    results += check_backup(hosts, now, limits)
    return results


def follows(result, other):
    """Whether this result is what the other cause does."""
    if other.status != CRITICAL or result.cause not in CAUSES[other.cause] or result is other:
        return False
    return other.host in ("", result.host) or result.host == "" or bool(EVERYWHERE.match(other.cause))


def causes(results):
    """Return (causes, consequences): what is not OK, the root of it first. What another result explains is a consequence."""
    problems = [result for result in results if result.status != OK]
    explained = [result for result in problems if any(follows(result, other) for other in problems)]

    def order(result):
        # What was asked about comes first, then what does not work now.
        return (result.section != "question", result.status != CRITICAL, RANK[result.cause])

    return sorted((result for result in problems if result not in explained), key=order), sorted(explained, key=order)


def verdict(results):
    """The worst status."""
    return next((status for status in (CRITICAL, WARN) if any(result.status == status for result in results)), OK)
