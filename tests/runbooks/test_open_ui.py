"""playbooks/runbooks/open_ui.yml: with a real sshd and a stand-in for Airflow, and with stand-ins for the commands aws,
docker and ssh.
"""

import getpass
import http.server
import importlib.util
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import forks
import pytest
from ansible.errors import AnsibleError
from ports import free_port

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("open_ui", ROOT / "plugins/action/open_ui.py")
open_ui = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(open_ui)
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")

# Listens where the tunnel would, and passes all on to the port that is named in $AIRFLOW.
STAND_IN = f"""#!{sys.executable}
import os, re, socket, sys, threading
port = int(re.search(r"localPortNumber=(\\d+)|localhost:(\\d+):", " ".join(sys.argv)).expand(r"\\1\\2"))
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.close()
with socket.create_server(("127.0.0.1", port)) as server:
    while True:
        here, there = server.accept()[0], socket.create_connection(("127.0.0.1", int(os.environ["AIRFLOW"])))
        threading.Thread(target=pump, args=(here, there), daemon=True).start()
        threading.Thread(target=pump, args=(there, here), daemon=True).start()
"""
DOCKER = """#!/bin/sh
[ "$1 $2" = "port airflow-1" ] && [ -n "$PUBLISHED" ] && echo "$PUBLISHED" ||
    { echo "Error: No public port '$3' published for $2" >&2; exit 1; }
"""
SSM = (
    "[airflow_webserver]\nmain ansible_connection=amazon.aws.aws_ssm ansible_aws_ssm_instance_id=i-0a1b "
    "ansible_aws_ssm_region=eu-central-1"
    " airflow_api_port=8081\n")
SERVER = "[airflow_webserver]\nmain ansible_host=192.0.2.7 ansible_user=ops\n"
TAIL = "-S none -N -o ExitOnForwardFailure=yes -L localhost:{}:127.0.0.1:{} {}"


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def run(tmp_path):
    """run(inventory, argument..., variable=value): exit code and output. Commands that are not real are in a directory
    of their own.
    """
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    started = set(ROOT.glob("artifacts/open_ui-*.pid"))

    def playbook(inventory, *arguments, only=("aws", "ssh", "docker"), **environment):
        for name, content in (("aws", STAND_IN), ("ssh", STAND_IN), ("docker", DOCKER)):
            (stand_ins / name).unlink(missing_ok=True)
            if name in only:
                (stand_ins / name).write_text(content, encoding="utf-8")
                (stand_ins / name).chmod(0o755)
        (tmp_path / "hosts").write_text(inventory, encoding="utf-8")
        done = forks.run(
            ["ansible-playbook", "-i", tmp_path / "hosts", ROOT / "playbooks/runbooks/open_ui.yml", *arguments],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1", **environment})
        return done.returncode, " ".join(done.stdout.split()) + " ".join(done.stderr.split())

    yield playbook
    for path in set(ROOT.glob("artifacts/open_ui-*.pid")) - started:
        try:
            os.kill(int(path.read_text(encoding="utf-8")), signal.SIGTERM)
        except ProcessLookupError:
            pass
        path.unlink()
        path.with_suffix(".log").unlink(missing_ok=True)


class Airflow(http.server.BaseHTTPRequestHandler):
    """What Airflow 3 and 2 answer until somebody signs in: the form for the password, below base_url."""

    def do_GET(self):
        where = {"/api/v2/auth/login": "/auth/login/", "/home": "/login/?next=/home"}.get(self.path)
        self.send_response(307 if where else 200)
        if where:
            self.send_header("Location", self.server.base_url + where)
        else:
            self.send_header("Set-Cookie", f"session=x; {self.server.cookie}Path=/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def airflow():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Airflow)
    server.base_url = server.cookie = ""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


# ---- the command and the address -------------------------------------------------------------------------------------


def decide(inventory_port=8080, local_port="", minutes="", connection=None, **site):
    """What the action decides: the way to the UI and the address, or the reason why there is none."""
    site = open_ui.Site(
        **{
            "major": 3, "base_url": "", "address": "127.0.0.1", "port": inventory_port, "proxied": False,
            "provider": "", **site
        })
    action = open_ui.ActionModule.__new__(open_ui.ActionModule)
    action._connection = connection or Connection()
    try:
        return " ".join(action.planned(site, local_port, minutes)["said"])
    except AnsibleError as error:
        return str(error)


class Connection:
    """An SSH connection of Ansible, with its options."""

    def __init__(self, transport="ssh", **options):
        self.transport = transport
        self.options = {"ssh_executable": "ssh", "host": "192.0.2.7", "timeout": 10, **options}

    def get_option(self, name):
        return self.options.get(name)


@pytest.mark.parametrize(
    ("question", "shown"),
    [
        (
            {},
            "The tunnel: ssh -o ConnectTimeout=10 "
            + TAIL.format(8080, 8080, "192.0.2.7")
            + " The UI: http://localhost:8080",
        ),
        ({"local_port": "18080"}, f"{TAIL.format(18080, 8080, '192.0.2.7')} The UI: http://localhost:18080"),
        (
            {"base_url": "http://localhost:9000"},
            f"{TAIL.format(9000, 8080, '192.0.2.7')} The UI: http://localhost:9000",
        ),
        ({"base_url": "https://airflow.example.com", "major": 2}, "The UI: http://localhost:8080"),
        (
            {"provider": "google"},
            "People sign in through google, which must know this redirect URI: "
            "http://localhost:8080/auth/oauth-authorized/google",
        ),
        ({"provider": "google", "major": 2}, "this redirect URI: http://localhost:8080/oauth-authorized/google"),
        (
            {"base_url": "https://airflow.example.com", "proxied": True, "inventory_port": 443},
            f'{TAIL.format(8443, 443, "192.0.2.7")} The browser: chromium --user-data-dir="$(mktemp -d)" '
            '--no-proxy-server '
            "'--host-resolver-rules=MAP airflow.example.com 127.0.0.1:8443' https://airflow.example.com Airflow knows "
            "itself "
            "as",
        ),
        (
            {
                "base_url": "https://airflow.example.com:9443",
                "proxied": True,
                "inventory_port": 9443,
                "address": "fd00::5",
            },
            "-L 'localhost:9443:[fd00::5]:9443' ",
        ),
        (
            {"base_url": "http://airflow.internal:8080"},
            "'--host-resolver-rules=MAP airflow.internal 127.0.0.1:8080' http://airflow.internal:8080",
        ),
        (
            {"connection": Connection("local")},
            "No tunnel is needed: 127.0.0.1, port 8080, of this machine leads to the UI. "
            "Is your browser on another machine?",
        ),
        ({"connection": Connection("local"), "minutes": "60"}, "The UI: http://localhost:8080"),
        (
            {
                "connection": Connection("amazon.aws.aws_ssm", instance_id="i-1", region="eu-west-1", profile="ops"),
                "inventory_port": 443,
                "address": "10.0.0.1",
                "base_url": "https://a.example",
                "proxied": True,
            },
            "aws ssm start-session --target i-1 --document-name AWS-StartPortForwardingSessionToRemoteHost "
            "--parameters "
            "host=10.0.0.1,portNumber=443,localPortNumber=8443 --region eu-west-1 --profile ops",
        ),
    ],
)
def test_the_way_and_the_address(question, shown):
    assert shown in decide(**question)


@pytest.mark.parametrize(("question", "expected"), [
    ({"base_url": "http://localhost:8080", "local_port": "18080"},
     "Valid is port 8080 (for a tunnel: -e airflow_local_port=8080)"),
    ({"base_url": "https://airflow.example.com"}, "Open https://airflow.example.com instead."),
    ({"minutes": "5", "connection": Connection(password="x9horse")},
     "Ansible takes the password of the SSH login from a variable"),
    ({"connection": Connection("winrm")}, "ansible_connection is winrm, through which this runbook cannot forward a "
                                          "port."),
], ids=["another port than base_url's", "TLS ends elsewhere", "a password", "another connection"])
def test_what_cannot_work_is_told_beforehand(question, expected):
    told = decide(**question)
    assert expected in told
    assert "x9horse" not in told and "aws " not in told


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Take another port with -e airflow_local_port=<port>" in decide(
            local_port=str(taken.getsockname()[1]), minutes="5"
        )


def test_a_container_is_reached_where_docker_publishes_its_port(tmp_path, monkeypatch):
    (tmp_path / "docker").write_text(DOCKER, encoding="utf-8")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    container = Connection("community.docker.docker", remote_addr="airflow-1")
    assert "Start the container with --publish 127.0.0.1:<port>:8080" in decide(connection=container)
    monkeypatch.setenv("PUBLISHED", "0.0.0.0:8085")
    assert ("No tunnel is needed: 127.0.0.1, port 8085, of this machine leads to the UI. The UI: "
            "http://localhost:8085") in decide(
        connection=container)


def test_ssh_gets_all_with_which_ansible_reaches_the_host(run):
    """Variables of the inventory, options of the command line and ansible.cfg."""
    code, text = run(
        """[airflow_webserver]
main ansible_host=192.0.2.7 ansible_port=2222 ansible_ssh_private_key_file=~/.ssh/deploy ansible_ssh_timeout=7
[airflow_webserver:vars]
ansible_host_key_checking=false
[airflow_webserver:vars]
ansible_ssh_common_args=-J ops@bastion -o "ProxyCommand=nc %h %p"
ansible_ssh_extra_args=-o Compression=yes
""", "-u", "other")
    assert code == 0, text
    assert (
        "The tunnel: ssh -o ControlMaster=auto -o ControlPersist=300s -o ServerAliveInterval=15 -o "
        "ServerAliveCountMax=4 "
        "-o StrictHostKeyChecking=no -o Port=2222 "
        f"""-o 'IdentityFile="{pathlib.Path.home()}/.ssh/deploy"' """
        """-o 'User="other"' -o ConnectTimeout=7 -J ops@bastion -o 'ProxyCommand=nc %h %p' -o Compression=yes """
        # A forwarding in Ansible's shared connection would outlive the command, so nothing may come behind this.
        + TAIL.format(8080, 8080, "192.0.2.7")) in text
    assert "changed=0" in text


def test_session_manager_gets_what_the_connection_says(run):
    code, text = run(SSM)
    assert code == 0, text
    assert (
        "The tunnel: aws ssm start-session --target i-0a1b --document-name AWS-StartPortForwardingSession --parameters "
        "portNumber=8081,localPortNumber=8081 --region eu-central-1 The UI: http://localhost:8081") in text


def test_behind_nginx_the_tunnel_leads_to_nginx(run):
    """On the host that has it, which need not be the first of the servers."""
    code, text = run(
        "[airflow_webserver]\nfirst ansible_host=192.0.2.6\nsecond ansible_host=192.0.2.7\n[airflow_proxy]\nsecond\n"
        "[all:vars]\nairflow_api_base_url=https://airflow.example.com\nreverse_proxy_listen_addresses=['10.1.1.1']\n")
    assert code == 0, text
    assert "-L localhost:8443:10.1.1.1:443 192.0.2.7" in text and "MAP airflow.example.com 127.0.0.1:8443" in text


def screens():
    """What the page of the runbook shows after each of its commands, in one line each."""
    blocks = re.findall(r"^```console\n\$ [^\n]*\n(.*?)^```$",
                        (ROOT / "docs/runbooks/open_ui.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [" ".join(block.split()) for block in blocks]


def test_the_page_shows_the_command_and_the_address(run):
    code, text = run("[airflow_webserver]\nairflow-1 ansible_host=192.0.2.10 ansible_user=admin\n")
    assert code == 0, text
    assert screens()[0] in text


# ---- the tunnel ------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_end_of_a_run_that_opens_the_tunnel(run, airflow):
    """With another port than the page's, which may be in use here, and another process."""
    port = free_port()
    code, text = run(SERVER,
                     "-e",
                     "airflow_open=true",
                     "-e",
                     f"airflow_local_port={port}",
                     "-e",
                     "airflow_minutes=30",
                     AIRFLOW=str(airflow.server_port))
    assert code == 0, text
    process = re.search(r"kill (\d+)", text)[1]
    assert screens()[1].replace("8080", str(port)).replace("4711", process) in text


@pytest.mark.parametrize(("inventory", "major"), [(SSM, "2.11.2"), (SERVER, "3.3.2")], ids=["Session Manager", "SSH"])
def test_it_opens_the_tunnel(run, airflow, inventory, major):
    port = free_port()
    code, text = run(inventory,
                     "-e",
                     "airflow_open=true",
                     "-e",
                     f"airflow_local_port={port}",
                     "-e",
                     "airflow_minutes=1",
                     "-e",
                     f"airflow_version={major}",
                     AIRFLOW=str(airflow.server_port))
    assert code == 0, text
    assert f"The UI is at http://localhost:{port}" in text and "after 1 minutes" in text
    assert listens(port)
    for suffix in ("pid", "log"):
        assert (ROOT / f"artifacts/open_ui-{port}.{suffix}").stat().st_mode & 0o777 == 0o600
    os.kill(int(re.search(r"To end it earlier: kill (\d+)", text)[1]), signal.SIGTERM)
    time.sleep(1)
    assert not listens(port)


def test_a_tunnel_on_which_nobody_may_sign_in_is_closed(run, airflow):
    """As on a host whose airflow.cfg is older than the inventory."""
    port = free_port()
    airflow.base_url = "http://localhost:8080"
    code, text = run(SERVER,
                     "-e",
                     "airflow_open=true",
                     "-e",
                     f"airflow_local_port={port}",
                     AIRFLOW=str(airflow.server_port))
    assert code == 2, text
    assert f"Do not sign in: Airflow sends the browser from http://localhost:{port} to http://localhost:8080" in text
    time.sleep(1)
    assert not listens(port)


@pytest.mark.parametrize(("program", "advice"), [
    ("ssh", "Find out whether Ansible itself reaches it: ansible main -m ping"),
    ("aws", "docs/aws.md says what it needs"),
])
def test_the_advice_is_about_the_program_that_failed(tmp_path, program, advice):
    """Without a real sshd."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "pid").write_text(str(ended.pid), encoding="utf-8")
    (tmp_path / "log").write_text("Permission denied (publickey).\n", encoding="utf-8")
    way = open_ui.Way([f"/usr/bin/{program}", "main"], "127.0.0.1", free_port())
    _pid, why = open_ui.wait(None, way, "http://localhost", tmp_path / "pid", tmp_path / "log", "main")
    assert why.startswith(f"{program} ended before the tunnel was open. {program} said: Permission denied (publickey).")
    assert advice in why
    assert ("aws" in why) is (program == "aws")


def checked(port, url="", **site):
    site = open_ui.Site(
        **{"major": 3, "base_url": "", "address": "127.0.0.1", "port": 8080, "proxied": False, "provider": "", **site})
    try:
        return open_ui.check(site, open_ui.Way([], "127.0.0.1", port), url or f"http://localhost:{port}")
    except AnsibleError as error:
        return str(error)


def test_where_airflow_sends_the_browser_is_checked(airflow):
    port = airflow.server_port
    assert checked(port) is checked(port, major=2) is None
    airflow.base_url = f"http://localhost:{port}"
    assert checked(port) is None
    airflow.base_url = "https://airflow.example.com"
    assert f"from http://localhost:{port} to https://airflow.example.com" in checked(port)
    # As with a browser that has the name from its command.
    airflow.base_url = "http://airflow.internal:8080"
    assert checked(port, url="http://airflow.internal:8080", base_url="http://airflow.internal:8080") is None
    airflow.base_url, airflow.cookie = "", "Secure; "
    assert "marks its cookie as Secure" in checked(port)
    told = checked(free_port())
    assert "nothing answers at 127.0.0.1, port 8080, of the host" in told and "check_health.yml" in told


# ---- through a real sshd ---------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """A real sshd on loopback, which a key opens; the inventory of a host that is reached through it."""
    if not SSHD:
        pytest.skip("sshd is not installed (apt-get install openssh-server)")
    if os.geteuid() == 0:
        # The directory that it gives up its powers in.
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "sshd_config").write_text(
        "\n".join(
            [
                f"Port {port}",
                "ListenAddress 127.0.0.1",
                f"HostKey {tmp_path}/host_key",
                f"AuthorizedKeysFile {tmp_path}/key.pub",
                "StrictModes no",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "UsePAM no",
                "PermitRootLogin yes",
                f"PidFile {tmp_path}/sshd.pid",
                "",
            ]
        ),
        encoding="utf-8",
    )
    (tmp_path / "known_hosts").write_text(
        f"[127.0.0.1]:{port} {(tmp_path / 'host_key.pub').read_text(encoding='utf-8')}", encoding="utf-8")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=subprocess.DEVNULL)
    for _try in range(50):
        if listens(port):
            break
        time.sleep(0.1)

    def inventory(key=tmp_path / "key", jump=""):
        common = f"-F none -o UserKnownHostsFile={tmp_path}/known_hosts"
        if jump:
            # A jump host is asked by a command of its own, which knows nothing of the options of the first.
            common += f' -o \'ProxyCommand=ssh {common} -i {key} -p {port} -W %h:%p {getpass.getuser()}@127.0.0.1\''
        return (
            f"[airflow_webserver]\nmain ansible_host=127.0.0.1 ansible_port={port} ansible_user={getpass.getuser()} "
            f"ansible_ssh_private_key_file={key}\n"
            f"[airflow_webserver:vars]\nansible_ssh_common_args={common}\n")

    yield inventory
    process.terminate()
    process.wait()


@pytest.mark.parametrize("jump", [False, True], ids=["straight", "through a jump host"])
def test_the_tunnel_of_a_real_sshd(run, server, airflow, jump):
    port = free_port()
    code, text = run(server(jump=jump), "-e", "airflow_open=true", "-e", f"airflow_local_port={port}",
                     "-e", f"airflow_api_port={airflow.server_port}", "-e", "airflow_minutes=1",
                     only=())
    assert code == 0, text
    assert f"The UI is at http://localhost:{port}" in text
    os.kill(int(re.search(r"To end it earlier: kill (\d+)", text)[1]), signal.SIGTERM)
    time.sleep(1)
    assert not listens(port), "the forwarding outlives its command"


def test_what_a_real_sshd_refuses_is_told(run, server, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "wrong"], check=True)
    code, text = run(server(key=tmp_path / "wrong"),
                     "-e",
                     "airflow_open=true",
                     "-e",
                     f"airflow_local_port={free_port()}",
                     only=())
    assert code == 2
    assert "ssh ended before the tunnel was open. ssh said:" in text and "Permission denied (publickey)" in text
    assert f"ansible -i {tmp_path}/hosts main -m ping" in text
    assert "aws" not in text.lower()
