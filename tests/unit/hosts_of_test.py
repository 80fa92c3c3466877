"""Run tasks of a role on hosts that are directories of this machine."""

import json
import os
import pathlib
import types

import forks
from shared_variables import FILES

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where a host has what roles find at places that no variable names.
PATHS = {
    "/etc/airflow-of-test": ".",
    "/usr/local/bin/airflow": "command",
    "/etc/systemd/system": "units",
    "/run/airflow-hold.py": "hold.py",
    "/run/airflow-stopped": "stopped-note",
    "/var/lib/airflow-backup": "backups",
    "/var/lib/airflow-archive": "archive",
    "/etc/nginx": "nginx",
    "/usr/local/sbin": "sbin",
    "/var/www": "www",
}
# One for all hosts: a stop or a start of any unit counts for all of them. File "systemctl" has the calls,
# "held" is there while starts are held, and "jobs" has the jobs that the next question finds.
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$HOSTS_OF_TEST/systemctl"
case "$1 $*" in
    is-active*airflow-hold*) [ -e "$HOSTS_OF_TEST/held" ]; exit ;;
    stop*airflow-hold*) rm -f "$HOSTS_OF_TEST/held"; exit ;;
esac
case "$1" in
    is-active) if [ -e "$HOSTS_OF_TEST/stopped" ]; then echo inactive; exit 3; else echo active; fi ;;
    stop) touch "$HOSTS_OF_TEST/stopped" ;;
    start) rm -f "$HOSTS_OF_TEST/stopped" ;;
    list-jobs) [ ! -e "$HOSTS_OF_TEST/jobs" ] || { cat "$HOSTS_OF_TEST/jobs"; rm "$HOSTS_OF_TEST/jobs"; } ;;
    show) echo LoadState=loaded; echo ActiveState=inactive ;;
esac
"""
# Of the one unit that has no file. A test may have it fail.
SYSTEMD_RUN = """#!/bin/sh
echo "systemd-run $@" >> "$HOSTS_OF_TEST/systemctl"
[ ! -e "$HOSTS_OF_TEST/no-hold" ] || exit 1
touch "$HOSTS_OF_TEST/held"
"""
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def systemctl(directory):
    """Give the hosts in this directory a systemctl, and what runs a unit without a file."""
    for name, text in {
            "systemctl": SYSTEMCTL, "systemd-run": SYSTEMD_RUN, "journalctl": "#!/bin/sh\necho why it failed\n"
    }.items():
        path = directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def play(directory, hosts, tasks, variables, limit="", check=False, **groups):
    """Return how ansible-playbook ended. Host "gone" refuses connections. A group that is not given has all hosts."""
    inventory, playbook = directory / "hosts.json", directory / "play.yml"
    variables = {
        "airflow_user": "root",
        "airflow_group": "root",
        "airflow_secure_logging": False,
        "airflow_site_id": "",
        **variables,
    }
    inventory.write_text(
        json.dumps(
            {
                "airflow": {
                    "hosts": {host: AWAY if host == "gone" else {} for host in hosts},
                    "vars": {
                        "ansible_connection": "below",
                        "ansible_become": False,
                    },
                },
                "airflow_dag_processor": {"hosts": dict.fromkeys(groups.get("airflow_dag_processor", hosts), {})},
                "airflow_scheduler": {"hosts": dict.fromkeys(groups.get("airflow_scheduler", hosts), {})},
            }
        ),
        encoding="utf-8",
    )
    common = [
        {"ansible.builtin.include_vars": str(path)} for path in FILES
    ]
    playbook.write_text(
        json.dumps(
            [
                {
                    "hosts": "airflow",
                    "gather_facts": False,
                    "any_errors_fatal": True,
                    "tasks": [*common, {"ansible.builtin.set_fact": variables}, *tasks],
                }
            ]
        ),
        encoding="utf-8",
    )
    done = forks.run(
        [
            "ansible-playbook", "-i", inventory, playbook, *(["--limit", limit] if limit else []),
            *(["--check"] if check else [])
        ],
        cwd=ROOT,
        env={
            "PATH": f"{directory}/bin:{os.environ['PATH']}",
            "HOME": str(directory),
            "HOSTS_OF_TEST": str(directory),
            "PATHS_OF_TEST": json.dumps(PATHS),
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "tests/unit/connection_plugins"),
            "ANSIBLE_SSH_ARGS": "",
        },
    )
    output = done.stdout + done.stderr
    return types.SimpleNamespace(rc=done.returncode, output=output, text=" ".join(output.split()))
