"""The module that looks at a host, and the action that shows what was seen."""

import importlib.util
import json
import os
import pathlib
import pwd
import subprocess
import sys
import time

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_metadata
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis.result import Result

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


health = load(ROOT / "plugins/modules/airflow_health.py")
shown = load(ROOT / "plugins/action/airflow_health_report.py")


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_a_question_that_hangs_or_fails_costs_its_own_answer_only():
    begun = time.monotonic()
    found = health.beside(
        {
            "hangs": (lambda _: time.sleep(30), None), "fails": (lambda _: 1 / 0, None),
            "answers": (lambda given: given, 7)
        }, 0.3)
    assert time.monotonic() - begun < 2
    assert found == {
        "hangs": {"error": "no answer within 0.3 s"}, "fails": {"error": "ZeroDivisionError: division by zero"},
        "answers": 7
    }


@pytest.mark.parametrize(("pattern", "path", "left_out"), [
    ("report.py", "report.py", True), ("*.py", "a/report.py", True), ("drafts/", "drafts/report.py", True),
    ("drafts", "a/drafts/report.py", True),
    ("rep.*", "report.py", True), ("other", "report.py", False), ("drafts/*.txt", "drafts/report.py", False),
    ("[", "report.py", False),
])
def test_lines_of_airflowignore(pattern, path, left_out):
    assert health.matches(pattern, path) is left_out


def test_a_dag_is_looked_for_in_the_release(tmp_path):
    dags = tmp_path / "dags/current/dags"
    (dags / "drafts").mkdir(parents=True)
    (dags / "drafts/report.py").write_text("DAG('daily_report')", encoding="utf-8")
    (dags / "other.py").write_text("DAG('another')", encoding="utf-8")
    (dags / ".airflowignore").write_text("# not yet\ndrafts/\n", encoding="utf-8")
    found = health.dag_files({"paths": {"install": str(tmp_path)}, "dag_id": "daily_report"})
    assert found == {"files": ["drafts/report.py"], "ignored": [{"file": "drafts/report.py", "pattern": "drafts/"}]}


def test_the_question_to_the_database_brings_all_that_it_imports(tmp_path, monkeypatch):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/sql_alchemy_conn").write_text("postgresql+psycopg2://a@127.0.0.1:1/a", encoding="utf-8")
    run = subprocess.run
    # Only root can set groups.
    monkeypatch.setattr(subprocess, "run", lambda *words, user, group, extra_groups, **options: run(*words, **options))
    found = health.metadata({
        "components": ["scheduler"], "paths": dict.fromkeys(("config", "install", "home"), str(tmp_path)),
        "encrypted": [], "dag_id": None, "task_id": None, "aws": False, "aws_actions": [],
        "user": pwd.getpwuid(os.getuid()).pw_name, "timeout": 30})
    assert "Connection refused" in found["database"].get("refused", ""), found


def test_secrets_are_compared_by_a_hash_that_another_run_does_not_make(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/jwt_secret").write_text("hunter2", encoding="utf-8")
    first, same, other = (health.secrets({"paths": {"config": str(tmp_path)}, "salt": salt})["jwt_secret"]["hash"]
                          for salt in ("a", "a", "b"))
    assert first == same != other
    assert "hunter2" not in json.dumps([first, other])


def test_the_row_that_a_component_was_seen_to_beat_in(monkeypatch):
    notes = {"/run/airflow-scheduler/beats": [71, 12], "/run/airflow-triggerer/beats": [72, None]}
    monkeypatch.setattr(health, "read_json", notes.get)
    components = {name: {"unit": f"airflow-{name}"} for name in ("scheduler", "triggerer", "dag-processor")}
    assert health.beats({"components": components}) == {"scheduler": 12}


class NoDatabase(airflow_metadata.Database):
    """One whose questions fail as those of a locked table do."""

    def __init__(self):
        pass

    def rows(self, query, parameters=None):
        raise RuntimeError("canceling statement due to lock timeout")


def test_what_is_wrong_with_the_key_is_told_from_what_is_wrong_with_the_database():
    key = "cnVuYm9va3MgYXJlIHRlc3RlZCB3aXRoIHRoaXMga2U="
    columns = [{"table": "connection", "name": "conn_id", "column": "password", "where": "true"}]
    assert "Fernet key must be" in NoDatabase().unreadable(columns, "not-a-key")["unusable"]
    assert airflow_metadata.answered(lambda: NoDatabase().unreadable(columns, key)) == {
        "error": "canceling statement due to lock timeout"
    }


@pytest.mark.parametrize(("statement", "told"), [
    ("UPDATE slot_pool SET slots = 1 WHERE pool = 'x'", "UPDATE slot_pool"),
    ("INSERT INTO connection (password) VALUES ('hunter2')", "INSERT connection"),
    ("SELECT a,\n  b FROM  dag_run WHERE x = 'hunter2'", "SELECT dag_run"),
    ("ALTER ROLE airflow PASSWORD 'hunter2'", "ALTER"),
    ("BEGIN; LOCK TABLE slot_pool, dag_run; SELECT 'hunter2'", "LOCK slot_pool"),
    ("COPY hunter2", "COPY"), ("", ""), (None, ""),
])
def test_of_a_statement_only_the_first_words_are_told(statement, told):
    assert airflow_metadata.first_words(statement) == told


@pytest.mark.parametrize(("stacktrace", "line"), [
    ("Traceback (most recent call last):\n  File \"x.py\", line 1\nModuleNotFoundError: No module named 'x'\n",
     "ModuleNotFoundError: No module named 'x'"),
    ("Traceback:\nairflow.exceptions.AirflowException: bad\nsee above", "airflow.exceptions.AirflowException: bad"),
    ("Timeout", "Timeout"), ("", ""),
])
def test_of_a_traceback_the_reason_is_told(stacktrace, line):
    assert airflow_metadata.last_line(stacktrace) == line


@pytest.mark.parametrize(("column", "stale", "active"), [("is_stale", "true", "false"), ("is_active", "false", "true")])
def test_stale_dags_of_both_majors_are_found_with_their_unfinished_runs(postgresql, column, stale, active):
    database = airflow_metadata.Database(postgresql)
    with database.connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE dag (dag_id text, is_paused bool, last_parsed_time timestamptz, {0} bool)".format(column))
        cursor.execute("CREATE TABLE dag_run (dag_id text, state text)")
        try:
            cursor.execute(
                "INSERT INTO dag VALUES ('long_gone', false, now() - interval '9 days', {0}),"
                " ('lost', false, now() - interval '600 s', {0}), ('well', false, now(), {1})".format(stale, active))
            cursor.execute("INSERT INTO dag_run VALUES ('lost', 'queued'), ('lost', 'success'), ('well', 'running')")
            rows = database.rows(airflow_metadata.QUESTIONS["stale"])
            number = database.rows(airflow_metadata.QUESTIONS["dags"])[0]["number"]
        finally:
            cursor.execute("DROP TABLE dag, dag_run")
    assert [(row["dag_id"], row["runs"]) for row in rows] == [("lost", 1), ("long_gone", 0)]
    assert 599 < rows[0]["seconds"] < 700
    assert number == 1


def test_a_database_that_can_not_be_used_says_so_without_its_url(tmp_path):
    (tmp_path / "url").write_text("postgresql+psycopg2://airflow:hunter2@127.0.0.1:1/airflow", encoding="utf-8")
    found = airflow_metadata.ask({"url_file": str(tmp_path / "url"), "key_file": "/nonexistent", "encrypted": []})
    assert set(found) <= {"refused", "unusable"}
    assert "hunter2" not in json.dumps(found)
    assert "unusable" in airflow_metadata.ask({"url_file": "/nonexistent"})


# ---- showing ---------------------------------------------------------------------------------------------------------


def results(hosts=1, broken=0):
    made = []
    for number in range(hosts):
        name = f"airflow-{number}"
        made += [
            Result("hosts", name, "host", "OK", "up 3 d", "", (), (), ""),
            Result("components", name, "airflow-triggerer", "OK", "runs", "", (), (), "")
        ]
        if number < broken:
            made.append(
                Result("components", name, "airflow-scheduler", "CRITICAL", "stopped " + "long ago " * 20,
                       "component_stopped", ("<its> journal", ), ("playbooks/services.yml", ), ""))
    return made


@pytest.fixture(autouse=True)
def _typed(monkeypatch):
    """The command of the run, as typed in the directory of the repository."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["ansible-playbook", "playbooks/runbooks/check_health.yml"])


def report_of(made):
    return shown.report(made, {result.host for result in made}, 0.0)


def plain(_status, text=None):
    return text or _status


@pytest.mark.parametrize(("hosts", "broken"), [(1, 0), (1, 1), (3, 1), (40, 0), (40, 3), (200, 200)])
def test_it_is_one_screen(hosts, broken):
    lines = shown.health_lines(report_of(results(hosts, broken)), "Airflow of test", plain)
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert ("CRITICAL" in "\n".join(lines)) is (broken > 0)
    assert not broken or "ansible-playbook playbooks/services.yml" in "\n".join(lines)


def test_of_many_hosts_what_is_not_ok_is_not_summed_up():
    lines = shown.health_lines(report_of(results(40, 3)), "Airflow of test", plain)
    assert [
        name for name in ("airflow-0", "airflow-1", "airflow-2")
        if not any(name in line and "CRITICAL" in line for line in lines)
    ] == []
    assert any("40 checks on 40 hosts" in line for line in lines)


@pytest.mark.parametrize(("typed", "kept"), [
    (["-i", "inventories/my prod/hosts.yml", "-K", "{0}"], "-i 'inventories/my prod/hosts.yml' -K "),
    # In a site's directory, whose ansible.cfg names the inventory.
    (["{0}", "--ask-vault-pass", "-K"], "--ask-vault-pass -K "),
    # What only the report needs. A repair acts on the hosts that it names itself.
    (["{0}", "-e", "airflow_format=json", "-e", "airflow_dag_id=daily", "--extra-vars=task_id=load",
      "-e", '{"dag_id": "daily"}', "-l", "one"], ""),
])
def test_each_command_works_where_the_report_was_asked_for(monkeypatch, tmp_path, typed, kept):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv",
        ["ansible-playbook", *(word.replace("{0}", f"{ROOT}/playbooks/runbooks/diagnose.yml") for word in typed)])
    cause = results(1, 1)[-1]
    made = report_of([cause._replace(mend=("playbooks/airflow.yml", "playbooks/services.yml", "-e", "x=1"))])
    begin = f"ansible-playbook {kept}{ROOT}/playbooks/"
    assert made["causes"][0]["mend"] == f"{begin}airflow.yml {ROOT}/playbooks/services.yml -e x=1"
    diagnosed = shown.diagnosis_lines(made, "Airflow of test", plain)
    assert made["causes"][0]["mend"] in "\n".join(diagnosed), "in one line, to be copied"
    assert diagnosed[-1].endswith(f"{begin}runbooks/check_health.yml")
    assert shown.health_lines(made, "Airflow of test", plain)[-1].endswith(f" {ROOT}/playbooks/runbooks/diagnose.yml")


def test_the_page_shows_what_hosts_say_as_text():
    page = shown.page(report_of(results(1, 1)), "Airflow of test")
    assert "&lt;its&gt; journal" in page
    assert "<its>" not in page
    assert "http" not in page, "it loads nothing"


def test_a_host_that_did_not_answer_is_told():
    found = shown.observations(
        {
            "a": {"__airflow_health_answer": {"unreachable": True, "msg": "no route"}}, "b": {
                "__airflow_health_answer": {"failed": True, "msg": "no sudo"}
            }, "c": {}, "d": {"__airflow_health_answer": {"components": {}, "seen": {}}}
        }, "abcd")
    assert found["a"]["unreachable"] == "no route"
    assert found["b"]["failed"] == "no sudo"
    assert found["c"]["failed"]
    assert found["d"] == {"components": {}, "seen": {}}
