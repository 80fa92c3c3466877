# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What concerns the components of Airflow, their watchdog, and the proxy before them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils import component_health
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.host import ahead_of_database
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.result import (
    CONFIGURE,
    CRITICAL,
    SERVICES,
    WARN,
    Data,
    Result,
    duration,
    error_of,
    fine,
    listed,
    restart,
    several,
    wrong,
)

# {number of a job, or its (type, host name): seconds since its heartbeat}
Jobs = dict[Any, float]
# What a component's last words tell.
LAST_WORDS = [
    ("bind_address", r"Cannot assign requested address|Address already in use|Can't connect to \("),
    ("virtualenv_broken", r"ModuleNotFoundError|ImportError|No module named"),
    ("directory_not_writable", r"PermissionError|Permission denied|Read-only file system"),
    ("disk_full", r"No space left on device"),
]


def check_components(name: str, host: Data, jobs: Jobs | None, limits: Data, expected: Data) -> Iterator[Result]:
    """A line for each component that the inventory has here. jobs: seconds since the heartbeat of a job, by its number
    and by (type, host name); None where nobody knows.
    """
    if "seen" not in host:
        return
    seen, units = host["seen"], host["seen"]["units"]
    if error_of(units):
        yield wrong("components", name, "systemd", CRITICAL, "can't be asked", "not_asked", [units["error"]], [],
                    "systemctl is-system-running on the host")
        return
    if not host["components"]:
        return
    for component_name, component in host["components"].items():
        unit = units.get(component["unit"] + ".service", {"load": "not-found"})
        yield judge_component(name, component_name, component, unit, seen, jobs, limits, expected)
    if error_of(seen["drift"]):
        yield wrong("components", name, "files", WARN, "nobody can tell what the components were started with",
                    "not_asked", [seen["drift"]["error"]], CONFIGURE)
    target = units.get("airflow.target", {})
    if target.get("enabled") != "enabled":
        yield wrong("components", name, "airflow.target", CRITICAL, "is not enabled: nothing starts when the host does",
                    "target_disabled",
                    ["systemctl is-enabled airflow.target: {0}".format(target.get("enabled") or "not-found")], SERVICES)


def judge_component(
    name: str, component_name: str, component: Data, unit: Data, seen: Data, jobs: Jobs | None, limits: Data,
    expected: Data,
) -> Result:
    label = component["unit"]
    service = label + ".service"

    def no(
        status: str, text: str, cause: str, evidence: Iterable[Any] = (), mend: Iterable[str] = (), advice: str = "",
    ) -> Result:
        return wrong("components", name, label, status, text, cause, evidence, mend, advice)

    if unit["load"] in ("not-found", "bad-setting", "error"):
        return no(CRITICAL, "has no unit that systemd can read ({0})".format(unit["load"]), "component_missing", [],
                  SERVICES)
    if unit["load"] == "masked":
        return no(CRITICAL, "is masked, so nothing can start it", "component_stopped", [], [],
                  "systemctl unmask {0} on {1}, then playbooks/services.yml".format(service, name))
    if seen["drained"] and unit["active"] == "inactive":
        return no(WARN, "is drained", "drained", [seen["drained"]],
                  ["playbooks/runbooks/undrain_host.yml", "-e", "airflow_confirm=" + name])
    since, last = duration(unit["since"]), [unit["said"] and "its journal: " + unit["said"]]
    address = wrong_address(component_name, expected, seen["listeners"])
    if unit["active"] in ("inactive", "failed"):
        text = "stopped {0} ago".format(since) if unit["since"] else "does not run"
        if unit["result"] not in ("success", ""):
            text += " ({0}, status {1})".format(unit["result"], unit["status"])
        return no(CRITICAL, text, by_last_words(unit["said"], "component_stopped"), last, SERVICES)
    if address and unit["active"] != "deactivating":
        return no(CRITICAL, address, "bind_address",
                  ["airflow_api_host is {host}, airflow_api_port {port}".format(**expected["api"]), *last], CONFIGURE)
    if unit["active"] == "deactivating":
        return no(WARN, "stops since {0}: it waits for its running tasks".format(since), "component_starting", [], [],
                  "Wait, or see which tasks run.")
    if unit["active"] != "active":
        # One that died with its database comes back by itself; one that dies again and again does not.
        if unit["restarts"] < 3 and (unit["started"] or 0) < limits["start"] and unit["sub"] != "auto-restart":
            return no(WARN, "starts since {0}".format(duration(unit["started"])), "component_starting", last, [],
                      "Look again in half a minute.")
        cause = by_last_words(unit["said"], "component_failing")
        return no(
            CRITICAL,
            "does not come up ({0}, {1} so far)".format(unit["sub"], several(unit["restarts"], "restart")),
            cause,
            last,
            CONFIGURE,
        )
    beat = heartbeat(component_name, component, seen, jobs)
    if unit["frozen"]:
        return no(CRITICAL, "is alive and does nothing: " + component_health.FROZEN, "component_frozen", [
            "active since {0}, its process has state T".format(since), beat is not None
            and "last heartbeat {0} ago".format(duration(beat))
        ], recover(component_name, name))
    if "job_type" in component and jobs is not None:
        young = (unit["started"] or 0) < limits["start"]
        if not component_health.beats(beat, limits["heartbeat"]):
            if young:
                return no(WARN, "started {0} ago, no heartbeat yet".format(duration(unit["started"])),
                          "component_starting", [], [], "Look again in half a minute.")
            return no(CRITICAL, "is alive and does not beat", "component_hung", [
                "active since {0}, {1}".format(
                    since,
                    "last heartbeat {0} ago".format(duration(beat)) if beat is not None else "no heartbeat at all")
            ], recover(component_name, name))
    answer = seen["answers"].get(component_name) if not error_of(seen["answers"]) else None
    problem = component_health.answer_problem(component["check"], answer) if answer else ""
    if problem:
        young = (unit["started"] or 0) < limits["start"]
        if young:
            return no(WARN, problem, "component_starting", last, [], "Look again in half a minute.")
        return no(CRITICAL, problem, "api_unwell", last, recover(component_name, name))
    stale = judge_drift(name, component_name, label, seen)
    if stale:
        return stale
    parts = ["runs " + since]
    if unit["restarts"]:
        parts.append(
            "restarted {0} by systemd".format("once" if unit["restarts"] == 1 else "{0} times".format(unit["restarts"]))
        )
    parts.append("last heartbeat {0} ago".format(duration(beat)) if beat is not None else "answers")
    return fine("components", name, label, ", ".join(parts))


def recover(component_name: str, name: str) -> list[str]:
    """The scheduler's running tasks are worth a runbook of their own."""
    if component_name == "scheduler":
        return ["playbooks/runbooks/recover_scheduler.yml", "-e", "airflow_confirm=" + name]
    return restart(component_name, name)


def by_last_words(said: str | None, otherwise: str) -> str:
    return next((cause for cause, pattern in LAST_WORDS if re.search(pattern, said or "")), otherwise)


def heartbeat(component_name: str, component: Data, seen: Data, jobs: Jobs | None) -> float | None:
    """Seconds since the component has beaten: in the row that it was seen to beat in, whatever name Airflow gives the
    host, else under the host's name.
    """
    if "job_type" not in component or jobs is None or error_of(seen["host"]):
        return None
    beats = seen["beats"] if not error_of(seen["beats"]) else {}
    age = jobs.get(beats[component_name] if component_name in beats else (component["job_type"], seen["host"]["name"]))
    # The database has subtracted a time of the host's clock from a time of its own.
    return age if age is None else age + (ahead_of_database(seen) or 0)


def wrong_address(component_name: str, expected: Data, listeners: Data) -> str:
    """Where the API server listens, if that is not where it should."""
    if component_name not in ("api-server", "webserver") or error_of(listeners):
        return ""
    wanted, port = expected["api"]["host"], str(expected["api"]["port"])
    found = listeners.get(port, [])
    same = {wanted, "::" if wanted == "0.0.0.0" else wanted}
    return (
        "listens on {0}, not on {1}, port {2}".format(listed(found), wanted, port)
        if found and not same & set(found)
        else ""
    )


def judge_drift(name: str, component_name: str, label: str, seen: Data) -> Result | None:
    """A component that runs on other files than those that lie there."""
    found = seen["drift"].get(component_name)
    if error_of(seen["drift"]) or not found or not found["due"]:
        return None
    if found["missing"]:
        return wrong("components", name, label, CRITICAL,
                     "runs, but could not start again: {0} is not there".format(listed(found["missing"])),
                     "configuration_missing", [], CONFIGURE)
    kept = [os.path.basename(path) for path in found["changed"] if "/secrets/" in path]
    others = [path for path in found["changed"] if "/secrets/" not in path]
    if kept:
        return wrong(
            "components", name, label, CRITICAL,
            "runs with another {0} than the file has".format(" and ".join(sorted(kept))), "secrets_not_taken_over",
            ["the file changed after {0} had started; whoever has started since signs with the new one".format(label)],
            SERVICES)
    text = "runs on an older " + listed(others) if others else "was not started with what lies on the disk now"
    return wrong("components", name, label, WARN, text, "component_stale", [], SERVICES)


def check_overrides(name: str, host: Data) -> Iterator[Result]:
    """A component that has a secret of its own in its environment, where the others read the file."""
    if "seen" not in host or error_of(host["seen"]["units"]):
        return
    for unit_name, unit in host["seen"]["units"].items():
        if unit.get("overrides"):
            yield wrong(
                "components", name, unit_name.replace(".service", ""), CRITICAL,
                "has {0} in its environment, so it does not use the secret that the others do".format(
                    listed(sorted(unit["overrides"]))), "secrets_overridden",
                ["drop-ins: " + listed(unit["drop_ins"])] if unit["drop_ins"] else [], [],
                "Take it out of {0} on {1} (systemctl edit {2}), then playbooks/services.yml".format(
                    listed(unit["drop_ins"]) or "/etc/airflow/environment", name, unit_name))


def check_watchdog(hosts: Data) -> Iterator[Result]:
    for name, host in hosts.items():
        entries = host.get("seen", {}).get("watchdog")
        if isinstance(entries, list) and entries:
            last = entries[-1]
            yield wrong(
                "components",
                name,
                "watchdog",
                WARN,
                "{0} within a day, the last of {1}".format(several(len(entries), "restart"), last.get("unit")),
                "watchdog",
                [str(last.get("reason", "")), str(last.get("evidence", ""))],
                [],
                "What it kept beside restarts.jsonl says what the component did.",
            )


# ---- the proxy -------------------------------------------------------------------------------------------------------


def check_proxy(name: str, host: Data, now: float, limits: Data) -> Iterator[Result]:
    if "seen" not in host or not host["seen"].get("proxy"):
        return
    proxy, mend = host["seen"]["proxy"], ["playbooks/proxy.yml"]
    units = host["seen"]["units"]
    # Where systemd can't be asked, only nginx itself can say whether it runs.
    unit = units.get("nginx.service", {"active": "not-found"}) if not error_of(units) else {"active": "active"}
    if unit["active"] != "active":
        yield wrong("proxy", name, "nginx", CRITICAL, "does not run ({0})".format(unit["active"]), "proxy_stopped",
                    [unit.get("said")], mend)
    elif error_of(proxy) or proxy.get("status", 0) >= 500:
        yield wrong("proxy", name, "nginx", CRITICAL,
                    "answers {0}".format(proxy["status"]) if "status" in proxy else "does not answer", "proxy_unwell",
                    [error_of(proxy)], mend)
    else:
        yield fine("proxy", name, "nginx", "answers {0}".format(proxy["status"]))
    if error_of(proxy):
        return
    left = proxy["expires"] - now
    if left < 0:
        yield wrong("proxy", name, "certificate", CRITICAL, "expired {0} ago".format(duration(-left)), "certificate",
                    [proxy["subject"]], mend)
    elif left < limits["certificate"] * 86400:
        yield wrong("proxy", name, "certificate", WARN, "expires in {0}".format(duration(left)), "certificate",
                    [proxy["subject"]], mend)
    else:
        yield fine("proxy", name, "certificate", "good for {0}".format(duration(left)))
