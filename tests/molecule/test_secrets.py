"""Secrets are where they belong and nowhere else."""

import os

import pytest
from conftest import ROOT

NAMES = ["fernet_key", "api_secret_key", "jwt_secret", "sql_alchemy_conn", "admin_password", "database_password"]


@pytest.fixture(scope="module")
def secrets(host, setting):
    directory = f"{setting('airflow_config_dir')}/secrets"
    found = {name: host.check_output(f"cat {directory}/{name} 2>/dev/null || true") for name in NAMES}
    found = {name: value for name, value in found.items() if value}
    assert {"fernet_key", "api_secret_key", "jwt_secret", "sql_alchemy_conn"} <= set(found)
    assert all(len(value) >= 16 for value in found.values())
    return found


@pytest.fixture(scope="module")
def everything(host, secrets):
    """The secrets of the files, and what the scenario has planted as `markers` wherever its inventory takes a secret."""
    # The tests themselves put secrets into argument lists.
    host.run("systemctl stop watch-argv")
    return {**secrets, **host.ansible.get_variables().get("markers", {})}


def test_files_are_for_the_group_only_and_end_without_newline(host, setting, secrets):
    for name in secrets:
        file = host.file(f"{setting('airflow_config_dir')}/secrets/{name}")
        # The components don't need the administrator's password, and the database's is in sql_alchemy_conn.
        for_root = name in ("admin_password", "database_password")
        assert (file.user, file.group, file.mode) == ("root", "root" if for_root else setting("airflow_group"), 0o600 if for_root else 0o640)
        assert not file.content.endswith(b"\n")


def test_no_file_that_others_may_read_holds_one(host, everything):
    patterns = "\n".join(everything.values())
    run = host.run(
        f"find / -xdev -type f -perm -o+r -size -2M -not -path '/proc/*' -not -path '*/site-packages/*' -not -path '/var/cache/airflow/*' "
        f"-not -path '/usr/share/*' -print0 | xargs -0 grep -lF -e '{patterns}' 2>/dev/null"
    )
    # A file counts only where every directory above it can be entered by others.
    open_to_all = [path for path in run.stdout.splitlines() if host.run(f"runuser -u nobody -- test -r '{path}'").rc == 0]
    assert open_to_all == []


def test_no_argument_list_holds_one(host, everything):
    shown = host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'; cat /root/argv 2>/dev/null || true")
    assert [name for name, value in everything.items() if value in shown] == []


def test_no_environment_of_a_component_holds_one(host, setting, everything):
    shown = host.check_output(f"for p in $(pgrep -u {setting('airflow_user')}); do cat /proc/$p/environ 2>/dev/null; done | tr '\\0' '\\n'")
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
