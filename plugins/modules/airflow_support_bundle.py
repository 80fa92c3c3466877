#!/usr/bin/python
# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""Collect what somebody needs who is to help from afar, without a secret."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: airflow_support_bundle
short_description: Collect versions, states, logs and configuration of an Airflow host, without its secrets
version_added: 1.0.0
description:
  - Makes one archive on the host, readable by root only, in memory (F(/run)), so that a full disk does not hinder it.
  - What the host holds as a secret is taken out wherever it stands, also URL-quoted or in base64, and so are the values
    of settings whose names tell.
  - Of the metadata database it has sizes, counts and the state of the server, and the errors of DAG files; neither
    connections nor variables nor XComs.
  - No part that fails or hangs keeps the others from being collected.
options:
  config_dir:
    description: Directory of the configuration.
    type: path
    default: /etc/airflow
  install_dir:
    description: Directory of virtualenvs and DAG releases.
    type: path
    default: /opt/airflow
  home:
    description: AIRFLOW_HOME.
    type: path
    default: /var/lib/airflow
  log_dir:
    description: Directory of the logs.
    type: path
    default: /var/log/airflow
  lines:
    description: Lines of the journal for each unit.
    type: int
    default: 2000
  program:
    description:
      - The program that asks the metadata database, from filter P(windsock.airflow.airflow_runtime_program#filter). It
        is not that of the host, which may be of another version, or absent.
    type: str
    required: true
  timeout:
    description: Seconds that each part may take.
    type: int
    default: 15
attributes:
  check_mode:
    support: full
    description: The archive is made and left to the caller to fetch and to remove, in check mode too. Nothing else is
      written.
  diff_mode:
    support: none
    description: Shows no difference.
author:
  - The Windsock contributors
"""

EXAMPLES = r"""
- name: Collect
  windsock.airflow.airflow_support_bundle:
    lines: 500
    program: "{{ 'support_bundle' | windsock.airflow.airflow_runtime_program('/opt/airflow/libexec/airflow_runtime') }}"
  register: result
"""

RETURN = r"""
path:
  description: The archive on the host.
  returned: always
  type: str
members:
  description: What is in it.
  returned: always
  type: list
  elements: str
incomplete:
  description: Members that could not be collected.
  returned: always
  type: list
  elements: str
"""

import io
import json
import os
import socket
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.airflow_redact import (
    Redaction,
    read,
    values_in_database,
    values_of,
)

# Patterns for systemctl. The quotes keep the shell from replacing them with files of its working directory, which is
# the login's home.
UNITS = "'airflow*' 'postgresql*' 'pgbouncer*' 'redis*' 'nginx*' 'amazon-cloudwatch-agent*' 'logrotate*'"


def in_virtualenv(args: dict, *question: str) -> str:
    """Return the shell command that asks module support_bundle of airflow_runtime, as Airflow's components run."""
    return (f"set -a; . {args['config_dir']}/environment; set +a; "
            f"{args['install_dir']}/venv/bin/python - {' '.join(question)} <<'PROGRAM'\n{args['program']}PROGRAM")


def commands(args: dict) -> dict:
    """Return {member: shell command}."""
    install = args["install_dir"]
    return {
        "system/host.txt": "cat /etc/os-release; uname -a; uptime; date -u; timedatectl 2>/dev/null; free -m; head "
                           "/proc/pressure/* 2>/dev/null",
        "system/disk.txt": "df -hT; df -hi; "
        f"timeout 8 du -xhd2 {install} {args['home']} {args['log_dir']} /var/lib/postgresql /var/log/journal 2>&- | "
        "sort -rh | head -60",
        "system/network.txt": "ss -Htlnp; echo; ss -s; echo; ip -brief address; cat /etc/resolv.conf",
        "system/processes.txt": "ps -eo pid,ppid,user,stat,etime,time,rss,args --sort=-rss | head -150",
        "system/kernel.txt": "journalctl --no-pager --quiet -k -p warning -n 300 -o short-iso",
        "units/list.txt": f"systemctl --no-pager --plain list-units --all {UNITS}; systemctl --no-pager list-timers "
                          "--all; systemctl --no-pager --failed",
        "units/status.txt": f"systemctl --no-pager --full --lines 20 status {UNITS}",
        "units/files.txt": "systemctl --no-pager cat 'airflow*'",
        "units/restarts.txt": "systemctl show 'airflow*' "
                              "--property=Id,NRestarts,ActiveEnterTimestamp,Result,ExecMainStatus,MemoryCurrent,TasksCurrent",
        "airflow/health.txt": f"{install}/venv/bin/python {install}/libexec/airflow_runtime/run.py components health",
        "airflow/packages.txt": in_virtualenv(args, "packages"),
        "airflow/releases.txt": f"ls -l {install} {install}/venvs {install}/dags {install}/dags/releases; cat "
                                f"{install}/dags/current/REVISION; "
        f"tail -n 50 {install}/dags/history; head -n 2 {install}/venv/release.json",
        "airflow/database.txt": in_virtualenv(args, "database", args["config_dir"]),
        "airflow/watchdog.txt": "tail -n 50 /var/lib/airflow-watchdog/restarts.jsonl",
        "airflow/backup.txt": "cat /var/lib/airflow-backup/last_success.json",
    }


def journals(args: dict) -> dict:
    """Return {member: shell command} of the logs of all units that there are."""
    listed = run(f"systemctl --plain --no-legend list-units --all --type service {UNITS} | awk '{{print $1}}'",
                 args["timeout"])[0]
    return {
        f"journal/{unit}.log": f"journalctl --no-pager --quiet -o short-iso -n {args['lines']} -u {unit}"
        for unit in listed.split()
    }


def configuration(args: dict, redaction: Redaction) -> dict:
    """Return {member: text} of the configuration."""
    found = {}
    for name in ("airflow.cfg", "environment", "components.json", "sign_in.json", "webserver_config.py"):
        text = read(os.path.join(args["config_dir"], name))
        if text:
            # A site's own file may hold whatever it likes.
            ours = name != "webserver_config.py" or "Generated by role airflow" in text
            found[f"config/{name}"] = redaction.settings(
                text) if ours else "Left out: it is the site's own (airflow_webserver_config_file).\n"
    for path in ("/etc/nginx/conf.d/airflow.conf", "/etc/logrotate.d/airflow"):
        if os.path.exists(path):
            found[f"config/{os.path.basename(os.path.dirname(path))}-{os.path.basename(path)}"] = redaction.settings(
                read(path))
    return found


def run(command: str, timeout: int) -> tuple:
    """Return (output, whether it could be had)."""
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0", "COLUMNS": "200"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not collected: {type(error).__name__} after {timeout} s\n", False
    text = done.stdout.decode(errors="replace")
    # A command that says no without a word has nothing to say.
    return text, done.returncode == 0 or bool(text.strip())


def secrets_of_database(args: dict) -> set:
    """Return the secrets that connections and variables hold; none where the database can't be asked, which then isn't
    in the bundle either.
    """
    text, _well = run(in_virtualenv(args, "secrets", args["config_dir"]), args["timeout"])
    try:
        return values_in_database(json.loads(text))
    except ValueError:
        return set()


def pack(members: dict, path: str) -> None:
    """Write the archive, for root only from its first moment on."""
    now, top = time.time(), os.path.basename(path)[: -len(".tar.gz")]
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600),
                   "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in sorted(members.items()):
            content = text.encode()
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), now, 0o600
            archive.addfile(entry, io.BytesIO(content))


def collect(args: dict) -> tuple:
    """Return ({member: text}, members that failed)."""
    config = args["config_dir"]
    of_files = values_of(os.path.join(config, "secrets"),
                         *(os.path.join(config, name) for name in ("airflow.cfg", "environment")))
    redaction = Redaction(of_files | secrets_of_database(args))
    wanted = {**commands(args), **journals(args)}
    with ThreadPoolExecutor(4) as threads:
        results = dict(zip(wanted, threads.map(lambda command: run(command, args["timeout"]), wanted.values())))
    # Units and files of a unit have settings; all else is text.
    members = {
        name: (redaction.settings if name == "units/files.txt" else redaction.text)(text)
        for name, (text, _well) in results.items()
    }
    members.update(configuration(args, redaction))
    failed = sorted(name for name, (_text, well) in results.items() if not well)
    members["README.txt"] = (
        f"Support bundle of {socket.getfqdn()}, {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}.\n"
        "Secrets that the host holds are replaced by <hidden>, in every file. Names of DAGs, tasks and hosts, and what "
        "components log, are as they are:\n"
        "look through it before you give it to a stranger.\n"
        f"Not collected: {', '.join(failed) or 'nothing is missing'}\n")
    return members, failed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "config_dir": {"type": "path", "default": "/etc/airflow"},
            "install_dir": {"type": "path", "default": "/opt/airflow"},
            "home": {"type": "path", "default": "/var/lib/airflow"},
            "log_dir": {"type": "path", "default": "/var/log/airflow"},
            "lines": {"type": "int", "default": 2000},
            "program": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    members, failed = collect(module.params)
    # Nothing of it lies on the disk, which may be what is full.
    directory = tempfile.mkdtemp(prefix="airflow-support-", dir="/run" if os.access("/run", os.W_OK) else None)
    path = os.path.join(directory, time.strftime("%Y%m%dT%H%M%SZ.tar.gz", time.gmtime()))
    pack(members, path)
    module.exit_json(changed=False, path=path, members=sorted(members), incomplete=failed)


if __name__ == "__main__":
    main()
