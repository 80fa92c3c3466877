"""The REST API of a host, asked from the host itself, because it listens on loopback there."""

import json

CLIENT = r"""
import base64, json, sys, time, urllib.error, urllib.request
from pathlib import Path
request = json.load(sys.stdin)
base = f"http://127.0.0.1:{request['port']}"
def call(method, path, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    made = urllib.request.Request(
        base + path, data, {"Content-Type": "application/json", "Accept": "application/json",
            **(headers or {})}, method=method
    )
    try:
        with urllib.request.urlopen(made, timeout=90) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
user, password = request["user"], request["password"]
password = password or Path(request["config_dir"], "secrets/admin_password").read_text()
token, status, text = request["token"], 401, None
if request["major"] == 2:
    headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
end = time.monotonic() + request["seconds"]
while True:
    if request["major"] == 3:
        if not token:
            status, text = call("POST", "/auth/token", {"username": user, "password": password})
            if status not in (200, 201):
                break
            token = json.loads(text)["access_token"]
        headers = {"Authorization": "Bearer " + token}
    status, text = call(request["method"], request["path"], request["body"], headers)
    if status in (401, 403) and token and token == request["token"]:
        # Signed with a key that was changed since.
        token = None
    elif status != 200 or not request["until"] or json.loads(text)["state"] in request["until"] \
            or time.monotonic() > end:
        break
    else:
        time.sleep(0.5)
print(json.dumps([status, text, token]))
"""


class Api:
    """Calls below /api/v1 or /api/v2, signed in as the administrator."""

    def __init__(self, host, setting, major):
        self.host, self.major = host, major
        self.port, self.user = setting("airflow_api_port"), setting("airflow_admin_user")
        self.config_dir = setting("airflow_config_dir")
        self.python = f"{setting('airflow_install_dir')}/venv/bin/python"
        self.password = setting("airflow_admin_password")
        # Signing in costs a third of a second of a processor, by design of its hash.
        self.token = None

    def ask(self, method, path, body=None, password=None, user=None, base=None, until=(), seconds=0):
        """Return (status, decoded body), asked again for so many seconds until `state` is one of these."""
        administrator = not user and not password
        request = {
            "port": self.port,
            "user": user or self.user,
            "password": password or self.password,
            "config_dir": self.config_dir,
            "major": self.major,
            "method": method,
            "path": (base or f"/api/v{self.major - 1}") + path,
            "body": body,
            "token": self.token if administrator else None,
            "until": until,
            "seconds": seconds,
        }
        script = f"{self.python} -c {_quote(CLIENT)} <<'REQUEST'\n{json.dumps(request)}\nREQUEST"
        status, text, token = json.loads(self.host.check_output(script))
        if administrator:
            self.token = token
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def get(self, path):
        status, body = self.ask("GET", path)
        assert status == 200, f"GET {path}: {status} {body}"
        return body

    def start_run(self, dag_id, conf=None):
        """Unpause the DAG, start a run and return its id."""
        status, body = self.ask("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        assert status == 200, f"{dag_id}: {status} {body}"
        status, body = self.ask("POST", f"/dags/{dag_id}/dagRuns",
                                {"conf": conf or {}, **({"logical_date": None} if self.major == 3 else {})})
        assert status in (200, 201), f"{dag_id}: {status} {body}"
        return body["dag_run_id"]

    def wait(self, dag_id, run_id, seconds=180):
        """Return the state that the run ends in."""
        path = f"/dags/{dag_id}/dagRuns/{run_id.replace('+', '%2B')}"
        status, body = self.ask("GET", path, until=("success", "failed"), seconds=seconds)
        assert status == 200, f"GET {path}: {status} {body}"
        return body["state"]

    def tasks(self, dag_id, run_id):
        """Return {task id: (state, number of tries)} of a run."""
        found = self.get(f"/dags/{dag_id}/dagRuns/{run_id.replace('+', '%2B')}/taskInstances")["task_instances"]
        return {task["task_id"]: (task["state"], task["try_number"]) for task in found}


def _quote(text):
    return "'" + text.replace("'", "'\\''") + "'"
