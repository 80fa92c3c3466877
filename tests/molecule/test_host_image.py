"""The test host behaves like a small server. If these fail, no other result means anything."""

import json
import subprocess

import pytest
from conftest import host_name


@pytest.fixture(scope="module")
def container(host):
    """What Docker says about the host."""
    run = subprocess.run(["docker", "inspect", host_name(host)], text=True, capture_output=True, check=True)
    return json.loads(run.stdout)[0]


def test_systemd_is_pid_1_and_no_unit_failed(host):
    assert host.run("readlink /proc/1/exe").stdout.strip().endswith("/systemd")
    assert host.run("systemctl is-system-running").stdout.strip() == "running", host.run("systemctl --failed").stdout


def test_host_is_not_privileged(container):
    assert container["HostConfig"]["Privileged"] is False
    assert sorted(name.removeprefix("CAP_") for name in container["HostConfig"]["CapAdd"]) == [
        "DAC_READ_SEARCH", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"
    ]


def test_ports_are_published_on_loopback_only(container):
    bindings = [binding for port in (container["HostConfig"]["PortBindings"] or {}).values() for binding in port]
    assert all(binding["HostIp"] == "127.0.0.1" for binding in bindings), bindings


def test_units_can_be_sandboxed(host):
    """What the components' units ask for must work here, else their sandbox would never be tested."""
    properties = [
        "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "NoNewPrivileges=yes",
        "DynamicUser=yes"
    ]
    options = " ".join(f"-p {name}" for name in properties)
    inside = host.run(
        f"systemd-run --quiet --wait --pipe {options} sh -c 'touch /usr/x || echo read-only; ls -A /tmp | wc -l'")
    assert inside.rc == 0, inside.stderr
    assert inside.stdout.split() == ["read-only", "0"]


def test_playbooks_arrive_as_they_do_at_a_server_of_somebody(host):
    """Over SSH, as a login whose sudo asks for a password. test_airflow.py asks for the mode of the login's home."""
    variables = host.ansible.get_variables()
    assert "ansible_connection" not in variables
    assert host.run(f"runuser -u {variables['ansible_user']} -- sudo --non-interactive true").rc != 0


def test_system_gets_security_updates(host):
    sources = host.file("/etc/apt/sources.list").content_string
    assert "-security main" in sources
    assert "-updates main" in sources


def test_host_has_its_own_identity(host):
    assert len(host.file("/etc/machine-id").content_string.strip()) == 32
    assert host.run("hostname").stdout.strip() == host_name(host)


def test_root_directory_is_readable_by_services(host):
    assert oct(host.file("/").mode) == "0o755"


def test_package_cache_is_shared(container):
    assert "airflow-sandbox-cache" in [
        mount.get("Name") for mount in container["Mounts"] if mount["Destination"] == "/var/cache/airflow"
    ]
