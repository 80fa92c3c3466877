"""The end of site.yml: a run that changed something tells what comes next, from any directory and with any ansible.cfg;
other runs tell nothing.

In the ordinary run the new user sees both (test_new_user.py). Also runs of site.yml that are refused, and builds by a
login that keeps its files to itself.
"""

import os
import re
import subprocess

import pytest
from conftest import ROOT, host_name
from playbook import SETTINGS, play


def screen(output):
    """Return the lines after the recap."""
    return re.sub(r" \\\n +", " ", output.split("PLAY RECAP")[1]).splitlines()[2:]


@pytest.fixture
def change(host):
    """Something that site.yml repairs."""
    host.check_output("rm -f /etc/logrotate.d/airflow")


@pytest.fixture
def elsewhere(tmp_path):
    """A directory with an empty ansible.cfg: the playbooks need nothing of it."""
    (tmp_path / "ansible.cfg").touch()
    return tmp_path


def site(directory, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"],
         str(ROOT / "site.yml"), *arguments],
        cwd=directory,
        env={**environment, "ANSIBLE_NOCOLOR": "true"},
        text=True,
        capture_output=True,
        check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long("site")
def test_a_run_that_changed_something_tells_what_comes_next(host, setting, change, elsewhere):
    lines = screen(site(elsewhere))
    inventory = os.environ["MOLECULE_INVENTORY_FILE"]
    text = re.sub(r" \\\n +", " ", "\n".join(lines))
    assert 10 < len(lines) <= 24 and f"Airflow {setting('airflow_version')}" in text and "admin" in text
    for playbook in ("playbooks/deploy_dags.yml", "playbooks/runbooks/check_health.yml", "playbooks/run_dag.yml"):
        assert f"ansible-playbook -i {inventory} {ROOT}/{playbook}" in text
    password = host.file("/etc/airflow/secrets/admin_password").content_string
    assert password not in text
    command = next(line.split("Password", 1)[1] for line in text.splitlines() if "Password" in line)
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout == f"{password}\n"


@pytest.mark.long("site")
def test_a_source_that_waits_for_a_deploy_is_named(change, tmp_path):
    (tmp_path / "mine.py").write_text("# A DAG of mine.\n", encoding="utf-8")
    done = play("../site", airflow_dags_source=str(tmp_path))
    assert not done.failed, done.output
    said = " ".join("\n".join(screen(done.output)).split())
    assert f"airflow_dags_source {tmp_path} has other files" in said and "deploy_dags.yml" in said


@pytest.mark.long("site")
@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_a_run_that_changed_nothing_and_a_dry_run_tell_nothing(host, elsewhere, arguments):
    if arguments:
        host.check_output("rm -f /etc/logrotate.d/airflow")
    output = site(elsewhere, *arguments)
    assert "Next:" not in output
    assert bool(re.search(r" changed=[1-9]", output)) is bool(arguments)
    if arguments:
        assert not play("logging").failed


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


@pytest.mark.long("site")
def test_an_executor_whose_tasks_nothing_runs_is_refused(host, setting):
    picture = (
        f"sha256sum {setting('airflow_config_dir')}/airflow.cfg; readlink {setting('airflow_install_dir')}/venv; "
        "systemctl show --property MainPID airflow-scheduler")
    before = host.check_output(picture)
    done = play("../site", airflow_executor="CeleryExecutor")
    assert (done.failed, done.changed) == (True, 0), done.output
    assert "Nothing was changed and no host was contacted" in done.text
    assert (
        "airflow_executor" in done.text and "no role installs Celery workers yet" in done.text
        and "Use LocalExecutor" in done.text
    )
    assert host.check_output(picture) == before


@pytest.mark.long("site")
@pytest.mark.parametrize("name", ["airflow_user", "airflow_group", "airflow_home"])
def test_another_owner_for_an_airflow_that_is_installed_is_refused(host, setting, name):
    other = "/srv/other16" if name == "airflow_home" else "other16"
    picture = (f"stat -c '%n %U %G' {setting('airflow_home')} {setting('airflow_log_dir')}; "
               f"getent passwd {setting('airflow_user')} other16; "
               "getent group other16; ls -d /srv/other16; systemctl show --property MainPID airflow-scheduler")
    before = host.run(picture).stdout
    done = play("../site", **{name: other})
    assert (done.failed, done.changed) == (True, 0), done.output
    assert f"is {other}, and the Airflow on this host is installed with {setting(name)}" in done.text
    assert f"Set {name}: {setting(name)}" in done.text and "Nothing was changed on" in done.text
    assert host.run(picture).stdout == before and "other16" not in before


@pytest.fixture
def umask(host, request):
    """The umask of what the login does as root."""
    file = "/etc/sudoers.d/umask-of-test"
    host.check_output(
        f"echo 'Defaults umask={request.param}, umask_override' > {file} && chmod 0440 {file} && visudo --check --quiet"
    )
    yield request.param
    host.check_output(f"rm {file}")


@pytest.mark.long("site")
@pytest.mark.parametrize("umask", ["0077", "0027"], indirect=True)
def test_the_service_user_can_run_what_a_login_with_this_umask_builds(host, setting, umask):
    """Tag install builds and does not switch."""
    command = [
        "ansible", "-i", os.environ["MOLECULE_INVENTORY_FILE"],
        host_name(host), "--become", "-m", "ansible.builtin.command", "-a", "sh -c umask"
    ]
    asked = subprocess.run(command,
                           cwd=ROOT,
                           env={**os.environ, **SETTINGS},
                           text=True,
                           capture_output=True,
                           check=False)
    assert asked.returncode == 0 and asked.stdout.split(
    )[-1] == umask, "the login has this umask: " + asked.stdout + asked.stderr
    venvs, user = f"{setting('airflow_install_dir')}/venvs", setting("airflow_user")
    there, linked = set(host.file(venvs).listdir()), host.check_output(f"readlink {venvs}/../venv")
    new = set()
    try:
        done = play("../site", "--tags", "install", airflow_extra_packages=["cowsay==6.1"])
        assert not done.failed, done.output
        new = set(host.file(venvs).listdir()) - there
        (name,) = new
        assert host.file(f"{venvs}/{name}/release.json").exists and host.check_output(
            f"readlink {venvs}/../venv") == linked
        said = host.check_output(
            f"cd / && runuser -u {user} -- {venvs}/{name}/bin/python -c 'import airflow, cowsay; "
            "print(airflow.__version__)'"
        )
        assert said.splitlines()[-1] == setting("airflow_version")
        assert host.check_output(f"runuser -u {user} -- find {venvs}/{name} ! -readable -print -quit") == ""
    finally:
        for name in new or set(host.file(venvs).listdir()) - there:
            host.check_output(f"rm -r {venvs}/{name}")
