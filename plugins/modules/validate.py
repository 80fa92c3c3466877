#!/usr/bin/python
"""What the validation asks a host, in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate
short_description: Check the input and the hosts of an Airflow installation before anything is changed
version_added: "1.0.0"
author: The project
description:
  - The action plugin of the same name does the checks. With O(stage=input) it runs on the controller only and no host
    is contacted.
    With O(stage=host) it sends this module to the host, which returns what it found, and judges that on the controller.
    With O(stage=role) it judges the variables of one role, on the controller.
  - The module also returns the facts that later plays need, so that they need not be gathered in a round trip of their
    own.
  - Nothing is changed. The values of secrets are in no message and no result.
options:
  stage:
    description: Which checks to do.
    type: str
    required: true
    choices: [input, host, role]
  supported:
    description: Versions and systems that are supported, see C(roles/preflight/vars/main.yml). Used by the action
      plugin.
    type: dict
  owner:
    description: Whose rules to use with O(stage=role), see C(plugins/module_utils/validation/owners.py). Used by the
      action plugin.
    type: str
  message:
    description: The message with O(stage=role). C({problems}) stands for what is wrong. Used by the action plugin.
    type: str
  deferred:
    description: Variables that could not be judged without facts, as returned by O(stage=input). Used by the action
      plugin.
    type: list
    elements: str
    default: []
  probe:
    description: What the action plugin wants to know of the host.
    type: dict
    default: {}
  database_url:
    description:
      - Address of Airflow's database on this host, with the password that the inventory gives. Empty where the
        inventory
        gives none.
      - A whole address, because Ansible hides a secret wherever it occurs in a result, and the password may be a word
        such
        as C(airflow).
    type: str
    default: ""
  index_url:
    description: Package index that the host is to reach, which may hold a password. Empty asks none. O(probe) has how
      it is asked.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: none
    description: Shows no difference.
notes:
  - Naming the process behind a port, where it isn't the user's own, takes root.
"""

EXAMPLES = r"""
- name: Check the controller, the inventory and the variables
  windsock.airflow.validate:
    stage: input
    supported: "{{ __preflight_supported }}"
  run_once: true

- name: Check the host
  windsock.airflow.validate:
    stage: host
    supported: "{{ __preflight_supported }}"

- name: Validate the variables of role logrotate
  windsock.airflow.validate:
    stage: role
    owner: logrotate
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

import base64
import glob
import grp
import http.client
import os
import pwd
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.windsock.airflow.plugins.module_utils.host_facts import facts


def filesystem(path):
    """Free space for the directory, or for its nearest parent that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    stat = os.statvfs(path)
    return {"directory": path, "device": os.stat(path).st_dev, "free_mb": stat.f_bavail * stat.f_frsize // 2**20}


def listeners(ports):
    """Who listens on the TCP ports: {port: [{inode, user}]}."""
    found: dict[int, list[dict[str, Any]]] = {}
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


def group_name(gid):
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def first_line(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            return lines.readline().strip()
    except OSError:
        return ""


def unit(pid):
    """The systemd unit of a process, from its control group: one line in version 2, a line per controller in version 1.
    """
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
    """Which calendar expressions systemd does not know. All of them pass where there is no systemd, which is a problem
    of its own.
    """
    command = module.get_bin_path("systemd-analyze")
    return [
        expression for expression in expressions
        if command and module.run_command([command, "calendar", "--", expression])[0]
    ]


def reach(address):
    """Why a TCP connection fails; empty where it doesn't."""
    try:
        socket.create_connection((address["host"], address["port"]), timeout=address["timeout"]).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def index_problem(url, page, bundle, timeout):
    """Why packages can't be fetched from an index, as the installer would: {kind, said}; empty where they can."""
    parts = urllib.parse.urlsplit(url)
    address = urllib.parse.urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/") + "/{0}/".format(page)))
    request = urllib.request.Request(
        address,
        headers={"User-Agent": "airflow-preflight", "Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"})
    if parts.username is not None:
        login = "{0}:{1}".format(urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))
        # Not where a redirect leads.
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        # Python takes ASCII only, and the comments between the certificates may hold other letters.
        context = ssl.create_default_context(cadata=bundle.encode("ascii", "replace").decode("ascii") or None)
    except (ssl.SSLError, ValueError) as error:
        return {"kind": "bundle", "said": str(error)}
    paths = ssl.get_default_verify_paths()
    if not bundle and not paths.cafile and not (paths.capath and os.listdir(paths.capath)):
        # The host trusts nobody yet, and the installer brings authorities of its own.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open(request, timeout=timeout).close()
    except urllib.error.HTTPError as error:
        # 401 may be answered by a .netrc, which the installer reads.
        netrc = error.code == 401 and parts.username is None and os.path.exists(
            os.path.expanduser(os.environ.get("NETRC", "~/.netrc")))
        return {} if netrc else {"kind": "status", "said": "{0} {1}".format(error.code, error.reason)}
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        kind = "reach"
        if isinstance(reason, ssl.SSLCertVerificationError):
            # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH: no authority helps there.
            kind = "name" if reason.verify_code in (62, 64) else "trust"
        return {
            "kind": kind, "said": getattr(reason, "verify_message", "") or getattr(reason, "strerror", "")
            or str(reason) or type(reason).__name__
        }
    return {}


# ---- an Airflow that this project did not install

# A unit may start it through a shell, so quotes and separators of commands may stand around it.
COMMAND = re.compile(
    r"""(^|[/ "'])airflow["']? (webserver|api-server|api_server|scheduler|dag-processor|triggerer|standalone"""
    r"""|celery|kerberos)([ "';&|)]|$)"""
    r"|\[airflow-webserver\]")
# Names that units of this project have, or had, or that Airflow's own examples have.
UNIT_NAME = re.compile(
    r"airflow(-(webserver|api-server|scheduler|dag-processor|triggerer|worker|celery|celery-worker|flower|kerberos"
    r"|standalone|watchdog|backup|clean-database|groom-logs|component-logs))?"
    r"\.(service|target|timer)$"
)


def head(path):
    """The beginning of a file, where the roles say that they wrote it; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as text:
            return text.read(4000)
    except OSError:
        return ""


def written_by(role, path):
    return re.search("^# Generated by role {0}".format(role), head(path), re.MULTILINE) is not None


# What the unit of a component says of a variable that cannot change on an installed host.
DIRECTIVES = {"User": "airflow_user", "Group": "airflow_group", "WorkingDirectory": "airflow_home"}


def runs_as(wanted, root="/"):
    """User, group and home in the units of our components, and the owners of the files. Empty on a bare host.

    The answer is {variable: {directive, units: [value], files: [owner]}}.
    """
    units: dict[str, set[str]] = {}
    for path in glob.glob(os.path.join(root, "etc/systemd/system/airflow-*.service")) if wanted else []:
        if written_by("airflow_services ", path):
            for directive, value in re.findall("^({0})=(.+)$".format("|".join(DIRECTIVES)), head(path), re.MULTILINE):
                units.setdefault(directive, set()).add(value)
    if not units:
        return {}
    files: dict[str, set[str]] = {"airflow_user": set(), "airflow_group": set()}
    for path in (path for name in ("home", "log_dir") for path in glob.iglob(os.path.join(wanted[name], "*"))):
        try:
            stat = os.lstat(path)
        except OSError:
            # It is gone meanwhile.
            continue
        files["airflow_user"].add(user_name(stat.st_uid))
        files["airflow_group"].add(group_name(stat.st_gid))
    return {
        name: {"directive": directive, "units": sorted(units[directive]), "files": sorted(files.get(name, []))}
        for directive, name in DIRECTIVES.items() if directive in units
    }


def own_airflow(install_dir, root="/"):
    """Whether any version of this project has installed Airflow here: a unit of ours, or our link to a virtualenv."""
    link = os.path.join(install_dir, "venv")
    return (os.path.islink(link) and os.path.basename(os.path.dirname(os.path.realpath(link))) == "venvs") or any(
        written_by("airflow_services ", path) for path in glob.glob(os.path.join(root, "etc/systemd/system/airflow*")))


def own_server(root="/"):
    """Whether this project has configured the PostgreSQL server: its rules or its settings are ours."""
    places = ("etc/postgresql/*/main/pg_hba.conf", "etc/postgresql/*/main/conf.d/*.conf",
              "var/lib/pgsql/data/pg_hba.conf", "var/lib/pgsql/data/ansible.conf")
    block = re.compile("^# BEGIN role postgresql$", re.MULTILINE)
    return any(written_by("postgresql ", path) or block.search(head(path))
               for place in places for path in glob.glob(os.path.join(root, place)))


def foreign_user(wanted):
    try:
        user = pwd.getpwnam(wanted["user"])
    except KeyError:
        return
    if user.pw_dir != wanted["home"] or os.path.basename(user.pw_shell) not in ("nologin", "false"):
        yield "user", "user {0} with home {1} and shell {2}".format(user.pw_name, user.pw_dir, user.pw_shell)


def foreign_units(root="/"):
    """Units that have a name of ours, or run Airflow, and are not ours. A link is the name of another unit, or of none.
    """
    for directory in ("etc/systemd/system", "usr/lib/systemd/system", "run/systemd/system"):
        names = [os.path.join(root, directory, name) for name in ("*.service", "airflow*.target", "airflow*.timer")]
        for path in sorted(path for name in names for path in glob.glob(name)):
            if os.path.islink(path):
                continue
            runs = any(COMMAND.search(line) for line in head(path).splitlines() if line.startswith("ExecStart"))
            if (runs or UNIT_NAME.match(os.path.basename(path))) and not written_by("", path):
                yield "unit", "unit {0}".format(path)


def foreign_processes(proc="/proc"):
    """Processes of Airflow, without their children. Those of a container have a name space of their own."""
    found, parents = {}, {}
    for pid in filter(str.isdigit, os.listdir(proc)):
        try:
            with open(os.path.join(proc, pid, "cmdline"), "rb") as text:
                command = text.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
            here, there = (os.readlink(os.path.join(proc, number, "ns/pid")) for number in ("self", pid))
            if COMMAND.search(command) and here == there:
                with open(os.path.join(proc, pid, "stat"), encoding="utf-8", errors="replace") as text:
                    parents[pid] = text.read().rpartition(")")[2].split()[1]
                found[pid] = (user_name(os.stat(os.path.join(proc, pid)).st_uid), command)
        except OSError:
            # It has ended meanwhile.
            continue
    for pid in sorted(found, key=int):
        if parents[pid] not in found:
            yield "process", "process {0} of user {1}: {2}".format(pid, found[pid][0], found[pid][1][:60].strip())


def foreign_paths(wanted, root="/"):
    """Virtualenvs, configuration and commands of Airflow: where ours go, and in people's homes."""
    homes = sorted({wanted["home"], *glob.glob(os.path.join(root, "home/*")), os.path.join(root, "root")})
    try:
        homes.append(pwd.getpwnam(wanted["user"]).pw_dir)
    except KeyError:
        pass
    virtualenvs = [wanted["install_dir"], os.path.join(wanted["install_dir"], "venv")]
    ours = [wanted["install_dir"], wanted["config_dir"], wanted["home"], os.path.join(root, "usr/local/bin")]
    commands = [os.path.join(path, "bin/airflow") for path in [*virtualenvs, os.path.join(root, "usr/local")]]
    commands += [path for home in homes for path in glob.glob(os.path.join(home, "*/bin/airflow"))]
    configurations = [os.path.join(wanted["config_dir"], "airflow.cfg"), os.path.join(wanted["home"], "airflow.cfg")]
    configurations += [os.path.join(home, name) for home in homes for name in ("airflow.cfg", "airflow/airflow.cfg")]
    for path in dict.fromkeys(commands + configurations):
        if os.path.isfile(path) and not written_by("airflow(_config)? ", path):
            yield "path" if any(path.startswith(place + "/") for place in ours) else "elsewhere", path


def foreign_database(module, wanted, url):
    """Airflow's tables in the database, unless the inventory gives the password of the role that owns it."""
    password = urllib.parse.unquote(urllib.parse.urlsplit(url).password or "")
    runuser, psql = module.get_bin_path("runuser"), module.get_bin_path("psql")
    if not runuser or not psql or not os.path.exists("/var/run/postgresql/.s.PGSQL.{0}".format(wanted["port"])):
        return
    query = ("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
             " AND EXISTS (SELECT FROM pg_class WHERE relname = 'alembic_version' AND relkind = 'r')")
    ask = [psql, "-XAtwq", "--port", str(wanted["port"]), "--dbname", wanted["name"], "--command"]
    _rc, owner, _err = module.run_command([runuser, "-u", "postgres", "--", *ask, query], cwd="/")
    if not owner.strip():
        return
    if password and owner.strip() == wanted["user"]:
        login = ["--host", "127.0.0.1", "--username", wanted["user"]]
        if module.run_command([*ask, "SELECT 1", *login], environ_update={"PGPASSWORD": password}, cwd="/")[0] == 0:
            return
    yield "database", "database {0} of role {1}, with the tables of an Airflow".format(wanted["name"], owner.strip())


def foreign(module, wanted, server, url):
    """What there is of an Airflow that this project did not install: [[kind, text]]. Nothing on a host that is ours."""
    found = []
    if wanted and not own_airflow(wanted["install_dir"]):
        found += [*foreign_user(wanted), *foreign_units(), *foreign_processes(), *foreign_paths(wanted)]
    if server and not own_server() and not (wanted and own_airflow(wanted["install_dir"])):
        found += foreign_database(module, server, url)
    return [list(entry) for entry in found]


def left_units(module, root="/"):
    """Units of this project that run or are enabled. They are found by what they are, as a stop finds them: a host that
    left has no variables of Airflow.
    """
    systemctl, found = module.get_bin_path("systemctl"), []
    for path in sorted(glob.glob(os.path.join(root, "etc/systemd/system/airflow*"))):
        unit_name = os.path.basename(path)
        ours = unit_name.endswith((".service", ".target", ".timer")) and not os.path.islink(path) and written_by(
            "(airflow_services|airflow_backup) ", path)
        if ours and systemctl:
            active, enabled = (module.run_command([systemctl, question, unit_name])[1].strip()
                               for question in ("is-active", "is-enabled"))
            if active not in ("inactive", "failed") or enabled == "enabled":
                found.append(unit_name)
    return found


def ask_index(url, probe):
    """The index is asked only where a virtualenv is to be built, and where nothing of the host's own names another one.
    """
    named = any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"))
    if not url or glob.glob(probe["built"]) or (named and not probe["given"]):
        return {}
    return index_problem(url, probe["page"], probe["bundle"], probe["timeout"])


def main():
    module = AnsibleModule(
        argument_spec=dict(
            stage=dict(type="str", required=True, choices=["input", "host", "role"]),
            supported=dict(type="dict"),
            owner=dict(type="str"),
            message=dict(type="str"),
            deferred=dict(type="list", elements="str", default=[]),
            probe=dict(type="dict", default={}),
            index_url=dict(type="str", default="", no_log=True),
            database_url=dict(type="str", default="", no_log=True),
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
            "filesystems": {path: filesystem(path)
                            for path in probe.get("paths", [])},
            "virtualenv": os.path.basename(os.path.realpath(probe["virtualenv"])) if os.path.exists(
                probe.get("virtualenv", "")) else "",
            "ports": {str(port): entries
                      for port, entries in ports.items()},
            "python": python(module, executable),
            "unknown_times": unknown_times(module, probe.get("times", [])),
            "database": reach(probe["database"]) if probe.get("database") else "",
            "index": ask_index(module.params["index_url"], probe.get("index", {})),
            "runs_as": runs_as(probe.get("airflow")),
            "left": left_units(module) if probe.get("left") else [],
            "foreign": foreign(module, probe.get("airflow"), probe.get("server"), module.params["database_url"]),
            # Last, so that no other answer's time is in it.
            "time": time.time(),
        },
    )


if __name__ == "__main__":
    main()
