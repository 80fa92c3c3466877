"""The executor is proven before a virtualenv and before a configuration is used. A stand-in takes the place of Airflow,
which every scenario asks.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

RUN = pathlib.Path(__file__).resolve().parents[2] / "roles/airflow_runtime/files/run.py"
AIRFLOW = {
    "__init__.py": "__version__ = '3.3.2'",
    "configuration.py": "class conf:\n    configuration_description = {'core': {'options': {'executor': {}}}}\n    "
                        "inversed_deprecated_options = {}",
    "executors/__init__.py": "",
    "executors/executor_loader.py": """
import importlib, os
class ExecutorLoader:
    _get_executor_names = lambda: os.environ["AIRFLOW__CORE__EXECUTOR"].split(",")
    def import_executor_cls(name):
        if not os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql"):
            raise RuntimeError("cannot use SQLite")
        module, _, attribute = {"LocalExecutor": "collections.OrderedDict"}.get(name, name).rpartition(".")
        if not module:
            raise ImportError(name + " doesn't look like a module path")
        getattr(importlib.import_module(module), attribute)
""",
}


@pytest.fixture(params=["seal_release", "check_config"])
def prove(request, tmp_path):
    for name, text in AIRFLOW.items():
        path = tmp_path / "airflow" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def prove(executor):
        (tmp_path / "airflow.cfg").write_text(f"[core]\nexecutor = {executor}\n", encoding="utf-8")
        arguments = [tmp_path, "3.3.2", executor] if request.param == "seal_release" else [tmp_path / "airflow.cfg"]
        return subprocess.run([sys.executable, RUN, request.param, *arguments],
                              env={**os.environ, "PYTHONPATH": str(tmp_path)},
                              capture_output=True,
                              text=True,
                              check=False)

    prove.release = tmp_path / "release.json" if request.param == "seal_release" else None
    return prove


@pytest.mark.parametrize("executor", ["LocalExecutor", "collections.Counter", "LocalExecutor,collections.Counter"])
def test_one_executor_and_several_are_imported(prove, executor):
    run = prove(executor)
    assert run.returncode == 0, run.stderr
    assert not prove.release or json.loads(prove.release.read_text(encoding="utf-8"))["airflow"] == "3.3.2"


@pytest.mark.parametrize(("executor", "why"), [
    ("LocalExecuter", "doesn't look like a module path"),
    ("LocalExecutor,no_such.Executor", "No module named 'no_such'"),
    ("json.Nothing", "no attribute")])
def test_an_executor_that_cannot_be_imported_is_an_instruction(prove, executor, why):
    run = prove(executor)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert (
        f"airflow_executor: {executor}: " in run.stderr and why in run.stderr
        and "airflow_extra_packages" in run.stderr
    )
    assert not prove.release or not prove.release.exists()


# Writes down what reaches the disk, and what gets its name.
RECORDS = """
import os, sys
def recorded(name):
    function = getattr(os, name)
    def call(first, *rest):
        what = os.readlink(f"/proc/self/fd/{first}") if name == "fsync" else rest[0]
        with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
            calls.write(f"{name} {os.path.basename(what)}\\n")
        return function(first, *rest)
    setattr(os, name, call)
recorded("fsync")
recorded("replace")
"""


def seal(tmp_path, sync):
    """Run the proof with a stand-in for the command sync; return its result, and what reached the disk in order."""
    for name, text in {**AIRFLOW, "../sitecustomize.py": RECORDS}.items():
        path = tmp_path / "airflow" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sync").write_text(f'#!/bin/sh\necho "sync $*" >> "$CALLS"\n{sync}\n', encoding="utf-8")
    (tmp_path / "bin/sync").chmod(0o755)
    (tmp_path / "new").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                   "CALLS": str(tmp_path / "calls")}
    command = [sys.executable, RUN, "seal_release", tmp_path / "new", "3.3.2", "LocalExecutor"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return run, (tmp_path / "calls").read_text(encoding="utf-8").splitlines()


def test_a_virtualenv_is_on_the_disk_before_it_counts_as_complete(tmp_path):
    run, calls = seal(tmp_path, "")
    assert run.returncode == 0, run.stderr
    assert calls == [f"sync --file-system {tmp_path}/new", "fsync release.new", "replace release.json", "fsync new"]


def test_a_virtualenv_that_cannot_be_written_to_the_disk_is_not_complete(tmp_path):
    run, calls = seal(tmp_path, "exit 1")
    assert run.returncode != 0 and calls == [f"sync --file-system {tmp_path}/new"]
    assert not (tmp_path / "new/release.json").exists()


def test_a_virtualenv_with_another_airflow_is_not_sealed(tmp_path):
    (tmp_path / "airflow").mkdir()
    (tmp_path / "airflow/__init__.py").write_text("__version__ = '3.3.1'", encoding="utf-8")
    command = [sys.executable, RUN, "seal_release", tmp_path, "3.3.2", "LocalExecutor"]
    run = subprocess.run(command,
                         env={**os.environ, "PYTHONPATH": str(tmp_path)},
                         capture_output=True,
                         text=True,
                         check=False)
    assert (
        run.returncode == 1
        and run.stderr == "The pin installs Airflow 3.3.1, airflow_version says 3.3.2. Make the two agree.\n"
    )
    assert not (tmp_path / "release.json").exists()
