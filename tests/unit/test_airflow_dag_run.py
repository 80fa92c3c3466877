"""A run of a DAG: what module airflow_dag_run and playbooks/run_dag.yml ask the REST API, and what they say where it
refuses.
"""

import datetime
import http.server
import importlib.util
import json
import pathlib
import threading

import forks
import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("airflow_dag_run", ROOT / "plugins/modules/airflow_dag_run.py")
dag_run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(dag_run)
PASSWORD = "correct-horse-battery"


class Airflow:
    """Stands in for the API server of Airflow 3. `after`: how often it is asked for the DAG before it has read its
    file.
    """

    def __init__(self, dags, after=0, broken=()):
        self.dags, self.after, self.broken, self.asked = dags, after, broken, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, found = outer.answer(self.command, self.path.split("?")[0], json.loads(body) if body else None)
                text = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, method, path, body):
        self.asked.append((method, path, body))
        if path == "/auth/token":
            return (201, {"access_token": "t"}) if body["password"] == PASSWORD else (401, {})
        parts = path.removeprefix("/api/v2/").split("/")
        if parts == ["dags"]:
            return 200, {"dags": [{"dag_id": name} for name in self.dags], "total_entries": len(self.dags)}
        if parts == ["importErrors"]:
            return 200, {
                "import_errors": [{"filename": name} for name in self.broken], "total_entries": len(self.broken)
            }
        self.after -= method == "GET" and len(parts) == 2
        if parts[1] not in self.dags or self.after >= 0:
            return 404, {"detail": "no such DAG"}
        if len(parts) == 2:
            self.dags[parts[1]].update(body or {})
            return 200, self.dags[parts[1]]
        if method == "POST":
            return 200, {"dag_run_id": "manual 1"}
        return 200, {"task_instances": [], "total_entries": 0} if parts[-1] == "taskInstances" else {"state": "success"}


@pytest.fixture
def airflow():
    made = []

    def make(*arguments, **keywords):
        made.append(Airflow(*arguments, **keywords))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(dag_run.time, "sleep", lambda _seconds: None)

    def call(server, **arguments):
        given = {
            "url": f"http://127.0.0.1:{server.port}", "prefix": "/api/v2", "token_path": "/auth/token", "user": "admin",
            "password": PASSWORD, "_ansible_remote_tmp": str(tmp_path), **arguments
        }
        with patch_module_args(given), pytest.raises(SystemExit):
            dag_run.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_a_paused_dag_is_refused_or_unpaused(airflow, run):
    server = airflow({"sales": {"is_paused": True}})
    refused = run(server, dag_id="sales")
    assert "DAG sales is paused" in refused["msg"] and refused["paused"]
    result = run(server, dag_id="sales", unpause=True, wait=5)
    assert (result["state"], server.dags["sales"]["is_paused"]) == ("success", False)
    run(server, dag_id="sales", unpause=True)
    assert [method for method, _path, _body in server.asked].count("PATCH") == 1, "it is unpaused once"


def test_a_run_of_airflow_3_has_a_logical_date_as_in_the_ui(airflow, run):
    """Without one, a template such as {{ ds }} fails the task."""
    server = airflow({"sales": {"is_paused": False}})
    run(server, dag_id="sales")
    ((_method, _path, body),) = [asked for asked in server.asked if asked[1].endswith("/dagRuns")]
    date = datetime.datetime.fromisoformat(body["logical_date"])
    assert abs((datetime.datetime.now(datetime.timezone.utc) - date).total_seconds()) < 60


def test_a_dry_run_does_not_unpause(airflow, run):
    server = airflow({"sales": {"is_paused": True}})
    assert run(server, dag_id="sales", unpause=True, _ansible_check_mode=True)["changed"]
    assert server.dags["sales"]["is_paused"]


def test_a_dag_that_airflow_has_yet_to_read_is_waited_for(airflow, run):
    server = airflow({"sales": {"is_paused": False}}, after=3)
    assert run(server, dag_id="sales", appear=60)["state"] == "queued"


def test_a_dag_that_never_comes_is_named_with_those_that_are_there(airflow, run):
    server = airflow({"warehouse": {"is_paused": False}}, broken=["sales.py"])
    message = run(server, dag_id="example_dag", appear=0)["msg"]
    for text in ("Airflow knows no DAG example_dag.", "It knows warehouse.", "can't import: sales.py",
                 "playbooks/list_dag_releases.yml"):
        assert text in message


def test_the_playbook_shows_the_reason_and_no_secret(airflow, tmp_path):
    """Its tasks on roles that are stand-ins, against an API server that knows another DAG."""
    server = airflow({"warehouse": {"is_paused": False}})
    (play,) = yaml.safe_load((ROOT / "playbooks/run_dag.yml").read_text(encoding="utf-8"))
    play["tasks"] = [task for task in play["tasks"] if "ansible.builtin.import_role" not in task]
    play["hosts"], play["become"], play["gather_facts"] = "all", False, False
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    given = {
        "airflow_api_port": server.port, "airflow_admin_user": "admin", "airflow_admin_password": PASSWORD,
        "airflow_dag_id": "example_dag", "__airflow_api": {"prefix": "/api/v2", "token_path": "/auth/token"},
        "airflow_appear_timeout": 1, "airflow_wait_timeout": 5
    }
    (tmp_path / "given.json").write_text(json.dumps(given), encoding="utf-8")
    done = forks.run(
        [
            "ansible-playbook",
            "-vvv",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            f"@{tmp_path / 'given.json'}",
            tmp_path / "play.yml",
        ],
        cwd=ROOT,
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Airflow knows no DAG example_dag after 1 s. It knows warehouse." in output.replace("\n", " ").replace(
        "  ", " "
    )
    assert PASSWORD not in output and "Bearer t" not in output
