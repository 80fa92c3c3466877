"""Compare the package airflow_runtime on a host with the one of this collection."""

from __future__ import annotations

import functools
import hashlib
import os

from ansible_collections.windsock.airflow.plugins.plugin_utils import collection


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
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()}  ./{path}\n" for path, text in files.items()]
    return hashlib.sha256("".join(sorted(lines, key=lambda line: line[66:].encode())).encode()).hexdigest()[:12]


def runtime_files(link, answer):
    """Return items for module files that bring the package to a host, or nothing if the host has it.

    link: path on the host. Each version has a directory of its own, and the link leads to one of them. answer: lines
    of the host, "runtime VERSION DIRECTORY" of what the link leads to, and "runtime-kept DIRECTORY" for each directory.
    """
    files, here = package(), {}
    for line in answer:
        if line.startswith("runtime "):
            _word, here["version"], here["directory"] = line.split(" ", 2)
    new = version(files)
    if here.get("version") == new:
        return []
    home = f"{link}.d/{new}"
    folders = sorted({os.path.dirname(path) for path in files} - {""})
    items = [{"path": path, "state": "directory"} for path in (f"{link}.d", home, *(f"{home}/{folder}" for folder in folders))]
    # A diff would be the whole package. That of the link tells the version.
    items += [{"path": f"{home}/{path}", "content": text, "secret": True} for path, text in files.items()]
    items.append({"path": link, "state": "link", "target": f"{os.path.basename(link)}.d/{new}"})
    # A program that starts at this moment reads the version before.
    kept = {new, here.get("directory")}
    old = sorted(line[13:] for line in answer if line.startswith("runtime-kept ") and line[13:] not in kept)
    return [*items, *({"path": f"{link}.d/{name}", "state": "absent"} for name in old)]


class FilterModule:
    def filters(self):
        return {"airflow_runtime_files": runtime_files}
