"""Import what the components need from this virtualenv and write release.json into it: DIRECTORY VERSION EXECUTOR."""

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

directory, version, executor = sys.argv[1:]

import airflow  # noqa: E402

if airflow.__version__ != version:
    sys.exit(f"The pin installs Airflow {airflow.__version__}, airflow_version says {version}. Make the two agree.")

from airflow.executors.executor_loader import ExecutorLoader  # noqa: E402

name = ExecutorLoader.executors.get(executor, executor)
module, _, attribute = name.rpartition(".")
getattr(__import__(module, fromlist=[attribute]), attribute)

packages = {d.metadata["Name"]: d.version for d in metadata.distributions()}
target = Path(directory, "release.json")
temporary = target.with_suffix(".new")
temporary.write_text(
    json.dumps(
        {"airflow": version, "python": platform.python_version(), "executor": name, "packages": packages},
        indent=1,
        sort_keys=True,
    )
    + "\n"
)
os.replace(temporary, target)
