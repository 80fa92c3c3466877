"""For gunicorn alone, which imports it before there is an Airflow: --logger-class."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from airflow_runtime.json_logs import Formatter


class GunicornLogger(Logger):
    """gunicorn's own loggers, whose format no option of Airflow reaches."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers + self.access_log.handlers:
            handler.setFormatter(Formatter())
