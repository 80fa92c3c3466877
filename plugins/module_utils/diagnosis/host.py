# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What concerns a machine and its way to AWS, and whether the hosts of an inventory agree."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.result import (
    CONFIGURE,
    CRITICAL,
    WARN,
    Data,
    Result,
    duration,
    error_of,
    fine,
    listed,
    restart,
    several,
    size,
    wrong,
)


def check_host(name: str, host: Data, now: float, limits: Data) -> Iterator[Result]:
    """What concerns the machine."""
    if host.get("unreachable"):
        yield wrong(
            "hosts", name, "host", CRITICAL, "can't be reached", "unreachable", [host["unreachable"]], [],
            "Is it up, and do its security group and SSH key let you in? aws ec2 describe-instance-status, or its "
            "console."
        )
        return
    if host.get("failed"):
        said = host["failed"]
        if re.search(r"usable temporary directory|No space left", said):
            yield wrong("hosts", name, "disk", CRITICAL, "no directory that Ansible can write to", "disk_full", [said],
                        *free_space(name, {"paths": ["/"]}, {})[:2])
        else:
            yield wrong("hosts", name, "host", CRITICAL, "could not be asked", "not_asked", [said], [],
                        "Mend what it says: sudo, Python or the connection.")
        return
    seen = host["seen"]
    machine, memory = seen["host"], seen["memory"]
    parts = []
    if not error_of(machine):
        parts += [
            "up " + duration(machine["uptime"]),
            "load {0} on {1}".format(machine["load"], several(machine["cpus"], "core")),
        ]
    if not error_of(memory):
        parts.append("memory {0} of {1} free".format(size(memory["available"]), size(memory["total"])))
    if not error_of(seen.get("releases", {})) and seen["releases"].get("airflow"):
        parts.append("Airflow " + seen["releases"]["airflow"])
    yield fine("hosts", name, "host", ", ".join(parts))
    if not error_of(memory) and memory["available"] < memory["total"] * limits["memory"] / 100:
        yield wrong(
            "hosts",
            name,
            "memory",
            CRITICAL,
            "{0} of {1} left".format(size(memory["available"]), size(memory["total"])),
            "memory_used_up",
            [],
            [],
            "Find what takes it (systemd-cgtop -m on the host); lower airflow_parallelism, or take a larger host.",
        )
    yield from check_disks(name, seen["disks"], host["components"], limits)
    yield from check_clock(name, seen, now, limits)
    for directory in (seen["owners"].values() if not error_of(seen["owners"]) and host["components"] else ()):
        if not directory["writable"]:
            yield wrong(
                "hosts",
                name,
                "directory",
                CRITICAL,
                "the components can't write to {0}".format(directory["path"]),
                "directory_not_writable",
                [
                    "its owner has the number {0}, its mode is {1}".format(
                        directory["owner"], directory["mode"].replace("0o", "0")
                    )
                ],
                CONFIGURE,
            )
    # Those that have a line of their own are judged there.
    others = [
        unit for unit in (seen["failed_units"] if isinstance(seen["failed_units"], list) else [])
        if unit not in seen["units"]
    ]
    if others:
        yield wrong("hosts", name, "units", WARN, "failed: " + listed(others), "failed_units", [], [],
                    "systemctl status {0} on {1}".format(others[0], name))


def free_space(name: str, disk: Data, components: Data) -> tuple[list[str], str, str]:
    """(mend, advice, evidence) for a disk that is full."""
    if "/" not in disk["paths"] and "/tmp" in disk["paths"]:
        held = {component: disk["private"].get(one["unit"] + ".service", 0)
                for component, one in components.items()} if "private" in disk else {}
        component = max(held, key=held.__getitem__, default="")
        if component and held[component] > disk["bytes"] / 5:
            return restart(component, name), "", "{0} of it are in the private /tmp of {1}".format(
                size(held[component]), components[component]["unit"])
        return [], "See what fills it: du -xah /tmp | sort -h | tail -n 20 on {0}".format(name), ""
    return ["playbooks/runbooks/free_disk_space.yml", "-e", "airflow_confirm=" + name], "", ""


def check_disks(name: str, disks: Any, components: Data, limits: Data) -> Iterator[Result]:
    if error_of(disks):
        yield wrong("hosts", name, "disk", CRITICAL, "can't be asked", "not_asked", [disks["error"]], [],
                    "Is a network file system dead? df on the host.")
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
            yield wrong("hosts", name, "disk", CRITICAL, "{0} is full".format(where), "disk_full", [told, holder], mend,
                        advice)
        elif inodes >= limits["disk_full"]:
            yield wrong("hosts", name, "disk", CRITICAL, "{0} has no inode left for another file".format(where),
                        "inodes_used_up", ["{0} of {1} are free".format(disk["inodes_free"], disk["inodes"])], mend,
                        advice)
        elif max(used, inodes) >= limits["disk"]:
            yield wrong("hosts", name, "disk", WARN, "{0} {1:.0f} % used".format(told, max(used, inodes)), "disk_full",
                        [holder], mend, advice)
        else:
            yield fine("hosts", name, "disk", told)


def disk_name(paths: list[str]) -> str:
    """The directories of ours that make a file system worth a line; the root where it holds them all."""
    return "/" if "/" in paths else listed(sorted(paths), 2)


def ahead_of_database(seen: Data) -> float | None:
    """Return the seconds that the host's clock is ahead of the database's; nothing if the host could not ask it."""
    database = seen["metadata"].get("database", {}) if not error_of(seen["metadata"]) else {}
    if isinstance(database.get("clock"), list) and "host_clock" in database:
        return float(database["host_clock"] - database["clock"][0]["now"])
    return None


def check_clock(name: str, seen: Data, now: float, limits: Data) -> Iterator[Result]:
    machine = seen["host"]
    if error_of(machine):
        return
    # The controller has waited for the slowest host since, so only minutes count against it. A database on the same
    # host has the same clock.
    skews = [("the controller", machine["time"] - now, limits["clock"] + 60)]
    ahead = ahead_of_database(seen)
    if ahead is not None:
        skews.append(("the database server", ahead, limits["clock"]))
    wrongs = ["{0} {1} {2}".format(duration(abs(skew)), "ahead of" if skew > 0 else "behind", against)
              for against, skew, allowed in skews if abs(skew) > allowed]
    kept = seen["clock"].get("NTP"), seen["clock"].get("NTPSynchronized")
    if wrongs:
        yield wrong(
            "hosts", name, "clock", CRITICAL, " and ".join(wrongs), "clock", ["kept by NTP: " + (kept[1] or "unknown")],
            [], "Tokens and heartbeats fail. Have chrony run on {0}: apt install chrony; chronyc makestep".format(name))
    # A service that has just started asks for some minutes. Where there is none, somebody else keeps the clock, as in a
    # container.
    elif kept == ("yes", "no") and machine["uptime"] > 900:
        yield wrong(
            "hosts", name, "clock", WARN, "is not synchronised, although a time service runs", "clock", [], [],
            "Its servers may be out of reach: chronyc sources, or timedatectl timesync-status, on {0}".format(name))


def check_aws(hosts: Data) -> Iterator[Result]:
    for name, host in hosts.items():
        aws = (host.get("seen", {}).get("metadata") or {}).get("aws")
        if not aws:
            continue
        code = aws.get("code", "")
        if re.search(r"Skewed|Expired|Signature|InvalidClientToken", code):
            text = "AWS refuses the signature: the host's clock or its key is wrong"
            advice = "chronyc tracking on the host; airflow_environment for keys."
        elif code == "NoCredentials":
            text = "has no role: no instance profile and no key"
            advice = "Attach the instance profile of role aws_iam: playbooks/aws/."
        elif "operation" in aws:
            text = "AWS refuses {0}: {1}".format(aws["operation"], code)
            advice = "The role's policy: roles/aws_iam/README.md"
        elif error_of(aws):
            text, advice = "can't be asked", ("boto3 in the virtualenv, AWS_* in airflow_environment, and the way to "
                                              "AWS.")
        elif aws.get("denied"):
            text, advice = "may not {0}".format(listed(
                aws["denied"])), "The role's policy: roles/aws_iam/README.md, then playbooks/aws/."
        else:
            yield fine("hosts", name, "AWS", aws.get("arn", ""))
            continue
        yield wrong("hosts", name, "AWS", CRITICAL, text, "aws", [aws.get("error"), aws.get("arn")], [], advice)


# ---- whether hosts agree ---------------------------------------------------------------------------------------------


def check_agreement(hosts: Data, expected: Data) -> Iterator[Result]:
    seen = {name: host["seen"] for name, host in hosts.items() if "seen" in host and host["components"]}
    yield from check_secrets({name: one["secrets"] for name, one in seen.items()})
    releases = {name: one["releases"] for name, one in seen.items() if not error_of(one["releases"])}
    for name, one in seen.items():
        if error_of(one["releases"]):
            yield wrong("agreement", name, "releases", CRITICAL, "can't be read", "virtualenv_broken",
                        [one["releases"]["error"]], CONFIGURE)
    for name, release in releases.items():
        if not release["airflow"]:
            yield wrong("agreement", name, "virtualenv", CRITICAL,
                        "{0} is no complete virtualenv".format(release["venv"]), "virtualenv_broken", [], CONFIGURE)
        elif release["missing"]:
            yield wrong(
                "agreement", name, "virtualenv", CRITICAL, "lacks {0} of its packages".format(len(release["missing"])),
                "virtualenv_broken", [listed(release["missing"])], [],
                "systemctl stop airflow.target 'airflow*'; rm /opt/airflow/venvs/{0}/release.json on {1}, "
                "then site.yml builds it anew.".format(release["venv"], name))
    versions = {release["airflow"] for release in releases.values() if release["airflow"]}
    if len(versions) > 1 or versions and versions != {expected["version"]}:
        yield wrong(
            "agreement",
            "",
            "version",
            CRITICAL if len(versions) > 1 else WARN,
            "Airflow {0} on the hosts, {1} in the inventory".format(listed(sorted(versions)), expected["version"]),
            "versions_differ",
            ["{0}: {1}".format(name, release["venv"]) for name, release in releases.items()],
            ["site.yml"],
        )
    elif versions:
        yield fine(
            "agreement",
            "",
            "version",
            "Airflow {0} everywhere, virtualenv {1}".format(
                expected["version"], listed(sorted({r["venv"] for r in releases.values()}))
            ),
        )
    yield from check_dag_releases(releases)


def check_secrets(secrets: Data) -> Iterator[Result]:
    found = {name: one for name, one in secrets.items() if not error_of(one)}
    kinds = sorted({kind for one in found.values() for kind in one})
    for kind in kinds:
        values = {name: one.get(kind, {}) for name, one in found.items()}
        empty = [name for name, value in values.items() if value.get("empty", True)]
        if empty:
            yield wrong("agreement", listed(empty), "secrets", CRITICAL, "{0} is empty or not there".format(kind),
                        "configuration_missing", [], CONFIGURE)
        by_hash = collections.Counter(value.get("hash") for value in values.values() if value)
        if len(by_hash) > 1:
            usual = by_hash.most_common(1)[0][0]
            odd = sorted(name for name, value in values.items() if value.get("hash") != usual)
            yield wrong("agreement", "", "secrets", CRITICAL,
                        "{0} is not the same on all hosts: {1} differs".format(kind, listed(odd)), "secrets_differ", [],
                        CONFIGURE)
    if len(found) > 1:
        yield fine("agreement", "", "secrets", "compared on {0}".format(several(len(found), "host")))


def check_dag_releases(releases: Data) -> Iterator[Result]:
    active = collections.Counter(release["dags"] for release in releases.values())
    if not active:
        return
    recorded = collections.Counter(release["recorded"] for release in releases.values()
                                   if release["recorded"]).most_common(1)
    wanted = recorded[0][0] if recorded else active.most_common(1)[0][0]
    odd = sorted(name for name, release in releases.items() if release["dags"] != wanted)
    if odd:
        held = all(wanted in release["releases"] for release in releases.values())
        yield wrong(
            "agreement", "", "DAG release", CRITICAL, "{0} on {1}; the last deploy brought {2}".format(
                listed(sorted({releases[name]["dags"] or "none"
                               for name in odd})), listed(odd), wanted), "release_differs", [],
            ["playbooks/rollback_dags.yml", "-e", "airflow_release=" +
             wanted] if held else ["playbooks/deploy_dags.yml"])
    elif not wanted:
        yield wrong("agreement", "", "DAG release", CRITICAL, "no host has one", "release_differs", [],
                    ["playbooks/deploy_dags.yml"])
    else:
        one = next(iter(releases.values()))
        yield fine(
            "agreement", "", "DAG release",
            "{0}{1}, since {2}".format(wanted, " ({0})".format(one["source"]) if one.get("source") else "",
                                       one.get("when")))
    touched = {name: release["touched"] for name, release in releases.items() if release.get("touched")}
    for name, files in touched.items():
        yield wrong(
            "agreement", name, "DAG release", WARN, "was changed by hand: {0}".format(listed(files)), "release_touched",
            [], [],
            "Bring the change into your DAGs' repository and deploy it; another release takes the place of this one.")
