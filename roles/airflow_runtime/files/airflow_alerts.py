"""For DAGs: the callbacks of docs/alerts.md. Airflow finds its policy by this name too."""

from airflow_runtime.alerts import deadline_missed, sla_missed, task_failed, task_policy  # noqa: F401
