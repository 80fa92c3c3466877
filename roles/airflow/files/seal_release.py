"""Import what the components need from this virtualenv and write release.json into it: DIRECTORY VERSION EXECUTOR."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

directory, version, executor = sys.argv[1:]
# Airflow writes into its home when it is imported, a configuration with keys of its own among it.
home = tempfile.TemporaryDirectory()
os.environ |= {
    "AIRFLOW_CONFIG": "/dev/null",
    "AIRFLOW_HOME": home.name,
    "AIRFLOW__CORE__EXECUTOR": executor,
    # No connection is made. Airflow 2 refuses most executors with SQLite, which is its default.
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://nobody@localhost/nothing",
}

import airflow  # noqa: E402

if airflow.__version__ != version:
    sys.exit(f"The pin installs Airflow {airflow.__version__}, airflow_version says {version}. Make the two agree.")

from airflow.executors.executor_loader import ExecutorLoader  # noqa: E402

try:
    for name in ExecutorLoader._get_executor_names():
        ExecutorLoader.import_executor_cls(name)
except Exception as error:
    sys.exit(f"airflow_executor: {executor}: {error}. Valid are a name that this Airflow knows and the import path of a class, one or several with "
             "commas between them; where the lock lacks its package, that goes into airflow_extra_packages.")

def flush(path):
    """Have a file or directory on the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


# Before the marker: a loss of power must leave no empty file in a virtualenv that counts as complete. One call for the
# whole file system takes a fraction of the time of a call for each of tens of thousands of files.
subprocess.run(["sync", "--file-system", directory], check=True)
packages = {d.metadata["Name"]: d.version for d in metadata.distributions()}
target = Path(directory, "release.json")
temporary = target.with_suffix(".new")
temporary.write_text(
    json.dumps(
        {"airflow": version, "python": platform.python_version(), "packages": packages},
        indent=1,
        sort_keys=True,
    )
    + "\n"
)
flush(temporary)
os.replace(temporary, target)
flush(directory)
