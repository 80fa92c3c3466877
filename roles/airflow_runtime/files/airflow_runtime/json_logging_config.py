"""Airflow 2's own logging configuration, with lines of JSON: [logging] logging_config_class."""

from __future__ import annotations

import copy
import importlib
from typing import Any

from airflow.config_templates import airflow_local_settings
from airflow.utils.module_loading import import_string

from airflow_runtime.json_logs import Formatter

# The process that parses DAGs loads this module anew, and wants the loggers that Airflow's own module has for it alone.
LOGGING_CONFIG = copy.deepcopy(importlib.reload(airflow_local_settings).DEFAULT_LOGGING_CONFIG)
LOGGING_CONFIG["formatters"] = {name: {"()": Formatter} for name in LOGGING_CONFIG["formatters"]}


class TaskHandler(import_string(LOGGING_CONFIG["handlers"]["task"]["class"])):  # type: ignore[misc]
    """What Airflow would use, be it local or remote, but each line says of which task it is."""

    def set_context(self, ti: Any, *args: Any, **kwargs: Any) -> Any:
        self.setFormatter(
            Formatter(
                context={
                    "dag_id": ti.dag_id,
                    "task_id": ti.task_id,
                    "run_id": ti.run_id,
                    "try_number": ti.try_number,
                    "map_index": ti.map_index,
                }))
        return super().set_context(ti, *args, **kwargs)


LOGGING_CONFIG["handlers"]["task"]["class"] = f"{__name__}.TaskHandler"
