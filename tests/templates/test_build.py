"""The script that builds a virtualenv, for each installer and pin: rendered by Ansible without a host, and run with
stand-ins of what it calls.
"""

import fcntl
import functools
import itertools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from shared_variables import shared_variables

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"
LOCK = """\
# Apache Airflow, in the form of bin/lock, pip-compile and poetry export.
apache-airflow==3.3.2 \\
    --hash=sha256:{0} \\
    --hash=sha256:{1}
tomli[all]==2.2.1 ; python_version < '3.11' \\
    --hash=sha256:{0}
    # via apache-airflow
zipp==3.23.0 ; python_version < '3.12' --hash=sha256:{0} --hash=sha256:{1}
""".format("a" * 64, "b" * 64)
CONSTRAINTS = "apache-airflow==3.3.2\ntomli==2.2.1\n"
STAND_IN = """#!/bin/sh
# What each writes down: the name it was called by and its arguments, a blank line after each call.
{{ printf '%s\\n' "${{0##*/}}" "$@"; echo; }} >> {calls}
case "$0 $1 $2" in
    *"/python3 -m venv") for last; do :; done; mkdir -p "$last/bin";
        for name in python pip uv; do cp {stand_in} "$last/bin/$name"; done
        # A file of a cache that was filled under umask 077.
        echo > "$last/cached.py"; chmod 600 "$last/cached.py" ;;
    # The proof, which marks the virtualenv as complete.
    *"/bin/python - "*) echo > "$2/release.json" ;;
esac
"""


@functools.cache
def defaults(major):
    role = ROLES / "airflow_virtualenv"
    own = [DataLoader().load_from_file(str(ROLES / name / "vars/main.yml"), trusted_as_template=True)
           for name in ("airflow_virtualenv", "airflow_config")]
    return {
        **shared_variables(major), **own[0], **own[1], "ansible_managed": "Managed by Ansible", "role_path": str(role),
        "ansible_search_path": [str(role)]
    }


class Build:
    def __init__(self, directory, **given):
        self.directory, stand_in = directory, directory / "python3"
        self.calls_file = directory / "calls"
        stand_in.write_text(STAND_IN.format(calls=shlex.quote(str(self.calls_file)),
                                            stand_in=shlex.quote(str(stand_in))),
                            encoding="utf-8")
        stand_in.chmod(0o755)
        # The first in PATH: what has to be on the disk is written down as well.
        (directory / "path").mkdir()
        (directory / "path/sync").symlink_to(stand_in)
        (directory / "lock.txt").write_text(LOCK, encoding="utf-8")
        (directory / "constraints.txt").write_text(CONSTRAINTS, encoding="utf-8")
        variables = defaults(3) | {
            "__airflow_python_default": str(stand_in), "__airflow_python_default_version": "3.11",
            "airflow_install_dir": str(directory / "opt")
        }
        self.templar = Templar(loader=DataLoader(), variables=variables | given)
        for file in self.templar.template(trust_as_template("{{ __airflow_virtualenv_build_files }}")):
            path = pathlib.Path(file["path"])
            if file.get("state") == "directory":
                path.mkdir(parents=True)
            else:
                path.write_text(file["content"], encoding="utf-8")
        self.installers = directory / "opt/installers"
        self.inputs = self.templar.template(trust_as_template("{{ __airflow_build_inputs }}"))
        self.release = self.templar.template(trust_as_template("{{ __airflow_release_dir | trim }}"))
        names = ("pin", "constraints", "packages")
        self.given = {name: pathlib.Path(f"{self.inputs}.{name}.txt").read_text(encoding="utf-8") for name in names}

    def script(self):
        """The script, as a host gets it."""
        template = (ROLES / "airflow_virtualenv/templates/build.sh.j2").read_text(encoding="utf-8")
        return self.templar.template(trust_as_template("#jinja2: trim_blocks: True\n" + template),
                                     escape_backslashes=False)

    def run(self, umask=0o022):
        """What the installer was asked to install: {names: the other arguments}, in the order in which it was asked."""
        self.calls_file.write_text("", encoding="utf-8")
        environment = {"PATH": f"{self.directory}/path:{os.environ['PATH']}"}
        run = subprocess.run(["sh", "-s"], input=self.script(), text=True, capture_output=True, check=False,
                             umask=umask, env=environment)
        assert run.returncode == 0, run.stdout + run.stderr
        self.calls = [call.split("\n") for call in self.calls_file.read_text(encoding="utf-8").strip().split("\n\n")]
        return [call for call in self.calls if "install" in call]


PINS = {
    "lock": {}, "version": {"airflow_constraints": "official"},
    "URL": {"airflow_constraints": "https://example.com/c.txt"}, "file": {}
}


@pytest.mark.parametrize(("installer", "pin", "wheels", "extras"),
                         [*itertools.product(["uv", "pip"], PINS, [False, True], [False, True])])
def test_the_installer_is_asked_for_what_is_pinned_and_no_more(tmp_path, installer, pin, wheels, extras):
    given = {
        "lock": {"airflow_lock": str(tmp_path / "lock.txt")},
        "file": {"airflow_constraints": str(tmp_path / "constraints.txt")}
    }.get(pin, PINS[pin])
    build = Build(tmp_path, airflow_installer=installer, airflow_wheel_dir="/srv/wheels" if wheels else "",
                  airflow_extra_packages=["pandas==2.3.3", "odd name @ https://x/y.whl"] if extras else [], **given)
    of_installer, *asked = build.run()

    places = ["--no-index", "--find-links", "/srv/wheels"] if wheels else []
    assert of_installer == [
        "python", "-m", "pip", "install", "--quiet", "--ignore-installed", "--require-hashes", *places, "-r",
        f"{next(build.installers.glob(installer + '-*.txt'))}"
    ]
    python = ["--python", f"{build.release}/bin/python"]
    begin = ["uv", "pip", "install", "--compile-bytecode", *python
             ] if installer == "uv" else ["pip", *python, "install", "--no-compile"]
    constraint = ["--constraint", f"{build.inputs}.constraints.txt"]
    url = {
        "version": "https://raw.githubusercontent.com/apache/airflow/constraints-3.3.2/constraints-3.11.txt",
        "URL": "https://example.com/c.txt"
    }.get(pin)
    assert not url or build.given["constraints"] == f"--constraint {url}"
    main = asked.pop(0)
    if pin == "lock":
        assert main == [*begin, "--require-hashes", "-r", f"{build.inputs}.pin.txt", *places]
        assert build.given["pin"] == LOCK
    else:
        assert main == [
            *begin, "apache-airflow[amazon,celery,hashicorp,postgres,statsd,fab]==3.3.2",
            "apache-airflow-core[gunicorn]==3.3.2", "authlib", "apache-airflow-providers-amazon[aiobotocore,s3fs]",
            *constraint, *places
        ]
    assert asked == ([[*begin, "-r", f"{build.inputs}.packages.txt", *constraint, *places]] if extras else [])
    assert build.given["packages"].splitlines()[1:] == (
        ["pandas==2.3.3", "odd name @ https://x/y.whl"] if extras else []
    )
    # They may hold the password of an index.
    assert [
        path.name for path in build.installers.iterdir()
        if path.name.endswith((".pin.txt", ".constraints.txt", ".packages.txt"))
    ] == []
    # The proof of it is the last call, after which release.json would be there. Then the installer's cache is flushed.
    flushed = [["sync", "--file-system", "/var/cache/airflow/uv"]] if installer == "uv" else []
    assert build.calls[-1 - len(flushed):] == [["python", "-", build.release, "3.3.2", "LocalExecutor"], *flushed]


def test_builds_of_two_releases_share_no_file(tmp_path):
    """A build that a killed run has left still reads its own files while another release is built."""
    written = []
    for number, lock in enumerate([LOCK, LOCK.replace("zipp==3.23.0", "zipp==3.23.1")]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / "lock.txt").write_text(lock, encoding="utf-8")
        build = Build(tmp_path / str(number), airflow_lock=str(tmp_path / "lock.txt"))
        files = build.templar.template(trust_as_template("{{ __airflow_virtualenv_build_files }}"))
        written.append(
            {file["path"].replace(str(build.directory), ""): file["content"]
             for file in files if "content" in file})
    both = written[0].keys() & written[1].keys()
    assert {path for path in both if written[0][path] != written[1][path]} == set()
    # Those of the installer, which are the same.
    assert {pathlib.Path(path).name[:3] for path in both} == {"uv-"}


PASSWORDS = {"index": {"airflow_index_url": "https://ann:hush@mirror.example.com/simple"},
             "lock": {"airflow_lock": "site.txt"}, "constraints": {"airflow_constraints": "site.txt"},
             "address": {"airflow_constraints": "https://ann:hush@mirror.example.com/c.txt"},
             "package": {"airflow_extra_packages": ["odd @ https://ann:hush@mirror.example.com/odd.whl"]}}


@pytest.mark.parametrize("installer", ["uv", "pip"])
@pytest.mark.parametrize("given", PASSWORDS.values(), ids=PASSWORDS)
def test_the_password_of_an_index_is_for_root_only_and_gone_after_the_build(tmp_path, given, installer):
    """Every user of the host can read the arguments of a process."""
    (tmp_path / "site.txt").write_text(
        "--index-url https://ann:hush@mirror.example.com/simple\napache-airflow==3.3.2\n", encoding="utf-8")
    given = {"airflow_lock": str(tmp_path / "lock.txt"), **given}
    build = Build(tmp_path, airflow_installer=installer,
                  **{name: str(tmp_path / value) if value == "site.txt" else value for name, value in given.items()})
    files = build.templar.template(trust_as_template("{{ __airflow_virtualenv_build_files }}"))
    holding = [file for file in files if "hush" in file.get("content", "")]
    assert holding and {(file["mode"], file["secret"]) for file in holding} == {("0600", True)}
    assert "hush" not in build.script()
    assert build.run() and "hush" not in build.calls_file.read_text(encoding="utf-8")
    # Airflow is configured after the build.
    gone = [file["path"] for file in build.templar.template(trust_as_template("{{ __airflow_config_files_gone }}"))]
    assert {file["path"] for file in holding} <= set(gone)
    # Each run sees to the directory, so a pin of an earlier release is closed on a host that builds nothing.
    for name in ("__airflow_virtualenv_build_files", "__airflow_config_directories"):
        found = build.templar.template(trust_as_template("{{ %s }}" % name))
        assert [file["mode"] for file in found if file["path"] == str(build.installers)] == ["0700"]


@pytest.mark.parametrize(("given", "named"), [
    ({}, "https://pypi.org/simple (airflow_index_url)"),
    ({"airflow_index_url": "https://ann:hush@mirror.example.com/simple"},
     "https://mirror.example.com/simple (airflow_index_url)"),
    ({"airflow_wheel_dir": "/srv/it's wheels"}, "/srv/it's wheels (airflow_wheel_dir)"),
])
def test_a_build_that_takes_too_long_names_where_its_packages_come_from(tmp_path, given, named):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"), **given)
    (tmp_path / "python3").write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    (tmp_path / "build.sh").write_text(build.script(), encoding="utf-8")
    run = subprocess.run(["timeout", "2", "sh", str(tmp_path / "build.sh")],
                         text=True,
                         capture_output=True,
                         check=False)
    assert run.returncode and run.stdout.splitlines()[-1].startswith(
        "The build was stopped") and named in run.stdout and "hush" not in run.stdout


def test_the_umask_of_the_login_closes_nothing_to_the_components(tmp_path):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    build.run(umask=0o077)
    release = pathlib.Path(build.release)
    modes = {path.name: f"{path.stat().st_mode & 0o777:04o}" for path in [release, *release.rglob("*")]}
    # The installer copies a file of its cache with the mode that it has there. The marker is written last.
    assert {modes.pop(name) for name in ("cached.py", "release.json")} == {"0644"}
    assert set(modes.values()) == {"0755"}, modes


def test_the_installer_is_on_the_disk_before_it_counts_as_complete(tmp_path):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    installer = build.templar.template(trust_as_template("{{ __airflow_virtualenv_installer_dir }}"))
    (tmp_path / "path/sync").unlink()
    (tmp_path / "path/sync").write_text(f'#!/bin/sh\n[ "$2" != "{installer}" ] || exit 5\n', encoding="utf-8")
    (tmp_path / "path/sync").chmod(0o755)
    with pytest.raises(AssertionError):
        build.run()
    assert pathlib.Path(installer).is_dir() and not pathlib.Path(installer, "ready").exists()


BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")


@pytest.mark.parametrize("lost", [False, True])
def test_a_cache_that_was_filled_before_a_loss_of_power_is_not_used(tmp_path, lost):
    """uv does not compare a file of its cache with a hash, and a loss of power may leave empty files there."""
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    boot = "another boot\n" if lost else BOOT.read_text(encoding="utf-8")
    (build.installers / "building").write_text(boot, encoding="utf-8")
    build.run()
    assert (["uv", "cache", "clean"] in build.calls) is lost
    assert not (build.installers / "building").exists()


def test_a_build_that_fails_leaves_a_note_of_the_boot_that_filled_the_cache(tmp_path):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    stand_in = tmp_path / "python3"
    stand_in.write_text(stand_in.read_text(encoding="utf-8") + '[ "$1" != pip ] || exit 1\n', encoding="utf-8")
    with pytest.raises(AssertionError):
        build.run()
    assert (build.installers / "building").read_text(encoding="utf-8") == BOOT.read_text(encoding="utf-8")


@pytest.fixture
def real_python(tmp_path):
    """A build whose stand-in for the system's Python really asks who uses the virtualenv."""
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    stand_in = tmp_path / "python3"
    program = shlex.join([sys.executable]) + ' "$@" ' + shlex.quote(str(tmp_path / "proc"))
    asks = f'#!/bin/sh\ncase "$0 $1" in *"/python3 -") exec {program} ;; esac\n'
    stand_in.write_text(asks + stand_in.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "proc").mkdir()
    pathlib.Path(build.release).mkdir()
    (pathlib.Path(build.release) / "half.py").touch()
    return build


def test_an_incomplete_virtualenv_is_built_anew_and_never_under_a_process(real_python):
    left, proc = pathlib.Path(real_python.release) / "half.py", real_python.directory / "proc"
    with subprocess.Popen([sys.executable, "-c", "input()", str(left)], stdin=subprocess.PIPE) as process:
        (proc / str(process.pid)).symlink_to(f"/proc/{process.pid}")
        with pytest.raises(AssertionError, match=f"while these processes use it: {process.pid}"):
            real_python.run()
        assert left.exists()
        (proc / str(process.pid)).unlink()
        process.communicate(b"\n")
    assert real_python.run()
    assert not left.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("closed", "built"), [
    ("", True), (".", False), ("bin/python", False), ("lib/python3.11/site-packages/airflow/__init__.py", False)])
def test_a_virtualenv_that_the_service_user_cannot_use_is_not_built(closed, built):
    # pytest's own directories are closed to other users.
    with tempfile.TemporaryDirectory(prefix="airflow-built-") as name:
        os.chmod(name, 0o755)
        build = Build(pathlib.Path(name), airflow_lock=f"{name}/lock.txt", airflow_user="no-such-user")
        release = pathlib.Path(build.release)
        (release / "lib/python3.11/site-packages/airflow").mkdir(parents=True)
        (release / "bin").mkdir()
        for path in ("release.json", "bin/python", "lib/python3.11/site-packages/airflow/__init__.py"):
            (release / path).touch(0o755)
        if closed:
            (release / closed).chmod(0o700)
        (ask, _refuse) = DataLoader().load_from_file(
            str(ROLES / "airflow_virtualenv/tasks/steps/gather_state.yml"), trusted_as_template=True
        )
        question = build.templar.template(ask["windsock.airflow.probe"]["stdin"])
        done = subprocess.run(["sh", "-s"], input=question, text=True, capture_output=True, check=True)
        assert ("virtualenv" in done.stdout.split()) is built
        # A build that finds it complete has nothing to do.
        assert (build.run() == []) is built


@pytest.mark.parametrize(("tags", "skipped", "built", "refused"), [
    (["configure"], [], False, True), (["configure", "service"], [], False, True), (["all"], ["install"], False, True),
    (["configure"], [], True, False), (["all"], [], False, False), (["install", "configure"], [], False, False),
    (["airflow"], [], False, False),
])
def test_tags_that_leave_out_the_build_are_refused_where_it_is_needed(tmp_path, tags, skipped, built, refused):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"), ansible_run_tags=tags, ansible_skip_tags=skipped,
                  __airflow_found={"stdout_lines": ["virtualenv"] if built else []})
    (_ask, refuse) = DataLoader().load_from_file(
        str(ROLES / "airflow_virtualenv/tasks/steps/gather_state.yml"), trusted_as_template=True
    )
    arguments = refuse["ansible.builtin.assert"]
    assert build.templar.evaluate_conditional(trust_as_template(arguments["that"])) is not refused
    said = build.templar.template(trust_as_template(arguments["fail_msg"]))
    assert build.release in said and "--tags install,configure,service" in said


LOCKED = yaml.safe_load((ROLES.parent / "locks/locks.yml").read_text(encoding="utf-8"))["airflow"]


@pytest.mark.parametrize("version", LOCKED)
def test_constraints_are_asked_for_what_the_lock_was(version):
    templar = Templar(loader=DataLoader(), variables=defaults(int(version[0])) | {"airflow_version": version})
    found = templar.template(trust_as_template("{{ __airflow_requirements }}"))

    def parts(requirements):
        return sorted(sorted(re.split(r"[][,]", one)) for one in requirements)

    assert parts(found) == parts(LOCKED[version]["requirements"])


def test_pip_takes_the_lock_as_constraints_of_a_package_without_a_hash(tmp_path):
    """A hash in any file of pip's turns on --require-hashes for all of them, and a constraint may not have extras."""
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"), airflow_installer="pip")
    constraints = pathlib.Path(f"{build.inputs}.constraints.txt")
    assert [
        line for line in constraints.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    ] == ["apache-airflow==3.3.2", "tomli==2.2.1 ; python_version < '3.11'", "zipp==3.23.0 ; python_version < '3.12'"]
    with zipfile.ZipFile(tmp_path / "ours-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ours-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: ours\nVersion: 1\n")
        wheel.writestr("ours-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("ours-1.dist-info/RECORD", "")
    pip = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--find-links",
        str(tmp_path), "--target",
        str(tmp_path / "target")
    ]
    assert "Would install ours-1" in subprocess.run(
        [*pip, "ours", "--constraint", str(constraints)], capture_output=True, text=True, check=True).stdout


def test_the_build_in_the_background_leaves_the_directory_of_its_files(tmp_path):
    (begin, ) = [
        task["ansible.builtin.command"]
        for task in yaml.safe_load((ROLES / "airflow_virtualenv/tasks/steps/build.yml").read_text(encoding="utf-8"))
        if "ansible.builtin.command" in task
    ]
    environment = tmp_path / "release.environment"
    environment.write_text("INDEX=https://pypi.example.com\n", encoding="utf-8")
    # The parent of the script is the process that ends it after an hour.
    script = "readlink /proc/$$/cwd /proc/$PPID/cwd; echo $INDEX\n"
    subprocess.run([*begin["argv"][:-2], str(tmp_path), str(environment)],
                   input=script,
                   text=True,
                   check=True,
                   cwd=tmp_path)
    subprocess.run(["flock", "--timeout", "10", str(tmp_path / "lock"), "true"], check=True)
    assert (tmp_path / "build.log").read_text(encoding="utf-8") == "/\n/\nhttps://pypi.example.com\n"
    assert not environment.exists()


@pytest.mark.parametrize(("file", "said"), [
    ("airflow_virtualenv/tasks/steps/wait_for_build.yml",
     "waits for the virtualenv. Last line of its log: Prepared 80 packages\n"),
    ("airflow_config/tasks/operations/remove.yml",
     "waits for a build of the virtualenv that an earlier run has begun\n"),
])
def test_a_build_at_work_is_waited_for(tmp_path, file, said):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    task = DataLoader().load_from_file(str(ROLES / file), trusted_as_template=True)[0]
    (build.installers / "build.log").write_text("Downloading\nPrepared 80 packages\n", encoding="utf-8")
    script = build.templar.template(trust_as_template(task["windsock.airflow.probe"]["stdin"]))
    with open(build.installers / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (75, said, "")


@pytest.mark.parametrize(("given", "told"), [
    ({}, "come from https://pypi.org/simple (airflow_index_url), whose certificate is verified with the authorities "
         "that the installer brings (airflow_ca_b"),
    ({"airflow_index_url": "https://me:horse@pypi.example.com/simple", "airflow_ca_bundle": "/etc/ca.pem"},
     "come from https://pypi.example.com/simple (airflow_index_url), whose certificate is verified with /etc/ca.pem "
     "(airflow_ca_bundle)"),
    ({"airflow_wheel_dir": "/srv/wheels"}, "come from /srv/wheels (airflow_wheel_dir)."),
])
def test_a_build_that_failed_names_where_the_packages_come_from(tmp_path, given, told):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    build.templar.available_variables |= given
    (wait, ) = DataLoader().load_from_file(str(ROLES / "airflow_virtualenv/tasks/steps/wait_for_build.yml"),
                                           trusted_as_template=True)
    (build.installers / "build.log").write_text("no route to host\n", encoding="utf-8")
    script = build.templar.template(trust_as_template(wait["windsock.airflow.probe"]["stdin"]))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("no route to host\n")
    assert told in done.stderr and "horse" not in done.stderr
