"""playbooks/runbooks/open_ui.yml with a stand-in for the commands aws and ssh, which listens where it is told to."""

import os
import pathlib
import signal
import socket
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAND_IN = r"""#!/usr/bin/env python3
import re, socket, sys
port = int(re.search(r"localPortNumber=(\d+)|(\d+):127\.0\.0\.1", " ".join(sys.argv)).expand(r"\1\2"))
with socket.create_server(("127.0.0.1", port)) as server:
    while True:
        server.accept()
"""
INSTANCE = "[airflow_webserver]\nmain instance_id=i-0a1b aws_region=eu-central-1 airflow_api_port=8081\n"
SERVER = "[airflow_webserver]\nmain ansible_host=192.0.2.7 ansible_user=ops\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def run(tmp_path):
    """run(inventory, argument...): the output."""
    for name in ("aws", "ssh"):
        (tmp_path / name).write_text(STAND_IN, encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    def playbook(inventory, *arguments):
        (tmp_path / "hosts").write_text(inventory, encoding="utf-8")
        done = subprocess.run(
            ["ansible-playbook", "-i", tmp_path / "hosts", ROOT / "playbooks/runbooks/open_ui.yml", *arguments], cwd=ROOT, text=True, capture_output=True,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"}, check=False)
        return done.returncode, " ".join(done.stdout.split())

    return playbook


@pytest.mark.parametrize(("inventory", "command"), [
    (INSTANCE, "aws ssm start-session --region eu-central-1 --target i-0a1b --document-name AWS-StartPortForwardingSession "
               "--parameters portNumber=8081,localPortNumber=8081"),
    (SERVER, "ssh -N -o ExitOnForwardFailure=yes -p 22 -L 8080:127.0.0.1:8080 ops@192.0.2.7"),
], ids=["an instance of EC2", "another host"])
def test_it_shows_the_command_and_changes_nothing(run, inventory, command):
    code, text = run(inventory)
    assert code == 0, text
    assert command in text
    assert "changed=0" in text


def test_it_forwards_the_port_until_it_is_ended(run):
    port = free_port()
    pid = ROOT / f"artifacts/open_ui-{port}.pid"
    try:
        code, text = run(INSTANCE, "-e", "open=true", "-e", f"local_port={port}", "-e", "minutes=1")
        assert code == 0, text
        assert f"The UI is at http://localhost:{port} for 1 minutes" in text
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    finally:
        os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGTERM)
        pid.unlink()


def test_a_port_that_is_taken_is_told(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, text = run(INSTANCE, "-e", "open=true", "-e", f"local_port={taken.getsockname()[1]}")
    assert code == 2
    assert "Take another one with -e local_port=<port>" in text
