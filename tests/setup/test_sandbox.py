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
  version*) exit "${ENGINE:-0}" ;;
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
    """A checkout whose environment is made, and a function that runs its bin/sandbox against a container of some
    checkout.
    """
    root = tmp_path / "mine"
    for name in ("bin", "roles/airflow_common/defaults"):
        shutil.copytree(ROOT / name, root / name)
    commands = tmp_path / "bin"
    commands.mkdir()
    for path, text in (
        (commands / "docker", DOCKER),
        (root / "bin/setup", "#!/bin/bash\n"),
        (commands / "gpg", "#!/bin/bash\n"),
        (commands / "ansible-playbook", '#!/bin/bash\necho "ansible-playbook $*" >>"$ASKED"\n'),
    ):
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def run(owner, *arguments, running="false", command="sandbox", **environment):
        done = subprocess.run(
            [root / "bin" / command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={
                "PATH": f"{commands}:/usr/bin:/bin", "ASKED": str(tmp_path / "asked"), "CHECKOUT": str(owner),
                "RUNNING": running, "HOME": "/nowhere", **environment
            })
        (tmp_path / "asked").touch()
        asked = (tmp_path / "asked").read_text(encoding="utf-8")
        (tmp_path / "asked").unlink()
        return done.returncode, done.stdout + done.stderr, asked

    run.root = root
    return run


@pytest.mark.parametrize("arguments", [(), ("down",), ("password",), ("shell", "id")],
                         ids=lambda arguments: "-".join(arguments) or "up")
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


@pytest.fixture
def options(checkout):
    """The options of a sandbox of this checkout."""
    path = checkout.root / "inventories/sandbox/host_vars/airflow-sandbox.yml"
    path.parent.mkdir(parents=True)
    path.write_text('airflow_version: "3.3.2"\n', encoding="utf-8")
    return path


@pytest.mark.parametrize("arguments", [(), ("down",)], ids=["up", "down"])
def test_a_container_that_bin_sandbox_did_not_start_is_refused(checkout, options, arguments):
    """Also where this checkout has options of a sandbox."""
    code, output, asked = checkout("", *arguments)
    assert code == 1
    assert "airflow-sandbox was not started by bin/sandbox" in output
    assert ("Do this: to remove it with everything in it: docker rm --force --volumes airflow-sandbox; then run "
            "bin/sandbox") in output
    for word in ("start ", "rm ", "ansible-playbook"):
        assert word not in asked, "nothing was done to it"
    assert options.exists()


def test_a_silent_engine_is_no_proof_that_there_is_no_sandbox(checkout, options):
    code, output, asked = checkout(checkout.root, "down", ENGINE="1")
    assert code == 1
    assert (
        "the Docker Engine does not answer, so the sandbox was not removed" in output
        and "Do this: start the engine" in output
    )
    assert "There is no sandbox" not in output and "rm " not in asked and options.exists()
    code, output, asked = checkout(checkout.root, "down")
    assert code == 0 and "The sandbox is gone." in output and "rm --force" in asked and not options.exists()


def test_no_image_is_built_for_an_engine_that_does_not_answer(checkout, tmp_path):
    for name in ("debootstrap", "chroot"):
        (tmp_path / "bin" / name).write_text('#!/bin/bash\necho built >>"$ASKED"\n', encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    code, output, asked = checkout("", "debian12", command="host-image", ENGINE="1", DOCKER_HOST="tcp://192.0.2.1:2375")
    assert code == 1
    assert "the Docker Engine at DOCKER_HOST=tcp://192.0.2.1:2375 does not answer" in output
    assert "built" not in asked


def test_its_own_sandbox_is_started_also_by_another_name_of_the_directory(checkout, tmp_path):
    (tmp_path / "link").symlink_to(checkout.root)
    code, output, asked = checkout(tmp_path / "link")
    assert code == 0, output
    assert "start airflow-sandbox" in asked


def test_every_host_in_a_container_carries_its_checkout():
    assert 'checkout: "{{ repository }}"' in (ROOT / "molecule/shared/create.yml").read_text(encoding="utf-8")
