"""A backup that a host cannot take is refused before anything is changed, on a host that has no server yet as well."""

import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import tarfile

import pytest
import yaml

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNBOOK = "playbooks/runbooks/restore_database.yml"


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """A private key that backups are sealed for."""
    if not shutil.which("gpg"):
        pytest.skip("gpg is not installed here")
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "backup", "rsa2048", "encrypt", "never"],
                   check=True,
                   capture_output=True)
    (home / "backup_key").write_bytes(
        subprocess.run([*gpg, "--armor", "--export-secret-keys"], check=True, capture_output=True).stdout)
    sealed = subprocess.run([*gpg, "--trust-model", "always", "--recipient", "backup", "--encrypt"],
                            input=b'{"secrets/fernet_key": "x"}',
                            check=True,
                            capture_output=True).stdout
    yield home / "backup_key", sealed
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


def backup(directory, sealed, **values):
    """A backup that says this of itself."""
    members = {"database.dump": b"PGDMP", "configuration.gpg": sealed}
    manifest = {
        "time": "2026-01-02T02:00:00+00:00", "host": "old", "airflow_version": "3.3.2", "virtualenv": "x",
        "postgresql": "15.4", "pg_dump": 15, "database": {"name": "airflow", "bytes": 1, "rows": {"dag": 3}},
        "dag_release": None, "sealed": ["secrets/fernet_key"], "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in members.items()
        }, **values
    }
    path = directory / "airflow-20260102T020000Z.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in {**members, "manifest.json": json.dumps(manifest).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_newer_postgresql_than_the_host_will_have(site, key, system):
    """The report of the runbook, which is all of it until the restore is confirmed."""
    system_vars = ROOT / f"roles/postgresql/vars/{system[0]}-{system[1].split('.')[0]}.yml"
    if not system_vars.exists():
        pytest.skip(f"role postgresql does not know {system}")
    brings = int(yaml.safe_load(system_vars.read_text(encoding="utf-8"))["__postgresql_distribution_version"])
    made = backup(site.directory, key[1], postgresql=f"{brings + 1}.3", pg_dump=brings + 1)
    arguments = ["-e", f"airflow_backup_file={made}", "-e", f"airflow_backup_key={key[0]}"]
    run = site.run(*arguments, playbook=RUNBOOK)
    assert run.code != 0
    told = " ".join(run.output.split())
    assert (f"The backup is of PostgreSQL {brings + 1}.3 and site will have PostgreSQL {brings}, which can't read it. "
            "Nothing was changed.") in told, run.output
    assert f'Set postgresql_version: "{brings + 1}" in group_vars/all/main.yml' in told
    run.changed_nothing()
    run = site.run(*arguments, playbook=RUNBOOK, postgresql_version=str(brings + 1))
    assert run.code == 0, run.output
    # Plays without tasks follow the check. The report comes after their headings.
    assert run.output.count("Nothing was changed. To replace the database") == 1
    assert "PLAY [" not in run.output.split("Nothing was changed. To replace the database")[1], run.output
    run.changed_nothing()


def test_a_database_that_the_disk_has_no_room_for(site, key):
    """The new one is written beside the old one."""
    made = backup(site.directory,
                  key[1],
                  postgresql="",
                  pg_dump=0,
                  database={"name": "airflow", "bytes": 2**60, "rows": {}})
    run = site.run("-e", f"airflow_backup_file={made}", "-e", f"airflow_backup_key={key[0]}", playbook=RUNBOOK)
    told = " ".join(run.output.split())
    assert (
        run.code != 0 and "site has " in told and f"and the restore needs {2**60 * 5 // 4 // 2**20 + 500} MB." in told
    ), run.output
    assert "Nothing was changed." in told
    run.changed_nothing()
