"""A watcher of the metadata database and of Airflow's units, and what it saw."""

import contextlib
import itertools
import json
import subprocess
import types

from conftest import ROOT, host_name

# /run is a file system of its own, which docker cp does not see.
WATCHER = "/root/watch_database"


@contextlib.contextmanager
def watching(host):
    """A watcher with a connection of its own, which has started: samples() ends it and returns what it saw, start() starts it anew."""
    host.check_output("runuser -u postgres -- psql -q -d airflow -c 'DROP ROLE IF EXISTS watcher' -c \"CREATE ROLE watcher LOGIN PASSWORD 'looks'\" "
                      "-c 'GRANT pg_read_all_data, pg_monitor TO watcher'")
    # The file lets Airflow's role in, and no other.
    rules = host.check_output("ls /etc/postgresql/*/main/pg_hba.conf")
    host.check_output(f"cp -p {rules} {WATCHER}.rules && sed -i '1i host airflow watcher 127.0.0.1/32 scram-sha-256' {rules} && "
                      "runuser -u postgres -- psql -qc 'SELECT pg_reload_conf()' > /dev/null")
    subprocess.run(["docker", "cp", ROOT / "tests/molecule/watch_database.py", f"{host_name(host)}:{WATCHER}.py"], check=True, capture_output=True)
    # The system's Python, with the driver of Airflow's: a process of the virtualenv would be waited for.
    packages = host.check_output("/opt/airflow/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'")

    def start():
        host.check_output(f"systemd-run --quiet --collect --unit watch-database --setenv PYTHONPATH={packages} sh -c "
                          f"'python3 {WATCHER}.py postgresql://watcher:looks@127.0.0.1/airflow > {WATCHER}.jsonl'")
        host.check_output(f"timeout 10 sh -c 'until [ -s {WATCHER}.jsonl ]; do sleep 0.1; done'")

    def samples():
        host.check_output("systemctl stop watch-database")
        return [json.loads(line) for line in host.file(f"{WATCHER}.jsonl").content_string.splitlines()]

    start()
    yield types.SimpleNamespace(start=start, samples=samples)
    host.run(f"systemctl stop watch-database; cp -p {WATCHER}.rules {rules}; runuser -u postgres -- psql -qc 'SELECT pg_reload_conf()'; "
             "runuser -u postgres -- psql -qc 'DROP ROLE watcher' -d airflow")


def violations(samples):
    """Return the pairs of samples between which the schema changed while Airflow ran or was connected."""
    return [(one, two) for one, two in itertools.pairwise(samples) if one["schema"] != two["schema"]
            and any(one[name] or two[name] for name in ("units", "sessions"))]


def changes(samples):
    return sum(one["schema"] != two["schema"] for one, two in itertools.pairwise(samples))
