"""The only way of this package to the metadata database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow_runtime import settings


def plain(address: str) -> str:
    """Return an address of SQLAlchemy as libpq reads it."""
    return address.replace("postgresql+psycopg2://", "postgresql://", 1)


def url(config_dir: str | os.PathLike[str] = "") -> str:
    """Return the address of the database, as libpq reads it."""
    directory = Path(config_dir) if config_dir else settings.config_dir()
    return plain((directory / "secrets/sql_alchemy_conn").read_text(encoding="utf-8"))


def connect(application_name: str, address: str = "", **options: Any) -> Any:
    """Return a connection as Airflow's role. address: another one than that of this host. options are those of libpq."""
    # The system's Python may have no psycopg2, and most questions need none.
    import psycopg2

    return psycopg2.connect(plain(address) or url(), **{"connect_timeout": 5, **options, "application_name": application_name})
