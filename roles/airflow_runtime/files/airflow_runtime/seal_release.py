"""Import what the components need from a virtualenv, and write release.json into it.

seal_release DIRECTORY VERSION EXECUTOR
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from airflow_runtime import check_config
from airflow_runtime.disk import flush


def prove(version: str, executor: str) -> None:
    """Import Airflow of this version with its executors."""
    # Airflow writes into its home when it is imported, a configuration with keys of its own among it.
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(AIRFLOW_CONFIG=os.devnull, AIRFLOW_HOME=home)
        check_config.use_executor(executor)
        import airflow

        if airflow.__version__ != version:
            sys.exit(
                f"The pin installs Airflow {airflow.__version__}, airflow_version says {version}. Make the two agree.")
        try:
            check_config.import_executors()
        except Exception as error:
            sys.exit(check_config.wrong_executor(executor, error))


def seal(directory: str, version: str) -> None:
    """Mark the virtualenv as complete."""
    # Before the marker: a loss of power must leave no empty file in a virtualenv that counts as complete. One call for
    # the whole file system takes a fraction of the time of a call for each of tens of thousands of files.
    subprocess.run(["sync", "--file-system", directory], check=True)
    packages = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    target = Path(directory, "release.json")
    temporary = target.with_suffix(".new")
    content = {"airflow": version, "python": platform.python_version(), "packages": packages}
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    flush(temporary)
    os.replace(temporary, target)
    flush(directory)


def main(directory: str, version: str, executor: str) -> None:
    """Prove the virtualenv, then mark it."""
    prove(version, executor)
    seal(directory, version)


if __name__ == "__main__":
    main(*sys.argv[1:])
