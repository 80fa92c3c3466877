"""The pair of keys that site.yml makes on the controller for backups."""

import json
import os
import pathlib
import shutil

import forks
import pytest

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]
ID = "0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11"


def run(tmp_path, path, site_id):
    copy = tmp_path / "copy"
    (tmp_path / "play.yml").write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "gather_facts": False,
                    "environment": {"PATH": path},
                    "vars": {
                        "airflow_secrets_copy_dir": str(copy),
                        "airflow_site_id": site_id,
                        "__airflow_backup_key": str(copy / "backup_key"),
                    },
                    "tasks": [
                        {
                            "ansible.builtin.include_tasks": str(
                                ROOT / "roles/airflow_backup/tasks/steps/generate_key.yml"
                            )
                        }
                    ],
                }
            ]
        ),
        encoding="utf-8",
    )
    done = forks.run(["ansible-playbook", "-i", "localhost,", "-c", "local", tmp_path / "play.yml"], cwd=ROOT)
    return (
        done.returncode,
        done.stdout + done.stderr,
        {path.name: path for path in copy.iterdir()} if copy.exists() else {},
    )


def test_a_controller_without_gpg_is_told_what_is_missing(tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sh", "mkdir", "mktemp", "mv", "rm", "basename"):
        (commands / name).symlink_to(shutil.which(name))
    code, output, made = run(tmp_path, str(commands), "")
    assert code != 0
    assert (
        "The controller lacks gpg" in output and "apt-get install gnupg" in output
        and "airflow_backup_recipients" in output
    )
    assert not made


@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not installed here")
@pytest.mark.parametrize("site_id", ["", ID])
def test_the_pair_lies_beside_the_id_of_the_site(tmp_path, site_id):
    code, output, made = run(tmp_path, os.environ["PATH"], site_id)
    assert code == 0, output
    assert set(made) == {"backup_key", "backup_key.pub", *(["site_id"] if site_id else [])}
    assert not site_id or made["site_id"].read_text(encoding="utf-8") == site_id
    assert "PRIVATE KEY" in made["backup_key"].read_text(encoding="utf-8")
