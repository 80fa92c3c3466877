#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Look at all of a host that Airflow's health depends on, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_health
short_description: Look at all of a host that Airflow's health depends on
version_added: 1.0.0
description:
  - Units, heartbeats, the API, the metadata database, disks, memory, clock, certificate, backup, releases, and whether
    what runs is what lies on the disk.
  - Changes nothing, and judges nothing. The action C(airflow_health_report) does that, for all hosts together.
  - Every question has a limit of its own and is asked beside the others. One that gets no answer has an C(error) in its
    place, so the module works on a host
    whose disk is full, whose database is down or whose virtualenv is broken.
  - Secrets are compared by a keyed hash that means nothing outside of this run.
options:
  components:
    description: What should run here, as in C(__airflow_components_here).
    type: dict
    default: {}
  units:
    description: Further units to look at, such as C(nginx.service). Patterns are those of C(systemctl show).
    type: list
    elements: str
    default: []
  paths:
    description: Directories. C(config), C(home), C(install), C(logs).
    type: dict
    required: true
  encrypted:
    description: Columns of the database that hold encrypted values, as in C(__airflow_encrypted_columns).
    type: list
    elements: dict
    default: []
  user:
    description: User of the components.
    type: str
    default: airflow
  server_port:
    description: Port of the PostgreSQL server on this host, asked as the system's user postgres. 0 where there is none.
    type: int
    default: 0
  proxy:
    description: C(address) and C(port) at which the proxy of this host answers HTTPS. Empty where there is none.
    type: dict
    default: {}
  dag_id:
    description: A DAG to look for, in the files and in the database.
    type: str
    default: ""
  task_id:
    description: One of its tasks.
    type: str
    default: ""
  aws:
    description: Ask AWS who this host is.
    type: bool
    default: false
  aws_actions:
    description: Actions that the host's role needs, for a simulation by IAM.
    type: list
    elements: str
    default: []
  salt:
    description: What the hash of secrets is keyed with. The same for all hosts of a run, and another one in the next.
    type: str
    default: ""
  timeout:
    description: Seconds after which the answers that are there are taken.
    type: int
    default: 8
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Shows no difference.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Look
  windsock.airflow.airflow_health:
    components: "{{ __airflow_components_here }}"
    paths: {config: /etc/airflow, home: /var/lib/airflow, install: /opt/airflow, logs: /var/log/airflow}
  register: result
"""

RETURN = r"""
seen:
  description: What each question was answered.
  returned: always
  type: dict
  sample: {"memory": {"total": 8335110144, "available": 5120000000}}
components:
  description: What should run here, as it was asked.
  returned: always
  type: dict
  sample: {"scheduler": {"unit": "airflow-scheduler"}}
"""

import configparser
import fnmatch
import glob
import grp
import hashlib
import hmac
import http.client
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils import (
    airflow_metadata,
    carried,
    component_health,
    database_connection,
)

# Seconds for a command or an HTTP request.
SOON = 4
PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "NRestarts",
    "MainPID",
    "ExecMainStatus",
    "NeedDaemonReload",
    "ActiveEnterTimestampMonotonic",
    "StateChangeTimestampMonotonic",
    "ExecMainStartTimestampMonotonic",
    "DropInPaths",
    "FragmentPath",
    "TriggeredBy",
)
SECRETS = ("fernet_key", "api_secret_key", "jwt_secret", "sql_alchemy_conn", "sql_alchemy_conn_async")
# Variables of the environment that take the place of a secret's file.
OVERRIDES = re.compile(r"AIRFLOW__\w+__(FERNET_KEY|SECRET_KEY|JWT_SECRET|SQL_ALCHEMY_CONN(_ASYNC)?)(_CMD|_SECRET)?$")
EXPECTED_HEADS = "expected-heads.json"
# Programs that use the standard library only run where the virtualenv is broken, too.
SYSTEM_PYTHON = sys.executable


def run(*command, **options):
    """Return the output of a command; an exception where it fails or takes too long."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON, check=False, **options)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines()
                            or ["{0} ended with {1}".format(command[0], done.returncode)])[-1][:400])
    return done.stdout


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_json(path):
    """Return the content of a JSON file; nothing where there is none."""
    try:
        return json.loads(read(path))
    except FileNotFoundError:
        return None


def ago(monotonic):
    """Seconds since systemd's monotonic microseconds; nothing where there is no such time."""
    return round(time.clock_gettime(time.CLOCK_MONOTONIC) - int(monotonic) / 1e6, 1) if int(monotonic or 0) else None


# ---- the host --------------------------------------------------------------------------------------------------------


def host(_params):
    return {
        "name": socket.getfqdn(), "time": time.time(), "uptime": float(read("/proc/uptime").split()[0]),
        "load": round(os.getloadavg()[0], 2), "cpus": len(os.sched_getaffinity(0)),
    }


def memory(_params):
    found = {name: int(value) * 1024 for name, value in re.findall(r"^(\w+): +(\d+) kB$", read("/proc/meminfo"), re.M)}
    return {
        "total": found["MemTotal"], "available": found["MemAvailable"], "swap": found["SwapTotal"],
        "swap_free": found["SwapFree"]
    }


def disks(params):
    """Each file system once, with the directories of ours that it holds."""
    found: dict[int, dict[str, Any]] = {}
    wanted = [
        *params["paths"].values(), "/", "/tmp", "/var/tmp",
        *(["/var/lib/postgresql", "/var/lib/pgsql"] if params["server_port"] else [])
    ]
    for path in wanted:
        try:
            device = os.stat(path).st_dev
            # A file system that is full for everybody else has room left for root: f_bavail is what the components see.
            size = os.statvfs(path)
        except OSError:
            continue
        found.setdefault(
            device, {
                "paths": [],
                "bytes": size.f_blocks * size.f_frsize,
                "free": size.f_bavail * size.f_frsize,
                "inodes": size.f_files,
                "inodes_free": size.f_favail,
                "read_only": bool(size.f_flag & os.ST_RDONLY),
            })["paths"].append(path)
    for disk in found.values():
        if "/tmp" in disk["paths"] and disk["free"] < disk["bytes"] / 5:
            disk["private"] = private_tmp()
    return list(found.values())


def private_tmp():
    """{unit: bytes} of the /tmp that systemd gives each sandboxed unit. It ends with the unit."""
    found = {}
    for path in glob.glob("/tmp/systemd-private-*"):
        unit = re.match(r"systemd-private-[0-9a-f]{32}-(.+)-[^-]+$", os.path.basename(path))
        if unit:
            found[unit.group(1)] = sum(
                os.lstat(os.path.join(folder, name)).st_blocks * 512 for folder, _folders, files in os.walk(path)
                for name in files)
    return found


def clock(_params):
    """Whether the host's clock is kept by somebody."""
    output = run("timedatectl", "show", "--property=NTPSynchronized", "--property=NTP")
    return dict(line.partition("=")[::2] for line in output.splitlines())


def owners(params):
    """Who the directories that the components write to belong to."""
    found = {}
    user = pwd.getpwnam(params["user"])
    groups = [user.pw_gid, *(group.gr_gid for group in grp.getgrall() if params["user"] in group.gr_mem)]
    for name in ("home", "logs"):
        state = os.stat(params["paths"][name])
        mine = state.st_uid == user.pw_uid and state.st_mode & 0o300 == 0o300
        ours = state.st_gid in groups and state.st_mode & 0o030 == 0o030
        found[name] = {
            "path": params["paths"][name], "writable": bool(mine or ours), "owner": state.st_uid,
            "mode": oct(state.st_mode & 0o7777)
        }
    return found


# ---- units -----------------------------------------------------------------------------------------------------------


def units(params):
    """systemd's own words, for each unit."""
    names = ["{0}.service".format(component["unit"]) for component in params["components"].values()]
    output = run("systemctl", "show", *names, *(["airflow.target"] if names else []), *params["units"],
                 *("--property={0}".format(name) for name in PROPERTIES))
    found = {}
    for block in output.strip().split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        if not unit.get("Id"):
            continue
        pid = int(unit.get("MainPID") or 0)
        found[unit["Id"]] = {
            "load": unit["LoadState"],
            "active": unit["ActiveState"],
            "sub": unit["SubState"],
            "enabled": unit["UnitFileState"],
            "result": unit.get("Result", ""),
            "status": int(unit.get("ExecMainStatus") or 0),
            "restarts": int(unit.get("NRestarts") or 0),
            "reload": unit["NeedDaemonReload"] == "yes",
            "since": ago(unit["StateChangeTimestampMonotonic"]),
            "started": ago(unit.get("ExecMainStartTimestampMonotonic")),
            "frozen": component_health.frozen(pid),
            "drop_ins": unit.get("DropInPaths", "").split(),
            "overrides": overrides(pid, params["salt"]),
            "said": last_words(unit["Id"]) if unit["LoadState"] == "loaded" and unit["Id"].endswith(".service")
            and unit["SubState"] != "running" else "",
        }
    return found


def overrides(pid, salt):
    """Secrets that the process got in its environment, in place of the files that everybody else reads."""
    if not pid:
        return {}
    try:
        lines = read("/proc/{0}/environ".format(pid)).split("\0")
    except OSError:
        return {}
    pairs = (line.partition("=")[::2] for line in lines)
    return {name: keyed(value, salt) for name, value in pairs if OVERRIDES.match(name)}


def last_words(unit):
    """The last line that looks like a reason."""
    try:
        lines = run("journalctl", "--unit", unit, "--lines", "60", "--output", "cat", "--no-pager").splitlines()
    except (OSError, RuntimeError, subprocess.TimeoutExpired):
        return ""
    reasons = [
        line.strip() for line in lines
        if re.search(r"\b[\w.]*(Error|Exception)\b|error:|fatal|FATAL|denied|waiting: |No space", line)
    ]
    return (reasons or [""])[-1][:300]


def failed_units(_params):
    return [
        line.split()[0] for line in run("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
        if line.split()
    ]


# ---- the components --------------------------------------------------------------------------------------------------


def answers(params):
    """What the components that speak HTTP say, all asked at once."""
    checks = {
        name: component["check"]
        for name, component in params["components"].items() if component["check"].get("url")
    }
    return beside({name: (ask_endpoint, check["url"]) for name, check in checks.items()}, SOON + 1)


def ask_endpoint(url):
    return component_health.answer_of(url, SOON)


def listeners(_params):
    """{port: addresses} of TCP sockets that listen, from the kernel's own table."""
    found: dict[str, list[str]] = {}
    for path, family, width in (("/proc/net/tcp", socket.AF_INET, 8), ("/proc/net/tcp6", socket.AF_INET6, 32)):
        try:
            lines = read(path).splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            local, state = line.split()[1], line.split()[3]
            if state != "0A":
                continue
            words = [local[start:start + 8] for start in range(0, width, 8)]
            packed = b"".join(bytes.fromhex(word)[::-1] for word in words)
            found.setdefault(str(int(local.split(":")[1], 16)), []).append(socket.inet_ntop(family, packed))
    return {port: sorted(set(addresses)) for port, addresses in found.items()}


def drift(params):
    """Units that run on other files than those that lie there, by the components' own tool, and which files have
    changed since they began.
    """
    tool = os.path.join(params["paths"]["install"], "libexec/airflow_runtime/run.py")
    if not os.path.exists(tool):
        raise RuntimeError("{0} is not there. site.yml brings it".format(tool))
    due = json.loads(run(SYSTEM_PYTHON, tool, "components", "pending"))
    data = json.loads(read(os.path.join(params["paths"]["config"], "components.json")))
    found = {}
    for name, component in data["components"].items():
        unit = component["unit"] + ".service"
        note = os.path.join("/run", component["unit"], "started-with")
        begun = os.stat(os.path.dirname(note)).st_mtime if os.path.exists(os.path.dirname(note)) else 0
        files = [*data["files"], *component.get("files", []), "/etc/systemd/system/" + unit, data["venv"]]
        changed = {path: os.lstat(path).st_ctime for path in files if os.path.lexists(path)}
        found[name] = {
            "due": unit in due,
            "noted": os.path.exists(note),
            "begun": begun,
            "missing": [path for path in files if not os.path.lexists(path)],
            "changed": sorted(path for path, when in changed.items() if begun and when > begun),
        }
    return found


def beats(params):
    """{component: the number of the row in table job that it was seen to beat in}, as its start has noted it."""
    noted = {
        name: read_json(os.path.join("/run", component["unit"], "beats"))
        for name, component in params["components"].items()
    }
    return {name: note[1] for name, note in noted.items() if note and note[1] is not None}


def drained(params):
    """What runbook drain_host noted; nothing where the host is not drained."""
    path = os.path.join(params["paths"]["config"], "drained")
    return (read(path).strip() or "drained") if os.path.exists(path) else ""


def settings(params):
    """Options of airflow.cfg that answers are compared with."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    config.read_string(read(os.path.join(params["paths"]["config"], "airflow.cfg")))
    return {
        "parallelism": config.getint("core", "parallelism", fallback=32),
        "executor": config.get("core", "executor", fallback=""),
    }


# ---- secrets, releases -----------------------------------------------------------------------------------------------


def keyed(value, salt):
    return hmac.new(salt.encode(), value.encode(), hashlib.sha256).hexdigest()[:12]


def secrets(params):
    """A hash of each, and whether there is anything in it."""
    found = {}
    for name in SECRETS:
        path = os.path.join(params["paths"]["config"], "secrets", name)
        try:
            value = read(path)
        except FileNotFoundError:
            continue
        found[name] = {
            "hash": keyed(value, params["salt"]), "empty": not value.strip(), "changed": os.stat(path).st_mtime
        }
    return found


def releases(params):
    """The virtualenv and the DAG release in place, what the record of deploys says, and whether anybody has changed the
    files since.
    """
    install = params["paths"]["install"]
    dags = os.path.join(install, "dags")
    found: dict[str, Any] = {"airflow": "", "missing": [], "dags": "", "recorded": ""}
    found["venv"] = os.path.basename(os.path.realpath(os.path.join(install, "venv")))
    sealed = read_json(os.path.join(install, "venv/release.json"))
    if sealed:
        found["airflow"] = sealed["airflow"]
        there = {re.sub(r"[-_.]+", "-", os.path.basename(path)[:-10].rpartition("-")[0]).lower()
                 for path in glob.glob(os.path.join(install, "venv/lib/python3*/site-packages/*.dist-info"))}
        found["missing"] = sorted(name for name in sealed["packages"]
                                  if re.sub(r"[-_.]+", "-", name).lower() not in there)
    current = os.path.join(dags, "current")
    if os.path.lexists(current):
        found["dags"] = os.path.basename(os.readlink(current))
        # The installer's last touch of these files was just before it made the link.
        put = os.lstat(current).st_mtime + 1
        found["placed"] = time.time() - put
        names = [name for _folder, _folders, files in os.walk(os.path.join(current, "dags")) for name in files]
        found["dag_files"] = sum(name.endswith((".py", ".zip")) for name in names)
        found["touched"] = sorted(
            os.path.relpath(path, current) for folder, _folders, files in os.walk(os.path.join(current, "dags"))
            if not folder.endswith("__pycache__") for path in (os.path.join(folder, name) for name in files)
            if os.lstat(path).st_ctime > put)[:5]
    revision = read_json(os.path.join(current, "REVISION")) or {}
    found.update({key: revision.get(key, "") for key in ("commit", "source", "when")})
    # Those that the validation has seen; a first release has not been validated.
    found["dag_ids"] = revision.get("dags") or []
    try:
        history = [json.loads(line) for line in read(os.path.join(dags, "history")).splitlines()]
    except FileNotFoundError:
        history = []
    placed = [entry["id"] for entry in history if entry["event"] in ("deployed", "rolled back", "switched back")]
    found["recorded"] = placed[-1] if placed else ""
    found["releases"] = sorted(os.listdir(os.path.join(dags, "releases"))) if os.path.isdir(
        os.path.join(dags, "releases")) else []
    return found


def dag_files(params):
    """Files of the release in place that name the DAG, and the lines of .airflowignore that leave one of them out."""
    root = os.path.join(params["paths"]["install"], "dags/current/dags")
    found, ignored = [], []
    patterns = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        if ".airflowignore" in files:
            patterns[folder] = [
                line.split("#")[0].strip() for line in read(os.path.join(folder, ".airflowignore")).splitlines()
            ]
        for name in files:
            path = os.path.join(folder, name)
            if name.endswith(".py") and os.path.getsize(path) < 2 ** 20 and params["dag_id"] in read(path):
                relative = os.path.relpath(path, root)
                found.append(relative)
                for base, lines in patterns.items():
                    if path.startswith(base + os.sep):
                        inside = os.path.relpath(path, base)
                        ignored += [{"file": relative, "pattern": line} for line in lines
                                    if line and matches(line, inside)]
    return {"files": sorted(found), "ignored": ignored}


def matches(pattern, path):
    """Whether a line of .airflowignore leaves the path out, as a regular expression (Airflow 2) or as a glob (Airflow
    3).
    """
    try:
        if re.search(pattern, path):
            return True
    except re.error:
        pass
    body = pattern.strip("/")
    parts = path.split("/")
    return any(
        fnmatch.fnmatchcase(name, body)
        for name in [*parts, *("/".join(parts[:number + 1]) for number in range(len(parts)))])


# ---- the database ----------------------------------------------------------------------------------------------------


def metadata(params):
    """What the metadata database says to this host, asked by a process of the virtualenv's Python, else of the
    system's.
    """
    if not params["components"]:
        return {}
    secrets_dir = os.path.join(params["paths"]["config"], "secrets")
    environment = os.path.join(params["paths"]["config"], "environment")
    request = json.dumps({
        "url_file": os.path.join(secrets_dir, "sql_alchemy_conn"),
        "key_file": os.path.join(secrets_dir, "fernet_key"),
        "encrypted": params["encrypted"],
        "dag_id": params["dag_id"],
        "task_id": params["task_id"],
        "aws": params["aws"],
        "actions": params["aws_actions"],
    })
    program = carried.program_of([airflow_metadata, database_connection], request)
    user = pwd.getpwnam(params["user"])
    broken = None
    for python in (os.path.join(params["paths"]["install"], "venv/bin/python"), SYSTEM_PYTHON):
        try:
            # The environment of the components says how the server is verified, and who the host is to AWS.
            done = subprocess.run(
                ["sh", "-c", '[ ! -r "$0" ] || { set -a; . "$0"; }; exec "$@"', environment, python, "-I", "-"],
                input=program,
                capture_output=True,
                text=True,
                timeout=params["timeout"] - 0.5,
                check=False,
                cwd="/",
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=supplementary(user))
        except subprocess.TimeoutExpired:
            return {"database": {"refused": "no answer within {0} s".format(params["timeout"])}}
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            reason = done.stderr.strip().splitlines() or ["ended with {0}".format(done.returncode)]
            answer = {"database": {"unusable": "{0}: {1}".format(python, reason[-1][:300])}}
        if "unusable" not in answer["database"]:
            break
        broken = broken or answer["database"]["unusable"]
    answer["broken"] = broken
    answer["expected"] = (read_json(os.path.join(params["paths"]["home"], EXPECTED_HEADS)) or {}).get("heads")
    return answer


SERVER_SQL = r"""
SELECT json_build_object(
  'max_connections', current_setting('max_connections')::int,
  'reserved', current_setting('superuser_reserved_connections')::int,
  'listen', current_setting('listen_addresses'),
  'hba_errors', (SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL),
  'hba_networks', (SELECT coalesce(json_agg(DISTINCT type || ' ' || coalesce(array_to_string(database, ','), '') || ' '
                   || coalesce(array_to_string(user_name, ','), '') || ' ' || coalesce(address, '') || ' ' ||
                     auth_method), '[]') FROM pg_hba_file_rules),
  'roles', (SELECT coalesce(json_object_agg(rolname, json_build_object('login', rolcanlogin, 'limit', rolconnlimit)),
    '{}')
            FROM pg_roles WHERE rolname !~ '^pg_'),
  'databases', (SELECT json_object_agg(datname, json_build_object('allowed', datallowconn, 'limit', datconnlimit,
    'bytes', pg_database_size(oid)))
                FROM pg_database WHERE NOT datistemplate),
  'blockers', (SELECT coalesce(json_agg(one), '[]') FROM (
      SELECT pid, usename AS user, coalesce(application_name, '') AS application, coalesce(host(client_addr),
        'this host') AS client, state, query,
             extract(epoch FROM now() - xact_start) AS seconds
      FROM pg_stat_activity WHERE pid IN (SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity WHERE
        wait_event_type = 'Lock')) one),
  'sessions', (SELECT coalesce(json_agg(one), '[]') FROM (
      SELECT datname AS database, usename AS user, coalesce(application_name, '') AS application,
        coalesce(host(client_addr), 'local') AS client,
             count(*) AS number, count(*) FILTER (WHERE state LIKE 'idle%') AS idle,
               (array_agg(pid ORDER BY backend_start))[1:300] AS pids
      FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2, 3, 4 ORDER
        BY 5 DESC LIMIT 20) one))
"""


def server(params):
    """The PostgreSQL server of this host, asked as its own superuser: it has connections left where Airflow has none.
    """
    if not params["server_port"]:
        return {}
    user = pwd.getpwnam("postgres")
    found = json.loads(
        run("psql",
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--host",
            "/var/run/postgresql",
            "--port",
            str(params["server_port"]),
            "--dbname",
            "postgres",
            "--command",
            SERVER_SQL,
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=supplementary(user),
            env={
                "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PGAPPNAME": "airflow-health", "PGCONNECT_TIMEOUT": "2",
                "PGOPTIONS": "-c statement_timeout=2000"
            }))
    for one in found["blockers"]:
        one["query"] = airflow_metadata.first_words(one["query"])
    return found


def supplementary(user):
    return [user.pw_gid, *(group.gr_gid for group in grp.getgrall() if user.pw_name in group.gr_mem)]


# ---- around it -------------------------------------------------------------------------------------------------------


def proxy(params):
    """What nginx answers, and the certificate that it serves, whichever file that is in."""
    if not params["proxy"]:
        return {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Whom it belongs to is not the question here; that is asked by the role's own health check.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(params["proxy"]["address"],
                                             int(params["proxy"]["port"]),
                                             timeout=SOON,
                                             context=context)
    connection.connect()
    certificate = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(True) or b"")
    said = run("openssl", "x509", "-noout", "-enddate", "-subject", input=certificate)
    lines = dict(line.partition("=")[::2] for line in said.splitlines())
    connection.request("GET", "/")
    return {
        "status": connection.getresponse().status, "expires": ssl.cert_time_to_seconds(lines["notAfter"]),
        "subject": lines.get("subject", "")
    }


def backup(_params):
    """The note of the last success; nothing where none has succeeded here."""
    return read_json("/var/lib/airflow-backup/last_success.json")


def watchdog(_params):
    """What the watchdog has restarted within a day."""
    try:
        entries = [json.loads(line) for line in read("/var/lib/airflow-watchdog/restarts.jsonl").splitlines()[-200:]]
    except FileNotFoundError:
        return []
    day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 86400))
    return [entry for entry in entries if str(entry.get("time", "")) >= day]


# ---- all of it -------------------------------------------------------------------------------------------------------

QUESTIONS = (
    host,
    memory,
    disks,
    clock,
    owners,
    units,
    failed_units,
    answers,
    listeners,
    drift,
    beats,
    drained,
    settings,
    secrets,
    releases,
    metadata,
    server,
    proxy,
    backup,
    watchdog,
)


def beside(questions, timeout):
    """Ask all of them at once, and return what is there when the time is over. questions: {name: (function, argument)}.
    """
    found = {name: {"error": "no answer within {0} s".format(timeout)} for name in questions}

    def ask(name, function, argument):
        try:
            found[name] = function(argument)
        except Exception as error:
            found[name] = {"error": "{0}: {1}".format(type(error).__name__, error)}

    # Daemons: one that hangs in the kernel, on a dead network file system perhaps, does not hold up the end of the
    # module.
    threads = [
        threading.Thread(target=ask, args=(name, *question), daemon=True) for name, question in questions.items()
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    return dict(found)


def main():
    module = AnsibleModule(
        argument_spec={
            "components": {"type": "dict", "default": {}},
            "units": {"type": "list", "elements": "str", "default": []},
            "paths": {"type": "dict", "required": True},
            "encrypted": {"type": "list", "elements": "dict", "default": []},
            "user": {"type": "str", "default": "airflow"},
            "server_port": {"type": "int", "default": 0},
            "proxy": {"type": "dict", "default": {}},
            "dag_id": {"type": "str", "default": ""},
            "task_id": {"type": "str", "default": ""},
            "aws": {"type": "bool", "default": False},
            "aws_actions": {"type": "list", "elements": "str", "default": []},
            "salt": {"type": "str", "default": "", "no_log": True},
            "timeout": {"type": "int", "default": 8},
        },
        supports_check_mode=True,
    )
    questions = {function.__name__: (function, module.params) for function in QUESTIONS}
    if module.params["dag_id"]:
        questions["dag_files"] = (dag_files, module.params)
    module.exit_json(changed=False,
                     components=module.params["components"],
                     seen=beside(questions, module.params["timeout"]))


if __name__ == "__main__":
    main()
