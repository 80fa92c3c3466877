"""The only way to the metadata database.

plugins/module_utils has a link to this file, because its modules also ask hosts that have no airflow_runtime, or
another version of the package. So this file imports no other module of ours.
"""

from __future__ import annotations

from typing import Any


def plain(address: str) -> str:
    """Return an address of SQLAlchemy as libpq reads it."""
    return address.replace("postgresql+psycopg2://", "postgresql://", 1)


def connect(application_name: str, address: str, **options: Any) -> Any:
    """Return a connection. options are those of libpq."""
    # The system's Python may have no psycopg2, and most questions need none.
    import psycopg2

    return psycopg2.connect(plain(address), **{"connect_timeout": 5, **options, "application_name": application_name})
