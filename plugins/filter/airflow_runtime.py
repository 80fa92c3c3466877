"""Compare the package airflow_runtime on a host with the one of this collection."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.windsock.airflow.plugins.module_utils import carried
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection

IMPORT = re.compile(r"^ *from airflow_runtime(?:\.(\w+))? import (\w+(?:, \w+)*)", re.MULTILINE)


@functools.cache
def package():
    """Return {path: text} of all files of the package."""
    root, found = collection.path("roles/airflow_runtime/files"), {}
    for folder, _folders, names in os.walk(root):
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    found[os.path.relpath(path, root)] = file.read()
    return dict(sorted(found.items()))


def version(files):
    """Return the hash of the files, as the question of role airflow_runtime makes it on a host."""
    paths = sorted(files, key=lambda path: (path.count("/"), path.encode()))
    return hashlib.sha256("".join(f"{hashlib.sha256(files[path].encode()).hexdigest()}  {path}\n"
                                  for path in paths).encode()).hexdigest()[:12]


def runtime_files(link, answer):
    """Return items for module files that bring the package to a host, or nothing if the host has it.

    link: path on the host. Each version has a directory of its own, and the link leads to one of them. answer: lines
    of the host, "runtime HASH - DIRECTORY" of what the link leads to, and "runtime-kept NAME" for each directory.
    """
    files, here = package(), {}
    for line in answer:
        if line.startswith("runtime "):
            _word, digest, _input, directory = line.split(maxsplit=3)
            here = {"version": digest[:12], "directory": os.path.basename(directory)}
    new = version(files)
    if here.get("version") == new:
        return []
    home = f"{link}.d/{new}"
    folders = sorted({os.path.dirname(path) for path in files} - {""})
    places = (f"{link}.d", home, *(f"{home}/{folder}" for folder in folders))
    items: list[dict[str, Any]] = [{"path": path, "state": "directory"} for path in places]
    # A diff would be the whole package. That of the link tells the version.
    items += [{"path": f"{home}/{path}", "content": text, "secret": True} for path, text in files.items()]
    items.append({"path": link, "state": "link", "target": f"{os.path.basename(link)}.d/{new}"})
    # A program that starts at this moment reads the version before.
    kept = {new, here.get("directory")}
    old = sorted(line[13:] for line in answer if line.startswith("runtime-kept ") and line[13:] not in kept)
    return [*items, *({"path": f"{link}.d/{name}", "state": "absent"} for name in old)]


def needed(name, files):
    """Return the names of the modules that a module needs, and its own."""
    found, waiting = {"__init__"}, [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            for module, names in IMPORT.findall(files[f"airflow_runtime/{one}.py"]):
                waiting += [module] if module else names.split(", ")
    return sorted(found)


def runtime_program(name, link, given=""):
    """Return what a Python of a host reads from standard input to run a module that the host may not have."""
    files = package()
    if f"airflow_runtime/{name}.py" not in files:
        raise AnsibleFilterError(f"airflow_runtime has no module {name!r}")
    # Where the settings are two directories above, as for the version on the host.
    home = f"{link}.d/{version(files)}"
    paths = {one: f"airflow_runtime/{one}.py" for one in needed(name, files)}
    modules = {
        f"airflow_runtime.{one}".removesuffix(".__init__"): [f"{home}/{path}", files[path]]
        for one, path in paths.items()
    }
    return carried.program(modules, f"airflow_runtime.{name}", given)


class FilterModule:
    def filters(self):
        return {"airflow_runtime_files": runtime_files, "airflow_runtime_program": runtime_program}
