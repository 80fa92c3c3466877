"""Parameters of operations: what a person gives to a playbook with -e. They count on the command line only.

A site may have a variable of any name in its group_vars, so a parameter is never read from an inventory.
PLAYBOOKS has an argument spec of each parameter, for each playbook:
type, choices  as in meta/argument_specs.yml
range          lowest and highest number; None stands for no highest
pattern        regular expression for the whole value, and what is valid
default        the value if the command has none. It is not checked
required       the playbook does nothing without it
was            the former name, if it is not the name without airflow_. It works until the next major release
To add a parameter, add its line here and read it in the playbook with lookup windsock.airflow.parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean, nearest
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Values, check_patterns
from ansible_collections.windsock.airflow.plugins.module_utils.validation.types import (
    as_plain,
    range_problem,
    type_problem,
)

Spec = Mapping[str, Any]
TEXT: Spec = {"type": "str", "default": ""}
NO = {"type": "bool", "default": False}
CONFIRM = {"airflow_confirm": TEXT}
DAG_ID = (r"[\w.-]+", "valid is the id of one DAG: letters, digits and _ . -")
DAG = {"type": "str", "required": True, "pattern": DAG_ID}
LINES = {"type": "int", "default": 100, "range": (1, 1000000)}
SECONDS = {"type": "int", "default": 3600, "range": (1, None)}
SOME_DAGS = {"airflow_dag_ids": {**TEXT, "was": "dags"}, "airflow_tag": TEXT, "airflow_pattern": TEXT}
LEVELS = ["debug", "info", "warning", "error", "critical"]
FORMAT = {"type": "str", "default": "text", "choices": ["text", "json"]}
REPORT = {"airflow_format": FORMAT, "airflow_dag_id": TEXT, "airflow_task_id": TEXT}

# playbook -> {parameter: its argument spec}. Playbooks that are absent have no parameters.
PLAYBOOKS: dict[str, dict[str, Spec]] = {
    "rollback_dags": {"airflow_release": TEXT},
    "remove_airflow": {
        **CONFIRM, "airflow_remove_database": NO, "airflow_remove_backups": NO, "airflow_without_backup": NO,
        "airflow_fetch": TEXT},
    "run_dag": {
        "airflow_dag_id": DAG, "airflow_wait_timeout": {**SECONDS, "default": 300, "was": "run_dag_timeout"},
        "airflow_appear_timeout": {**SECONDS, "default": 90, "was": "run_dag_appears_within"}},
    "runbooks/back_up_database": {"airflow_fetch": TEXT},
    "runbooks/check_health": REPORT,
    "runbooks/clean_database": CONFIRM,
    "runbooks/clear_stuck_tasks": {**CONFIRM, "airflow_minutes": {"type": "float", "default": 15, "range": (0, None)}},
    "runbooks/collect_support_bundle": {"airflow_lines": {**LINES, "default": 2000}, "airflow_directory": TEXT},
    "runbooks/diagnose": REPORT,
    "runbooks/drain_host": {**CONFIRM, "airflow_reason": {"type": "str", "default": "no reason given"}},
    "runbooks/end_database_sessions": {**CONFIRM, "airflow_pid": TEXT, "airflow_application": TEXT},
    "runbooks/free_disk_space": {
        **CONFIRM, "airflow_everything": NO, "airflow_journal_mb": {"type": "int", "default": 500, "range": (1, None)}},
    "runbooks/open_ui": {
        "airflow_open": NO, "airflow_minutes": {"type": "int", "default": 60, "range": (1, None)},
        "airflow_local_port": {"type": "int", "default": "", "range": (1, 65535)}},
    "runbooks/pause_dags": {**CONFIRM, **SOME_DAGS, "airflow_wait": NO, "airflow_wait_timeout": SECONDS},
    "runbooks/recover_scheduler": CONFIRM,
    "runbooks/restart_airflow": {"airflow_component": TEXT},
    "runbooks/restore_database": {
        **CONFIRM, "airflow_backup_file": {**TEXT, "was": "backup"}, "airflow_backup_key": TEXT,
        "airflow_running": {"type": "str", "default": "fail", "choices": ["fail", "rerun"]}},
    "runbooks/resume_dags": SOME_DAGS,
    "runbooks/show_logs": {
        "airflow_component": TEXT, "airflow_dag_id": TEXT, "airflow_task_id": TEXT, "airflow_run_id": TEXT,
        "airflow_since": TEXT, "airflow_lines": LINES,
        "airflow_level": {"type": "str", "default": "debug", "choices": LEVELS}},
    "runbooks/trigger_dag": {
        "airflow_dag_id": DAG, "airflow_conf": {"type": "dict", "default": {}},
        "airflow_wait": {"type": "bool", "default": True}, "airflow_wait_timeout": SECONDS},
    "runbooks/undrain_host": CONFIRM,
    "aws/remove_expired": CONFIRM,
    "aws/teardown": CONFIRM,
}
NAMES = {name for specs in PLAYBOOKS.values() for name in specs}
TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def former(name: str, spec: Spec) -> str:
    """Return the former name of a parameter."""
    return str(spec.get("was", name.removeprefix("airflow_")))


def names_of(playbook: str) -> list[str]:
    """Return the names of a playbook's parameters, the former ones too."""
    return [each for name, spec in PLAYBOOKS.get(playbook, {}).items() for each in (name, former(name, spec))]


def given_as(name: str, spec: Spec, given: Values) -> str:
    """Return the name under which the command line has this parameter; nothing if it has it not."""
    return next((each for each in (name, former(name, spec)) if each in given), "")


def converted(spec: Spec, value: Any) -> Any:
    """Return the value as its type: with key=value, the command line has text only."""
    kind = spec["type"]
    if kind == "bool":
        return TRUTH.get(str(value).lower(), value)
    if kind == "str":
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    text: Any = value if kind == "dict" else as_plain(kind, value)
    try:
        return json.loads(text) if isinstance(value, str) else value
    except (TypeError, ValueError):
        return value


def problem(name: str, spec: Spec, value: Any) -> str | None:
    """Return what is wrong with a value, or nothing. The text goes on behind the name of the parameter."""
    value = converted(spec, value)
    text = type_problem(name, spec, value)
    if not text and "range" in spec:
        text = range_problem(name, value, {name: spec["range"]})
    if not text and "pattern" in spec:
        text = next((found for _name, found in check_patterns({name: value}, {name: spec["pattern"]})), None)
    return "{0} (command line, -e){1}".format(name, text.removeprefix(name)) if text else None


def values(playbook: str, given: Values) -> dict[str, Any]:
    """Return {parameter: value} of a playbook. given: the extra variables of the command line, which are valid."""
    found = {}
    for name, spec in PLAYBOOKS[playbook].items():
        typed = given_as(name, spec, given)
        found[name] = converted(spec, given[typed]) if typed else spec.get("default", "")
    return found


def check_values(playbook: str, given: Values, late: Callable[[Any], bool] = lambda value: False) -> Iterator[str]:
    """Yield what is wrong with the parameters of a playbook. late: value -> whether it can't be judged yet."""
    for name, spec in PLAYBOOKS.get(playbook, {}).items():
        typed = given_as(name, spec, given)
        text = problem(name, spec, given[typed]) if typed and not late(given[typed]) else None
        if text:
            yield text
        elif not typed and spec.get("required"):
            yield "{0} needs {1}: add -e {1}=... to the command.".format(playbook, name)


def check_names(playbooks: list[str], given: Values, variables: Callable[[], Collection[str]]) -> Iterator[str]:
    """Yield each name that was meant for a parameter, and is none. variables: () -> those that the roles know."""
    known = list(dict.fromkeys(name for playbook in playbooks for name in PLAYBOOKS.get(playbook, {})))
    allowed = given.get("preflight_allowed_variables") or ()
    for name in given:
        if name in known or name in allowed or not name.startswith("airflow_"):
            continue
        near = nearest(name, known)
        if name in NAMES or near and name not in variables():
            yield "{0} (command line, -e): {1} has no such parameter.{2} Valid are: {3}.{4}".format(
                name, ", ".join(playbooks), did_you_mean(name, known), ", ".join(known) or "none",
                "" if name in NAMES
                else " A variable of your own of this name goes into preflight_allowed_variables (-e).")


def renamed(playbook: str, given: Values) -> Iterator[str]:
    """Yield a sentence for each former name that the command line has for a parameter of the playbook."""
    for name, spec in PLAYBOOKS.get(playbook, {}).items():
        if given_as(name, spec, given) not in ("", name):
            yield "-e {0}=... is called -e {1}=... now. The former name works until release 2.0.0.".format(
                former(name, spec), name)
