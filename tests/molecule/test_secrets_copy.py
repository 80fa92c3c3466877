"""The controller's copy of the generated secrets: for its owner alone, and what a host that lost them gets them back
from.
"""

import os
import pathlib
import stat

import pytest
from playbook import play

COPY = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "copy-of-secrets")


@pytest.fixture
def lost(host, setting):
    """A secret that no component reads is gone from the host."""
    path = f"{setting('airflow_config_dir')}/secrets/admin_password"
    before = host.file(path).content_string
    host.check_output(f"rm {path}")
    return path, before


def test_copy_is_what_the_host_has_and_only_its_owner_may_read_it(host, setting):
    # Beside them lies the key for backups, which no host has.
    kept = {
        path.name: path.read_text(encoding="utf-8")
        for path in COPY.iterdir() if not path.name.startswith("backup_key")
    }
    assert kept.keys() == {"fernet_key", "api_secret_key", "jwt_secret", "database_password", "admin_password"}
    for name, value in kept.items():
        assert host.file(f"{setting('airflow_config_dir')}/secrets/{name}").content_string == value
        assert stat.S_IMODE((COPY / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(COPY.stat().st_mode) == 0o700


def test_what_a_host_has_lost_comes_back_from_the_copy(host, lost):
    path, before = lost
    done = play("virtualenv")
    assert (done.failed, done.changed) == (False, 1), done.output
    assert host.file(path).content_string == before
    assert play("virtualenv").changed == 0
