"""The script that builds a virtualenv, for each installer and pin: rendered by Ansible without a host, and run with stand-ins of what it calls."""

import functools
import itertools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import zipfile

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

ROLES = pathlib.Path(__file__).resolve().parents[2] / "roles"
init_plugin_loader()
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
    *"/python3 -m venv") for last; do :; done; mkdir -p "$last/bin"; for name in python pip uv; do cp {stand_in} "$last/bin/$name"; done ;;
esac
"""


@functools.cache
def defaults(major):
    variables = {"ansible_managed": "Managed by Ansible", "role_path": str(ROLES / "airflow"), "ansible_search_path": [str(ROLES / "airflow")]}
    for name in ("airflow_common/defaults/main.yml", "airflow_common/vars/main.yml", f"airflow_common/vars/airflow_{major}.yml", "airflow/defaults/main.yml",
                 "airflow/vars/main.yml"):
        variables |= DataLoader().load_from_file(str(ROLES / name), trusted_as_template=True)
    return variables


class Build:
    def __init__(self, directory, **given):
        self.directory, stand_in = directory, directory / "python3"
        self.calls_file = directory / "calls"
        stand_in.write_text(STAND_IN.format(calls=shlex.quote(str(self.calls_file)), stand_in=shlex.quote(str(stand_in))), encoding="utf-8")
        stand_in.chmod(0o755)
        (directory / "lock.txt").write_text(LOCK, encoding="utf-8")
        (directory / "constraints.txt").write_text(CONSTRAINTS, encoding="utf-8")
        variables = defaults(3) | {"__airflow_python_default": str(stand_in), "__airflow_python_default_version": "3.11",
                                   "airflow_install_dir": str(directory / "opt")}
        self.templar = Templar(loader=DataLoader(), variables=variables | given)
        for file in self.templar.template(trust_as_template("{{ __airflow_build_files }}")):
            path = pathlib.Path(file["path"])
            if file.get("state") == "directory":
                path.mkdir(parents=True)
            else:
                path.write_text(file["content"], encoding="utf-8")
        self.installers = directory / "opt/installers"
        self.release = self.templar.template(trust_as_template("{{ __airflow_release_dir | trim }}"))

    def script(self):
        """The script, as a host gets it."""
        template = (ROLES / "airflow/templates/build.sh.j2").read_text(encoding="utf-8")
        return self.templar.template(trust_as_template("#jinja2: trim_blocks: True\n" + template), escape_backslashes=False)

    def run(self):
        """What the installer was asked to install: {names: the other arguments}, in the order in which it was asked."""
        run = subprocess.run(["sh", "-s"], input=self.script(), text=True, capture_output=True, check=False, env={"PATH": os.environ["PATH"]})
        assert run.returncode == 0, run.stdout + run.stderr
        self.calls = [call.split("\n") for call in self.calls_file.read_text(encoding="utf-8").strip().split("\n\n")]
        return [call for call in self.calls if "install" in call]


PINS = {"lock": {}, "version": {"airflow_constraints": "official"}, "URL": {"airflow_constraints": "https://example.com/c.txt"}, "file": {}}


@pytest.mark.parametrize(("installer", "pin", "wheels", "extras"), [*itertools.product(["uv", "pip"], PINS, [False, True], [False, True])])
def test_the_installer_is_asked_for_what_is_pinned_and_no_more(tmp_path, installer, pin, wheels, extras):
    given = {"lock": {"airflow_lock": str(tmp_path / "lock.txt")}, "file": {"airflow_constraints": str(tmp_path / "constraints.txt")}}.get(pin, PINS[pin])
    build = Build(tmp_path, airflow_installer=installer, airflow_wheel_dir="/srv/wheels" if wheels else "",
                  airflow_extra_packages=["pandas==2.3.3", "odd name @ https://x/y.whl"] if extras else [], **given)
    of_installer, *asked = build.run()

    places = ["--no-index", "--find-links", "/srv/wheels"] if wheels else []
    assert of_installer == ["python", "-m", "pip", "install", "--quiet", "--ignore-installed", "--require-hashes", *places,
                            "-r", f"{build.installers}/installer.txt"]
    python = ["--python", f"{build.release}/bin/python"]
    begin = ["uv", "pip", "install", "--compile-bytecode", *python] if installer == "uv" else ["pip", *python, "install", "--no-compile"]
    constraint = ["--constraint", {"version": "https://raw.githubusercontent.com/apache/airflow/constraints-3.3.2/constraints-3.11.txt",
                                   "URL": "https://example.com/c.txt"}.get(pin, f"{build.installers}/constraints.txt")]
    main = asked.pop(0)
    if pin == "lock":
        assert main == [*begin, "--require-hashes", "-r", f"{build.installers}/pin.txt", *places]
        assert (build.installers / "pin.txt").read_text(encoding="utf-8") == LOCK
    else:
        assert main == [*begin, "apache-airflow[amazon,celery,hashicorp,postgres,statsd,fab]==3.3.2", "apache-airflow-core[gunicorn]==3.3.2", "authlib",
                        "apache-airflow-providers-amazon[aiobotocore,s3fs]", *constraint, *places]
    assert asked == ([[*begin, "pandas==2.3.3", "odd name @ https://x/y.whl", *constraint, *places]] if extras else [])
    # The proof of it is the last call, after which release.json would be there.
    assert build.calls[-1] == ["python", "-", build.release, "3.3.2", "LocalExecutor"]


@pytest.mark.parametrize("pin", ["airflow_lock", "airflow_constraints"])
def test_a_pin_that_names_an_index_with_its_password_is_for_root_only(tmp_path, pin):
    path = tmp_path / "site.txt"
    path.write_text("--index-url https://ann:hush@mirror.example.com/simple\napache-airflow==3.3.2\n", encoding="utf-8")
    build = Build(tmp_path, **{pin: str(path)})
    files = build.templar.template(trust_as_template("{{ __airflow_build_files }}"))
    holding = [file for file in files if "hush" in file.get("content", "")]
    assert [(file["mode"], file["secret"]) for file in holding] == [("0600", True)] * 2
    # Each run sees to the directory, so a pin of an earlier release is closed on a host that builds nothing.
    for name in ("__airflow_build_files", "__airflow_directories"):
        found = build.templar.template(trust_as_template("{{ %s }}" % name))
        assert [file["mode"] for file in found if file["path"] == str(build.installers)] == ["0700"]


@pytest.mark.parametrize(("given", "named"), [
    ({}, "https://pypi.org/simple (airflow_index_url)"),
    ({"airflow_index_url": "https://ann:hush@mirror.example.com/simple"}, "https://mirror.example.com/simple (airflow_index_url)"),
    ({"airflow_wheel_dir": "/srv/it's wheels"}, "/srv/it's wheels (airflow_wheel_dir)"),
])
def test_a_build_that_takes_too_long_names_where_its_packages_come_from(tmp_path, given, named):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"), **given)
    (tmp_path / "python3").write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    (tmp_path / "build.sh").write_text(build.script(), encoding="utf-8")
    run = subprocess.run(["timeout", "2", "sh", str(tmp_path / "build.sh")], text=True, capture_output=True, check=False)
    assert run.returncode and run.stdout.splitlines()[-1].startswith("The build was stopped") and named in run.stdout and "hush" not in run.stdout


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
    constraints = build.installers / "constraints.txt"
    assert [line for line in constraints.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")] == [
        "apache-airflow==3.3.2", "tomli==2.2.1 ; python_version < '3.11'", "zipp==3.23.0 ; python_version < '3.12'"]
    with zipfile.ZipFile(tmp_path / "ours-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("ours-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: ours\nVersion: 1\n")
        wheel.writestr("ours-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("ours-1.dist-info/RECORD", "")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "target")]
    assert "Would install ours-1" in subprocess.run([*pip, "ours", "--constraint", str(constraints)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("given", "told"), [
    ({}, "come from https://pypi.org/simple (airflow_index_url), whose certificate is verified with the authorities that the installer brings (airflow_ca_b"),
    ({"airflow_index_url": "https://me:horse@pypi.example.com/simple", "airflow_ca_bundle": "/etc/ca.pem"},
     "come from https://pypi.example.com/simple (airflow_index_url), whose certificate is verified with /etc/ca.pem (airflow_ca_bundle)"),
    ({"airflow_wheel_dir": "/srv/wheels"}, "come from /srv/wheels (airflow_wheel_dir)."),
])
def test_a_build_that_failed_names_where_the_packages_come_from(tmp_path, given, told):
    build = Build(tmp_path, airflow_lock=str(tmp_path / "lock.txt"))
    build.templar.available_variables |= given
    (wait,) = DataLoader().load_from_file(str(ROLES / "airflow/tasks/wait.yml"), trusted_as_template=True)
    (build.installers / "build.log").write_text("no route to host\n", encoding="utf-8")
    done = subprocess.run(["sh", "-c", build.templar.template(trust_as_template(wait["probe"]["stdin"]))], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("no route to host\n")
    assert told in done.stderr and "horse" not in done.stderr
