"""The PostgreSQL server."""

from __future__ import annotations

RANGES = {
    "postgresql_port": (1024, 65535),
    "postgresql_memory_percent": (5, 100),
    "postgresql_max_connections": (10, 10000),
    "postgresql_effective_io_concurrency": (0, 1000),
}
