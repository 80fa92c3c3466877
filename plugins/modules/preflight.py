#!/usr/bin/python
"""What role preflight asks a host, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check the input and the hosts of an Airflow installation before anything is changed
version_added: "1.0.0"
author: The project
description:
  - The action plugin of the same name does the checks. With O(stage=input) it runs on the controller only and no host is contacted.
    With O(stage=host) it sends this module to the host, which returns what it found, and judges that on the controller.
  - The module also returns the facts that later plays need, so that they need not be gathered in a round trip of their own.
  - Nothing is changed. The values of secrets are in no message and no result.
options:
  stage:
    description: Which checks to do.
    type: str
    required: true
    choices: [input, host]
  repository:
    description: Directory of this repository on the controller. Used by the action plugin.
    type: path
  rules:
    description: Data that the input is judged by, see C(roles/preflight/vars/main.yml). Used by the action plugin.
    type: dict
  deferred:
    description: Variables that could not be judged without facts, as returned by O(stage=input). Used by the action plugin.
    type: list
    elements: str
    default: []
  probe:
    description: What the action plugin wants to know of the host.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
notes:
  - Naming the process behind a port, where it isn't the user's own, takes root.
"""

EXAMPLES = r"""
- name: Check the controller, the inventory and the variables
  preflight:
    stage: input
    repository: "{{ role_path | dirname | dirname }}"
    rules: "{{ __preflight_rules }}"
  run_once: true

- name: Check the host
  preflight:
    stage: host
    repository: "{{ role_path | dirname | dirname }}"
    rules: "{{ __preflight_rules }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts about the system, its Python, cores and memory.
  returned: with O(stage=host)
  type: dict
deferred:
  description: Variables that could not be judged without facts.
  returned: with O(stage=input)
  type: list
  elements: str
"""

import glob
import os
import pwd
import socket
import sys
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.host_facts import facts


def filesystem(path):
    """Free space for the directory, or for its nearest parent that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    stat = os.statvfs(path)
    return {"directory": path, "device": os.stat(path).st_dev, "free_mb": stat.f_bavail * stat.f_frsize // 2**20}


def listeners(ports):
    """Who listens on the TCP ports: {port: [{inode, user}]}."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                next(lines)
                for line in lines:
                    fields = line.split()
                    port = int(fields[1].rpartition(":")[2], 16)
                    if fields[3] == "0A" and port in ports:
                        found.setdefault(port, []).append({"inode": fields[9], "user": user_name(int(fields[7]))})
        except FileNotFoundError:
            # No IPv6.
            pass
    return found


def user_name(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def first_line(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            return lines.readline().strip()
    except OSError:
        return ""


def unit(pid):
    """The systemd unit of a process, from its control group: one line in version 2, a line per controller in version 1."""
    try:
        with open("/proc/{0}/cgroup".format(pid), encoding="utf-8", errors="replace") as lines:
            parts = [part for line in lines for part in line.strip().split("/")]
    except OSError:
        return ""
    return next((part for part in reversed(parts) if part.endswith((".service", ".scope"))), "")


def name_processes(found):
    """Adds process, pid and unit to the listeners. Walks over all processes, so only where a port is taken."""
    wanted = {"socket:[{0}]".format(entry["inode"]): entry for entries in found.values() for entry in entries}
    if not wanted:
        return
    for descriptor in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            entry = wanted.get(os.readlink(descriptor))
        except OSError:
            continue
        if entry is not None and "pid" not in entry:
            pid = descriptor.split("/")[2]
            entry.update(pid=int(pid), process=first_line("/proc/{0}/comm".format(pid)), unit=unit(pid))
            if all("pid" in entry for entry in wanted.values()):
                return


def python(module, path):
    """Version of the Python at this path, and whether it can make virtualenvs."""
    if os.path.realpath(path) == os.path.realpath(sys.executable):
        return {"path": path, "exists": True, "version": list(sys.version_info[:2])}
    if not os.access(path, os.X_OK):
        return {"path": path, "exists": False}
    rc, out, err = module.run_command([path, "-c", "import sys; print(*sys.version_info[:2]); import ensurepip, venv"])
    return {
        "path": path,
        "exists": True,
        "version": [int(part) for part in out.split()],
        "error": (err.strip().splitlines() or ["exit code %d" % rc])[-1] if rc else "",
    }


def unknown_times(module, expressions):
    """Which calendar expressions systemd does not know. All of them pass where there is no systemd, which is a problem of its own."""
    command = module.get_bin_path("systemd-analyze")
    return [expression for expression in expressions if command and module.run_command([command, "calendar", "--", expression])[0]]


def reach(address):
    """Why a TCP connection fails; empty where it doesn't."""
    try:
        socket.create_connection((address["host"], address["port"]), timeout=address["timeout"]).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def main():
    module = AnsibleModule(
        argument_spec=dict(
            stage=dict(type="str", required=True, choices=["input", "host"]),
            repository=dict(type="path"),
            rules=dict(type="dict"),
            deferred=dict(type="list", elements="str", default=[]),
            probe=dict(type="dict", default={}),
        ),
        supports_check_mode=True,
    )
    probe = module.params["probe"]
    found = facts(module)
    ports = listeners(set(probe.get("ports", [])))
    name_processes(ports)
    pythons = probe.get("pythons", {})
    executable = probe.get("python") or pythons.get(found["ansible_os_family"], sys.executable)
    module.exit_json(
        changed=False,
        ansible_facts=found,
        found={
            "init": first_line("/proc/1/comm"),
            "filesystems": {path: filesystem(path) for path in probe.get("paths", [])},
            "virtualenv": os.path.basename(os.path.realpath(probe["virtualenv"])) if os.path.exists(probe.get("virtualenv", "")) else "",
            "ports": {str(port): entries for port, entries in ports.items()},
            "python": python(module, executable),
            "unknown_times": unknown_times(module, probe.get("times", [])),
            "database": reach(probe["database"]) if probe.get("database") else "",
            "time": time.time(),
        },
    )


if __name__ == "__main__":
    main()
