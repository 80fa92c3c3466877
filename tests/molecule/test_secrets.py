"""Secrets are where they belong and nowhere else."""

import base64
import os
import shutil
import tarfile
import urllib.parse

import pytest
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_config import CONFIG_SECRETS
from conftest import ROOT
from playbook import play

NAMES = ["fernet_key", "api_secret_key", "jwt_secret", "sql_alchemy_conn", "admin_password", "database_password"]

# The options that Airflow and the installed providers mark as sensitive. Without importing Airflow, which takes
# seconds.
SENSITIVE = """
import pathlib, runpy, sysconfig, yaml
airflow = pathlib.Path(sysconfig.get_path("purelib"), "airflow")
found = [yaml.load((airflow / "config_templates/config.yml").read_text(), yaml.CSafeLoader)]
found += [runpy.run_path(str(path))["get_provider_info"]().get("config") or {}
          for path in airflow.glob("providers/**/get_provider_info.py")]
options = [(f"{section}.{name}", option)
           for config in found for section, content in config.items() for name, option in content["options"].items()]
print(*{name for name, option in options if option.get("sensitive")})
"""


@pytest.fixture(scope="module")
def secrets(host, setting):
    directory = f"{setting('airflow_config_dir')}/secrets"
    found = {name: host.check_output(f"cat {directory}/{name} 2>/dev/null || true") for name in NAMES}
    found = {name: value for name, value in found.items() if value}
    assert {"fernet_key", "api_secret_key", "jwt_secret", "sql_alchemy_conn"} <= set(found)
    assert all(len(value) >= 16 for value in found.values())
    return found


@pytest.fixture(scope="module")
def validated(host, tmp_path_factory):
    """Deploy DAGs, and have Ansible say the most, if the scenario has planted a secret in the environment of their
    validation.
    """
    if "validation" in host.ansible.get_variables().get("markers", {}):
        source = tmp_path_factory.mktemp("source")
        shutil.copytree(ROOT / "files/dags", source / "dags")
        # A release that the host has already would not be validated.
        with (source / "dags/tutorial.py").open("a", encoding="utf-8") as file:
            file.write("# Another release.\n")
        done = play("deploy_dags", "-vvv", airflow_dags_source=str(source))
        assert not done.failed, done.output[-6000:]
        assert "Parse every file" in done.output


@pytest.fixture(scope="module")
def everything(host, secrets, validated):
    """The secrets of the files, and what the scenario has planted as `markers` wherever its inventory takes a secret.
    """
    # The tests themselves put secrets into argument lists.
    host.run("systemctl stop watch-argv")
    variables = host.ansible.get_variables()
    # The password that the login types for sudo is not one of Airflow's, and must be nowhere either.
    login = {"sudo": variables["ansible_become_pass"]} if "ansible_become_pass" in variables else {}
    return {**secrets, **login, **variables.get("markers", {})}


def test_files_are_for_the_group_only_and_end_without_newline(host, setting, secrets):
    for name in secrets:
        file = host.file(f"{setting('airflow_config_dir')}/secrets/{name}")
        # The components don't need the administrator's password, and the database's is in sql_alchemy_conn.
        for_root = name in ("admin_password", "database_password")
        assert (file.user, file.group, file.mode) == (
            "root",
            "root" if for_root else setting("airflow_group"),
            0o600 if for_root else 0o640,
        )
        assert not file.content.endswith(b"\n")


def test_what_a_virtualenv_was_built_from_is_gone(host, setting, everything):
    """A pin, and an address of a package, may hold the password of an index."""
    directory = f"{setting('airflow_install_dir')}/installers"
    assert (host.file(directory).user, host.file(directory).mode) == ("root", 0o700)
    assert host.check_output(f"find {directory} -maxdepth 1 -name 'build.*' -perm /077") == ""
    assert [
        name for name in host.file(directory).listdir()
        if name.endswith((".pin.txt", ".constraints.txt", ".packages.txt", ".environment"))
    ] == []
    patterns = " ".join(f"-e '{value}'" for value in everything.values())
    assert host.run(f"grep -rlF {patterns} {directory}").stdout == ""


def test_a_package_with_a_password_in_its_address_was_installed(host, setting):
    """If the scenario has planted one."""
    if "package" in host.ansible.get_variables().get("markers", {}):
        host.check_output(f"{setting('airflow_install_dir')}/venv/bin/python -c 'import marked'")


def test_preflight_refuses_in_airflow_cfg_what_airflow_takes_for_a_secret(host, setting, major):
    said = host.check_output(f"{setting('airflow_install_dir')}/venv/bin/python -c '{SENSITIVE}'").split()
    assert {"core.fernet_key", "sentry.sentry_dsn"} <= set(said) <= set(CONFIG_SECRETS[str(major)])


def test_no_file_that_others_may_read_holds_one(host, everything):
    patterns = "\n".join(everything.values())
    run = host.run(
        "find / -xdev -type f -perm -o+r -size -2M -not -path '/proc/*' -not -path '*/site-packages/*' -not -path "
        "'/var/cache/airflow/*' "
        f"-not -path '/usr/share/*' -print0 | xargs -0 grep -lF -e '{patterns}' 2>/dev/null")
    # A file counts only where every directory above it can be entered by others.
    open_to_all = [
        path for path in run.stdout.splitlines() if host.run(f"runuser -u nobody -- test -r '{path}'").rc == 0
    ]
    assert open_to_all == []


def test_no_argument_list_holds_one(host, everything):
    shown = host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'; cat /root/argv 2>/dev/null || true")
    assert [name for name, value in everything.items() if value in shown] == []


def test_no_environment_of_a_component_holds_one(host, setting, everything):
    shown = host.check_output(
        f"for p in $(pgrep -u {setting('airflow_user')}); do cat /proc/$p/environ 2>/dev/null; done | tr '\\0' '\\n'")
    assert "AIRFLOW_CONFIG=" in shown
    # airflow_environment is meant to be there.
    assert [name for name, value in everything.items() if value in shown and name != "environment"] == []


def test_the_journal_holds_none(host, everything):
    shown = host.check_output("journalctl --no-pager -o cat")
    assert [name for name, value in everything.items() if value in shown] == []


def test_ansibles_output_and_its_fact_cache_hold_none(everything):
    shown = (ROOT / f"artifacts/logs/ansible-{os.environ['MOLECULE_SCENARIO_NAME']}.log").read_text(encoding="utf-8")
    assert "TASK [" in shown
    for path in ROOT.glob(f"artifacts/logs/facts-{os.environ['MOLECULE_SCENARIO_NAME']}/*"):
        shown += path.read_text(encoding="utf-8")
    assert [name for name, value in everything.items() if value in shown] == []


def written(value):
    """A secret as logs and headers know it, and of each the characters that give it away."""
    raw = value.encode()
    for text in (value, urllib.parse.quote(value, safe=""), raw.hex(), base64.b64encode(raw).decode(),
                 base64.urlsafe_b64encode(raw).decode()):
        yield text, text
    # As the password of a header, behind users of three lengths.
    for user in (b"admin:", b"admin1:", b"admin12:"):
        text = base64.b64encode(user + raw).decode()
        yield text, text[12:-4]


def test_a_support_bundle_holds_none_and_is_of_use(host, setting, everything, tmp_path):
    """What Airflow knows as a secret is also put where the bundle takes text from: encoded, as it is never found there
    by itself.
    """
    known = {
        name: value
        for name, value in everything.items()
        if name not in ("admin_password", "index", "package", "pin", "validation", "user", "sudo")
    }
    leak = "/var/lib/airflow-watchdog/restarts.jsonl"
    there = host.file("/var/lib/airflow-watchdog").exists
    host.check_output(
        "mkdir -p /var/lib/airflow-watchdog; [ ! -e %s ] || cp -p %s %s.kept; cat >> %s <<'END'\n%s\nEND" %
        (leak, leak, leak, leak, "\n".join(f"{name}: {text}" for name, value in known.items()
                                           for text, _core in written(value))))
    try:
        done = play("runbooks/collect_support_bundle", airflow_directory=str(tmp_path))
    finally:
        host.check_output(f"rm {leak}; [ ! -e {leak}.kept ] || mv {leak}.kept {leak}")
        if not there:
            host.check_output("rmdir /var/lib/airflow-watchdog")
    assert not done.failed, done.output
    assert done.changed == 0
    assert host.check_output("ls -d /run/airflow-support-* 2>/dev/null || true") == ""

    (bundle,) = tmp_path.glob("*.tar.gz")
    assert bundle.stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundle) as archive:
        members = {
            member.name.split("/", 1)[1]: archive.extractfile(member).read().decode()
            for member in archive.getmembers()
        }
    found = {
        name: path
        for name, value in everything.items()
        for _text, core in written(value)
        for path, content in members.items() if core in content
    }
    assert found == {}
    # Of use: each part has what it is named after.
    for path, expected in {
        "README.txt": "Not collected: nothing",
        "config/airflow.cfg": "fernet_key_cmd = cat",
        "config/environment": "AIRFLOW_HOME",
        "airflow/database.txt": "== task instances",
        "airflow/health.txt": "airflow-scheduler: active",
        "airflow/packages.txt": f"apache-airflow=={setting('airflow_version')}",
        "airflow/releases.txt": "current -> releases/",
        "airflow/watchdog.txt": ": <hidden>",
        "journal/airflow-scheduler.service.log": "airflow-scheduler",
        "system/disk.txt": "Filesystem",
        "system/host.txt": "PRETTY_NAME",
        "system/network.txt": str(setting("airflow_api_port")),
        "system/processes.txt": "systemd",
        "units/files.txt": "ExecStart=",
        "units/list.txt": "airflow.target",
        "units/status.txt": "Main PID",
    }.items():
        assert expected in members[path], path
