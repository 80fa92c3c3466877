# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""What concerns the work: the queue, pools, DAG files, and the DAG or task that somebody asks about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.result import (
    CRITICAL,
    WARN,
    Data,
    Result,
    duration,
    error_of,
    fine,
    listed,
    restart,
    several,
    wrong,
)
from ansible_collections.windsock.airflow.plugins.module_utils.spelling import nearest

# Seconds after which every DAG of a release that was put in place has been parsed: a deploy waits as long by default.
PARSED = 120
# Seconds of silence after which runbook clear_stuck_tasks, run as it is, takes a task for stuck.
STUCK = 900


def check_work(found: Data, hosts: Data, expected: Data) -> Iterator[Result]:
    """Queue, pools, DAGs."""
    limits = expected["limits"]
    rows = {name: answer for name, answer in found.items() if isinstance(answer, list)}
    states = {row["state"]: row for row in rows.get("tasks", [])}
    yield from check_queue(states, rows, hosts, limits)
    yield from check_pools(rows, expected)
    yield from check_imports(rows, hosts)
    yield from check_stale(rows, hosts)
    dags = (rows.get("dags") or [None])[0]
    if dags:
        yield fine("work", "", "DAGs", "{0}, {1} of them paused".format(several(dags["number"], "DAG"), dags["paused"]))
    for row in rows.get("paused", []):
        yield wrong("work", "", "DAGs", CRITICAL if row["seconds"] >= limits["queue"] else WARN,
                    "{0} is paused and has {1} that can't go on".format(row["dag_id"], several(row["runs"], "run")),
                    "paused_runs", ["the oldest waits {0}".format(duration(row["seconds"]))], unpause(row["dag_id"]))
    failed = (rows.get("failed") or [None])[0]
    if failed:
        text = "{0} failed within a day".format(several(failed["number"], "task"))
        if failed["number"] >= limits["failed_tasks"]:
            yield wrong("work", "", "tasks", WARN, text, "failed_tasks",
                        ["among them " + listed(failed["tasks"] or [])], [],
                        "Their logs: the UI, or playbooks/runbooks/show_logs.yml")
        else:
            yield fine("work", "", "tasks", text)


def names_of(row: Data) -> str:
    return "{dag_id}.{task_id} of {run_id}".format(**row)


def told_of(row: Data) -> str:
    """How long a task has held its slot, and that nobody has heard of it where that is so."""
    return "for {0} by {1}{2}".format(duration(row["seconds"]), names_of(row),
                                      ", silent for " + duration(row["silent"]) if unheard([row]) else "")


def unheard(rows: list[Data]) -> list[Data]:
    """Those of the tasks that nobody works on any more, so that clear_stuck_tasks takes them for stuck."""
    return [row for row in rows if (row["silent"] or 0) >= STUCK]


def clear(rows: list[Data]) -> list[str]:
    """The command that clears the tasks of the first one's DAG that nobody works on."""
    return ["playbooks/runbooks/clear_stuck_tasks.yml", "-e", "airflow_confirm=" + rows[0]["dag_id"]] if rows else []


def parallelism(hosts: Data) -> int:
    """Tasks that all schedulers together may run at once, where they run them themselves."""
    settings = [
        host["seen"]["settings"] for host in hosts.values() if "seen" in host and "scheduler" in host["components"]
    ]
    local = [one for one in settings if not error_of(one) and "LocalExecutor" in one["executor"]]
    return sum(one["parallelism"] for one in local)


def unpause(dag_id: str) -> list[str]:
    """The command that unpauses a DAG, whoever has paused it."""
    return ["playbooks/dag_state.yml", "-e", json.dumps({"airflow_dag_state": {dag_id: {"paused": False}}})]


def check_queue(states: Data, rows: Data, hosts: Data, limits: Data) -> Iterator[Result]:
    number = {state: states.get(state, {}).get("number", 0) for state in ("scheduled", "queued", "running")}
    oldest = max([states[state]["seconds"] or 0 for state in ("scheduled", "queued") if state in states] or [0])
    text = "{running} running, {queued} queued, {scheduled} scheduled".format(**number)
    waits = number["queued"] + number["scheduled"]
    if waits:
        text += ", the oldest waits {0}".format(duration(oldest))
    slots = parallelism(hosts)
    if slots and number["running"] + number["queued"] >= slots and waits and oldest >= limits["queue"]:
        running = rows.get("running", [])
        silent = unheard(running)
        yield wrong(
            "work",
            "",
            "queue",
            CRITICAL,
            text,
            "slots_full",
            [
                "there is room for {0} at once, and {1} run or are queued".format(
                    slots, number["running"] + number["queued"]
                ),
                *("runs {0}".format(told_of(row)) for row in running[:3]),
            ],
            clear(silent),
            ""
            if silent
            else "They are alive: wait for them, mark one as failed in the UI, or raise airflow_parallelism and run "
            "playbooks/airflow.yml "
            "and services.yml.",
        )
    elif waits and oldest >= limits["queue"]:
        waiting = rows.get("waiting", [])
        yield wrong("work", "", "queue", CRITICAL, text, "queue_waits",
                    ["waits {0}: {1}".format(duration(row["seconds"]), names_of(row)) for row in waiting[:3]],
                    ["playbooks/runbooks/diagnose.yml", "-e", "airflow_dag_id=" +
                     waiting[0]["dag_id"]] if waiting else [])
    else:
        yield fine("work", "", "queue", text)


def check_pools(rows: Data, expected: Data) -> Iterator[Result]:
    pools = rows.get("pools", [])
    full = [pool for pool in pools if pool["slots"] >= 0 and pool["used"] >= pool["slots"] and pool["waiting"]
            and (pool["seconds"] or 0) >= expected["limits"]["queue"]]
    for pool in full:
        holders = [row for row in rows.get("holders", []) if row["pool"] == pool["pool"]]
        declared = expected["pools"].get(pool["pool"], {}).get("slots", pool["slots"])
        other = int(declared) > pool["slots"]
        silent = unheard(holders)
        yield wrong(
            "work",
            "",
            "pool",
            CRITICAL,
            "{0} is full: {1} of {2} in use, {3} waiting for {4}".format(
                pool["pool"],
                pool["used"],
                several(pool["slots"], "slot"),
                several(pool["waiting"], "task"),
                duration(pool["seconds"]),
            ),
            "pool_full",
            [
                other and "the inventory gives it {0}".format(several(int(declared), "slot")),
                *("held {0}".format(told_of(row)) for row in holders),
            ],
            ["playbooks/objects.yml"] if other else clear(silent),
            ""
            if other or silent
            else "{0}give it slots: airflow_pools in the inventory and playbooks/objects.yml, or in the UI.".format(
                "They are alive: wait for them, mark one as failed in the UI, or " if holders else "Nothing holds it: "
            ),
        )
    if pools and not full:
        busiest = max(pools, key=lambda pool: pool["used"] / pool["slots"] if pool["slots"] > 0 else 0)
        yield fine(
            "work",
            "",
            "pools",
            "{0}; busiest {1}, {2} of {3} in use".format(
                several(len(pools), "pool"), busiest["pool"], busiest["used"], busiest["slots"]
            ),
        )


def import_problem(rows: list[Data], hosts: Data, about: str = "") -> Result | None:
    """The cause that import errors are, as a result; nothing where there is none."""
    errors = [row for row in rows if not about or about in row["filename"]]
    if not errors:
        return None
    package = next(
        (match[1] for row in errors for match in [re.search(r"No module named '([^'.]+)", row["said"])] if match), "")
    releases = [
        host["seen"]["releases"] for host in hosts.values() if "seen" in host and not error_of(host["seen"]["releases"])
    ]
    back = any(len(release.get("releases", [])) > 1 for release in releases)
    text = "{0} can't be imported".format(
        several(len(errors), "DAG file") if len(errors) > 1 else errors[0]["filename"])
    return wrong(
        "work", "", "DAG files", CRITICAL, text, "missing_package" if package else "import_error",
        ["{0}: {1}".format(row["filename"], row["said"])
         for row in errors[:3]], ["playbooks/rollback_dags.yml"] if back else [],
        "Then add {0} to airflow_extra_packages and run site.yml, and deploy again.".format(package)
        if package else "Then mend the file and deploy again: playbooks/deploy_dags.yml")


def check_imports(rows: Data, hosts: Data) -> Iterator[Result]:
    problem = import_problem(rows.get("import_errors", []), hosts)
    if problem:
        yield problem
    elif "import_errors" in rows:
        yield fine("work", "", "DAG files", "all can be imported")


def check_stale(rows: Data, hosts: Data) -> Iterator[Result]:
    """DAGs of the release in place that Airflow takes for removed. It starts none of their runs, and says nothing."""
    releases = [host["seen"]["releases"] for host in hosts.values() if "seen" in host]
    release = next((one for one in releases if not error_of(one) and one["dags"]), None)
    if not release or release["placed"] < PARSED or "stale" not in rows:
        return
    if release["dag_ids"]:
        stale = [row for row in rows["stale"] if row["dag_id"] in release["dag_ids"]]
    else:
        # Nobody knows the DAGs of a release that was not validated. Files without a single DAG are no accident.
        stale = rows["stale"] if release["dag_files"] and rows.get("dags") and not rows["dags"][0]["number"] else []
    if not stale:
        return
    name, component = parser_of(hosts)
    waiting = [row for row in stale if row["runs"]]
    last = [row["seconds"] for row in stale if row["seconds"] is not None]
    yield wrong("work", "", "DAGs", CRITICAL, "{0} of the release in place {1} not parsed any more".format(
        several(len(stale), "DAG"), "is" if len(stale) == 1 else "are"), "stale_dags",
        [listed(row["dag_id"] for row in stale), last and "last parsed {0} ago".format(duration(min(last))),
         waiting and "{0} cannot go on".format(several(sum(row["runs"] for row in waiting), "unfinished run"))],
        restart(component, name) if name else [],
        "" if name else "No host of this report parses DAG files: playbooks/services.yml")


def parser_of(hosts: Data) -> tuple[str, str]:
    """The (host, component) that parses DAG files: the DAG processor, in Airflow 2 without one the scheduler."""
    return next(((name, component) for component in ("dag-processor", "scheduler") for name, host in hosts.items()
                 if component in host["components"]), ("", ""))


# ---- one DAG, one task -----------------------------------------------------------------------------------------------


def check_dag(dag_id: str, task_id: str, found: Data, hosts: Data) -> Iterator[Result]:
    """Why a DAG does not appear, or a task does not run."""

    def no(cause: str, text: str, evidence: Iterable[Any] = (), mend: Iterable[str] = (), advice: str = "") -> Result:
        return wrong("question", "", task_id and "{0}.{1}".format(dag_id, task_id) or dag_id, CRITICAL, text, cause,
                     evidence, mend, advice)

    dag = (found.get("dag") or [None])[0] if isinstance(found.get("dag"), list) else None
    files, ignored = set(), {}
    for host in hosts.values():
        answer = host.get("seen", {}).get("dag_files") or {}
        files.update(answer.get("files", []))
        ignored.update({one["file"]: one["pattern"] for one in answer.get("ignored", [])})
    errors = found["import_errors"] if isinstance(found.get("import_errors"), list) else []
    if dag is None or not dag["active"]:
        for file, pattern in sorted(ignored.items()):
            yield no("dag_ignored", "{0} is left out by .airflowignore".format(file), ["the line is: " + pattern], [],
                     "Change .airflowignore and deploy.")
        broken = [problem for file in sorted(files) for problem in [import_problem(errors, hosts, file)] if problem]
        yield from broken
        if not broken and not ignored:
            known = [row["dag_id"] for row in found["known"]] if isinstance(found.get("known"), list) else []
            near = nearest(dag_id, known)
            if files:
                yield no("dag_unknown", "is in {0}, and Airflow does not know it".format(listed(sorted(files))),
                         ["near to it: " + near] if near else [], ["playbooks/services.yml"],
                         "Is the DAG processor up, and does the file make a DAG at its top level?")
            else:
                yield no("dag_unknown", "is in no file of the release in place",
                         ["near to it: " + near] if near else [], ["playbooks/deploy_dags.yml"])
        return
    if dag["paused"]:
        yield no("dag_paused", "is paused: the scheduler passes over it", [], unpause(dag_id))
    runs = {row["state"]: row["number"] for row in found["dag_runs"]} if isinstance(found.get("dag_runs"), list) else {}
    tasks = {row["state"]: row["number"]
             for row in found["dag_tasks"]} if isinstance(found.get("dag_tasks"), list) else {}
    if runs.get("queued") and dag["max_active_runs"] and runs.get("running", 0) >= dag["max_active_runs"]:
        yield no(
            "dag_limit",
            "has {0} queued: max_active_runs is {1}, and as many run".format(
                several(runs["queued"], "run"), dag["max_active_runs"]
            ),
            [],
            [],
            "Wait for them, or raise max_active_runs in the DAG and deploy.",
        )
    if tasks.get("scheduled") and dag["max_active_tasks"] and tasks.get("running", 0) + tasks.get(
            "queued", 0) >= dag["max_active_tasks"]:
        yield no(
            "dag_limit",
            "has {0} waiting: max_active_tasks is {1}, and as many run".format(
                several(tasks["scheduled"], "task"), dag["max_active_tasks"]
            ),
            [],
            [],
            "Wait for them, or raise max_active_tasks in the DAG and deploy.",
        )
    if task_id:
        task = (found.get("task") or [None])[0] if isinstance(found.get("task"), list) else None
        if task is None:
            yield no("task_state", "has no run yet", [], [],
                     "Start one in the UI, or with playbooks/runbooks/trigger_dag.yml.")
        elif task["state"] in ("failed", "up_for_retry", "upstream_failed"):
            yield no("task_state", "is {0}".format(task["state"]),
                     ["run {run_id}, try {try_number}, on {hostname}".format(**task)], [
                         "playbooks/runbooks/show_logs.yml", "-e", "airflow_dag_id=" + dag_id, "-e",
                         "airflow_task_id=" + task_id
                     ])
