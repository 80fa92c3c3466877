# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Runs modules that are on no disk of the host: a Python reads this file and the text of the modules from standard
input.

A host may lack our programs, or have another version of them, or be unable to write.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import io
import runpy
import sys
from types import ModuleType
from typing import Any

# {name of a module: [path for tracebacks, text]}
Files = dict[str, list[str]]


class Carried(importlib.abc.ExecutionLoader):
    """Imports the modules that have come."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name in self.files else None

    def is_package(self, name: str) -> bool:
        return any(other.startswith(f"{name}.") for other in self.files)

    def get_filename(self, name: str) -> str:
        return self.files[name][0]

    def get_source(self, name: str) -> str:
        return self.files[name][1]


def run(files: Files, name: str, given: str) -> None:
    """Run a module as a program whose standard input is given."""
    # Whatever prints a traceback asks for the text of the program by the name that it has while it runs.
    sys.meta_path.insert(0, Carried({**files, "__main__": files[name]}))
    sys.stdin = io.StringIO(given)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def text_of(module: ModuleType) -> str:
    """Return the text of a module. Ansible's modules come to a host in an archive."""
    loader: Any = module.__loader__
    return str(loader.get_data(module.__file__).decode())


def program(files: Files, name: str, given: str = "") -> str:
    """Return what a Python reads from standard input to run the module. Its arguments follow the argument "-"."""
    return f"{text_of(sys.modules[__name__])}\nrun({files!r}, {name!r}, {given!r})\n"


def program_of(modules: list[ModuleType], given: str) -> str:
    """Return the same for the first of these modules, which have been imported. The others are those that it imports.
    """
    files = {module.__name__: [str(module.__file__), text_of(module)] for module in modules}
    for name in list(files):
        while "." in name:
            name = name.rpartition(".")[0]
            files[name] = ["", ""]
    return program(files, modules[0].__name__, given)
