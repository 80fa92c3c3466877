"""Releases of DAGs, and the DAGs that are paused."""

from __future__ import annotations

RANGES = {
    "airflow_dags_max_file_size_mb": (1, 1000),
    "airflow_dags_parse_limit": (1, 600),
    "airflow_dags_batch": (1, 1000),
    "airflow_dags_verify_timeout": (1, 3600),
    "airflow_dags_keep": (1, 1000),
    "airflow_dag_state_timeout": (1, 3600),
}
FILES = ["airflow_dags_rules_file", "airflow_dags_deploy_before", "airflow_dags_deploy_after"]
