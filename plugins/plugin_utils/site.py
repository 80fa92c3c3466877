"""What rules may know of the controller besides variables: locks, components and options of airflow.cfg by version, and
files.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Callable
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Site, Values, major_of, numbers
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow import standalone_dag_processor
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_config import options_file
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection


def is_file(path: str, directory: str) -> bool:
    """Return whether the path names a file of the controller. A relative one is relative to the playbook."""
    return os.path.isfile(os.path.join(directory, os.path.expanduser(path)))


def make_site(read: Callable[[str], Any], directory: str, where: Callable[..., str], supported: Values) -> Site:
    """read: path -> the mapping that a file of YAML holds. directory: of the playbook."""
    def options(values: Values) -> Any:
        path = options_file(collection.ROOT, str(values.get("airflow_version")))
        return read(path) if os.path.exists(path) else {}

    def all_sections() -> dict[str, str]:
        folder, name = os.path.split(options_file(collection.ROOT, ""))
        versions = sorted((file.removesuffix(name) for file in os.listdir(folder)), key=numbers)
        return {
            section: version
            for version in versions
            for section in read(options_file(collection.ROOT, version))["sections"]
        }

    def components(values: Values) -> list[str]:
        path = collection.path("roles/airflow_common/vars/main/airflow_{0}.yml".format(major_of(values)))
        data = read(path)["__airflow_{0}".format(major_of(values))] if os.path.exists(path) else {}
        return list(data.get("components", {})) + list(
            data["components_optional"] if data and standalone_dag_processor(values) else [])

    return Site(
        where=where,
        supported=supported,
        locks=find_locks(collection.ROOT),
        options=options,
        all_sections=all_sections,
        components=components,
        is_file=lambda path: is_file(path, directory),
        has_backup_key=lambda path: bool(path) and os.path.exists(os.path.join(os.path.expanduser(path), "backup_key")),
        has_gpg=bool(shutil.which("gpg")))


def find_locks(repository: str) -> dict[str, list[str]]:
    """{version: [python, ...]} of the locks in the repository."""
    found: dict[str, list[str]] = {}
    for path in glob.glob(os.path.join(repository, "locks", "airflow-*-py*.txt")):
        for version, python in re.findall(r"^airflow-(.+)-py(.+)\.txt$", os.path.basename(path)):
            found.setdefault(version, []).append(python)
    return {
        version: sorted(pythons, key=numbers)
        for version, pythons in sorted(found.items(), key=lambda item: numbers(item[0]))
    }
