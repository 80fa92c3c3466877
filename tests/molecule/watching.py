"""A watcher of the metadata database and of Airflow's units, and what it saw."""

import contextlib
import itertools
import json
import subprocess
import types

from conftest import ROOT, host_name

# /run is a file system of its own, which docker cp does not see. In it are the samples: a busy disk would hold the
# program up.
WATCHER, SAMPLES = "/root/watch_database", "/run/watch_database.jsonl"


@contextlib.contextmanager
def watching(host):
    """A watcher with a connection of its own, which has started: samples() ends it and returns what it saw, start()
    starts it anew.
    """
    host.check_output(
        "runuser -u postgres -- psql -q -d airflow -c 'DROP ROLE IF EXISTS watcher' -c \"CREATE ROLE watcher LOGIN "
        "PASSWORD 'looks'\" "
        "-c 'GRANT pg_read_all_data, pg_monitor TO watcher'")
    rules = host.check_output("ls /etc/postgresql/*/main/pg_hba.conf")
    subprocess.run(["docker", "cp", ROOT / "tests/molecule/watch_database.py", f"{host_name(host)}:{WATCHER}.py"],
                   check=True,
                   capture_output=True)
    # The system's Python, with the driver of Airflow's: a process of the virtualenv would be waited for.
    packages = host.check_output(
        "/opt/airflow/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))'")

    def start():
        host.check_output(
            f"rm -f {SAMPLES} && systemd-run --quiet --collect --unit watch-database --setenv PYTHONPATH={packages} sh "
            "-c "
            f"'python3 {WATCHER}.py postgresql://watcher:looks@127.0.0.1/airflow {rules} > {SAMPLES}'")
        host.check_output(f"timeout 10 sh -c 'until [ -s {SAMPLES} ]; do sleep 0.1; done'")

    def samples():
        host.check_output("systemctl stop watch-database")
        found = [json.loads(line) for line in host.file(SAMPLES).content_string.splitlines()]
        assert found[-1].pop("ended", False), "the watcher did not watch to the end"
        return found

    start()
    yield types.SimpleNamespace(start=start, samples=samples)
    host.run(
        f"systemctl stop watch-database; sed -i -e '1{{/^# Database /d}}' -e '/\"watcher\"/d' {rules}; "
        "runuser -u postgres -- psql -qc 'SELECT pg_reload_conf()'; runuser -u postgres -- psql -qc 'DROP ROLE "
        "watcher' -d airflow"
    )


def violations(samples):
    """Return the pairs of samples that saw Airflow run, or its sessions, while the database changed."""
    return [
        (one, two)
        for one, two in itertools.pairwise(samples)
        if (one["schema"] != two["schema"] or one["writes"] or two["writes"])
        and any(one[name] or two[name] for name in ("units", "sessions"))
    ]


def changes(samples):
    return sum(one["schema"] != two["schema"] for one, two in itertools.pairwise(samples))


def gaps(samples):
    """Return the seconds between each two samples while Airflow was stopped.

    A sample without an answer of the database has seen nothing.
    """
    seen = [sample for sample in samples if sample["schema"]]
    return [two["at"] - one["at"] for one, two in itertools.pairwise(seen) if not (one["units"] and two["units"])]
