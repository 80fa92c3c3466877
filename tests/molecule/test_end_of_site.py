"""The end of site.yml: a run that changed something tells what comes next, from any directory and with any ansible.cfg; other runs tell nothing."""

import configparser
import os
import re
import shlex
import subprocess

import pytest
from conftest import ROOT
from playbook import play


def screen(output):
    """Return the lines after the recap."""
    return re.sub(r" \\\n +", " ", output.split("PLAY RECAP")[1]).splitlines()[2:]


@pytest.fixture
def change(host):
    """Something that site.yml repairs."""
    host.check_output("rm -f /etc/logrotate.d/airflow")


@pytest.fixture
def elsewhere(tmp_path):
    """A directory with an ansible.cfg of its own, which names only what the modules need."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "ansible.cfg")
    names = ("roles_path", "library", "module_utils", "action_plugins", "doc_fragment_plugins", "vars_plugins")
    own = {"defaults": {**{name: str(ROOT / config["defaults"][name]) for name in names}, "facts_modules": "host_facts", "gathering": "smart",
                        "interpreter_python": "/usr/bin/python3", "inject_facts_as_vars": "false"},
           # Without it, a login that is not root cannot become postgres on Debian.
           "connection": {"pipelining": "true"}}
    written = configparser.ConfigParser(interpolation=None)
    written.read_dict(own)
    with open(tmp_path / "ansible.cfg", "w", encoding="utf-8") as file:
        written.write(file)
    return tmp_path


def site(directory, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(ROOT / "site.yml"), *arguments], cwd=directory,
                          env={**environment, "ANSIBLE_NOCOLOR": "true"}, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_that_changed_something_tells_what_comes_next(host, setting, change, elsewhere):
    lines = screen(site(elsewhere))
    inventory = os.environ["MOLECULE_INVENTORY_FILE"]
    text = "\n".join(lines)
    assert 10 < len(lines) <= 24 and f"Airflow {setting('airflow_version')}" in text and "admin" in text
    for playbook in ("playbooks/deploy_dags.yml", "playbooks/runbooks/check_health.yml", "playbooks/runbooks/trigger_dag.yml"):
        assert f"ansible-playbook -i {inventory} {ROOT}/{playbook}" in text
    password = host.file("/etc/airflow/secrets/admin_password").content_string
    assert password not in text
    command = next(line.split("Password", 1)[1] for line in lines if "Password" in line)
    assert subprocess.run(shlex.split(command), capture_output=True, text=True, check=True).stdout == password


@pytest.mark.long("site")
def test_a_source_that_waits_for_a_deploy_is_named(change, tmp_path):
    (tmp_path / "mine.py").write_text("# A DAG of mine.\n", encoding="utf-8")
    done = play("../site", airflow_dags_source=str(tmp_path))
    assert not done.failed, done.output
    said = " ".join("\n".join(screen(done.output)).split())
    assert f"airflow_dags_source {tmp_path} has other files" in said and "deploy_dags.yml" in said


@pytest.mark.parametrize("arguments", [[], pytest.param(["--check"], marks=pytest.mark.long("site"))])
def test_a_run_that_changed_nothing_and_a_dry_run_tell_nothing(host, elsewhere, arguments):
    if arguments:
        host.check_output("rm -f /etc/logrotate.d/airflow")
    output = site(elsewhere, *arguments)
    assert "Next:" not in output
    assert bool(re.search(r" changed=[1-9]", output)) is bool(arguments)
    if arguments:
        assert not play("observability").failed


@pytest.mark.long("site")
def test_a_virtualenv_that_was_never_built_is_not_switched_to(host, setting):
    """Tag configure leaves out the build. Another package makes another virtualenv necessary."""
    install, changed = setting("airflow_install_dir"), {"airflow_extra_packages": ["six==1.17.0"]}
    linked = host.check_output(f"readlink {install}/venv")
    refused = play("../site", "--tags", "configure", **changed)
    assert (refused.failed, refused.changed) == (True, 0), refused.output
    assert "--tags install,configure,service" in refused.text
    release = re.search(rf"The virtualenv ({install}/venvs/\S+) is not built", refused.text)[1]
    assert release != f"{install}/{linked}" and not host.file(release).exists

    # What a build under umask 077 has left: complete, and closed to the components.
    package = f"{release}/lib/python3/site-packages/airflow"
    host.check_output(f"umask 077 && mkdir -p {release}/bin {package} && cp /bin/true {release}/bin/python && "
                      f"touch {release}/release.json {package}/__init__.py")
    try:
        closed = play("../site", "--tags", "configure", **changed)
    finally:
        host.check_output(f"rm -r {release}")
    assert closed.failed and closed.changed == 0 and f"{release} is not built" in closed.text, closed.output
    assert host.check_output(f"readlink {install}/venv") == linked
