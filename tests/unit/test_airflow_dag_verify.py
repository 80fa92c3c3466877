"""Module airflow_dag_verify: what counts as arrived, and when an error is one."""

import importlib.util
import json
import pathlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("airflow_dag_verify", ROOT / "plugins/modules/airflow_dag_verify.py")
airflow_dag_verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(airflow_dag_verify)

NEW, OLD = "2026-01-01T00:01:00Z", "2025-12-31T23:59:00Z"
SINCE = airflow_dag_verify.seconds("2026-01-01T00:00:00Z")


@pytest.fixture
def server():
    """An API server whose answers a test sets: path to body."""
    answers = {"/api/v2/importErrors": {"import_errors": [], "total_entries": 0}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.get(self.path.partition("?")[0])
            self.send_response(200 if self.headers["Authorization"] ==
                               "Basic amFuZTpzZWNyZXQtb2YtdGhlLXRlc3Q=" else 401)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_arguments):
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    made.answers = answers
    yield made
    made.shutdown()


@pytest.fixture
def ask(server, capsys):
    """Run the module with these arguments and return its result."""

    def run(question="arrived", **arguments):
        base = {
            "url": f"http://127.0.0.1:{server.server_port}", "prefix": "/api/v2", "user": "jane",
            "password": "secret-of-the-test"
        }
        with patch_module_args({**base, "question": question, "id": "two", "since": SINCE, "timeout": 0, **arguments}):
            with pytest.raises(SystemExit):
                airflow_dag_verify.main()
        return json.loads(capsys.readouterr().out)

    return run


def dag(name="a", version="two", fileloc="/opt/airflow/dags/releases/two/dags/a.py", parsed=NEW):
    return {"dag_id": name, "bundle_version": version, "fileloc": fileloc, "last_parsed_time": parsed}


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (dag(), ""),
        (dag(version="one"), "DAG a: still of release one"),
        # Stored under the new version, but parsed from the old files.
        (dag(fileloc="/opt/airflow/dags/releases/one/dags/a.py"),
         "DAG a: still of release two, /opt/airflow/dags/releases/one"),
        (dag("b"), "DAG a: unknown to Airflow"),
    ],
)
def test_airflow_3(ask, server, there, said):
    server.answers["/api/v2/dags"] = {"dags": [there], "total_entries": 1}
    result = ask(dags=["a"])
    assert said in result.get("msg", "")
    assert result.get("failed", False) is bool(said)


@pytest.mark.parametrize(("parsed", "said"),
                         [(NEW, ""), (OLD, "not parsed since the switch"), (None, "not parsed since the switch")])
def test_airflow_2(ask, server, parsed, said):
    server.answers["/api/v1/importErrors"] = {"import_errors": [], "total_entries": 0}
    server.answers["/api/v1/dags"] = {
        "dags": [{"dag_id": "a", "fileloc": "/x", "last_parsed_time": parsed}], "total_entries": 1
    }
    result = ask(dags=["a"], prefix="/api/v1")
    assert said in result.get("msg", "")
    assert result.get("failed", False) is bool(said)


def test_where_the_dags_are_not_known_those_of_airflow_are_looked_at(ask, server):
    server.answers["/api/v2/dags"] = {"dags": [dag(), dag("b", version="one")], "total_entries": 2}
    assert "DAG b: still of release one" in ask()["msg"]


def test_an_error_of_the_new_release_is_final_and_one_of_the_old_is_waited_for(ask, server):
    server.answers["/api/v2/dags"] = {"dags": [dag()], "total_entries": 1}
    error = {"filename": "a.py", "stack_trace": "Traceback\n  x\nValueError: no\n", "timestamp": NEW}
    server.answers["/api/v2/importErrors"] = {"import_errors": [error], "total_entries": 1}
    # Not waited for: this would take a minute.
    assert "a.py: ValueError: no" in ask(dags=["a"], timeout=60)["msg"]
    error["timestamp"] = OLD
    threading.Timer(1, server.answers.update,
                    [{"/api/v2/importErrors": {"import_errors": [], "total_entries": 0}}]).start()
    assert not ask(dags=["a"], timeout=60).get("failed")


def test_releases_in_use(ask, server):
    runs = [{"bundle_version": "one"}, {"bundle_version": None}, {"bundle_version": "one"}]
    server.answers["/api/v2/dags/~/dagRuns"] = {"dag_runs": runs, "total_entries": 3}
    assert ask("in_use")["in_use"] == ["one"]
    assert ask("in_use", prefix="/api/v1")["in_use"] == []


def test_a_refused_password_says_what_to_do_and_not_what_it_was(ask):
    result = ask("reachable", password="hunter2-of-the-test")
    assert "answers 401 to jane" in result["msg"]
    assert "secrets/admin_password" in result["msg"]
    assert "hunter2" not in json.dumps(result)


def test_a_server_that_is_away_says_where_to_look(ask):
    assert "playbooks/verify.yml" in ask("reachable", url="http://127.0.0.1:9")["msg"]
