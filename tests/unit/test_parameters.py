"""Parameters of operations: they count on the command line only, and a bad one ends the run."""

import json
import os
import pathlib

import forks
import pytest
import yaml
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import parameters, settings
from collection_of_test import collection

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS, TRIGGER, PAUSE = "runbooks/show_logs", "runbooks/trigger_dag", "runbooks/pause_dags"


# ---- rules


def check(playbook, **given):
    known = {"airflow_dags_ref", "airflow_wait_time"}
    return [*parameters.check_values(playbook, given), *parameters.check_names([playbook], given, lambda: known)]


@pytest.mark.parametrize(("playbook", "given", "name", "value"), [
    (LOGS, {}, "airflow_lines", 100),
    (LOGS, {"airflow_lines": "7"}, "airflow_lines", 7),
    (LOGS, {"lines": "7"}, "airflow_lines", 7),
    (LOGS, {"lines": "7", "airflow_lines": 8}, "airflow_lines", 8),
    (PAUSE, {"airflow_wait": "yes"}, "airflow_wait", True),
    (PAUSE, {"airflow_wait": "0"}, "airflow_wait", False),
    (PAUSE, {"dags": "a,b"}, "airflow_dag_ids", "a,b"),
    ("runbooks/clear_stuck_tasks", {"airflow_minutes": "1.5"}, "airflow_minutes", 1.5),
    ("runbooks/end_database_sessions", {"airflow_pid": 4711}, "airflow_pid", "4711"),
    (TRIGGER, {"airflow_dag_id": "a", "conf": '{"day": "x"}'}, "airflow_conf", {"day": "x"}),
    ("run_dag", {"run_dag_timeout": "9"}, "airflow_wait_timeout", 9),
])
def test_a_value_has_its_type(playbook, given, name, value):
    assert check(playbook, **{"airflow_dag_id": "a", **given} if playbook == "run_dag" else given) == []
    found = parameters.values(playbook, given)[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("playbook", "given", "text"), [
    (LOGS, {"airflow_lines": "many"},
     'airflow_lines (command line, -e) is "many", a string, where a whole number belongs.'),
    (LOGS, {"lines": "0"}, "airflow_lines (command line, -e) is 0; valid is 1 to 1000000."),
    (LOGS, {"airflow_level": "eror"}, "valid are debug, info, warning, error, critical. Did you mean error?"),
    (PAUSE, {"airflow_wait": "yess"}, 'is "yess", a string, where true or false belongs.'),
    (TRIGGER, {}, "runbooks/trigger_dag needs airflow_dag_id: add -e airflow_dag_id=... to the command."),
    (TRIGGER, {"airflow_dag_id": "a b"}, "valid is the id of one DAG"),
    (TRIGGER, {"airflow_dag_id": "a", "airflow_conf": "[]"}, "a list, where a dictionary belongs."),
    ("rollback_dags", {"airflow_relase": "x"}, "rollback_dags has no such parameter. Did you mean airflow_release?"),
    ("rollback_dags", {"airflow_lines": "5"}, "rollback_dags has no such parameter. Valid are: airflow_release."),
    ("site", {"airflow_confirm": "x"}, "site has no such parameter. Valid are: none."),
])
def test_what_is_not_valid_is_told(playbook, given, text):
    (told,) = check(playbook, **given)
    assert text in told


@pytest.mark.parametrize("given", [
    {"relase": "x"}, {"lines": "5"}, {"airflow_dags_ref": "main"}, {"airflow_wait_time": 1}, {"our_release": "x"},
    {"airflow_relase": "x", "preflight_allowed_variables": ["airflow_relase"]}])
def test_other_variables_of_a_site_are_left_alone(given):
    assert check("rollback_dags", **given) == [] == list(parameters.renamed("rollback_dags", given))


def test_a_former_name_is_told():
    (told,) = parameters.renamed("rollback_dags", {"release": "x", "lines": 5})
    assert told.startswith("-e release=... is called -e airflow_release=... now.")


def test_preflight_names_a_parameter_in_a_file():
    class Setting:
        name, where, level = "airflow_release", "group_vars/all/main.yml:3", "inventory"

    ((name, text),) = settings.check_names([Setting], {}, ["airflow"], ())
    assert name == "airflow_release" and "counts on the command line only. Remove it from the file" in text
    Setting.level = "command line"
    assert list(settings.check_names([Setting], {}, ["airflow"], ())) == []


# ---- playbooks of a site that has such names in its group_vars

SITE = {"release": "2026.11", "format": "json", "confirm": "one", "dag_id": "ours", "lines": 7, "tag": "ours",
        "fetch": "/ours", "minutes": 1, "wait": True, "backup": "/ours", "pattern": "*", "component": "ours"}


@pytest.fixture
def site(tmp_path):
    """run(variables, *arguments): what playbooks would do, with stand-ins for the roles' tasks and these group_vars."""
    for role in ("airflow_common", "airflow_runtime", "airflow_dags", "airflow_backup", "airflow_health"):
        (tmp_path / "roles" / role / "tasks/operations").mkdir(parents=True)
        (tmp_path / "roles" / role / "tasks/steps").mkdir()
        if (ROOT / "roles" / role / "vars/main.yml").exists() and role != "airflow_common":
            (tmp_path / "roles" / role / "vars").symlink_to(ROOT / "roles" / role / "vars")

    def tasks(role, name, *messages):
        text = yaml.safe_dump([{"ansible.builtin.debug": {"msg": message}} for message in messages])
        (tmp_path / "roles" / role / "tasks" / f"{name}.yml").write_text(text, encoding="utf-8")

    tasks("airflow_common", "steps/start")
    tasks("airflow_runtime", "main")
    tasks("airflow_dags", "operations/roll_back", "rollback to {{ __airflow_dags_wanted }}")
    # The report's own arguments, and the conditions of what fetches and deletes.
    (report,) = yaml.safe_load((ROOT / "roles/airflow_health/tasks/steps/report.yml").read_text(encoding="utf-8"))
    arguments = report["windsock.airflow.airflow_health_report"]
    tasks("airflow_health", "main", *(f"{key}: {arguments[key]}" for key in ("format", "dag_id", "task_id")))
    for name, title in (("back_up", "back_up | Fetch it"), ("clean", "clean | Delete it")):
        read = yaml.safe_load((ROOT / f"roles/airflow_backup/tasks/operations/{name}.yml").read_text(encoding="utf-8"))
        condition = next(task["when"] for task in read if task["name"].startswith(title))
        tasks("airflow_backup", f"operations/{name}", f"{name}: {{{{ {condition} }}}}")
    path = collection(tmp_path, tmp_path / "roles")
    (tmp_path / "site/group_vars/all").mkdir(parents=True)
    (tmp_path / "site/hosts.yml").write_text(yaml.safe_dump({
        group: {"hosts": {"one": {"ansible_connection": "local", "ansible_become": False}}}
        for group in ("airflow", "airflow_scheduler", "airflow_webserver")}), encoding="utf-8")
    own = {"__airflow_dags_seen": {"previous": "the one before"}}

    def run(variables, playbooks, *arguments):
        (tmp_path / "site/group_vars/all/main.yml").write_text(json.dumps({**own, **variables}), encoding="utf-8")
        paths = [path / "playbooks" / f"{name}.yml" for name in playbooks]
        command = ["ansible-playbook", "-i", tmp_path / "site/hosts.yml", *paths, *arguments]
        done = forks.run(command, cwd=tmp_path, env={
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections")})
        return done.returncode, done.stdout, done.stderr

    return run


RUNBOOKS = ["check_health", "diagnose", "clean_database", "back_up_database"]
PLAYBOOKS = ["rollback_dags", *(f"runbooks/{name}" for name in RUNBOOKS)]


@pytest.mark.playbook
def test_names_in_the_group_vars_of_a_site_steer_no_operation(site):
    code, without, errors = site({}, PLAYBOOKS)
    assert code == 0 and "rollback to the one before" in without, without + errors
    assert site(SITE, PLAYBOOKS) == (0, without, errors)


@pytest.mark.playbook
def test_names_on_the_command_line_do(site):
    """The former name too, with one warning."""
    typed = ["-e", "release=older airflow_format=json"]
    code, output, errors = site(SITE, ["rollback_dags", "runbooks/check_health"], *typed)
    assert code == 0 and "rollback to older" in output and "format: json" in output, output + errors
    assert (output + errors).count("-e release=... is called -e airflow_release=... now.") == 1, output + errors
