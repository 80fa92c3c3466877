"""Airflow's version, Python, packages and executor."""

from __future__ import annotations

import json
import re
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    check_file,
    in_range,
    major_of,
    numbers,
    options_of,
    range_text,
)

RANGES = {"airflow_keep_venvs": (1, 100), "airflow_database_timeout": (1, 600)}
PATTERNS = {
    "airflow_constraints": (
        r"(?s)|(official$|[./~]|https?://|file://).*",
        'valid are "official", an address (https://...) or a file on the controller with its whole path.'),
    "airflow_python": (r"|/\S*python3\.[0-9]+",
                       "valid is an absolute path that ends in the version, such as /usr/bin/python3.12."),
}
EXCLUSIVE = [("airflow_lock", "airflow_constraints"), ("airflow_index_url", "airflow_wheel_dir")]
FILES = ["airflow_lock", "airflow_ca_bundle"]
# Executors that each major knows by a name of their own.
EXECUTORS = {
    "2": ("LocalExecutor", "SequentialExecutor", "KubernetesExecutor", "LocalKubernetesExecutor", "DebugExecutor"),
    "3": ("LocalExecutor", "KubernetesExecutor"),
}
# Executors, by name or by import path, whose tasks nothing runs: no role installs Celery workers yet.
EXECUTORS_WITHOUT_WORKERS = r"(.*[.])?Celery(Kubernetes)?Executor"


def check_executor(values: Values, site: Site) -> Problems:
    """Names of executors. Import paths are tried by Airflow itself, before anything is switched to it."""
    known = EXECUTORS.get(str(major_of(values)), ())
    given = [("airflow_executor", "", values.get("airflow_executor") or "")]
    # Both take the place of the variable.
    given += [("airflow_config", "core.executor ", value)
              for section, option, value in options_of(values.get("airflow_config"))
              if (section, option) == ("core", "executor") and value is not None]
    environment = values.get("airflow_environment")
    if isinstance(environment, dict) and "AIRFLOW__CORE__EXECUTOR" in environment:
        given.append(("airflow_environment", "AIRFLOW__CORE__EXECUTOR ", environment["AIRFLOW__CORE__EXECUTOR"]))
    for variable, option, value in given if known else []:
        # A team's executors follow its name and =, a single one may follow an alias and a colon.
        for name in (re.split(r"[=:]", part)[-1].strip() for part in re.split(r"[,;]", str(value))):
            if re.fullmatch(EXECUTORS_WITHOUT_WORKERS, name):
                yield variable, (
                    "{0}has {1}, and no role installs Celery workers yet: its tasks would wait for ever. Valid are {2} "
                    "and the import path of "
                    "another class. Use LocalExecutor, which runs tasks on the hosts of airflow_scheduler.").format(
                        option, json.dumps(name), ", ".join(known))
            elif "." not in name and name not in known:
                yield variable, ("{0}has {1}; valid are {2} and the import path of a class, one or several with commas "
                                 "between them.{3}").format(
                    option, json.dumps(name), ", ".join(known), did_you_mean(name, known))


def check_version(values: Values, site: Site) -> Problems:
    version = values.get("airflow_version")
    if version is None:
        return
    version = str(version)
    minors = list(site.supported["airflow_python"])
    if not re.fullmatch(r"\d+\.\d+\.\d+\S*", version):
        yield "airflow_version", '{0} is no version; valid is three numbers in quotes, such as "{1}".'.format(
            json.dumps(version), list(site.locks)[-1] if site.locks else "3.3.2")
    elif ".".join(version.split(".")[:2]) not in minors:
        yield "airflow_version", ("{0} is of no release that these roles install: {1}. Take one of them{2}.").format(
            version, ", ".join(minors),
            "; a newer one is tried by adding it, with its Pythons, to airflow_python in roles/preflight/vars/main.yml"
            if numbers(version) > numbers(minors[-1]) else "")
    elif not values.get("airflow_lock") and not values.get("airflow_constraints") and version not in site.locks:
        yield "airflow_version", (
            "{0} has no lock in locks/, and neither airflow_lock nor airflow_constraints is set. Versions with a lock: "
            "{1}. "
            'Take one of them, make a lock with bin/lock (`bin/lock --help`), or set airflow_constraints: official.'
        ).format(version, ", ".join(site.locks) or "none")


def check_python(values: Values, site: Site, python: dict[str, Any], will_install: str) -> Problems:
    """The host's Python against Airflow's version and its locks."""
    version = str(values["airflow_version"])
    minor = ".".join(version.split(".")[:2])
    path = python["path"]
    limits = site.supported["airflow_python"].get(minor)
    valid = range_text(limits) if limits else "any"
    if not python["exists"] and not will_install:
        yield "airflow_python", ("there is no {0} on the host. Install it, or name another one; Airflow {1} runs on "
                                 "Python {2}.").format(
            path, version, valid)
        return
    if python.get("error"):
        yield "airflow_python", "{0} can't make virtualenvs ({1}). Install its venv package.".format(
            path, python["error"])
    have = ".".join(map(str, python.get("version") or numbers(will_install)))
    suffix = re.search(r"python(3\.\d+)$", path)
    if suffix and have and suffix.group(1) != have:
        yield "airflow_python", "{0} is Python {1}, not what its name says.".format(path, have)
    if have and limits and not in_range(have, limits):
        old = numbers(have) < numbers(limits["at_least"])
        yield "airflow_python", (
            "{0} is Python {1}, too {2} for Airflow {3} (airflow_version: {4}), which runs on {5}. "
            "Set airflow_python to the path of such a Python on the host, or airflow_version to one that runs on "
            "{1}{6}."
        ).format(
            path, have, "old" if old else "new", version, site.where("airflow_version"), valid,
            "".join(": " + ", ".join(v for v, ps in site.locks.items() if have in ps) for _ in [0]
                    if any(have in ps for ps in site.locks.values())))
    elif have and version in site.locks and have not in site.locks[version] and not values.get(
            "airflow_lock") and not values.get("airflow_constraints"):
        yield "airflow_version", (
            "{0} has no lock for the host's Python {1} ({2}); it has locks for {3}. Make one with bin/lock "
            "(`bin/lock --help`), set airflow_constraints: official, or set airflow_python to another Python of the "
            "host."
        ).format(version, have, path, ", ".join(site.locks[version]))


def standalone_dag_processor(values: Values) -> bool:
    """Whether DAG files are parsed outside of Airflow 2's scheduler."""
    scheduler = (values.get("airflow_config") or {}).get("scheduler")
    return isinstance(scheduler, dict) and str(scheduler.get("standalone_dag_processor")).lower() in ("true", "t", "1")


def without_login(url: str) -> str:
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", url)


def check_packages(values: Values, site: Site) -> Problems:
    """Where packages come from. Neither a login in an address is shown, nor one that would be readable on the host."""
    constraints = values.get("airflow_constraints") or ""
    if re.match(r"[./~]", constraints):
        yield from check_file("airflow_constraints", constraints, site)
    index = values.get("airflow_index_url")
    if index and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?|file:///\S*", index):
        yield "airflow_index_url", ("is {0}; valid is the address of a simple API, such as "
                                    "https://pypi.example.com/simple.").format(
            json.dumps(without_login(index)) if "://" in index or "@" not in index else "no address (it is not shown)")
    for package in values.get("airflow_extra_packages") or []:
        if re.search(r"git\+https?://[^/\s]*@", package):
            yield "airflow_extra_packages", (
                "{0} has a login in its address, and every user of the host can read the arguments of git. Leave it "
                "out, "
                "and use an SSH key or git's credential helper for root on the hosts.").format(
                    json.dumps(re.sub(r"//[^/\s]*@", "//", package)))


CHECKS = (check_executor, check_packages, check_version)
