"""How the programs of a host connect to the metadata database. Its address on this host is the default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow_runtime import database_connection, settings


def url(config_dir: str | os.PathLike[str] = "") -> str:
    """Return the address of the database, as libpq reads it."""
    directory = Path(config_dir) if config_dir else settings.config_dir()
    return database_connection.plain((directory / "secrets/sql_alchemy_conn").read_text(encoding="utf-8"))


def connect(application_name: str, address: str = "", **options: Any) -> Any:
    """Return a connection as Airflow's role. address: another one than that of this host. options are those of libpq.
    """
    return database_connection.connect(application_name, address or url(), **options)
