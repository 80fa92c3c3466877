"""Virtualenvs that processes use: found with real processes, kept by everything that removes virtualenvs."""

import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.windsock.airflow.plugins.module_utils import airflow_virtualenvs

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"plugins/modules/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prune, disk = load("airflow_virtualenv_prune"), load("airflow_disk_space")

# Maps the file that standard input names, as the dynamic linker maps a library, then says that it has.
MAPS = """
import mmap, sys
with open(sys.stdin.readline().strip(), "rb") as file:
    held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print("ready", flush=True)
sys.stdin.read()
"""
WAITS = "import sys; print('ready', flush=True); sys.stdin.read()"


class Host:
    """An installation directory, and a directory like /proc that shows the processes of this test alone."""

    def __init__(self, directory):
        self.install, self.proc = directory / "opt", directory / "proc"
        self.proc.mkdir()
        for age, name in enumerate(("linked", "newest", "second", "third")):
            path = self.install / "venvs" / name
            (path / "lib").mkdir(parents=True)
            (path / "lib/library.so").write_bytes(b"x" * 5000)
            (path / "release.json").touch()
            os.utime(path, (1000 - age, 1000 - age))
        (self.install / "venv").symlink_to("venvs/linked")

    def path(self, name):
        return self.install / "venvs" / name

    def names(self):
        return sorted(os.listdir(self.install / "venvs"))

    @contextlib.contextmanager
    def process(self, command, line="", **options):
        """Run a process until the block ends."""
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as process:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            shown = self.proc / str(process.pid)
            shown.symlink_to(f"/proc/{process.pid}")
            yield process.pid
            shown.unlink()
            process.stdin.close()

    def uses(self, how, name):
        """A process that uses a virtualenv in one of the ways."""
        path = self.path(name)
        if how == "library":
            # Its title and environment tell nothing, as those of a component that has set its title.
            return self.process([sys.executable, "-c", MAPS], f"{path}/lib/library.so")
        if how == "argument":
            return self.process([sys.executable, "-c", WAITS, f"{path}/bin/airflow"])
        if how == "environment":
            return self.process([sys.executable, "-c", WAITS], env={**os.environ, "VIRTUAL_ENV": str(path)})
        program = path / "bin/cat"
        program.parent.mkdir()
        # Not a change that makes the virtualenv a new one.
        os.utime(path, (997, 997))
        program.write_bytes(pathlib.Path("/bin/cat").read_bytes())
        program.chmod(0o755)
        return self.process(["cat"], "ready", executable=str(program))


@pytest.fixture
def host(tmp_path, monkeypatch):
    made = Host(tmp_path)
    for module in (prune, disk):
        monkeypatch.setattr(module, "in_use", functools.partial(airflow_virtualenvs.in_use, proc=str(made.proc)))
    return made


@pytest.fixture
def pruned(host, capsys):
    def run(keep, check_mode=False):
        with patch_module_args({"install_dir": str(host.install), "keep": keep, "_ansible_check_mode": check_mode}):
            with pytest.raises(SystemExit):
                prune.main()
        return json.loads(capsys.readouterr().out)

    return run


WAYS = ["library", "argument", "environment", "program"]


@pytest.mark.parametrize("how", WAYS)
def test_a_process_is_found_by_all_that_names_the_virtualenv(host, how):
    with host.uses(how, "third") as pid:
        assert airflow_virtualenvs.in_use(str(host.install / "venvs"), str(host.proc)) == {"third": [pid]}
    assert airflow_virtualenvs.in_use(str(host.install / "venvs"), str(host.proc)) == {}


@pytest.mark.parametrize("how", WAYS)
def test_the_prune_keeps_a_virtualenv_that_a_process_uses(host, pruned, how):
    with host.uses(how, "third") as pid:
        result = pruned(keep=1)
    assert (result["changed"], result["removed"], result["in_use"]) == (True, ["second"], {"third": [pid]})
    assert host.names() == ["linked", "newest", "third"]
    assert pruned(keep=1)["removed"] == ["third"]


def test_the_prune_keeps_the_newest_and_a_dry_run_removes_nothing(host, pruned):
    assert pruned(keep=2, check_mode=True)["removed"] == ["third"]
    assert host.names() == ["linked", "newest", "second", "third"]
    assert pruned(keep=2)["removed"] == ["third"]
    assert not pruned(keep=2)["changed"]
    assert host.names() == ["linked", "newest", "second"]


def test_the_virtualenv_that_a_failed_migration_goes_back_to_stays(host, pruned):
    (host.install / "old").symlink_to("venvs/third")
    with tarfile.open(host.install / "previous.tar", "w") as archive:
        archive.add(host.install / "old", "/opt/airflow/venv")
    assert pruned(keep=1)["removed"] == ["second"]
    _size, get = disk.Space({"install_dir": str(host.install), "cache_dir": "/nowhere",
                             "journal_mb": 500}).old_virtualenvs()
    get()
    assert host.names() == ["linked", "third"]
    (host.install / "previous.tar").write_bytes(b"cut short")
    assert "No virtualenv was removed" in pruned(keep=0)["msg"]


@pytest.mark.parametrize("how", WAYS)
def test_room_is_not_made_of_a_virtualenv_that_a_process_uses(host, how):
    space = disk.Space({"install_dir": str(host.install), "cache_dir": "/nowhere", "journal_mb": 500})
    (host.install / "installers").mkdir()
    (host.install / "installers/lock").touch()
    (host.path("second") / "release.json").unlink()
    with host.uses(how, "third"), host.uses("library", "second"):
        assert space.incomplete() == []
        _size, get = space.old_virtualenvs()
        get()
    assert host.names() == ["linked", "second", "third"]


def test_a_process_that_cannot_be_read_may_use_any_virtualenv(host, pruned, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(airflow_virtualenvs, "executable", closed)
    with host.uses("library", "third"):
        assert "No virtualenv was removed" in pruned(keep=1)["msg"]
        assert disk.Space({"install_dir": str(host.install)}).unused_virtualenvs() == []
    assert host.names() == ["linked", "newest", "second", "third"]


def test_a_path_through_a_link_is_recognised(host, tmp_path):
    (tmp_path / "alias").symlink_to("opt")
    with host.uses("library", "third") as pid:
        assert airflow_virtualenvs.in_use(str(tmp_path / "alias/venvs"), str(host.proc)) == {"third": [pid]}


def test_a_removal_that_was_cut_short_leaves_no_complete_virtualenv(host, monkeypatch):
    monkeypatch.setattr(airflow_virtualenvs.shutil, "rmtree", lambda _path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        airflow_virtualenvs.remove(str(host.path("third")))
    assert host.path("third").exists() and not (host.path("third") / "release.json").exists()


def test_as_a_program_it_names_the_processes(host):
    """The build runs it so. The program does not find itself, although the path is among its arguments."""
    program = [sys.executable, airflow_virtualenvs.__file__, str(host.path("third")), str(host.proc)]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as alone:
        (host.proc / str(alone.pid)).symlink_to(f"/proc/{alone.pid}")
        assert alone.communicate() == (None, "") and alone.returncode == 0
    with host.uses("library", "third") as pid:
        done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"while these processes use it: {pid}." in done.stderr
    assert "systemctl stop airflow.target 'airflow*'" in done.stderr


def test_what_a_virtualenv_was_built_from_goes_with_it(host):
    """A pin may name an index with its password."""
    (host.install / "installers").mkdir()
    for name in ("second.pin.txt", "second.constraints.txt", "second-and-more.pin.txt", "third.pin.txt"):
        (host.install / "installers" / name).touch()
    airflow_virtualenvs.remove(str(host.path("second")))
    assert sorted(os.listdir(host.install / "installers")) == ["second-and-more.pin.txt", "third.pin.txt"]
