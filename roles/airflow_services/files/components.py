"""Ask the Airflow components of this host how they are. Reads components.json in the configuration directory; changes nothing.

components.py wait NAME    return once the component's own signal is good (systemd's ExecStartPost; its TimeoutStartSec is the limit)
components.py pending      print as JSON the units that are down or were started with other files than those that lie there now
components.py health       print a line per component; exit 1 where one is not well
"""

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

CONFIG_DIR = Path(os.environ.get("AIRFLOW_CONFIG", "/etc/airflow/airflow.cfg")).parent


def load():
    """Return the content of components.json."""
    return json.loads((CONFIG_DIR / "components.json").read_text())


def ask_http(check):
    """Return (well, what it said) of a health endpoint. The API server's is always 200: its body tells."""
    try:
        with urllib.request.urlopen(check["url"], timeout=5) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        return False, f"{check['url']} answers {error.code}"
    except OSError as error:
        return False, f"{check['url']}: {error}"
    if check["kind"] == "status":
        return True, "answers"
    value = json.loads(body)
    for key in check["path"]:
        value = value[key]
    return value == check["value"], f"{'.'.join(check['path'])} is {value}"


def ask_job(check, data, since=None):
    """Return (well, what it said) of a component that only beats in the database."""
    import psycopg2

    url = (CONFIG_DIR / "secrets" / "sql_alchemy_conn").read_text().replace("postgresql+psycopg2://", "postgresql://", 1)
    try:
        connection = psycopg2.connect(url, connect_timeout=5, application_name="airflow-components")
    except psycopg2.OperationalError as error:
        return False, f"the metadata database can't be reached: {str(error).splitlines()[0]}"
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM now() - max(latest_heartbeat)) FROM job"
            " WHERE job_type = %s AND state = 'running' AND extract(epoch FROM start_date) >= %s",
            (check["job_type"], since or 0),
        )
        age = cursor.fetchone()[0]
    connection.close()
    if age is None:
        return False, "no heartbeat"
    return age <= data["heartbeat_timeout"], f"last heartbeat {age:.0f} s ago"


def ask(check, data, since=None):
    """Return (well, what it said) of one component."""
    return ask_job(check, data, since) if check["kind"] == "job" else ask_http(check)


def fingerprint(data, unit):
    """Return a hash of all that the component starts with: configuration, secrets, virtualenv and unit."""
    digest = hashlib.sha256(os.path.realpath(data["venv"]).encode())
    for path in [*data["files"], f"/etc/systemd/system/{unit}.service"]:
        digest.update(path.encode() + b"\0" + Path(path).read_bytes())
    return digest.hexdigest()


def wait(name):
    """Block until the component is well, then note what it was started with."""
    data = load()
    component = data["components"][name]
    note = Path("/run", component["unit"], "started-with")
    # Taken before the wait: a file that changes meanwhile must make the note stale.
    started_with = fingerprint(data, component["unit"])
    since = time.time() - 2
    said = None
    while True:
        well, now_said = ask(component["check"], data, since)
        if well:
            break
        if now_said != said:
            said = now_said
            print(f"waiting: {said}", flush=True)
        time.sleep(0.3)
    note.write_text(started_with)


def properties(unit, *names):
    """Return systemd's properties of the unit."""
    output = subprocess.run(
        ["systemctl", "show", f"{unit}.service", *(f"--property={name}" for name in names)], capture_output=True, text=True, check=True
    ).stdout
    return dict(line.partition("=")[::2] for line in output.splitlines())


def pending():
    """Print the units that have to be started or restarted."""
    data = load()
    due = []
    for component in data["components"].values():
        unit = component["unit"]
        note = Path("/run", unit, "started-with")
        state = properties(unit, "ActiveState", "NeedDaemonReload")
        current = note.exists() and note.read_text() == fingerprint(data, unit)
        if state["ActiveState"] != "active" or state["NeedDaemonReload"] == "yes" or not current:
            due.append(f"{unit}.service")
    print(json.dumps(due))


def health():
    """Print a line per component and return the exit code."""
    data = load()
    worst = 0
    for component in data["components"].values():
        state = properties(component["unit"], "ActiveState", "SubState", "NRestarts")
        well, said = ask(component["check"], data)
        well = well and state["ActiveState"] == "active"
        print(f"{'ok  ' if well else 'FAIL'} {component['unit']}: {state['ActiveState']} ({state['SubState']}), {said}")
        worst = worst or int(not well)
    return worst


if __name__ == "__main__":
    commands = {"wait": wait, "pending": pending, "health": health}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
