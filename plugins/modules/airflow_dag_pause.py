#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Pause many DAGs, and later unpause those that were paused by it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_dag_pause
short_description: Pause many DAGs, remember which, and unpause those again
version_added: 1.0.0
description:
  - Pauses all DAGs that are not paused, or those of them that are chosen. Before that it writes their names into a
    record, to which a second pause
    adds. Unpausing takes the names from that record, so a DAG that was paused before, or that came meanwhile, is left
    alone.
  - A paused DAG begins no task; tasks that run end in their own time.
options:
  state:
    description: Whether to pause, or to unpause what was paused.
    type: str
    choices: [paused, resumed]
    required: true
  dags:
    description: Ids of the DAGs. None given, all.
    type: list
    elements: str
    default: []
  tag:
    description: Only DAGs with this tag.
    type: str
    default: ""
  pattern:
    description: Only DAGs whose id matches this shell pattern, such as C(sales_*).
    type: str
    default: ""
  wait:
    description: Seconds to wait until none of the chosen DAGs has a queued or running task; 0 does not wait. For
      C(paused).
    type: int
    default: 0
  record:
    description: The record, a file readable by root only.
    type: path
    default: /var/lib/airflow-runbooks/paused.json
extends_documentation_fragment:
  - windsock.airflow.airflow_objects
seealso:
  - module: windsock.airflow.airflow_dag_state
    description: One DAG, declared.
"""

EXAMPLES = r"""
- name: Pause all DAGs, and wait up to an hour for their running tasks
  windsock.airflow.airflow_dag_pause:
    state: paused
    wait: 3600

- name: Unpause those again
  windsock.airflow.airflow_dag_pause:
    state: resumed
"""

RETURN = r"""
dags:
  description: What was paused or unpaused now, or would be in check mode.
  returned: success
  type: list
  elements: str
recorded:
  description: What the record holds now, and a resume would unpause.
  returned: success
  type: list
  elements: str
gone:
  description: Recorded DAGs that Airflow does not know any more.
  returned: success
  type: list
  elements: str
others:
  description: How many DAGs are paused that the record does not name.
  returned: success
  type: int
"""

import contextlib
import fcntl
import fnmatch
import json
import os
import time
from collections.abc import Iterator

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_state import OPTIONS, ask
from ansible_collections.windsock.airflow.plugins.module_utils.new_file import new_name, rename
from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean


def chosen(dags: list, args: dict) -> list:
    """Return the ids of those DAGs that the arguments choose."""
    return [
        dag["dag_id"] for dag in dags
        if (not args["dags"] or dag["dag_id"] in args["dags"])
        and (not args["tag"] or args["tag"] in dag["tags"])
        and (not args["pattern"] or fnmatch.fnmatchcase(dag["dag_id"], args["pattern"]))
    ]


def problem(known: list, args: dict, record: dict) -> str:
    """Return what can't be done as it was asked for."""
    if args["state"] == "resumed":
        foreign = [name for name in args["dags"] if name not in record]
        return (
            f"{', '.join(foreign)}: not paused by pause_dags, so not for it to unpause. What it paused: "
            f"{', '.join(sorted(record)) or 'nothing'}. "
            "Any other DAG is unpaused in the UI, or by airflow_dag_state in the inventory.") if foreign else ""
    lines = [f"Airflow knows no DAG {name}.{did_you_mean(name, known)}" for name in args["dags"] if name not in known]
    return " ".join([*lines, "Nothing was paused."]) if lines else ""


def plan(dags: list, args: dict, record: dict) -> tuple:
    """Return (ids to change, names of the record afterwards, recorded ones that are gone)."""
    known = {dag["dag_id"]: dag for dag in dags}
    if args["state"] == "paused":
        due = [name for name in chosen(dags, args) if not known[name]["paused"]]
        return due, sorted({*record, *due}), []
    wanted = [
        name for name in chosen([{"tags": [], **known.get(name, {}), "dag_id": name} for name in sorted(record)], args)
    ]
    due = [name for name in wanted if known.get(name, {}).get("paused")]
    return due, sorted(set(record) - set(wanted)), [name for name in wanted if name not in known]


def read(path: str) -> dict:
    """Return {DAG id: when it was paused}."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def write(path: str, record: dict) -> None:
    """Replace the record by a whole one, or remove an empty one."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    new = new_name(path)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    rename(new, path)
    if not record:
        os.unlink(path)


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Keep out whoever reads and writes the same record: of two, the later one would lose the names of the other."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(f"{path}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Airflow:
    """The metadata database, asked and told by one process in the host's virtualenv."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def request(self, request: dict) -> dict:
        """Return the answer, or end the module."""
        answer = ask(self.module.params, request)
        if "error" in answer or "problems" in answer:
            self.module.fail_json(msg=answer.get("error") or " ".join(answer["problems"]))
        return answer

    def dags(self) -> list:
        """Return all DAGs that Airflow reads."""
        return self.request({"question": "dags"})["dags"]

    def set(self, names: list, paused: bool) -> None:
        """Pause or unpause them, in one transaction."""
        declared = {"dag_state": {name: {"paused": paused} for name in names}}
        self.request({
            "declared": declared, "problems": [], "purge": False, "check": False, "timeout": 0, "types": [],
            "role_names": []
        })

    def wait(self, names: list, seconds: int) -> list:
        """Return the DAGs whose tasks have not ended by then."""
        end = time.monotonic() + seconds
        while True:
            running = [
                f"{dag['dag_id']} ({dag['running']})" for dag in self.dags()
                if dag["dag_id"] in names and dag["running"]
            ]
            if not running or time.monotonic() > end:
                return running
            time.sleep(2)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["paused", "resumed"], "required": True},
            "dags": {"type": "list", "elements": "str", "default": []},
            "tag": {"type": "str", "default": ""},
            "pattern": {"type": "str", "default": ""},
            "wait": {"type": "int", "default": 0},
            "record": {"type": "path", "default": "/var/lib/airflow-runbooks/paused.json"},
            **OPTIONS,
        },
        supports_check_mode=True,
    )
    args, airflow = module.params, Airflow(module)
    with contextlib.nullcontext() if module.check_mode else alone(args["record"]):
        record, dags = read(args["record"]), airflow.dags()
        wrong = problem([dag["dag_id"] for dag in dags], args, record)
        if wrong:
            module.fail_json(msg=wrong)
        pausing = args["state"] == "paused"
        due, recorded, gone = plan(dags, args, record)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record_after = {name: record.get(name, now) for name in recorded}
        if not module.check_mode:
            # The record first when pausing, and last when unpausing: a kill in between leaves a name too many there,
            # never one too few.
            if pausing and record_after != record:
                write(args["record"], record_after)
            if due:
                airflow.set(due, pausing)
            if not pausing and record_after != record:
                write(args["record"], record_after)
    late = airflow.wait(chosen(dags, args), args["wait"]) if pausing and args["wait"] and not module.check_mode else []
    if late:
        module.fail_json(
            msg=
            f"All are paused, but tasks still run after {args['wait']} s: {', '.join(late)}. Run it again to wait on.")
    paused = {dag["dag_id"] for dag in dags if dag["paused"]}
    others = paused - set(() if pausing else due) - set(recorded)
    module.exit_json(changed=bool(due) or record_after != record,
                     dags=due,
                     recorded=recorded,
                     gone=gone,
                     others=len(others))


if __name__ == "__main__":
    main()
