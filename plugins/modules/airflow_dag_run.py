#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Start a run of a DAG, and wait for its end."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_dag_run
short_description: Start a run of a DAG, wait for its end, and show why it failed
version_added: 1.0.0
description:
  - Starts a run through the REST API, as a person would in the UI. Its logical date is the time of the host.
  - Refuses a DAG that Airflow does not know. Refuses a paused DAG, whose run would wait without a word, unless
    I(unpause) is set.
  - With I(wait), fails where the run fails, and returns the ends of the failed tasks' logs.
options:
  dag_id:
    description: The DAG.
    type: str
    required: true
  conf:
    description: Configuration of the run (C(dag_run.conf)).
    type: dict
    default: {}
  unpause:
    description: Unpause the DAG if it is paused.
    type: bool
    default: false
  appear:
    description: Seconds to wait until Airflow has read the file of the DAG, as after a deploy; 0 does not wait.
    type: int
    default: 0
  wait:
    description: Seconds to wait for the end; 0 does not wait.
    type: int
    default: 0
  log_lines:
    description: Lines of each failed task's log to return.
    type: int
    default: 30
extends_documentation_fragment:
  - windsock.airflow.airflow_rest_api
attributes:
  check_mode:
    support: full
    description: The DAG is looked at, and no run started.
  diff_mode:
    support: none
    description: Shows no difference.
"""

EXAMPLES = r"""
- name: Run a report, and wait up to ten minutes
  windsock.airflow.airflow_dag_run:
    url: http://127.0.0.1:8080
    prefix: /api/v2
    token_path: /auth/token
    user: admin
    password: "{{ password }}"
    dag_id: daily_report
    conf: {day: "2026-01-31"}
    wait: 600
"""

RETURN = r"""
run_id:
  description: The run.
  returned: a run was started
  type: str
state:
  description: Its state in the end, or when it was started.
  returned: a run was started
  type: str
tasks:
  description: Its tasks and their states.
  returned: it was waited for
  type: dict
  sample: {extract: success, load: failed}
paused:
  description: Whether it is the pause that refuses the run.
  returned: the DAG can't be run
  type: bool
log:
  description: The ends of the failed tasks' logs.
  returned: the run failed
  type: list
  elements: str
"""

import datetime
import time
import urllib.error

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_api import (
    OPTIONS,
    Api,
    Refused,
    said,
    unreachable,
)
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_log_lines import readable
from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean

# Failed tasks whose log is shown.
SHOWN = 3
# DAGs that a message names.
LISTED = 10


class Unfit(Exception):
    """The DAG can't be run; the argument says why."""


class Paused(Unfit):
    """The DAG is paused."""


def find(api: Api, dag_id: str, seconds: int) -> dict:
    """Return the DAG, once Airflow has read its file."""
    end = time.monotonic() + seconds
    while True:
        try:
            return api.call(api.path("dags", dag_id))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        if time.monotonic() >= end:
            known = [one["dag_id"] for one in api.pages("dags", "dags")]
            broken = [one["filename"] for one in api.pages("importErrors", "import_errors")]
            waited = f" after {seconds} s" if seconds else ""
            names = (
                f" It knows {', '.join(sorted(known)[:LISTED])}{' and others' if len(known) > LISTED else ''}."
                    if known else " It knows no DAG at all."
            )
            hint = (
                f" Files that Airflow can't import: {', '.join(broken)}; see: airflow dags list-import-errors."
                    if broken else ""
            )
            place = " playbooks/list_dag_releases.yml shows what is in place."
            raise Unfit(f"Airflow knows no DAG {dag_id}{waited}.{did_you_mean(dag_id, known) or names}{hint}{place}")
        time.sleep(1)


def look(api: Api, dag_id: str, appear: int, unpause: bool) -> bool:
    """Refuse a DAG that can't be run now. Return whether it has to be unpaused."""
    dag = find(api, dag_id, appear)
    if dag.get("is_stale") or dag.get("is_active") is False:
        raise Unfit(f"DAG {dag_id} is in no file any more. playbooks/list_dag_releases.yml shows what is in place.")
    if dag["is_paused"] and not unpause:
        raise Paused(
            f"DAG {dag_id} is paused: its run would wait. If pause_dags paused it: playbooks/runbooks/resume_dags.yml. "
            "playbooks/run_dag.yml unpauses it and runs it.")
    return dag["is_paused"]


def start(api: Api, dag_id: str, conf: dict) -> str:
    """Start a run and return its id."""
    # As the UI does. Without a date, Airflow 3 knows neither ds nor data_interval_start in the templates of this run.
    date = {"logical_date": datetime.datetime.now(datetime.timezone.utc).isoformat()} if api.three else {}
    try:
        return api.call(api.path("dags", dag_id, "dagRuns"), {"conf": conf, **date})["dag_run_id"]
    except urllib.error.HTTPError as error:
        # What the DAG's own params don't allow, for one.
        raise Unfit(f"Airflow refuses the run of {dag_id}: {said(error)}") from None


def end_of(args: dict, run_id: str) -> str:
    """Return the state that the run ends in, or has when time is over. An API server that is away for a moment is
    waited for.
    """
    end, state = time.monotonic() + args["wait"], "queued"
    while True:
        try:
            # Signed in anew: a token does not outlive a rotation of its key.
            api = Api(args)
            while state not in ("success", "failed") and time.monotonic() < end:
                state = api.call(api.path("dags", args["dag_id"], "dagRuns", run_id))["state"]
                time.sleep(1)
            return state
        except (Refused, OSError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(1)


def log_of(api: Api, args: dict, run_id: str, task: dict) -> list:
    """Return the end of a task's log."""
    where = api.path("dags", args["dag_id"], "dagRuns", run_id, "taskInstances", task["task_id"], "logs",
                     str(max(task["try_number"], 1)))
    url = f"{where}?full_content=true&map_index={task.get('map_index', -1)}"
    title = (
        f"== {task['task_id']}{'[%d]' % task['map_index'] if task.get('map_index', -1) >= 0 else ''}, try "
        f"{task['try_number']}"
    )
    try:
        lines = api.call(url)["content"] if api.three else api.raw(url, Accept="text/plain").decode(
            errors="replace").splitlines()
    except (OSError, ValueError, KeyError) as error:
        return [f"{title}: its log can't be read: {error}"]
    return [title, *readable(lines, last=args["log_lines"])]


def tasks_of(api: Api, dag_id: str, run_id: str) -> list:
    """Return the task instances of a run."""
    return api.call(api.path("dags", dag_id, "dagRuns", run_id, "taskInstances") + "?limit=1000")["task_instances"]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **OPTIONS,
            "dag_id": {"type": "str", "required": True},
            "conf": {"type": "dict", "default": {}},
            "unpause": {"type": "bool", "default": False},
            "appear": {"type": "int", "default": 0},
            "wait": {"type": "int", "default": 0},
            "log_lines": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    args = module.params
    try:
        api = Api(args)
        paused = look(api, args["dag_id"], args["appear"], args["unpause"])
        if module.check_mode:
            module.exit_json(changed=True)
        if paused:
            api.call(api.path("dags", args["dag_id"]), {"is_paused": False}, "PATCH")
        run_id = start(api, args["dag_id"], args["conf"])
        if not args["wait"]:
            module.exit_json(changed=True, run_id=run_id, state="queued")
        state, api = end_of(args, run_id), Api(args)
        tasks = tasks_of(api, args["dag_id"], run_id)
    except Unfit as unfit:
        module.fail_json(msg=str(unfit), paused=isinstance(unfit, Paused))
    except (Refused, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=unreachable(args, error))
    result = {
        "changed": True,
        "run_id": run_id,
        "state": state,
        "tasks": {task["task_id"]: task["state"] for task in tasks},
    }
    if state == "success":
        module.exit_json(**result)
    if state != "failed":
        module.fail_json(msg=f"{args['dag_id']} {run_id} is {state} after {args['wait']} s, and goes on.",
                         log=[],
                         **result)
    failed = [task for task in tasks if task["state"] == "failed"]
    log = [line for task in failed[:SHOWN] for line in log_of(api, args, run_id, task)]
    module.fail_json(
        msg=f"{args['dag_id']} {run_id} failed: "
            f"{', '.join(task['task_id'] for task in failed) or 'no task of it did'}.",
        log=log,
        **result)


if __name__ == "__main__":
    main()
