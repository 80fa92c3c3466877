"""Log lines of Airflow 2 as JSON: an object a line, with the keys that Airflow 3 uses."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any


class Formatter(logging.Formatter):
    """A traceback is a value of its line, so it breaks none.

    :param context: Keys that every line has besides its own, such as those of a task.
    """

    def __init__(self, *args: Any, context: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__()
        self.context = context or {}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **self.context,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)
