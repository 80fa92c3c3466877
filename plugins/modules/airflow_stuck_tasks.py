#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Find tasks that wait for something that won't come, say why, and clear them."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_stuck_tasks
short_description: Find tasks that are stuck, say why, and clear them through Airflow's own API
version_added: 1.0.0
description:
  - Looks for tasks that are scheduled or queued for longer than I(minutes), or that run and have given no sign of life
    for so long.
  - A task that nobody works on any more is cleared by the REST API, as a person does it in the UI, and Airflow runs it
    again. One that only waits, for
    a slot of its pool, for an unpaused DAG or for a scheduler, would wait on after that; it is told what it waits for,
    and left alone.
options:
  minutes:
    description: Minutes without progress. Airflow itself takes care of most within five to ten.
    type: float
    default: 15
  clear:
    description: Whether to clear those that it helps.
    type: bool
    default: false
  dag_id:
    description: Only tasks of this DAG.
    type: str
    default: ""
  python:
    description: Python of the virtualenv in which Airflow is installed.
    type: path
    default: /opt/airflow/venv/bin/python
  component_user:
    description: User that the components run as. The database is asked as this user.
    type: str
    default: airflow
  environment:
    description: Environment of that question. C(AIRFLOW_CONFIG) tells where the secrets lie.
    type: dict
    default: {AIRFLOW_HOME: /var/lib/airflow, AIRFLOW_CONFIG: /etc/airflow/airflow.cfg}
extends_documentation_fragment:
  - windsock.airflow.airflow_rest_api
attributes:
  check_mode:
    support: full
    description: Changes nothing and reports what it would change.
  diff_mode:
    support: none
    description: Shows no difference.
"""

EXAMPLES = r"""
- name: Say which tasks are stuck
  windsock.airflow.airflow_stuck_tasks:
    url: http://127.0.0.1:8080
    prefix: /api/v2
    token_path: /auth/token
    user: admin
    password: "{{ password }}"
"""

RETURN = r"""
stuck:
  description: What is stuck, since how many minutes, why, and whether clearing helps.
  returned: always
  type: list
  elements: dict
cleared:
  description: What was cleared, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import urllib.error

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_api as api_utils
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import OPTIONS, ask

# Seconds after which a scheduler that gives no sign of life counts as dead (Airflow's own limit is 30).
SCHEDULER_DEAD = 60


def name_of(task: dict) -> str:
    """Return what a person calls the task."""
    return f"{task['dag_id']} {task['run_id']} {task['task_id']}" + (
        f"[{task['map_index']}]" if task["map_index"] >= 0 else ""
    )


def cause(task: dict, scheduler_silent: float | None) -> tuple:
    """Return (why it is stuck, whether clearing helps)."""
    dead = scheduler_silent is None or scheduler_silent > SCHEDULER_DEAD
    if task["state"] in ("running", "restarting"):
        sign = "never" if task["silent"] is None else f"for {task['silent'] / 60:.0f} minutes not"
        return f"its process on {task['hostname'] or 'no host'} has {sign} given a sign of life" + (
            "; Airflow would end it itself, but no scheduler works" if dead else ""), True
    if task["state"] == "queued":
        if task["queued_by_silent"] is None or task["queued_by_silent"] > SCHEDULER_DEAD:
            return "the scheduler that queued it is gone, and nobody took the task over", True
        return ("the executor has not begun it: no free slot (airflow_parallelism), or no worker listens to its "
                "queue"), True
    if dead:
        return "no scheduler works: playbooks/runbooks/recover_scheduler.yml", False
    if task["paused"]:
        return "its DAG is paused: playbooks/runbooks/resume_dags.yml, or unpause it in the UI", False
    if task["slots"] is None:
        return f"there is no pool {task['pool']}: declare it in airflow_pools", False
    if 0 <= task["slots"] <= task["used"]:
        return f"pool {task['pool']} is full ({task['used']} of {task['slots']} slots)", False
    return "a limit holds it back: airflow_parallelism, or max_active_tasks of the DAG", False


def judged(answer: dict, minutes: float, dag_id: str) -> list:
    """Return the tasks that are stuck, each with its cause."""
    found = []
    for task in answer["tasks"]:
        # A task that runs is judged by its silence, and one that has not begun to beat by its age.
        quiet = (
            task["silent"] if task["state"] in ("running", "restarting") and task["silent"] is not None else task["age"]
        )
        if quiet is None or quiet < minutes * 60 or dag_id not in ("", task["dag_id"]):
            continue
        why, helps = cause(task, answer["scheduler_silent"])
        found.append({
            **{key: task[key] for key in ("dag_id", "run_id", "task_id", "map_index", "state")},
            "name": name_of(task), "minutes": round(quiet / 60), "why": why, "clearing_helps": helps,
        })
    return found


def clear(api: api_utils.Api, tasks: list) -> list:
    """Clear them, run by run, and return the names of those that Airflow has cleared."""
    runs: dict[tuple[str, str], list[dict]] = {}
    for task in tasks:
        runs.setdefault((task["dag_id"], task["run_id"]), []).append(task)
    for (dag_id, run_id), members in runs.items():
        # Airflow 2 knows no single instance of a mapped task here: all of it are cleared.
        ids = [[task["task_id"], task["map_index"]] if api.three and task["map_index"] >= 0 else task["task_id"]
               for task in members]
        unique = [one for number, one in enumerate(ids) if one not in ids[:number]]
        api.call(
            api.path("dags", dag_id, "clearTaskInstances"), {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": unique,
                "only_failed": False,
                "only_running": False,
                "reset_dag_runs": True,
            })
    return [task["name"] for task in tasks]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "minutes": {"type": "float", "default": 15},
            "clear": {"type": "bool", "default": False},
            "dag_id": {"type": "str", "default": ""},
            **api_utils.OPTIONS,
            **OPTIONS,
            # The API's user signs in; this one runs the question to the database.
            "user": {"type": "str", "required": True},
            "component_user": {"type": "str", "default": "airflow"},
        },
        supports_check_mode=True,
    )
    args = module.params
    answer = ask({**args, "user": args["component_user"]}, {"question": "waiting"})
    if "error" in answer:
        module.fail_json(msg=f"The metadata database can't be asked: {answer['error']}")
    stuck = judged(answer, args["minutes"], args["dag_id"])
    due = [task for task in stuck if task["clearing_helps"]] if args["clear"] else []
    cleared = [task["name"] for task in due]
    try:
        if due and not module.check_mode:
            cleared = clear(api_utils.Api(args), due)
    except urllib.error.HTTPError as error:
        module.fail_json(msg=f"Airflow refuses to clear: {api_utils.said(error)}", stuck=stuck)
    except (api_utils.Refused, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=api_utils.unreachable(args, error), stuck=stuck)
    module.exit_json(changed=bool(cleared), stuck=stuck, cleared=cleared)


if __name__ == "__main__":
    main()
