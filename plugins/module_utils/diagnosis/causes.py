# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What observations mean: from what module airflow_health saw on all hosts to results, and from results to causes.
Plain functions.

A result is a line of the report: OK, WARN or CRITICAL, and where it is not OK, the cause with its evidence and the
command that mends it. WARN is what will become a problem; CRITICAL is what does not work now. CAUSES says which cause
explains which other, so that a database that is down is named before the scheduler that therefore does not beat.
"""

from __future__ import annotations

import re

from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.components import (
    Jobs,
    check_components,
    check_overrides,
    check_proxy,
    check_watchdog,
)
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.database import (
    check_backup,
    check_database,
    database_of,
)
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.host import (
    check_agreement,
    check_aws,
    check_host,
)
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.result import CRITICAL, OK, WARN, Data, Result
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.work import check_dag, check_work

# Each cause, and the causes that follow from it, which come later in this list. An inventory-wide cause explains them
# on all hosts, any other on its own.
_WAITS = ["queue_waits"]
# Nobody parses DAG files, so that Airflow takes the DAGs for removed.
_UNPARSED = ["stale_dags", *_WAITS]
_SILENT = ["component_failing", "component_hung", "component_starting", "api_unwell", *_UNPARSED]
_NO_ANSWER = ["database_slow", "migration_unknown", *_SILENT]
_NO_DATABASE = ["database_unreachable", *_NO_ANSWER]
CAUSES: dict[str, list[str]] = {
    "unreachable": _NO_DATABASE,
    "not_asked": [],
    "disk_read_only": ["database_down", "component_stopped", *_NO_DATABASE],
    "disk_full": ["database_down", "component_stopped", *_NO_DATABASE],
    "inodes_used_up": ["database_down", "component_stopped", *_NO_DATABASE],
    "memory_used_up": ["database_down", "component_stopped", *_SILENT],
    "clock": [*_SILENT],
    "database_down": [*_NO_DATABASE, "backup_old"],
    "database_connections": [*_NO_DATABASE, "database_full"],
    "database_login": _NO_DATABASE,
    "database_hba": _NO_DATABASE,
    "database_password": _NO_DATABASE,
    "database_missing": _NO_DATABASE,
    "database_tls": _NO_DATABASE,
    "database_network": _NO_DATABASE,
    "database_starting": _NO_DATABASE,
    "configuration_missing": ["component_stopped", "secrets_not_taken_over", *_NO_DATABASE],
    "database_unreachable": _NO_ANSWER,
    "database_lock": _NO_ANSWER,
    "database_full": [],
    "database_slow": _WAITS,
    "virtualenv_broken": ["component_stopped", "component_stale", "fernet_key", "migration_unknown", *_SILENT],
    "migration_missing": ["component_stopped", *_SILENT],
    "migration_unknown": [],
    "directory_not_writable": ["component_stopped", *_SILENT],
    "fernet_key": ["secrets_not_taken_over", *_WAITS],
    "secrets_differ": ["secrets_not_taken_over", *_WAITS],
    "secrets_overridden": _WAITS,
    "secrets_not_taken_over": ["component_stale", *_WAITS],
    "versions_differ": ["component_stale"],
    "bind_address": [
        "component_failing", "component_starting", "api_unwell", "component_stale", "proxy_unwell", *_WAITS
    ],
    "component_missing": _UNPARSED,
    "component_stopped": ["api_unwell", "proxy_unwell", "target_disabled", *_UNPARSED],
    "component_frozen": ["component_hung", "api_unwell", "proxy_unwell", *_UNPARSED],
    "component_failing": ["api_unwell", "proxy_unwell", *_UNPARSED],
    "component_hung": _UNPARSED,
    "component_starting": ["api_unwell", "proxy_unwell", "stale_dags"],
    "api_unwell": ["proxy_unwell", *_WAITS],
    "component_stale": [],
    "target_disabled": [],
    "drained": [],
    "proxy_stopped": ["proxy_unwell"],
    "certificate": [],
    "proxy_unwell": [],
    "release_differs": ["import_error", "missing_package", "stale_dags"],
    "missing_package": ["stale_dags"],
    "import_error": ["stale_dags"],
    "stale_dags": _WAITS,
    "pool_full": _WAITS,
    "slots_full": _WAITS,
    "paused_runs": [],
    "queue_waits": [],
    "aws": [],
    "release_touched": [],
    "backup_old": [],
    "watchdog": [],
    "failed_tasks": [],
    "failed_units": [],
    # About the DAG or task that diagnose was asked for.
    "dag_unknown": [],
    "dag_ignored": [],
    "dag_paused": [],
    "dag_limit": [],
    "task_state": [],
}
RANK = {cause: rank for rank, cause in enumerate(CAUSES)}
EVERYWHERE = re.compile(
    r"database_|migration_|pool_|slots_|paused_|fernet_key|secrets_differ|versions_differ|release_differs")


def examine(hosts: Data, expected: Data, now: float, dag_id: str = "", task_id: str = "") -> list[Result]:
    """Return the results of all checks. hosts: {name: {components, and seen, unreachable or failed}}; expected: what
    the inventory says.
    """
    limits = expected["limits"]
    connected = next((found for found in map(database_of, hosts.values()) if "connected" in found), {})
    jobs: Jobs | None = None
    if isinstance(connected.get("jobs"), list):
        jobs = {}
        for row in sorted(connected["jobs"], key=lambda row: -row["seconds"]):
            # The newest of several is the living one.
            jobs[row["id"]] = jobs[row["job_type"], row["hostname"]] = row["seconds"]
    results: list[Result] = []
    for name, host in hosts.items():
        results += check_host(name, host, now, limits)
    results += check_aws(hosts)
    for name, host in hosts.items():
        results += [
            *check_components(name, host, jobs, limits, expected), *check_overrides(name, host),
            *check_proxy(name, host, now, limits)
        ]
    results += check_watchdog(hosts)
    results += check_database(hosts, expected, limits)
    results += check_agreement(hosts, expected)
    if connected:
        results += check_work(connected, hosts, expected)
        if dag_id:
            results += check_dag(dag_id, task_id, connected, hosts)
    results += check_backup(hosts, now, limits)
    return results


def follows(result: Result, other: Result) -> bool:
    """Whether this result is what the other cause does."""
    if other.status != CRITICAL or result.cause not in CAUSES[other.cause] or result is other:
        return False
    return other.host in ("", result.host) or result.host == "" or bool(EVERYWHERE.match(other.cause))


def causes(results: list[Result]) -> tuple[list[Result], list[Result]]:
    """Return (causes, consequences): what is not OK, the root of it first. What another result explains is a
    consequence.
    """
    problems = [result for result in results if result.status != OK]
    explained = [result for result in problems if any(follows(result, other) for other in problems)]

    def order(result: Result) -> tuple[bool, bool, int]:
        # What was asked about comes first, then what does not work now.
        return (result.section != "question", result.status != CRITICAL, RANK[result.cause])

    return sorted((result for result in problems if result not in explained), key=order), sorted(explained, key=order)


def verdict(results: list[Result]) -> str:
    """The worst status."""
    return next((status for status in (CRITICAL, WARN) if any(result.status == status for result in results)), OK)
