"""Finds the way from a browser on the controller to Airflow's UI, and checks that Airflow keeps the browser on that
way.

With state=planned, the action asks no host. It returns the command of the tunnel (none if the UI needs no tunnel) and
the address of the UI. With state=answered, it waits until the tunnel answers. It fails if Airflow would send the
browser, and the password, somewhere else.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import signal
import socket
import ssl
import subprocess
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Seconds for the connection to the host, including jump hosts.
PATIENCE = 60


class Site(NamedTuple):
    """What the variables say about the UI."""

    major: int
    base_url: str
    # Where the API server or nginx listens, seen from the host.
    address: str
    port: int
    # Whether nginx with TLS is in front of Airflow.
    proxied: bool
    # Name of the OAuth provider through which people sign in, or "".
    provider: str

    @property
    def url(self):
        return urlsplit(self.base_url)

    @property
    def url_port(self):
        return self.url.port or DEFAULT_PORTS[self.url.scheme]


class Way(NamedTuple):
    """How the controller reaches the port of the host."""

    command: list
    # Address on the controller that leads to the port.
    host: str
    port: int
    # Why the command cannot run in the background, or "".
    foreground: str = ""


# ---- the address in the browser --------------------------------------------------------------------------------------


def default_port(site):
    """Port of the controller for the tunnel, if the user names none."""
    if site.proxied:
        return site.url_port if site.url_port >= 1024 else 8443
    if site.base_url and site.url.hostname in LOOPBACK:
        return site.url_port
    return site.port


def browser(site, way):
    """The command that starts a browser in which the name of the site leads to the tunnel. Chrome and Edge have the
    same options.
    """
    return (
        'chromium --user-data-dir="$(mktemp -d)" --no-proxy-server ' +
        shlex.join([f"--host-resolver-rules=MAP {site.url.hostname} {bracketed(way.host)}:{way.port}", site.base_url]))


def opening(site, way):
    """(address of the UI, command of a browser or ""). An AnsibleError says why the UI cannot work on this way."""
    there = f"http://localhost:{way.port}"
    if site.proxied:
        return site.base_url, browser(site, way)
    # Airflow 2 answers under every name. Airflow 3 sends each browser to its base_url.
    if not site.base_url or site.major == 2:
        return there, ""
    if site.url.scheme == "https":
        raise AnsibleError(
            "Nobody can sign in to this Airflow through a tunnel. Airflow 3 sends each browser that signs in to "
            "airflow_api_base_url, which is"
            f" {site.base_url}, and the host itself does not speak TLS, because it is not in group airflow_proxy. Open "
            f"{site.base_url} instead."
        )
    if site.url.hostname not in LOOPBACK:
        return site.base_url, browser(site, way)
    if site.url_port != way.port:
        raise AnsibleError(
            f"The UI would be on port {way.port} of this machine, but Airflow 3 sends each browser that signs in to "
            "airflow_api_base_url, which is"
            f" {site.base_url}. Another program may answer there. Valid is port {site.url_port} (for a tunnel: -e "
            f"airflow_local_port={site.url_port}). To use"
            ' any port, set airflow_api_base_url: "" and run site.yml.')
    return site.base_url, ""


# ---- the tunnel ------------------------------------------------------------------------------------------------------


def bracketed(address):
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def over_ssh(option, site, local_port):
    """Forward a port with exactly those options with which Ansible's connection plugin ssh reaches the host."""
    command = [option("ssh_executable"), *shlex.split(option("ssh_args") or "")]
    if option("host_key_checking") is False:
        command += ["-o", "StrictHostKeyChecking=no"]
    if option("port"):
        command += ["-o", f"Port={option('port')}"]
    if option("private_key_file"):
        command += ["-o", f'IdentityFile="{os.path.expanduser(option("private_key_file"))}"']
    if option("remote_user"):
        command += ["-o", f'User="{option("remote_user")}"']
    if option("pkcs11_provider"):
        command += ["-o", f"PKCS11Provider={option('pkcs11_provider')}"]
    command += ["-o", f"ConnectTimeout={option('timeout')}"]
    for name in ("ssh_common_args", "ssh_extra_args"):
        command += shlex.split(option(name) or "")
    # A connection of its own: a forwarding in a shared connection would outlive this command. Of several -S, ssh takes
    # the last.
    command += [
        "-S", "none", "-N", "-o", "ExitOnForwardFailure=yes", "-L",
        f"localhost:{local_port}:{bracketed(site.address)}:{site.port}",
        option("host")
    ]
    secrets = [name for name in ("password", "private_key", "private_key_passphrase") if option(name)]
    return Way(
        command, "127.0.0.1", local_port,
        f"Ansible takes the {secrets[0].replace('_', ' ')} of the SSH login from a variable, and the command in the "
        "background cannot ask for it."
        if secrets else "")


def over_ssm(option, site, local_port):
    """Forward a port through AWS Systems Manager."""
    document, parameters = "AWS-StartPortForwardingSession", f"portNumber={site.port},localPortNumber={local_port}"
    if site.address != "127.0.0.1":
        document, parameters = f"{document}ToRemoteHost", f"host={site.address},{parameters}"
    command = [
        "aws", "ssm", "start-session", "--target",
        option("instance_id"), "--document-name", document, "--parameters", parameters
    ]
    for name in ("region", "profile"):
        if option(name):
            command += [f"--{name}", option(name)]
    return Way(command, "127.0.0.1", local_port)


def of_container(option, site):
    """A container has no tunnel. Docker publishes its port on the controller, or nothing leads to it."""
    name = option("remote_addr")
    asked = subprocess.run(["docker", "port", name, f"{site.port}/tcp"], capture_output=True, text=True, check=False)
    found = next((line.rsplit(":", 1) for line in asked.stdout.split() if ":" in line), None)
    if not found:
        raise AnsibleError(
            f"{name} is a container, to which no tunnel leads, and Docker does not publish its port {site.port} on "
            "this machine"
            f" ({asked.stderr.strip() or 'docker port shows nothing'}). Start the container with --publish "
            f"127.0.0.1:<port>:{site.port}, and set"
            ' airflow_api_host: 0.0.0.0 for it. bin/sandbox does both.')
    return Way([], found[0].strip("[]").replace("0.0.0.0", "127.0.0.1") or "127.0.0.1", int(found[1]))


def way_to(connection, site, local_port):
    """The way to the port, according to the connection plugin with which Ansible reaches the host."""
    kind = connection.transport.rsplit(".", 1)[-1]
    if kind == "ssh":
        return over_ssh(connection.get_option, site, local_port)
    if kind == "aws_ssm":
        return over_ssm(connection.get_option, site, local_port)
    if kind in ("docker", "docker_api"):
        return of_container(connection.get_option, site)
    if kind == "local":
        return Way([], site.address, site.port)
    raise AnsibleError(
        f"ansible_connection is {connection.transport}, through which this runbook cannot forward a port. Valid are "
        "ssh, amazon.aws.aws_ssm, local and"
        f" community.docker.docker. With another one, forward a port of this machine to {site.address}, port "
        f"{site.port}, of the host yourself."
    )


def said(site, way, url, start, minutes):
    """What the user reads."""
    if way.command:
        lines = [f"The tunnel: {shlex.join(way.command)}"]
    else:
        lines = [f"No tunnel is needed: {way.host}, port {way.port}, of this machine leads to the UI."]
        if way.host == site.address and way.port == site.port and not site.proxied:
            lines.append(
                f"Is your browser on another machine? Run there: ssh -N -L {way.port}:127.0.0.1:{way.port} "
                "<login>@<this machine>"
            )
    if start:
        lines += [
            f"The browser: {start}",
            f"Airflow knows itself as {site.base_url} only. Nobody can sign in at localhost; start the browser with "
            "this command (Chrome and Edge"
            f" have the same options). It warns if the certificate is self-signed."
        ]
        if way.command:
            lines.append(
                f"Another browser needs the line '127.0.0.1 {site.url.hostname}' in this machine's hosts file and"
                f" -e airflow_local_port={site.url_port}. Remove the line afterwards.")
    else:
        lines.append(f"The UI: {url}")
        if site.provider:
            lines.append(f"People sign in through {site.provider}, which must know this redirect URI:"
                         f" {url}{'/auth' if site.major == 3 else ''}/oauth-authorized/{site.provider}")
    if way.command and not minutes:
        lines.append(
            "This run starts nothing. Run the command of the tunnel yourself, or add -e airflow_open=true. The latter "
            "also checks that Airflow keeps"
            f" the browser on port {way.port}.")
    return lines


# ---- the check -------------------------------------------------------------------------------------------------------


def listens(port):
    """Whether something listens on the port, on any of the two addresses that browsers take for localhost."""
    for address in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), timeout=2).close()
            return True
    return False


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def origin(url):
    return url.scheme, url.hostname, url.port or DEFAULT_PORTS.get(url.scheme)


def ask(site, way, url, path):
    """(status, headers) of the UI through the tunnel, asked as a browser under this address does. It sends no password.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        # Whether the certificate is trusted, the browser tells. No secret is sent here.
        context = ssl._create_unverified_context()
        sock: socket.socket = context.wrap_socket(
            socket.create_connection((way.host, way.port), timeout=30), server_hostname=parts.hostname)
    else:
        sock = socket.create_connection((way.host, way.port), timeout=30)
    asking = http.client.HTTPConnection(parts.hostname, timeout=30)
    asking.sock = sock
    try:
        asking.request("GET", path, headers={"Host": parts.netloc})
        answer = asking.getresponse()
        return answer.status, answer.headers
    finally:
        asking.close()


def check(site, way, url):
    """Follow Airflow to its form for the password. Raise an AnsibleError if Airflow leads to another address."""
    here = path = "/api/v2/auth/login" if site.major == 3 else "/home"
    for _hop in range(5):
        try:
            status, headers = ask(site, way, url, path)
        except (OSError, http.client.HTTPException) as error:
            raise AnsibleError(
                f"The way to the host is open, but nothing answers at {site.address}, port {site.port}, of the host "
                f"({error or type(error).__name__}). Is"
                f" {'nginx' if site.proxied else 'the API server'} running? playbooks/runbooks/check_health.yml tells."
            ) from error
        if status not in (301, 302, 303, 307, 308):
            break
        target = urlsplit(headers["Location"])
        if target.netloc and origin(target) != origin(urlsplit(url)):
            raise AnsibleError(
                f"Do not sign in: Airflow sends the browser from {url} to {target.scheme}://{target.netloc}, where "
                "another program may answer. Either"
                " this Airflow was installed before airflow_api_base_url had its present value (run site.yml), or "
                "airflow_config sets another base_url."
            )
        path = target._replace(scheme="", netloc="").geturl() or "/"
    if status != 200:
        raise AnsibleError(
            f"{here} of the UI answers with status {status}, not with a form. playbooks/runbooks/check_health.yml "
            "tells more."
        )
    if urlsplit(url).scheme == "http" and any("secure" in line.lower().split("; ")
                                              for line in headers.get_all("Set-Cookie") or []):
        raise AnsibleError(
            "Do not sign in: Airflow marks its cookie as Secure (option cookie_secure in airflow_config), so not "
            f"every browser sends it to {url}. Open"
            f" {site.base_url or 'the address that ends TLS'} instead.")


def ping(host):
    """The command that asks the host through Ansible, with the inventory of this run."""
    inventory = [word for path in context.CLIARGS.get("inventory") or () for word in ("-i", path)]
    return shlex.join(["ansible", *inventory, host, "-m", "ping"])


def wait(site, way, url, pid_file, log, host):
    """Wait until the tunnel answers, then check. Return the process of the tunnel with what went wrong, or with ""."""
    program = os.path.basename(way.command[0])
    advice = (
        "docs/aws.md says what it needs: the command aws with its session-manager-plugin, and credentials that may "
        "start a session."
        if program == "aws" else "Its options are those with which Ansible reaches the host. "
        f"Find out whether Ansible itself reaches it: {ping(host)}")
    pid, why, end = None, "", time.monotonic() + PATIENCE
    while not (pid and listens(way.port)):
        # It is there as soon as the process has begun.
        with contextlib.suppress(FileNotFoundError, ValueError), open(pid_file, encoding="utf-8") as file:
            pid = int(file.read())
        if pid and not lives(pid):
            why = f"{program} ended before the tunnel was open"
        elif time.monotonic() > end:
            why = f"{program} opened no tunnel in {PATIENCE} seconds"
        if why:
            with open(log, encoding="utf-8", errors="replace") as file:
                words = " ".join(file.read().split())[-2000:]
            return pid, f"{why}. {program} said: {words or 'nothing'}. {advice}"
        time.sleep(0.2)
    try:
        check(site, way, url)
    except AnsibleError as error:
        return pid, str(error)
    return pid, ""


def show(lines):
    """Past the callback, which would fold the lines: people copy the commands."""
    Display().display("\n" + "\n".join(lines) + "\n")


class ActionModule(ActionBase):
    """The action."""

    _supports_check_mode = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("state", "major", "base_url", "address", "port", "proxied", "provider", "local_port",
                             "minutes", "pid_file", "log", "plan"))

    def run(self, tmp=None, task_vars=None):
        """Plan the way or check it."""
        result = super().run(tmp, task_vars)
        result["changed"] = False
        args = self._task.args
        site = Site(int(args["major"]),
                    args.get("base_url") or "", args["address"], int(args["port"]), bool(args["proxied"]),
                    args.get("provider") or "")
        if args["state"] == "planned":
            result.update(self.planned(site, str(args.get("local_port") or ""), str(args.get("minutes") or "")))
            show(result["said"])
            return result
        plan = args["plan"]
        pid, why = wait(site, Way(plan["command"], plan["host"], plan["port"]), plan["url"], args["pid_file"],
                        args["log"], task_vars["inventory_hostname"])
        if why:
            # Nobody should sign in through it.
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(pid, signal.SIGTERM)
            raise AnsibleError(why)
        show([f"The UI is {'in this browser: ' + plan['browser'] if plan['browser'] else 'at ' + plan['url']}",
              f"The tunnel ends after {args['minutes']} minutes. To end it earlier: kill {pid}"])
        return result

    def planned(self, site, local_port, minutes):
        local_port = local_port or str(default_port(site))
        way = way_to(self._connection, site, int(local_port))
        url, start = opening(site, way)
        if minutes and way.command:
            if way.foreground:
                raise AnsibleError(
                    f"{way.foreground} Run this command in a terminal, without -e airflow_open=true: "
                    f"{shlex.join(way.command)}"
                )
            if listens(way.port):
                raise AnsibleError(
                    f"Something listens on port {way.port} of this machine already. Take another port with -e "
                    "airflow_local_port=<port>."
                )
        return {
            "command": way.command, "host": way.host, "port": way.port, "url": url, "browser": start,
            "said": said(site, way, url, start, minutes)
        }
