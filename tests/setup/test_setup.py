"""bin/setup on machines that this one is not: stand-ins for python3 and the package manager, in a PATH of their own."""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What bin/setup takes from any system.
TOOLS = [
    "bash", "env", "dirname", "cat", "cut", "grep", "head", "tr", "tail", "sed", "mkdir", "id", "sha256sum", "gpg",
    "chmod", "sleep", "rm", "readlink"
]

# A Python with the version VERSION. It notes what it is asked to do, and makes "virtualenvs" whose commands are copies
# of itself.
PYTHON = """#!/bin/bash
case "$*" in
  --version) echo "Python VERSION" ;;
  *"sys.version_info[:2] <="*) [ VERSION != 3.9 ] ;;
  *"print("*) echo pythonVERSION-venv ;;
  *"import ensurepip"*) HAS_VENV ;;
  *"import ansible"*) ;;
  "-m venv "*) echo "venv $4" >>"$ASKED"; rm -rf "$4/bin"; mkdir -p "$4/bin" "$4/lib/python3.12/site-packages"
    cat "$0" >"$4/bin/python"; chmod +x "$4/bin/python"
    printf '#!/bin/bash\\necho "uv trusts ${SSL_CERT_FILE:-its own}" >>"$ASKED"\\n' >"$4/bin/uv"
    printf '#!%s/bin/python\\n' "$4" >"$4/bin/ansible-playbook"; chmod +x "$4/bin/uv" "$4/bin/ansible-playbook" ;;
  *) echo "$2 trusts ${PIP_CERT:-its own}" >>"$ASKED" ;;
esac
"""


class Machine:
    """A clone of the repository, and a PATH with chosen commands."""

    def __init__(self, directory):
        self.root, self.path, self.asked = directory / "clone", directory / "bin", directory / "asked"
        self.path.mkdir()
        for name in ("bin", "requirements"):
            shutil.copytree(ROOT / name, self.root / name)
        for name in TOOLS:
            found = shutil.which(name)
            if found:
                (self.path / name).symlink_to(found)

    def command(self, name, text="#!/bin/bash\necho \"$0 $*\" >>\"$ASKED\"\n"):
        (self.path / name).write_text(text, encoding="utf-8")
        (self.path / name).chmod(0o755)

    def python(self, version="3.12", has_venv=True, name="python3"):
        self.command(name, PYTHON.replace("VERSION", version).replace("HAS_VENV", "true" if has_venv else "false"))

    def run(self, *arguments, **environment):
        done = subprocess.run([self.root / "bin/setup", *arguments],
                              cwd="/",
                              capture_output=True,
                              text=True,
                              check=False,
                              env={"PATH": str(self.path), "ASKED": str(self.asked), "HOME": "/nowhere", **environment})
        return done.returncode, done.stdout + done.stderr

    def did(self):
        return self.asked.read_text(encoding="utf-8") if self.asked.exists() else ""


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_it_makes_the_environment_once_and_names_the_next_commands(machine):
    machine.python()
    code, output = machine.run()
    assert code == 0, output
    assert f"venv {machine.root}/.venv" in machine.did()
    for text in (f"cd {machine.root} && . .venv/bin/activate", "bin/new-site ~/airflow-site",
                 "-i ~/airflow-site/hosts.yml site.yml -K", "bin/sandbox"):
        assert text in output
    before = machine.did()
    code, output = machine.run("--quiet")
    assert (code, output, machine.did()) == (0, "", before)


@pytest.mark.parametrize("link", ["clone", "environment"])
def test_it_makes_the_environment_once_where_a_path_is_a_link(machine, link):
    machine.python()
    if link == "clone":
        real = machine.root.rename(machine.root.parent / "elsewhere")
        machine.root.symlink_to(real)
    else:
        (machine.root.parent / "environment").mkdir()
        (machine.root / ".venv").symlink_to(machine.root.parent / "environment")
    assert machine.run()[0] == 0
    before = machine.did()
    code, output = machine.run("--quiet")
    assert (code, output, machine.did()) == (0, "", before)


@pytest.mark.parametrize("change", ["pull", "killed", "moved", "python upgraded", "python removed"])
def test_an_outdated_environment_is_made_anew(machine, change):
    machine.python()
    assert machine.run()[0] == 0
    before = machine.did()
    if change == "pull":
        with open(machine.root / "requirements/controller.txt", "a", encoding="utf-8") as file:
            file.write("# newer\n")
    elif change == "killed":
        (machine.root / ".venv/.stamp").unlink()
    elif change == "python upgraded":
        # The same command is another Python now, which does not look into lib/python3.11.
        (machine.root / ".venv/bin/python").write_text("#!/bin/bash\nexit 1\n", encoding="utf-8")
    elif change == "python removed":
        (machine.root / ".venv/bin/python").unlink()
        (machine.root / ".venv/bin/python").symlink_to(machine.path / "python3.0")
    else:
        machine.root = machine.root.rename(machine.root.parent / "elsewhere")
    code, output = machine.run()
    assert code == 0, output
    assert machine.did() != before


def test_without_python3_venv_it_prints_one_command_and_installs_nothing(machine):
    machine.python(has_venv=False)
    machine.command("apt-get")
    machine.command("sudo")
    code, output = machine.run()
    assert code == 1
    assert "lacks the module venv" in output
    assert re.findall("Do this: (.*)", output) == ["sudo apt-get install python3-venv, then run bin/setup again"]
    assert machine.did() == ""
    assert not (machine.root / ".venv").exists()


@pytest.mark.parametrize("environment, pip, uv", [
    ({}, "its own", "its own"), ({"SSL_CERT_FILE": "/a"}, "/a", "/a"), ({"PIP_CERT": "/b"}, "/b", "/b"),
    ({"SSL_CERT_FILE": "/a", "PIP_CERT": "/b"}, "/b", "/a"),
])
def test_pip_and_uv_trust_a_private_authority(machine, environment, pip, uv):
    """pip reads PIP_CERT, and only since 24.2 also SSL_CERT_FILE; uv reads SSL_CERT_FILE."""
    machine.python()
    assert machine.run(**environment)[0] == 0
    assert f"pip trusts {pip}\nuv trusts {uv}\n" in machine.did()


def test_for_the_sandbox_python3_venv_is_installed_also_in_place_of_a_dead_environment(machine):
    machine.python(has_venv=False)
    machine.command("apt-get")
    machine.command("sudo")
    (machine.root / ".venv/bin").mkdir(parents=True)
    shutil.copy(shutil.which("false"), machine.root / ".venv/bin/python")
    done = subprocess.run(["bash", "-euc", 'SELF=bin/sandbox; . bin/lib.sh; ensure_venv'],
                          cwd=machine.root,
                          capture_output=True,
                          text=True,
                          check=False,
                          env={"PATH": str(machine.path), "ASKED": str(machine.asked), "HOME": "/nowhere"})
    assert "apt-get install -q -y python3-venv" in machine.did(), done.stdout + done.stderr


def test_a_python_with_a_name_of_its_own_has_a_package_of_its_own(machine):
    machine.python("3.9")
    machine.python("3.12", has_venv=False, name="python3.12")
    machine.command("apt-get")
    assert "sudo apt-get install python3.12-venv" in machine.run()[1]


@pytest.mark.parametrize("manager, told", [("apt-get", "sudo apt-get install python3.11-venv"),
                                           ("brew", "brew install python@3.13"),
                                           ("dnf", "sudo dnf install python3.12")])
def test_a_python_that_is_too_old(machine, manager, told):
    machine.python("3.9")
    machine.command(manager)
    code, output = machine.run()
    assert code == 1
    assert (
        "needs Python 3.11, 3.12 or 3.13, and this machine has no such Python (Python 3.9)" in output
        and told in output
    )
    assert machine.did() == ""


@pytest.mark.parametrize("named, told", [("/nope", "PYTHON=/nope is not Python 3.11, 3.12 or 3.13 (it does not run)"),
                                         ("python3.9", "(Python 3.9)")])
def test_a_python_that_somebody_names_is_the_one_or_none(machine, named, told):
    machine.python()
    machine.python("3.9", name="python3.9")
    code, output = machine.run(PYTHON=named)
    assert code == 1
    assert told in output and "Do this: name another Python, or unset PYTHON" in output
    assert machine.did() == ""


def test_a_python_that_somebody_names_is_taken(machine):
    machine.python()
    (machine.path / "of my own").mkdir()
    machine.python(name="of my own/python")
    code, output = machine.run(PYTHON=str(machine.path / "of my own/python"))
    assert code == 0, output


def test_a_machine_without_gpg_is_told_what_it_is_for(machine):
    machine.python()
    (machine.path / "gpg").unlink(missing_ok=True)
    machine.command("apt-get")
    code, output = machine.run()
    assert code == 0
    assert "no gpg" in output and "sudo apt-get install gnupg" in output


def test_macos_has_shasum_only(machine):
    machine.python()
    assert machine.run()[0] == 0
    (machine.path / "sha256sum").unlink()
    machine.command("shasum", f"#!/bin/bash\n[ \"$*\" = '-a 256' ] && {shutil.which('sha256sum')}\n")
    before = machine.did()
    code, output = machine.run()
    assert code == 0, output
    assert machine.did() == before, "the hash is the same"


def test_it_says_which_option_it_does_not_know(machine):
    code, output = machine.run("--sandbox")
    assert code == 1 and "unknown option: --sandbox" in output


# Newer than bash 3.2, or in no command of macOS.
NEWER = re.compile(
    r"\b(mapfile|readarray|coproc|realpath)\b|declare -[Ag]|local -[An]|\$\{\w+(,,|\^\^|@)|\|&|&>>|readlink -f|sed "
    r"-i|date -d|stat -c|wait -n"
)


@pytest.mark.parametrize("name", ["setup", "lib.sh"])
def test_it_keeps_to_what_macos_has(name):
    lines = (ROOT / "bin" / name).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if not line.lstrip().startswith("#") and NEWER.search(line)]


def test_sandbox_and_test_make_it_by_the_same_script():
    assert '"$ROOT/bin/setup" --quiet' in (ROOT / "bin/lib.sh").read_text(encoding="utf-8")
    for name in ("sandbox", "test"):
        text = (ROOT / "bin" / name).read_text(encoding="utf-8")
        assert "ensure_venv" in text and "make_venv" not in text
