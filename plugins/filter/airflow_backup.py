"""Judge what hosts answered about backups."""

import json
import os.path
import re


def of_hosts(answers):
    """Return {silent: {host: reason}, former: {host: its units}, recipients: [{recipients, places}]}.

    answers: results of the loop of tasks/steps/gather_state.yml.
    """
    silent, former = {}, {}
    found: dict[tuple[str, ...], list[str]] = {}
    for answer in answers:
        host, lines = answer["item"], answer.get("stdout_lines") or []
        if answer.get("unreachable") or answer.get("rc", 1) != 0:
            silent[host] = answer.get("stderr") or answer.get("msg", "no reason")
        units = [line.removeprefix("unit ") for line in lines if line.startswith("unit ")]
        if units:
            former[host] = units
        for line in lines:
            if line.startswith("config "):
                _word, place, text = line.split(" ", 2)
                recipients = json.loads(text).get("recipients")
                if recipients:
                    found.setdefault(tuple(recipients), []).append(f"{host}:{place}")
    pairs = [{"recipients": list(recipients), "places": places} for recipients, places in found.items()]
    return {"silent": silent, "former": former, "recipients": pairs}


def clients(printed, packages, server, system):
    """Return the majors of pg_restore that a host has, and those that a restore will install there.

    printed: versions of what is there. packages: airflow_backup_packages. server: major of the host's own server, or 0.
    system: the major that the system brings, or 0.
    """
    here = re.findall(r"PostgreSQL[)] ([0-9]+)", printed)
    majors = [re.search(r"[0-9]+$", name) for name in packages if "postgresql" in name]
    named = [major.group() if major else system for major in majors]
    to_be = named if packages else [] if here or server else [system]
    return [int(major) for major in [*here, server, *to_be] if int(major)]


def narrow(answers, reserve):
    """Return a sentence for each disk that is too small.

    answers: results of the question for the free MB. One disk may be asked for several directories. reserve: MB that
    must stay free.
    """
    disks: dict[tuple[str, str], dict[str, int]] = {}
    for answer in answers:
        device, free = answer["stdout"].rsplit(None, 1)
        disk = disks.setdefault((answer["item"]["host"], device), {"free": int(free), "needed": reserve})
        disk["needed"] += answer["item"]["needed"]
    return [
        f"{host} has {disk['free']} MB free on {device}, and the restore needs {disk['needed']} MB."
        for (host, device), disk in disks.items()
        if disk["free"] < disk["needed"]
    ]


def inside(directories, places):
    """Return the directories that hold one of the places, or lie in one."""
    found = {}
    for place in places:
        for directory in (path.rstrip("/") for path in directories):
            if f"{place}/".startswith(f"{directory}/") or f"{directory}/".startswith(f"{place}/"):
                found[directory] = True
    return list(found)


def overdue(timers, lines, changed):
    """Return the timers that the host did not answer "ok" for, and those of which this run has written a unit."""
    return [
        name
        for name in timers
        if f"timer {name} ok" not in lines or any(os.path.splitext(name)[0] in path for path in changed)
    ]


class FilterModule:
    def filters(self):
        return {
            "airflow_backup_clients": clients,
            "airflow_backup_due": overdue,
            "airflow_backup_inside": inside,
            "airflow_backup_narrow": narrow,
            "airflow_backup_of_hosts": of_hosts,
        }
