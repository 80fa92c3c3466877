"""Hosts that start from the image of an installed host share no identity with it, and so with each other."""

import hashlib
import subprocess

from conftest import host_name

# Whatever may differ between two hosts, as sha256sum prints it. What a system does not have is left out.
IDENTITY = (
    "cd / && sha256sum etc/machine-id etc/ssh/ssh_host_*_key etc/ssl/private/ssl-cert-snakeoil.key "
    "etc/airflow/secrets/*"
    " 2>/dev/null || true")


def test_a_host_of_an_image_shares_no_identity_with_it(host):
    """The scenario starts from an image with Airflow's packages, and other hosts start from the same image."""

    def identity(text):
        return {path: checksum for checksum, path in (line.split(maxsplit=1) for line in text.splitlines())}

    image = subprocess.run(["docker", "inspect", "--format", "{{.Config.Image}}",
                            host_name(host)],
                           capture_output=True,
                           text=True,
                           check=True).stdout.strip()
    assert image.endswith("-installed")
    asked = subprocess.run(
        ["docker", "run", "--rm", "--pull", "never", "--network", "none", image, "sh", "-c", IDENTITY],
        capture_output=True,
        text=True,
        check=True)
    of_image, of_host = identity(asked.stdout), identity(host.check_output(IDENTITY))
    # PostgreSQL's package makes the key. The image has nothing else that identifies a host: its machine-id is empty.
    assert set(of_image) == {"etc/machine-id", "etc/ssl/private/ssl-cert-snakeoil.key"}
    assert of_image["etc/machine-id"] == hashlib.sha256(b"").hexdigest()
    assert {*of_image, "etc/ssh/ssh_host_ed25519_key", "etc/airflow/secrets/sql_alchemy_conn"} <= set(of_host)
    assert not set(of_image.values()) & set(of_host.values())
