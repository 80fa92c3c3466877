"""What observations mean: each cause is named first, with its command, and a healthy inventory has none."""

import copy
import os
import socket
import threading

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_metadata
from ansible_collections.windsock.airflow.plugins.module_utils.diagnosis import causes as diagnosis
from shared_variables import of_major

NOW = 1_800_000_000.0
UNIT = {
    "load": "loaded",
    "active": "active",
    "sub": "running",
    "enabled": "static",
    "result": "success",
    "status": 0,
    "restarts": 0,
    "reload": False,
    "since": 900.0,
    "started": 905.0,
    "frozen": False,
    "drop_ins": [],
    "overrides": {},
    "said": "",
}
COMPONENTS = {
    "api-server": {
        "unit": "airflow-api-server", "check": {
            "kind": "body", "url": "http://127.0.0.1:8080/api/v2/monitor/health", "path": ["metadatabase", "status"],
            "value": "healthy"
        }
    },
    "dag-processor": {"unit": "airflow-dag-processor", "job_type": "DagProcessorJob", "check": {"kind": "job"}},
    "scheduler": {
        "unit": "airflow-scheduler", "job_type": "SchedulerJob", "drains": True,
        "check": {"kind": "status", "url": "http://127.0.0.1:8974/health"}
    },
    "triggerer": {"unit": "airflow-triggerer", "job_type": "TriggererJob", "check": {"kind": "job"}},
}
EXPECTED = {
    "version": "3.3.2",
    "api": {"host": "127.0.0.1", "port": 8080},
    "fernet_given": False,
    "pools": {"declared": {"slots": 4}},
    "database": {"external": False, "user": "airflow", "host": "127.0.0.1", "port": 5432},
    "limits": {
        "disk": 85, "disk_full": 97, "memory": 3, "connections": 85, "clock": 5, "start": 45, "heartbeat": 30,
        "lock": 5, "queue": 300, "failed_tasks": 10, "certificate": 14, "backup": 26
    },
}


# Of a release that is not in place any more: it was removed on purpose.
STALE_OF_OLD = {"dag_id": "removed", "seconds": 90000.0, "runs": 0}


def jobs(*names, seconds=3.0):
    """Rows of table job: of each host a scheduler, a DAG processor and a triggerer."""
    kinds = ("SchedulerJob", "DagProcessorJob", "TriggererJob")
    return [{"id": number, "job_type": kind, "hostname": name, "seconds": seconds}
            for number, (name, kind) in enumerate((name, kind) for name in names for kind in kinds)]


def seen(name="one"):
    """What a healthy host answers."""
    return {
        "host": {"name": name, "time": NOW, "uptime": 86400.0 * 12, "load": 0.4, "cpus": 2},
        "memory": {"total": 8e9, "available": 5e9, "swap": 0, "swap_free": 0},
        "disks": [
            {
                "paths": ["/", "/opt/airflow"], "bytes": 50e9, "free": 30e9, "inodes": 3_000_000,
                "inodes_free": 2_000_000, "read_only": False
            },
            {
                "paths": ["/var/log/airflow"], "bytes": 20e9, "free": 15e9, "inodes": 1_000_000, "inodes_free": 900_000,
                "read_only": False
            },
            {"paths": ["/tmp"], "bytes": 2e9, "free": 2e9, "inodes": 0, "inodes_free": 0, "read_only": False},
        ],
        "clock": {"NTP": "yes", "NTPSynchronized": "yes"},
        "owners": {
            key: {"path": path, "writable": True, "owner": 997, "mode": "0o750"}
            for key, path in (("home", "/var/lib/airflow"), ("logs", "/var/log/airflow"))
        },
        "units": {
            **{component["unit"] + ".service": dict(UNIT)
               for component in COMPONENTS.values()}, "airflow.target": {**UNIT, "enabled": "enabled"},
            "postgresql@15-main.service": dict(UNIT), "nginx.service": dict(UNIT)
        },
        "failed_units": [],
        "answers": {
            "api-server": {"status": 200, "body": {"metadatabase": {"status": "healthy"}}},
            "scheduler": {"status": 200}
        },
        "listeners": {"8080": ["127.0.0.1"], "8974": ["127.0.0.1"], "5432": ["127.0.0.1"]},
        "drift": {
            key: {"due": False, "noted": True, "begun": NOW - 900, "missing": [], "changed": []}
            for key in COMPONENTS
        },
        "drained": "",
        "beats": {"scheduler": 0, "dag-processor": 1, "triggerer": 2},
        "settings": {"parallelism": 16, "executor": "LocalExecutor"},
        "secrets": {
            key: {"hash": "0123456789ab", "empty": False, "changed": NOW - 9000}
            for key in ("fernet_key", "jwt_secret", "sql_alchemy_conn")
        },
        "releases": {
            "venv": "3.3.2-py3.11-2d5535df", "airflow": "3.3.2", "missing": [], "dags": "b", "recorded": "b",
            "touched": [], "releases": ["a", "b"], "dag_ids": ["report", "load", "clean"], "dag_files": 3,
            "placed": 9000.0, "commit": "", "source": "git", "when": "2026-11-21T23:53:05Z"
        },
        "metadata": {
            "broken": None, "expected": {"alembic_version": ["head"]}, "database": {
                "connected": 0.02,
                "host_clock": NOW,
                "clock": [{"now": NOW}],
                "server": [{
                    "version": "15.20 (Debian)", "max_connections": 200, "reserved": 3, "bytes": 11e6, "standby": False,
                    "read_only": False
                }],
                "sessions": [{"user": "airflow", "application": "", "number": 7}],
                "blocked": [],
                "blockers": [],
                "jobs": jobs(name),
                "tasks": [],
                "waiting": [],
                "running": [],
                "failed": [{"number": 0, "tasks": None}],
                "pools": [{"pool": "default_pool", "slots": 128, "used": 0, "waiting": 0, "seconds": None}],
                "holders": [],
                "import_errors": [],
                "dags": [{"number": 3, "paused": 0}],
                "stale": [STALE_OF_OLD],
                "paused": [],
                "runs": [],
                "heads": {"alembic_version": ["head"]},
                "fernet": {"tried": 3, "unreadable": []},
            }
        },
        "server": {
            "max_connections": 200, "reserved": 3, "hba_errors": 0, "listen": "localhost", "hba_networks": [],
            "roles": {"airflow": {"login": True, "limit": -1}},
            "databases": {"airflow": {"allowed": True, "limit": -1, "bytes": 11e6}}, "sessions": [{
                "database": "airflow", "user": "airflow", "application": "", "client": "127.0.0.1", "number": 7,
                "idle": 7, "pids": [1]
            }]
        },
        "proxy": {"expires": NOW + 80 * 86400, "subject": "CN = airflow.example.com", "status": 200},
        "backup": {"time": "2027-01-15T07:00:00Z", "bytes": 5e6},
        "watchdog": [],
    }


@pytest.fixture
def hosts():
    return {"one": {"components": copy.deepcopy(COMPONENTS), "seen": seen()}}


def put(path, value):
    """A mutation: the value at the path, whose parts are separated by blanks, of the only host."""
    def mutate(hosts):
        place = hosts["one"]["seen"]
        *folders, last = path.split(" ")
        for folder in folders:
            place = place[int(folder) if folder.isdigit() else folder]
        # Of its own: another mutation of the test may change it.
        place[int(last) if last.isdigit() else last] = copy.deepcopy(value)
    return mutate


def merge(path, value):
    def mutate(hosts):
        place = hosts["one"]["seen"]
        for folder in path.split(" "):
            place = place[int(folder) if folder.isdigit() else folder]
        place.update(copy.deepcopy(value))
    return mutate


def refused(said):
    return put("metadata database", {"refused": said})


def both(*mutations):
    def mutate(hosts):
        for one in mutations:
            one(hosts)
    return mutate


DATABASE_GONE = both(
    refused('connection to server at "127.0.0.1", port 5432 failed: Connection refused'),
    put("server", {"error": "RuntimeError: connection to server on socket failed: No such file or directory"}),
    put("answers api-server body metadatabase status", "unhealthy"), put("answers scheduler", {"status": 503}))
DB = "metadata database"
TASK = {
    "dag_id": "report", "task_id": "load", "run_id": "r1", "state": "scheduled", "pool": "narrow", "queue": "default",
    "seconds": 900.0, "silent": 1000.0
}
ALIVE = {**TASK, "state": "running", "seconds": 4000.0, "silent": 4.0}
FULL = both(
    put(DB + " pools", [{"pool": "narrow", "slots": 1, "used": 1, "waiting": 2, "seconds": 900.0}]),
    put(DB + " tasks", [{"state": "scheduled", "number": 2, "seconds": 900.0}]), put(DB + " waiting", [TASK]))
TAKEN = put(DB + " tasks",
            [{"state": "running", "number": 16, "seconds": 9000.0}, {"state": "queued", "number": 3, "seconds": 900.0}])

STALE = put(DB + " stale", [
    {"dag_id": "report", "seconds": 700.0, "runs": 2}, {"dag_id": "load", "seconds": 600.0, "runs": 0}, STALE_OF_OLD])
# A first release, which nobody has validated, and not one DAG of it is active.
ALL_STALE = both(put("releases dag_ids", []), put(DB + " dags", [{"number": 0, "paused": 0}]))

# what happened, what it does to the observations, the cause that is named first, and what its command holds.
FAULTS = {
    "scheduler stopped": (
        merge("units airflow-scheduler.service", {"active": "inactive", "sub": "dead"}),
        "component_stopped",
        "services.yml",
    ),
    "scheduler failed": (
        merge("units airflow-scheduler.service", {"active": "failed", "sub": "failed", "result": "oom-kill"}),
        "component_stopped",
        "services.yml",
    ),
    "triggerer masked": (
        merge("units airflow-triggerer.service", {"load": "masked", "active": "inactive"}),
        "component_stopped",
        "",
    ),
    "triggerer unit gone": (
        merge("units airflow-triggerer.service", {"load": "not-found"}),
        "component_missing",
        "services.yml",
    ),
    "scheduler frozen": (
        merge("units airflow-scheduler.service", {"frozen": True}),
        "component_frozen",
        "recover_scheduler.yml",
    ),
    "DAG processor frozen": (
        merge("units airflow-dag-processor.service", {"frozen": True}),
        "component_frozen",
        "airflow_component=dag-processor",
    ),
    "scheduler does not beat": (put(DB + " jobs 0 seconds", 400.0), "component_hung", "recover_scheduler.yml"),
    "triggerer has no heartbeat": (put(DB + " jobs 2 id", 9), "component_hung", "airflow_component=triggerer"),
    "triggerer was never seen to beat, and does not": (
        both(put("beats", {}), put(DB + " jobs 2 hostname", "another")),
        "component_hung",
        "airflow_component=triggerer",
    ),
    "API server does not come up": (
        merge(
            "units airflow-api-server.service",
            {"active": "activating", "sub": "auto-restart", "restarts": 4, "said": "RuntimeError: no"},
        ),
        "component_failing",
        "airflow.yml playbooks/services.yml",
    ),
    "API server can't bind": (
        merge(
            "units airflow-api-server.service",
            {
                "active": "activating",
                "sub": "start-post",
                "restarts": 4,
                "said": "[ERROR] Can't connect to ('192.0.2.9', 8080)",
            },
        ),
        "bind_address",
        "airflow.yml playbooks/services.yml",
    ),
    "API server listens elsewhere": (
        merge("listeners", {"8080": ["127.0.0.2"]}),
        "bind_address",
        "airflow.yml playbooks/services.yml",
    ),
    "API server hangs": (
        put("answers api-server", {"error": "timed out"}),
        "api_unwell",
        "airflow_component=api-server",
    ),
    "target not enabled": (put("units airflow.target enabled", "disabled"), "target_disabled", "services.yml"),
    "configuration not taken over": (
        merge("drift scheduler", {"due": True, "changed": ["/etc/airflow/airflow.cfg"]}),
        "component_stale",
        "services.yml",
    ),
    "secret not taken over": (
        merge("drift scheduler", {"due": True, "changed": ["/etc/airflow/secrets/jwt_secret"]}),
        "secrets_not_taken_over",
        "services.yml",
    ),
    "secret in the environment": (
        merge(
            "units airflow-scheduler.service",
            {"overrides": {"AIRFLOW__API_AUTH__JWT_SECRET": "0"}, "drop_ins": ["/etc/x.conf"]},
        ),
        "secrets_overridden",
        "",
    ),
    "secret empty": (
        put("secrets fernet_key empty", True),
        "configuration_missing",
        "airflow.yml playbooks/services.yml",
    ),
    "database stopped": (DATABASE_GONE, "database_down", "postgresql.yml"),
    "database stopped because its disk is full": (
        both(DATABASE_GONE, put("disks 0 free", 0)),
        "disk_full",
        "free_disk_space.yml",
    ),
    "server too busy to answer": (
        put("server", {"error": "TimeoutExpired: Command 'psql' timed out after 4 seconds"}),
        "database_slow",
        "",
    ),
    "password refused": (
        refused('FATAL:  password authentication failed for user "airflow"'),
        "database_password",
        "postgresql.yml",
    ),
    "pg_hba.conf refuses": (
        refused('FATAL:  no pg_hba.conf entry for host "127.0.0.1", user "airflow"'),
        "database_hba",
        "postgresql.yml",
    ),
    "role may not sign in": (
        refused('FATAL:  role "airflow" is not permitted to log in'),
        "database_login",
        "postgresql.yml",
    ),
    "database renamed": (refused('FATAL:  database "airflow" does not exist'), "database_missing", "postgresql.yml"),
    "database starts": (refused("FATAL:  the database system is starting up"), "database_starting", ""),
    "name not found": (refused('could not translate host name "db" to address'), "database_network", ""),
    "no connection left": (
        both(
            refused("FATAL:  sorry, too many clients already"),
            put(
                "server sessions",
                [
                    {
                        "database": "airflow",
                        "user": "airflow",
                        "application": "notebook",
                        "client": "10.0.0.9",
                        "number": 190,
                        "idle": 190,
                        "pids": [2],
                    }
                ],
            ),
        ),
        "database_connections",
        "airflow_application=notebook",
    ),
    "lock held": (
        both(
            put(DB + " blocked", [{"pid": 11, "seconds": 60.0, "query": "UPDATE slot_pool", "by": [12]}]),
            put(
                DB + " blockers",
                [
                    {
                        "pid": 12,
                        "user": "airflow",
                        "application": "psql",
                        "client": "local",
                        "state": "idle in transaction",
                        "query": "LOCK slot_pool",
                        "seconds": 70.0,
                    }
                ],
            ),
            put(
                "server blockers",
                [
                    {
                        "pid": 12,
                        "user": "ann",
                        "application": "psql",
                        "client": "local",
                        "state": "idle",
                        "query": "LOCK slot_pool",
                        "seconds": 70.0,
                    }
                ],
            ),
            put(DB + " pools", {"error": "canceling statement due to lock timeout"}),
            put(DB + " jobs 0 seconds", 55.0),
        ),
        "database_lock",
        "airflow_pid=12",
    ),
    "migration missing": (
        put(DB + " heads alembic_version", ["older"]),
        "migration_missing",
        "airflow.yml playbooks/services.yml",
    ),
    "Fernet key broken": (
        put(DB + " fernet", {"unusable": "Fernet key must be 32 url-safe base64-encoded bytes."}),
        "fernet_key",
        "airflow.yml",
    ),
    "no answer to the question about the Fernet key": (
        put(DB + " fernet", {"error": "canceling statement due to lock timeout"}),
        "database_slow",
        "",
    ),
    "connections of an external server nearly used up": (
        both(put("server", {}), put(DB + " sessions", [{"user": "ann", "application": "notebook", "number": 180}])),
        "database_full",
        "",
    ),
    "wrong Fernet key": (put(DB + " fernet unreadable", ["connection warehouse"]), "fernet_key", ""),
    "log disk full": (put("disks 1 free", 0), "disk_full", "free_disk_space.yml"),
    "log disk without inodes": (put("disks 1 inodes_free", 0), "inodes_used_up", "free_disk_space.yml"),
    "/tmp full": (put("disks 2 free", 1000), "disk_full", ""),
    "/tmp full of what a component has left": (
        merge("disks 2", {"free": 1000, "private": {"airflow-triggerer.service": 1.9e9, "other.service": 5}}),
        "disk_full",
        "airflow_component=triggerer",
    ),
    "disk nearly full": (put("disks 1 free", 2e9), "disk_full", "free_disk_space.yml"),
    "disk read-only": (put("disks 0 read_only", True), "disk_read_only", ""),
    "memory used up": (put("memory available", 1e8), "memory_used_up", ""),
    "clock ahead of the database": (put(DB + " host_clock", NOW + 90), "clock", ""),
    "clock of the host and its database behind the controller": (put("host time", NOW - 400), "clock", ""),
    "clock not synchronised": (put("clock NTPSynchronized", "no"), "clock", ""),
    "clock behind the controller": (both(DATABASE_GONE, put("host time", NOW - 400)), "clock", ""),
    "virtualenv broken": (
        both(
            put("metadata broken", "/opt/airflow/venv/bin/python: No such file or directory"),
            put("releases airflow", ""),
            merge("units airflow-scheduler.service", {"active": "failed"}),
        ),
        "virtualenv_broken",
        "airflow.yml playbooks/services.yml",
    ),
    "package gone from the virtualenv": (put("releases missing", ["statsd"]), "virtualenv_broken", ""),
    "logs belong to root": (
        put("owners logs writable", False),
        "directory_not_writable",
        "airflow.yml playbooks/services.yml",
    ),
    "another version in the inventory": (put("releases airflow", "3.3.1"), "versions_differ", "site.yml"),
    "release switched by hand": (put("releases dags", "a"), "release_differs", "airflow_release=b"),
    "no release, as after a removal": (
        merge("releases", {"dags": "", "recorded": "", "releases": [], "when": ""}),
        "release_differs",
        "deploy_dags.yml",
    ),
    "release edited by hand": (put("releases touched", ["dags/x.py"]), "release_touched", ""),
    "broken DAG": (
        put(DB + " import_errors", [{"filename": "dags/x.py", "said": "SyntaxError: invalid syntax", "seconds": 9.0}]),
        "import_error",
        "rollback_dags.yml",
    ),
    "missing package": (
        put(
            DB + " import_errors",
            [{"filename": "dags/x.py", "said": "ModuleNotFoundError: No module named 'polars.io'", "seconds": 9.0}],
        ),
        "missing_package",
        "rollback_dags.yml",
    ),
    "DAGs are stale": (
        both(
            STALE,
            put(DB + " tasks", [{"state": "queued", "number": 3, "seconds": 900.0}]),
            put(DB + " waiting", [TASK]),
        ),
        "stale_dags",
        "restart_airflow.yml -e airflow_component=dag-processor --limit one",
    ),
    "all DAGs of a first release are stale": (ALL_STALE, "stale_dags", "airflow_component=dag-processor"),
    "DAGs are stale because the DAG processor is dead": (
        both(STALE, merge("units airflow-dag-processor.service", {"active": "failed"})),
        "component_stopped",
        "services.yml",
    ),
    "DAGs are stale because their files are broken": (
        both(STALE, put(DB + " import_errors", [{"filename": "dags/x.py", "said": "SyntaxError: no", "seconds": 9.0}])),
        "import_error",
        "rollback_dags.yml",
    ),
    "pool full": (
        both(FULL, put(DB + " holders", [{**TASK, "state": "running"}, ALIVE])),
        "pool_full",
        "clear_stuck_tasks.yml -e airflow_confirm=report",
    ),
    "pool full of tasks that are alive": (both(FULL, put(DB + " holders", [ALIVE])), "pool_full", ""),
    "pool full and nothing holds it": (FULL, "pool_full", ""),
    "pool smaller than declared": (
        put(DB + " pools", [{"pool": "declared", "slots": 0, "used": 0, "waiting": 2, "seconds": 900.0}]),
        "pool_full",
        "objects.yml",
    ),
    "host drained": (
        both(put("drained", "disk is replaced"), merge("units airflow-scheduler.service", {"active": "inactive"})),
        "drained",
        "undrain_host.yml",
    ),
    "pool larger than declared, and full": (
        both(FULL, put(DB + " pools 0 pool", "declared"), put(DB + " pools 0 slots", 9), put(DB + " pools 0 used", 9)),
        "pool_full",
        "",
    ),
    "all slots taken": (
        both(TAKEN, put(DB + " running", [TASK])),
        "slots_full",
        "clear_stuck_tasks.yml -e airflow_confirm=report",
    ),
    "all slots taken by tasks that are alive": (both(TAKEN, put(DB + " running", [ALIVE])), "slots_full", ""),
    "tasks wait, nobody knows why": (
        both(put(DB + " tasks", [{"state": "queued", "number": 3, "seconds": 900.0}]), put(DB + " waiting", [TASK])),
        "queue_waits",
        "airflow_dag_id=report",
    ),
    "paused DAG with runs": (
        put(DB + " paused", [{"dag_id": "report", "runs": 2, "seconds": 900.0}]),
        "paused_runs",
        "report",
    ),
    "many failed tasks": (put(DB + " failed", [{"number": 40, "tasks": ["a.b"]}]), "failed_tasks", ""),
    "certificate expired": (put("proxy expires", NOW - 3600), "certificate", "proxy.yml"),
    "certificate nearly expired": (put("proxy expires", NOW + 3 * 86400), "certificate", "proxy.yml"),
    "nginx stopped": (
        both(put("units nginx.service active", "inactive"), put("proxy", {"error": "Connection refused"})),
        "proxy_stopped",
        "proxy.yml",
    ),
    "backup old": (put("backup time", "2027-01-01T07:00:00Z"), "backup_old", "back_up_database.yml"),
    "no backup yet": (put("backup", None), "backup_old", "back_up_database.yml"),
    "watchdog had to restart": (
        put("watchdog", [{"unit": "airflow-scheduler", "reason": "no heartbeat", "time": "2027-01-15T07:00:00Z"}]),
        "watchdog",
        "",
    ),
    "a unit of somebody else has failed": (put("failed_units", ["cron.service"]), "failed_units", ""),
}
ONLY_WARN = {
    "host drained", "disk nearly full", "configuration not taken over", "another version in the inventory",
    "release edited by hand", "many failed tasks", "certificate nearly expired", "backup old", "no backup yet",
    "watchdog had to restart", "clock not synchronised", "server too busy to answer",
    "no answer to the question about the Fernet key", "connections of an external server nearly used up"
}


def failing(unit, **state):
    return merge(f"units {unit}.service", state)


def starting(sub, **state):
    return failing("airflow-api-server", active="activating", sub=sub, **state)


def young(unit, seconds):
    return failing(unit, started=seconds, since=seconds)


def aws(**said):
    """A mutation: what AWS said to the host."""
    return put("metadata aws", said)


def away(**said):
    """A mutation: a second host, of which there is no more than this."""
    return lambda hosts: hosts.update(db={"components": {}, **said})


def another(*mutations):
    """A mutation: a second host with a component, and what is different on the first."""
    def mutate(hosts):
        hosts["two"] = {"components": {"triggerer": COMPONENTS["triggerer"]},
                        "seen": {**seen("two"), "server": {}, "proxy": {}}}
        both(*mutations)(hosts)
    return mutate


# Words of the driver, of systemd and of AWS are recorded.
SERVER = 'connection to server at "db.example.com" (10.0.0.5), port 5432 failed: '
NOT_THERE = ('root certificate file "/etc/airflow/rds.pem" does not exist Either provide the file, use the system\'s '
             "trusted roots with sslrootcert=system, or change sslmode to disable server certificate verification.")
ENDED = ("server closed the connection unexpectedly This probably means the server terminated abnormally before or "
         "while processing the request.")
NO_USER = "KeyError: \"getpwnam(): name not found: 'airflow'\""
NO_TOOL = "RuntimeError: /opt/airflow/libexec/airflow_runtime/run.py is not there. site.yml brings it"
NO_CREDENTIALS = "no credentials: neither an instance profile nor AWS_* variables"
OLD = "Signature expired: 20261130T000000Z is now earlier than 20261130T004500Z"
EXPIRED = "The security token included in the request is expired"
INVALID = "The security token included in the request is invalid"
NO_WAY = 'Could not connect to the endpoint URL: "https://sts.eu-central-1.amazonaws.com/"'
MAY_NOT = "User is not authorized to perform iam:SimulatePrincipalPolicy"
ARN = "arn:aws:sts::123456789012:assumed-role/airflow/i-0abc"
TIMED_OUT = "ssh: connect to host 10.0.0.5 port 22: Connection timed out"
NO_TRIGGERER_BEATS = both(put("beats", {}), put(DB + " jobs 2 hostname", "another"))
REFUSED = {"error": "[Errno 111] Connection refused"}
HEALTH = "http://127.0.0.1:8080/api/v2/monitor/health"
NO_ANSWER = {"error": "no answer within 8 s"}

FIT = "airflow_database_sslmode and airflow_database_sslrootcert have to fit the server's certificate."
CONFIGURE = "playbooks/airflow.yml playbooks/services.yml"
RESTART = "playbooks/runbooks/restart_airflow.yml -e airflow_component=api-server --limit one"
POLICY = "The role's policy: roles/aws_iam/README.md"
WAY = "boto3 in the virtualenv, AWS_* in airflow_environment, and the way to AWS."
SIGNATURE = ("AWS: AWS refuses the signature: the host's clock or its key is wrong",
             "chronyc tracking on the host; airflow_environment for keys.")


def tls(said):
    line = "one, connection: TLS towards the database fails"
    return refused(SERVER + said), "database_tls", line, [SERVER + said], FIT


def unusable(said, mutate=None):
    return (mutate or refused(said), "database_unreachable", "one, connection: the database can't be used", [said],
            "playbooks/postgresql.yml")


# What happened, what it does to the observations, and all that somebody reads of its cause: which it is, the line, the
# evidence, and what to do. A cause has a row for each place that finds it.
TOLD = {
    "a host is away": (
        away(unreachable=TIMED_OUT), "unreachable", "db, host: can't be reached", [TIMED_OUT],
        "Is it up, and do its security group and SSH key let you in? aws ec2 describe-instance-status, or its "
        "console."),
    "a host wants a password for sudo": (
        away(failed="Task failed: Missing sudo password"), "not_asked", "db, host: could not be asked",
        ["Task failed: Missing sudo password"], "Mend what it says: sudo, Python or the connection."),
    "a network file system is dead": (
        put("disks", NO_ANSWER), "not_asked", "one, disk: can't be asked", [NO_ANSWER["error"]],
        "Is a network file system dead? df on the host."),
    "systemd does not answer": (
        put("units", NO_ANSWER), "not_asked", "one, systemd: can't be asked", [NO_ANSWER["error"]],
        "systemctl is-system-running on the host"),
    "systemd of a host without components does not answer": (
        both(put("units", NO_ANSWER), lambda hosts: hosts["one"].update(components={})), "not_asked",
        "one, systemd: can't be asked", [NO_ANSWER["error"]], "systemctl is-system-running on the host"),
    "the tool of the components is not there": (
        put("drift", {"error": NO_TOOL}), "not_asked",
        "one, files: nobody can tell what the components were started with", [NO_TOOL], CONFIGURE),
    "secrets of two hosts differ": (
        another(put("secrets jwt_secret hash", "another")), "secrets_differ",
        ", secrets: jwt_secret is not the same on all hosts: two differs", [], CONFIGURE),
    "the server has no TLS": tls("server does not support SSL, but SSL was required"),
    "the certificate is of an unknown authority": tls("SSL error: certificate verify failed"),
    "the certificate is of another host": tls(
        'server certificate for "db.internal" does not match host name "db.example.com"'),
    "the file of the authorities is not there": tls(NOT_THERE),
    "the server has an old TLS only": tls("SSL error: ssl/tls alert handshake failure"),
    "the server ends each connection": unusable(SERVER + ENDED),
    "the server ends each connection during TLS": unusable(SERVER + "SSL SYSCALL error: EOF detected"),
    "something else listens at the port": unusable(
        SERVER + "expected authentication request from server, but received H"),
    "the question could not be put": unusable(NO_USER, put("metadata", {"error": NO_USER})),
    "no host has noted the expected schema": (
        put("metadata expected", None), "migration_unknown",
        ", schema: nobody knows whether it is the one that Airflow expects", ["no host has expected-heads.json"],
        CONFIGURE),
    "a component stops": (
        failing("airflow-scheduler", active="deactivating", sub="stop-sigterm", since=240.0), "component_starting",
        "one, airflow-scheduler: stops since 4 min: it waits for its running tasks", [],
        "Wait, or see which tasks run."),
    "a component starts": (
        starting("start-post", restarts=2, started=44.0, said="waiting: refused"),
        "component_starting", "one, airflow-api-server: starts since 44 s", ["its journal: waiting: refused"],
        "Look again in half a minute."),
    "a component has yet to beat": (
        both(young("airflow-triggerer", 44.0), NO_TRIGGERER_BEATS), "component_starting",
        "one, airflow-triggerer: started 44 s ago, no heartbeat yet", [], "Look again in half a minute."),
    "the API server has yet to answer": (
        both(young("airflow-api-server", 44.0), put("answers api-server", REFUSED)), "component_starting",
        f"one, airflow-api-server: does not answer at {HEALTH}: {REFUSED['error']}", [],
        "Look again in half a minute."),
    "nginx has nobody behind it": (
        put("proxy status", 502), "proxy_unwell", "one, nginx: answers 502", [], "playbooks/proxy.yml"),
    "nginx has nobody behind it, as that one is dead": (
        both(put("proxy status", 502), failing("airflow-api-server", active="failed")), "component_stopped",
        "one, airflow-api-server: stopped 15 min ago", [], "playbooks/services.yml"),
    "nginx has nobody behind it, as that one hangs": (
        both(put("proxy status", 502), put("answers api-server", REFUSED)), "api_unwell",
        f"one, airflow-api-server: does not answer at {HEALTH}: {REFUSED['error']}", [], RESTART),
    "nginx runs and does not listen": (
        put("proxy", REFUSED), "proxy_unwell", "one, nginx: does not answer", [REFUSED["error"]],
        "playbooks/proxy.yml"),
    "a host has no role in AWS": (
        aws(error=NO_CREDENTIALS, code="NoCredentials"), "aws", "one, AWS: has no role: no instance profile and no key",
        [NO_CREDENTIALS], "Attach the instance profile of role aws_iam: playbooks/aws/."),
    "the clock is too far off for AWS": (
        aws(error=OLD, code="SignatureDoesNotMatch", operation="GetCallerIdentity"), "aws", "one, " + SIGNATURE[0],
        [OLD], SIGNATURE[1]),
    "a session of AWS has expired": (
        aws(error=EXPIRED, code="ExpiredToken", operation="GetCallerIdentity"), "aws", "one, " + SIGNATURE[0],
        [EXPIRED], SIGNATURE[1]),
    "a key of AWS was deleted": (
        aws(error=INVALID, code="InvalidClientTokenId", operation="GetCallerIdentity"), "aws", "one, " + SIGNATURE[0],
        [INVALID], SIGNATURE[1]),
    "there is no way to AWS": (
        aws(error=NO_WAY, code="EndpointConnectionError"), "aws", "one, AWS: can't be asked", [NO_WAY], WAY),
    "AWS lets the host ask nothing": (
        aws(error=MAY_NOT, code="AccessDenied", operation="SimulatePrincipalPolicy", arn=ARN), "aws",
        "one, AWS: AWS refuses SimulatePrincipalPolicy: AccessDenied", [MAY_NOT, ARN], POLICY),
    "the role in AWS lacks actions": (
        aws(arn=ARN, denied=["s3:PutObject", "s3:GetObject"]), "aws", "one, AWS: may not s3:PutObject, s3:GetObject",
        [ARN], POLICY + ", then playbooks/aws/."),
    "the virtualenv has no boto3": (
        aws(error="No module named 'boto3'"), "aws", "one, AWS: can't be asked", ["No module named 'boto3'"], WAY),
}
# What is similar to one of them, and has another cause.
FAULTS.update({
    "no temporary directory on a host": (
        away(failed="Failed to create temporary directory: No space left on device"), "disk_full",
        "free_disk_space.yml -e airflow_confirm=db"),
    "pg_hba.conf refuses a connection with TLS": (
        refused(SERVER + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "airflow", database "airflow", '
                "SSL encryption"), "database_hba", "postgresql.yml"),
    "the network is lost during TLS": (
        refused(SERVER + "SSL SYSCALL error: Connection timed out"), "database_network", ""),
    "the schema has no version": (put(DB + " heads", {}), "migration_missing", CONFIGURE),
    "the schema that another host has noted is missing": (
        another(put("metadata expected", None), put(DB + " heads alembic_version", ["older"])), "migration_missing",
        CONFIGURE),
    "a component has stopped": (
        failing("airflow-scheduler", active="inactive", sub="dead", since=240.0), "component_stopped", "services.yml"),
    "a component starts for the fourth time": (
        starting("start-post", restarts=3, started=5.0), "component_failing", CONFIGURE),
    "a component waits for its next start": (
        starting("auto-restart", restarts=1, started=5.0), "component_failing", CONFIGURE),
    "a component starts for too long": (starting("start-post", started=45.0), "component_failing", CONFIGURE),
    "a component has had the time to beat": (
        both(young("airflow-triggerer", 45.0), NO_TRIGGERER_BEATS), "component_hung", "airflow_component=triggerer"),
    "the API server has had the time to answer": (
        both(young("airflow-api-server", 45.0), put("answers api-server", REFUSED)), "api_unwell",
        "airflow_component=api-server"),
    "nginx is dead": (both(put("proxy", REFUSED), failing("nginx", active="failed")), "proxy_stopped", "proxy.yml"),
})
# Causes that do not keep Airflow from its work now.
ONLY_WARN |= {"a unit of somebody else has failed", "the tool of the components is not there",
              "no host has noted the expected schema", "a component stops", "a component starts",
              "a component has yet to beat", "the API server has yet to answer"}


def examine(hosts, **more):
    return diagnosis.examine(hosts, EXPECTED, NOW, **more)


def test_a_healthy_inventory_has_no_cause(hosts):
    results = examine(hosts)
    assert [result for result in results if result.status != "OK"] == []
    assert diagnosis.verdict(results) == "OK"
    assert len(results) > 15


@pytest.mark.parametrize("mutate", [
    # Of the job that the component was seen to beat in, Airflow may name the host as it likes.
    put(DB + " jobs 0 hostname", "ip-10-0-0-9"),
    # Nobody in a container can keep the clock; a service that has just started has yet to ask.
    put("clock", {"NTP": "no", "NTPSynchronized": "no"}),
    both(put("clock NTPSynchronized", "no"), put("host uptime", 60.0)),
    # Somebody else's database, with connections left.
    put("server", {}),
    # A release that was just put in place is not parsed yet. A release without a DAG cannot have an active one.
    both(STALE, put("releases placed", 20.0)),
    both(ALL_STALE, put("releases dag_files", 0)),
    put(DB + " stale", []),
    # A host with nginx and PostgreSQL only.
    both(put("drift", {"error": NO_TOOL}), put("units", {"nginx.service": UNIT}),
         lambda hosts: hosts["one"].update(components={})),
])
def test_what_is_no_fault_is_not_called_one(hosts, mutate):
    mutate(hosts)
    assert [result for result in examine(hosts) if result.status != "OK"] == []


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_is_named_first(hosts, name):
    mutate, cause, command = FAULTS[name]
    mutate(hosts)
    results = examine(hosts)
    roots, _consequences = diagnosis.causes(results)
    assert roots, "nothing was found"
    assert roots[0].cause == cause, [(root.cause, root.text) for root in roots]
    assert diagnosis.verdict(results) == ("WARN" if name in ONLY_WARN else "CRITICAL")
    assert command in " ".join(roots[0].mend)
    assert roots[0].mend or roots[0].advice, "somebody has to be told what to do"
    if not command:
        assert not roots[0].mend


@pytest.mark.parametrize("name", TOLD)
def test_a_cause_is_told_with_its_evidence_and_what_to_do(hosts, name):
    mutate, *told = TOLD[name]
    mutate(hosts)
    roots, _consequences = diagnosis.causes(examine(hosts))
    assert [[root.cause, f"{root.host}, {root.what}: {root.text}", [*root.evidence], " ".join(root.mend) + root.advice]
            for root in roots] == [told]
    assert roots[0].status == ("WARN" if name in ONLY_WARN else "CRITICAL")


@pytest.mark.parametrize(("sent", "cause"), [(b"N", "database_tls"), (b"S", "database_unreachable"),
                                             (b"", "database_unreachable"), (b"H", "database_tls")])
def test_what_the_driver_says_of_a_server_without_good_tls_leads_to_a_cause(hosts, tmp_path, sent, cause):
    """The server answers the request for TLS with this, and ends the connection."""
    pytest.importorskip("psycopg2")

    def serve():
        connection, _address = server.accept()
        with connection:
            connection.recv(8)
            connection.sendall(sent)
            # What came in and was not read would reset the connection.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1024):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        url = tmp_path / "url"
        url.write_text(f"postgresql+psycopg2://airflow:x@127.0.0.1:{port}/airflow?sslmode=require", encoding="utf-8")
        put("metadata database", airflow_metadata.ask({"url_file": str(url)}))(hosts)
    (root,), _consequences = diagnosis.causes(examine(hosts))
    assert (root.cause, f'"127.0.0.1", port {port} failed' in root.evidence[0]) == (cause, True)


@pytest.mark.parametrize(("environment", "text", "said"), [
    ({}, "has no role: no instance profile and no key", NO_CREDENTIALS),
    ({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"},
     "can't be asked", 'Could not connect to the endpoint URL: "http://127.0.0.1:1/"'),
    ({"AWS_PROFILE": "gone"}, "can't be asked", "The config profile (gone) could not be found"),
])
def test_what_boto3_says_leads_to_a_cause(hosts, monkeypatch, environment, text, said):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null",
                        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", **environment}.items():
        monkeypatch.setenv(name, value)
    put("metadata aws", airflow_metadata.answered(lambda: airflow_metadata.ask_aws({})))(hosts)
    (root,), _consequences = diagnosis.causes(examine(hosts))
    assert (root.cause, root.text, root.evidence) == ("aws", text, (said,))


@pytest.mark.parametrize(("said", "advice"), [
    ("SSL error: certificate verify failed", FIT),
    (ENDED, "The server is not of this inventory: mend it there, then set airflow_database_* and run "
     "playbooks/airflow.yml and services.yml.")])
def test_a_server_of_somebody_else_is_mended_by_no_playbook(hosts, said, advice):
    refused(SERVER + said)(hosts)
    expected = {**EXPECTED, "database": {**EXPECTED["database"], "external": True}}
    (root,), _consequences = diagnosis.causes(diagnosis.examine(hosts, expected, NOW))
    assert (root.mend, root.advice) == ((), advice)


def test_a_schema_that_nobody_could_read_is_told_after_the_question_without_an_answer(hosts):
    locked = "canceling statement due to lock timeout"
    put(DB + " heads", {"error": locked})(hosts)
    roots, _consequences = diagnosis.causes(examine(hosts))
    assert [(root.cause, root.text, root.evidence) for root in roots] == [
        ("database_slow", "no answer to heads", (locked,)),
        ("migration_unknown", "nobody knows whether it is the one that Airflow expects", (locked,))]


def test_stale_dags_are_named_with_their_runs(hosts):
    STALE(hosts)
    (cause,), _consequences = diagnosis.causes(examine(hosts))
    assert cause.text == "2 DAGs of the release in place are not parsed any more"
    assert cause.evidence == ("report, load", "last parsed 10 min ago", "2 unfinished runs cannot go on")


def test_each_cause_of_the_table_is_found_by_some_test():
    assert {row[1] for row in [*FAULTS.values(), *TOLD.values(), *ABOUT_A_DAG]} == set(diagnosis.CAUSES)


def test_a_cause_explains_only_what_comes_after_it():
    """So that no two explain each other, and none is named first that follows from another."""
    assert not [(cause, other) for cause, others in diagnosis.CAUSES.items()
                for other in others if diagnosis.RANK[other] <= diagnosis.RANK[cause]]


@pytest.mark.parametrize("major", [2, 3])
def test_both_majors_are_judged_by_their_data(hosts, major):
    """All that differs between them is in the data that says which components there are."""
    components = of_major(major)["components"]
    server = "webserver" if major == 2 else "api-server"
    found = hosts["one"]
    found["components"] = components
    found["seen"].update(
        units={
            **{one["unit"] + ".service": dict(UNIT)
               for one in components.values()}, "airflow.target": {**UNIT, "enabled": "enabled"},
            "nginx.service": dict(UNIT)
        },
        answers={
            server: {"status": 200, "body": {"metadatabase": {"status": "healthy"}}}, "scheduler": {"status": 200}
        },
        drift={name: {"due": False, "noted": True, "begun": NOW, "missing": [], "changed": []}
               for name in components})
    assert diagnosis.verdict(examine(hosts)) == "OK"
    found["seen"]["listeners"]["8080"] = ["0.0.0.0"]
    assert diagnosis.causes(examine(hosts))[0][0].cause == "bind_address"
    found["seen"]["listeners"]["8080"] = ["127.0.0.1"]
    for name, component in components.items():
        found["seen"]["units"][component["unit"] + ".service"].update(active="failed")
        assert diagnosis.causes(examine(hosts))[0][0].what == component["unit"], name
        found["seen"]["units"][component["unit"] + ".service"].update(active="active")


def test_what_follows_from_a_dead_database_is_no_cause(hosts):
    DATABASE_GONE(hosts)
    roots, consequences = diagnosis.causes(examine(hosts))
    assert [root.cause for root in roots] == ["database_down"]
    assert {result.what for result in consequences} == {"airflow-api-server", "airflow-scheduler"}


def test_a_full_disk_of_one_host_does_not_explain_another_host():
    hosts = {
        name: {"components": copy.deepcopy(COMPONENTS), "seen": {**seen(name), "server": {}, "proxy": {}}}
        for name in ("one", "two")
    }
    hosts["one"]["seen"]["disks"][1]["free"] = 0
    hosts["two"]["seen"]["units"]["airflow-scheduler.service"].update(active="failed")
    roots, _consequences = diagnosis.causes(examine(hosts))
    assert [root.cause for root in roots][:2] == ["disk_full", "component_stopped"]


@pytest.mark.parametrize(("kind", "cause"), [("fernet_key", "secrets_differ"), ("jwt_secret", "secrets_differ")])
def test_hosts_with_other_secrets_are_named(kind, cause):
    hosts = {
        name: {"components": copy.deepcopy(COMPONENTS), "seen": {**seen(name), "proxy": {}}}
        for name in ("one", "two", "three")
    }
    for host in hosts.values():
        host["seen"]["metadata"]["database"]["jobs"] = jobs(*hosts)
    hosts["two"]["seen"]["secrets"][kind]["hash"] = "another"
    roots, _consequences = diagnosis.causes(examine(hosts))
    assert (roots[0].cause, "two differs" in roots[0].text) == (cause, True)


def test_a_worker_with_another_release_is_named():
    hosts = {name: {"components": {}, "seen": {**seen(name), "proxy": {}}} for name in ("one", "two", "three")}
    for host in hosts.values():
        host["components"] = {"triggerer": COMPONENTS["triggerer"]}
    for host in hosts.values():
        host["seen"]["metadata"]["database"]["jobs"] = jobs(*hosts)
    hosts["three"]["seen"]["releases"].update(dags="a", recorded="a")
    roots, _consequences = diagnosis.causes(examine(hosts))
    assert roots[0].cause == "release_differs"
    assert "a on three" in roots[0].text


def test_an_unreachable_host_is_a_cause_and_explains_a_database_that_was_on_it():
    hosts = {
        "one": {"components": copy.deepcopy(COMPONENTS), "seen": {**seen(), "server": {}}},
        "db": {"components": {}, "unreachable": "ssh: timed out"}
    }
    hosts["one"]["seen"]["metadata"]["database"] = {"refused": "timeout expired"}
    roots, _consequences = diagnosis.causes(examine(hosts))
    assert [root.cause for root in roots][0] == "unreachable"


def test_a_host_whose_every_disk_is_full_is_told_by_ansibles_own_failure(hosts):
    hosts["one"] = {
        "components": {},
        "failed": "FileNotFoundError: [Errno 2] No usable temporary directory found in ['/tmp', '/var/tmp']"
    }
    assert diagnosis.causes(examine(hosts))[0][0].cause == "disk_full"


@pytest.mark.parametrize("question", ["memory", "disks", "units", "answers", "listeners", "drift", "releases", "owners",
                                      "host", "clock", "metadata", "server",
                                      "backup", "watchdog", "failed_units", "settings", "proxy"])
def test_a_question_without_an_answer_stops_nothing(hosts, question):
    hosts["one"]["seen"][question] = {"error": "no answer within 8 s"}
    assert examine(hosts)


def test_an_answer_that_was_long_on_its_way_is_no_wrong_clock(hosts):
    DATABASE_GONE(hosts)
    hosts["one"]["seen"]["host"]["time"] = NOW - 20
    assert diagnosis.causes(examine(hosts))[0][0].cause == "database_down"


@pytest.mark.parametrize(("age", "hangs"), [(3.0, False), (400.0, True)])
@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_another_clock_of_the_database_makes_no_component_well_and_none_hang(hosts, ahead, age, hangs):
    """A component writes its heartbeat by the clock of its host. ahead: seconds that the host is ahead of the database.
    """
    database = hosts["one"]["seen"]["metadata"]["database"]
    database["host_clock"] = NOW + ahead
    for row in database["jobs"]:
        row["seconds"] = 3.0 - ahead
    database["jobs"][2]["seconds"] = age - ahead
    found = [result.what for result in examine(hosts) if result.cause == "component_hung"]
    assert found == (["airflow-triggerer"] if hangs else [])
    assert diagnosis.causes(examine(hosts))[0][0].cause == "clock"


def test_a_component_that_has_just_started_is_given_time(hosts):
    hosts["one"]["seen"]["units"]["airflow-scheduler.service"].update(started=5.0, since=5.0)
    hosts["one"]["seen"]["metadata"]["database"]["jobs"][0]["seconds"] = 60.0
    assert diagnosis.verdict(examine(hosts)) == "WARN"


@pytest.fixture
def asked(hosts):
    """A function: about the DAG `report`, with the rows that the database has of it; returns the first cause."""
    def ask(dag=None, files=("report.py",), ignored=(), task_id="", **rows):
        found = hosts["one"]["seen"]["metadata"]["database"]
        found.update({
            "dag": [dag] if dag else [], "known": [{"dag_id": "reports"}], "dag_runs": [], "dag_tasks": [], "task": [],
            **rows
        })
        hosts["one"]["seen"]["dag_files"] = {"files": list(files), "ignored": list(ignored)}
        roots, _consequences = diagnosis.causes(examine(hosts, dag_id="report", task_id=task_id))
        return roots[0] if roots else None
    return ask


DAG = {
    "dag_id": "report", "paused": False, "active": True, "fileloc": "report.py", "max_active_tasks": 2,
    "max_active_runs": 1, "parsed": 5.0
}

ABOUT_A_DAG = [
    ({"files": []}, "dag_unknown", "reports"),
    ({}, "dag_unknown", "report.py"),
    ({"ignored": [{"file": "report.py", "pattern": "rep.*"}]}, "dag_ignored", "rep.*"),
    (
        {"import_errors": [{"filename": "report.py", "said": "SyntaxError: no", "seconds": 1.0}]},
        "import_error",
        "SyntaxError",
    ),
    ({"dag": {**DAG, "paused": True}}, "dag_paused", "paused"),
    (
        {"dag": DAG, "dag_runs": [{"state": "running", "number": 1}, {"state": "queued", "number": 4}]},
        "dag_limit",
        "max_active_runs is 1",
    ),
    (
        {"dag": DAG, "dag_tasks": [{"state": "running", "number": 2}, {"state": "scheduled", "number": 9}]},
        "dag_limit",
        "max_active_tasks is 2",
    ),
    (
        {"dag": DAG, "task": [{**TASK, "state": "failed", "try_number": 1, "hostname": "one"}], "task_id": "load"},
        "task_state",
        "failed",
    ),
]


@pytest.mark.parametrize(("arguments", "cause", "word"), ABOUT_A_DAG)
def test_a_question_about_a_dag_is_answered_first(asked, arguments, cause, word):
    first = asked(**arguments)
    assert first.cause == cause
    assert word in " ".join([first.text, *first.evidence])


def test_a_dag_that_is_well_has_no_cause(asked):
    assert asked(dag=DAG) is None
