"""A host that site.yml installed: asked through the API, systemd, the kernel and the database, not through its files.
"""

import functools
import os
import pathlib
import re

import pytest
import yaml
from airflow_api import Api
from conftest import ROOT, host_name

UNITS = {
    3: ["airflow-api-server", "airflow-dag-processor", "airflow-scheduler", "airflow-triggerer", "airflow-watchdog"],
    2: ["airflow-webserver", "airflow-scheduler", "airflow-triggerer", "airflow-watchdog"],
}


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


def listeners(host):
    """Return {(address, port)} of TCP sockets that listen."""
    lines = host.check_output("ss -Htln").splitlines()
    return {tuple(line.split()[3].rsplit(":", 1)) for line in lines}


def test_the_home_of_the_login_has_the_mode_that_the_scenario_promises(host):
    """Closed, as usual, or as the system makes it. Role airflow_database begins commands in this home that user airflow
    goes on with.
    """
    scenario = yaml.safe_load(pathlib.Path(os.environ["MOLECULE_FILE"]).read_text(encoding="utf-8"))
    (login,) = [platform.get("login", {}) for platform in scenario["platforms"] if platform["name"] == host_name(host)]
    if login.get("name") == "docker":
        pytest.skip("the playbooks reach this host through Docker")
    promised = login.get("home_mode", "0700")
    if not promised:
        defaults = dict(
            re.findall(r"^(HOME_MODE|UMASK)\s+(\d+)",
                       host.file("/etc/login.defs").content_string, re.MULTILINE))
        promised = defaults.get("HOME_MODE") or oct(0o777 & ~int(defaults["UMASK"], 8))[2:]
    assert int(host.check_output(f"stat -c %a ~{host.ansible.get_variables()['ansible_user']}"), 8) == int(promised, 8)


def test_api_answers_with_the_version_asked_for(api, airflow_version):
    assert api.get("/version")["version"] == airflow_version


def test_every_component_beats(api, major):
    health = api.get("/monitor/health" if major == 3 else "/health")
    expected = ["metadatabase", "scheduler", "triggerer"] + (["dag_processor"] if major == 3 else [])
    assert {name: health[name]["status"] for name in expected} == dict.fromkeys(expected, "healthy")


def test_wrong_password_is_refused(api):
    # Airflow 2 says 403 here.
    assert api.ask("GET", "/dags", password="not-the-password")[0] in (401, 403)


def test_example_dags_have_no_import_error(api):
    assert api.get("/importErrors")["total_entries"] == 0
    assert {dag["dag_id"] for dag in api.get("/dags")["dags"]} >= {"example_dag", "tutorial", "tutorial_taskflow"}


@pytest.fixture(scope="module")
def ended(api):
    """ended("example_dag"): a run of this DAG, and its state in the end."""

    @functools.cache
    def run(dag_id):
        started = api.start_run(dag_id)
        return started, api.wait(dag_id, started)

    return run


@pytest.mark.parametrize("dag_id", ["example_dag", "tutorial_taskflow"])
def test_dag_run_succeeds(api, ended, dag_id):
    run, state = ended(dag_id)
    assert state == "success", api.tasks(dag_id, run)


def test_task_log_is_read_back_through_the_api(api, ended):
    run, _state = ended("example_dag")
    status, log = api.ask("GET",
                          f"/dags/example_dag/dagRuns/{run.replace('+', '%2B')}/taskInstances/print_hello/logs/1")
    assert status == 200
    assert "hello" in str(log).lower()


def test_components_run_as_the_service_user_with_the_virtualenv_read_only(host, setting, major):
    user = setting("airflow_user")
    for unit in UNITS[major]:
        service = host.service(unit)
        assert service.is_running
        assert service.systemd_properties["User"] == user
    assert host.run(f"runuser -u {user} -- touch {setting('airflow_install_dir')}/venv/lib/x").rc != 0


def test_only_the_target_is_enabled_and_it_brings_the_components(host, major):
    assert host.service("airflow.target").is_enabled
    wanted = host.check_output("systemctl show airflow.target --property=Wants --value").split()
    assert set(wanted) == {f"{unit}.service" for unit in UNITS[major]}


@pytest.mark.parametrize("name", ["backup", "clean_database"])
def test_the_database_is_backed_up_and_cleaned_by_a_timer_where_it_is_wanted(host, setting, name):
    timer = host.service(f"airflow-{name.replace('_', '-')}.timer")
    assert timer.is_enabled == timer.is_running == setting(f"airflow_{name}_enabled")


@pytest.mark.major(3)
def test_api_server_has_the_name_of_the_webserver_too(host):
    assert host.check_output("systemctl show airflow-webserver --property=Id --value") == "airflow-api-server.service"


def test_units_are_sandboxed(host, major):
    for unit in UNITS[major]:
        line = host.check_output(f"systemd-analyze security {unit}.service --no-pager | tail -1")
        assert float(re.search(r"([0-9.]+) [A-Z]+", line)[1]) <= 2.5, line


def test_nothing_listens_that_need_not(host, setting, major):
    allowed = {(setting("airflow_api_host"), str(setting("airflow_api_port")))
               } | ({("127.0.0.1", "8974")} if major == 3 else set())
    if "airflow_proxy" in host.ansible.get_variables()["group_names"]:
        allowed |= {(address, port) for address in ("0.0.0.0", "[::]") for port in ("80", "443")}
    # The way in of the one who installs.
    allowed |= {(address, "22") for address in ("0.0.0.0", "[::]") if host.service("ssh").is_running}
    open_to_others = {(address, port) for address, port in listeners(host) if not address.startswith(("127.", "[::1]"))}
    assert open_to_others <= {pair for pair in allowed if not pair[0].startswith("127.")}
    assert {port for _address, port in listeners(host)} >= {port for _address, port in allowed}
    assert not {port for _address, port in listeners(host)} & {"8793", "8794"}, "a log server listens"


@pytest.mark.parametrize(
    ("name", "owner", "mode"),
    [
        ("airflow_install_dir", "root", 0o755),
        ("airflow_config_dir", "root", 0o750),
        ("airflow_home", "airflow_user", 0o750),
        ("airflow_log_dir", "airflow_user", 0o750),
    ],
)
def test_directories_belong_to_the_right_user(host, setting, name, owner, mode):
    found = host.file(setting(name))
    assert found.user == (setting(owner) if owner != "root" else "root")
    assert found.mode == mode


def test_airflow_made_up_no_configuration_of_its_own(host, setting):
    assert host.check_output(
        f"find {setting('airflow_home')} / -xdev -name airflow.cfg -not -path '*/site-packages/*' | sort -u").split(
        ) == [f"{setting('airflow_config_dir')}/airflow.cfg"]


def test_installed_set_is_the_lock(host, setting, airflow_version):
    python = f"{setting('airflow_install_dir')}/venv/bin/python"
    minor = host.check_output(f"{python} -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    extra = setting("airflow_extra_packages")
    listing = host.check_output(
        f"{python} -c 'from importlib.metadata import distributions as d; [print(p.metadata[\"Name\"], p.version) for "
        "p in d()]'"
    )
    installed = {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in map(str.split, listing.splitlines())
    }
    lock = ROOT / "locks" / f"airflow-{airflow_version}-py{minor}.txt"
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ \\\n;]+)", lock.read_text(encoding="utf-8"), re.M))
    for requirement in extra:
        installed.pop(re.split(r"[=<>~!\[ ]", requirement)[0].lower())
    if setting("airflow_constraints"):
        # Constraints pin what is installed; they don't say what is.
        assert installed.items() <= locked.items()
    else:
        assert installed == locked


def test_packages_agree_with_each_other(host, setting):
    installer = host.check_output(
        f"ls -d {setting('airflow_install_dir')}/installers/*/bin/{setting('airflow_installer')}")
    python = f"{setting('airflow_install_dir')}/venv/bin/python"
    host.run_expect([0], f"{installer} pip check --python {python}"
                    if setting("airflow_installer") == "uv" else f"{installer} --python {python} check")


def test_modules_are_compiled(host, setting):
    venv = f"{setting('airflow_install_dir')}/venv/lib"
    assert host.check_output(
        f"find -H {venv}/python3*/site-packages/airflow -name 'configuration.*.pyc' | wc -l") != "0"


def test_the_service_user_can_read_all_of_the_virtualenv(host, setting):
    """Whatever the umask of the login was, and that of the login which filled the cache of packages."""
    venv = host.check_output(f"readlink -f {setting('airflow_install_dir')}/venv")
    assert host.check_output(f"runuser -u {setting('airflow_user')} -- find {venv} ! -readable -print -quit") == ""
    assert host.check_output(f"find {venv} -type d ! -perm -005 -print -quit") == ""


def test_only_differences_from_airflows_own_defaults_are_configured(host, setting, major):
    """Options that a variable of ours may set to anything are left out."""
    free = {
        "parallelism", "workers", "sql_alchemy_pool_size", "sql_alchemy_max_overflow", "host", "port",
        "web_server_host", "web_server_port"
    }
    free |= {"executor", "base_url", "statsd_host", "statsd_port", "statsd_prefix"}
    script = (
        "import configparser, sys; from airflow.configuration import conf;"
        "f = configparser.ConfigParser(); f.optionxform = str; f.read(sys.argv[1]);"
        "d = conf._default_values if hasattr(conf, '_default_values') else conf.airflow_defaults;"
        "print([s + '.' + k for s in f.sections() for k, v in f[s].items() if d.has_option(s, k) and d.get(s, k, "
        "fallback=None) == v])"
    )
    config = f"{setting('airflow_config_dir')}/airflow.cfg"
    out = host.check_output(
        f"AIRFLOW_CONFIG=/dev/null {setting('airflow_install_dir')}/venv/bin/python -c \"{script}\" {config}"
    ).splitlines()[-1]
    site = {f"{section}.{key}" for section, options in setting("airflow_config").items() for key in options}
    same = {name for name in re.findall(r"'([^']+)'", out) if name.split(".")[1] not in free} - site
    assert not same


def test_command_works_from_a_shell_that_may_read_the_secrets(host, setting, api):
    # `tasks test` makes a run and deletes it, and may then deadlock with a scheduler that looks at the run; it looks at
    # none of a paused DAG.
    assert api.ask("PATCH", "/dags/example_dag", {"is_paused": True})[0] == 200
    assert host.run("cd /root && airflow tasks test example_dag print_hello 2024-01-01").rc == 0
    # Nothing that root started is left in a directory of the components.
    assert host.check_output(f"find {setting('airflow_home')} {setting('airflow_log_dir')} -user root | head") == ""


def test_command_says_so_where_the_caller_may_not_read_the_secrets(host, setting):
    run = host.run("runuser -u nobody -- airflow version")
    assert run.rc == 77
    assert f"nobody may not read {setting('airflow_config_dir')}/secrets" in run.stderr


def test_scheduler_that_is_idle_stops_by_itself_and_at_once(host, setting):
    """Neither killed by its ExecStop nor by systemd's limit: it hears, and has nothing to wait for."""
    since = host.check_output("date +%s")
    host.check_output("systemctl stop airflow-scheduler")
    found = host.service("airflow-scheduler").systemd_properties
    assert (found["Result"], found["ExecMainCode"], found["ExecMainStatus"]) == ("success", "1", "0")
    said = host.check_output(f"journalctl --unit airflow-scheduler --since @{since} --output cat --no-pager")
    assert "killed" not in said and "timed out" not in said and "gave up" not in said
    asked, ended = (
        int(host.check_output(f"systemctl show airflow-scheduler --property={name} --value"))
        for name in ("ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic")
    )
    assert ended - asked < setting("airflow_services_stop_timeout") * 1_000_000
    host.check_output("systemctl start airflow-scheduler")
