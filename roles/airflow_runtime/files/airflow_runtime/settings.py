"""Where Airflow is on this host."""

from __future__ import annotations

import json
import os
from pathlib import Path

# Beside the link to the package, so that every user and every Python finds it.
FILE = Path(__file__).resolve().parents[3] / "airflow_runtime.json"


def directory(name: str) -> Path:
    """Return a directory as the inventory gives it. The file is read each time, because a process may run for months.
    """
    return Path(json.loads(FILE.read_text(encoding="utf-8"))[name])


def config_dir() -> Path:
    """Return the directory with airflow.cfg.

    A component and its tasks know it from their environment. They may have started before the inventory named another
    one.
    """
    path = os.environ.get("AIRFLOW_CONFIG")
    return Path(path).parent if path else directory("config_dir")


def home() -> Path:
    """Return AIRFLOW_HOME."""
    path = os.environ.get("AIRFLOW_HOME")
    return Path(path) if path else directory("home")
