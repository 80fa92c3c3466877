"""bin/sandbox and a sandbox that another checkout left behind, with a stand-in for Docker."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A container that is stopped, as after a restart of the machine.
DOCKER = """#!/bin/bash
echo "$*" >>"$ASKED"
case "$*" in
  version*) ;;
  *'{{.Id}}'*) echo 4711 ;;
  *'Labels "checkout"'*) echo "$CHECKOUT" ;;
  *'State.Running'*) echo "$RUNNING" ;;
  *Image*) echo airflow-host:debian12 ;;
  *HostPort*) echo 8080 ;;
  "exec "*) echo secret ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose environment is made, and a function that runs its bin/sandbox against a container of some checkout."""
    root = tmp_path / "mine"
    for name in ("bin", "roles/airflow_common/defaults"):
        shutil.copytree(ROOT / name, root / name)
    commands = tmp_path / "bin"
    commands.mkdir()
    for path, text in ((commands / "docker", DOCKER), (root / "bin/setup", "#!/bin/bash\n"), (commands / "gpg", "#!/bin/bash\n"),
                       (commands / "ansible-playbook", "#!/bin/bash\necho \"ansible-playbook $*\" >>\"$ASKED\"\n")):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def run(owner, *arguments, running="false"):
        done = subprocess.run(
            [root / "bin/sandbox", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={"PATH": f"{commands}:/usr/bin:/bin", "ASKED": str(tmp_path / "asked"), "CHECKOUT": str(owner), "RUNNING": running, "HOME": "/nowhere"})
        asked = (tmp_path / "asked").read_text(encoding="utf-8")
        (tmp_path / "asked").unlink()
        return done.returncode, done.stdout + done.stderr, asked

    run.root = root
    return run


@pytest.mark.parametrize("arguments", [(), ("down",), ("password",), ("shell", "id")], ids=lambda arguments: "-".join(arguments) or "up")
@pytest.mark.parametrize("running", ["true", "false"])
def test_the_sandbox_of_another_checkout_is_refused(checkout, tmp_path, arguments, running):
    other = tmp_path / "theirs"
    other.mkdir()
    code, output, asked = checkout(other, *arguments, running=running)
    assert code == 1
    assert f"belongs to the checkout {other}" in output
    assert f"{other}/bin/sandbox" in output and "docker rm --force --volumes airflow-sandbox" in output
    for word in ("start", "rm ", "exec", "ansible-playbook"):
        assert word not in asked, "nothing was done to it"


def test_a_checkout_that_is_gone_is_said_to_be_gone(checkout, tmp_path):
    code, output, _asked = checkout(tmp_path / "gone")
    assert code == 1
    assert "does not exist any more" in output and "gone/bin/sandbox" not in output


def test_a_sandbox_without_a_name_is_taken_by_the_checkout_that_has_its_options(checkout):
    code, output, _asked = checkout("")
    assert code == 1 and "another checkout" in output
    options = checkout.root / "inventories/sandbox/host_vars/airflow-sandbox.yml"
    options.parent.mkdir(parents=True)
    options.write_text('airflow_version: "3.3.2"\n', encoding="utf-8")
    code, output, asked = checkout("")
    assert code == 0, output
    assert "start airflow-sandbox" in asked and "ansible-playbook site.yml" in asked


def test_its_own_sandbox_is_started_also_by_another_name_of_the_directory(checkout, tmp_path):
    (tmp_path / "link").symlink_to(checkout.root)
    code, output, asked = checkout(tmp_path / "link")
    assert code == 0, output
    assert "start airflow-sandbox" in asked


def test_every_host_in_a_container_carries_its_checkout():
    assert 'checkout: "{{ repository }}"' in (ROOT / "molecule/shared/create.yml").read_text(encoding="utf-8")
