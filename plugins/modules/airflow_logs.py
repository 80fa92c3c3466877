#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Show the logs of components and of tasks."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_logs
short_description: Show the logs of Airflow's components and tasks
version_added: 1.0.0
description:
  - Reads the journal for components and the files of task logs for tasks, of both majors, as text or as JSON, and
    returns lines for a person to read.
  - What the host holds as a secret is taken out.
options:
  units:
    description: Units whose journal is read.
    type: list
    elements: str
    default: []
  dag_id:
    description: DAG whose task logs are read, in place of the journal.
    type: str
    default: ""
  task_id:
    description: Only this task. Not given, all tasks of the run.
    type: str
    default: ""
  run_id:
    description: The run. Not given, the one that logged last.
    type: str
    default: ""
  since:
    description: Only what was logged since then; a time as systemd takes it, such as C(-2h) or C(2026-01-31 12:00).
    type: str
    default: ""
  lines:
    description: Lines at most, the last ones.
    type: int
    default: 100
  level:
    description: Only lines of this level and above, with their tracebacks.
    type: str
    choices: [debug, info, warning, error, critical]
    default: debug
  log_dir:
    description: Directory of the task logs.
    type: path
    default: /var/log/airflow
  config_dir:
    description: Directory of the configuration, which tells what is to be taken out.
    type: path
    default: /etc/airflow
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: Shows no difference.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: What went wrong in the scheduler
  windsock.airflow.airflow_logs:
    units: [airflow-scheduler]
    since: -1h
    level: error

- name: The last run of a task
  windsock.airflow.airflow_logs:
    dag_id: daily_report
    task_id: load
"""

RETURN = r"""
text:
  description: The lines.
  returned: always
  type: list
  elements: str
sources:
  description: Units or files that were read.
  returned: always
  type: list
  elements: str
"""

import glob
import json
import os
import re
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_log_lines import LEVELS, readable
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_redact import Redaction, values_of

# Lines of the journal that are looked through for those of a level.
LOOKED_THROUGH = 200000


class Unfit(Exception):
    """The arguments can't be; the argument says why."""


def seconds(since: str) -> float:
    """Return a time of systemd as seconds."""
    done = subprocess.run(["systemd-analyze", "timestamp", "--", since], capture_output=True, text=True, check=False)
    match = re.search(r"UNIX seconds: @([\d.]+)", done.stdout)
    if not match:
        raise Unfit(
            f"since is {since!r}; valid is a time of systemd, such as -2h, today, yesterday or '2026-01-31 12:00'.")
    return float(match[1])


def journal(args: dict) -> list:
    """Return the lines of the units, oldest first."""
    command = ["journalctl", "--no-pager", "--quiet", "-o", "json", *(f"--unit={unit}" for unit in args["units"])]
    command += [f"--since=@{seconds(args['since']):.0f}"] if args["since"] else []
    command += [f"--lines={args['lines'] if args['level'] == 'debug' else LOOKED_THROUGH}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    many, found = len(args["units"]) > 1, []
    for line in done.stdout.splitlines():
        record = json.loads(line)
        message = record.get("MESSAGE")
        # The journal gives bytes that are no text as a list of numbers.
        message = bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)
        if record.get("SYSLOG_IDENTIFIER") == "systemd":
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(record["__REALTIME_TIMESTAMP"]) / 1e6))
            message = f"{at} [info] systemd: {message}"
        found.append((record.get("SYSLOG_IDENTIFIER", "") if many else "", message))
    shown = []
    for name in sorted({name for name, _message in found}) if many else [""]:
        shown += ([f"== {name}"] if name else []) + readable(
            [message for one, message in found if one == name], args["level"], args["lines"]
        )
    return shown


def task_files(args: dict) -> list:
    """Return the files of the newest attempt of each task of the run."""
    def part(key, value):
        return f"{key}={glob.escape(value) if value else '*'}"

    where = os.path.join(glob.escape(args["log_dir"]), part("dag_id", args["dag_id"]), part("run_id", args["run_id"]),
                         part("task_id", args["task_id"]))
    files = glob.glob(os.path.join(where, "attempt=*.log")) + glob.glob(
        os.path.join(where, "map_index=*", "attempt=*.log"))
    after = seconds(args["since"]) if args["since"] else 0
    # A file of a deferred task has a number behind its name.
    files = sorted((path for path in files if os.path.getmtime(path) >= after), key=os.path.getmtime)
    if not files:
        return []
    run = next(piece for piece in files[-1].split("/") if piece.startswith("run_id="))
    newest = {os.path.dirname(path): path for path in files if f"/{run}/" in path}
    return sorted(newest.values(), key=os.path.getmtime)


def task_logs(args: dict) -> tuple:
    """Return (lines, files)."""
    files, shown = task_files(args), []
    for path in files:
        with open(path, encoding="utf-8", errors="replace") as file:
            shown += [
                f"== {os.path.relpath(path, args['log_dir'])}",
                *readable(file.readlines(), args["level"], args["lines"])
            ]
    return shown, files


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "default": []},
            "dag_id": {"type": "str", "default": ""},
            "task_id": {"type": "str", "default": ""},
            "run_id": {"type": "str", "default": ""},
            "since": {"type": "str", "default": ""},
            "lines": {"type": "int", "default": 100},
            "level": {
                "type": "str", "choices": [level for level in LEVELS if level not in ("warn", "exception", "fatal")],
                "default": "debug"
            },
            "log_dir": {"type": "path", "default": "/var/log/airflow"},
            "config_dir": {"type": "path", "default": "/etc/airflow"},
        },
        required_one_of=[("units", "dag_id")],
        supports_check_mode=True,
    )
    args = module.params
    try:
        text, sources = task_logs(args) if args["dag_id"] else (journal(args), args["units"])
    except Unfit as unfit:
        module.fail_json(msg=str(unfit))
    redaction = Redaction(
        values_of(os.path.join(args["config_dir"], "secrets"), os.path.join(args["config_dir"], "environment")))
    module.exit_json(changed=False, text=redaction.text("\n".join(text)).splitlines(), sources=sources)


if __name__ == "__main__":
    main()
