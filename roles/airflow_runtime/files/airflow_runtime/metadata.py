"""The only way of this package to the metadata database."""

from __future__ import annotations

from typing import Any

from airflow_runtime import settings


def url() -> str:
    """Return the address of the database, as libpq reads it."""
    text = (settings.config_dir() / "secrets/sql_alchemy_conn").read_text(encoding="utf-8")
    return text.replace("postgresql+psycopg2://", "postgresql://", 1)


def connect(application_name: str, **options: Any) -> Any:
    """Return a connection as Airflow's role. options are those of libpq."""
    # The system's Python may have no psycopg2, and most questions need none.
    import psycopg2

    return psycopg2.connect(url(), **{"connect_timeout": 5, **options, "application_name": application_name})
