"""Callback next_steps: the last screen of site.yml fits, names what can be copied, and is there only after a change."""

import importlib.util
import os
import pathlib
import re
import shlex
import sys

import forks
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

pytestmark = pytest.mark.playbook

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("next_steps", ROOT / "plugins/callback/next_steps.py")
next_steps = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(next_steps)
STEPS = {
    "version": "3.3.2", "hosts": "one", "url": "http://localhost:8080", "tunnel": True, "user": "admin", "sign_in": "",
    "example": "", "pending": "", "password": {"command": ["cat", "/home/ann/.airflow-secrets/site/admin_password"]}
}
LONG = "/home/ann/a directory/" + "long/" * 12 + "hosts.yml"


@pytest.fixture(autouse=True)
def _typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ansible-playbook", "-i", "hosts.yml", "-K", str(ROOT / "site.yml")])


def screen(**steps):
    return next_steps.screen({**STEPS, **steps})


def text(**steps):
    return re.sub(r" \\\n +", " ", "\n".join(screen(**steps)))


@pytest.mark.parametrize("argv", [["-i", "hosts.yml"], ["-i", LONG, "-K", "--vault-password-file", LONG, "-u", "ann"]])
@pytest.mark.parametrize("steps", [
    {},
    {"url": "https://airflow.example.com", "tunnel": False},
    {"example": "example_dag"},
    {"pending": f"airflow_dags_source git@github.com:example/{'x' * 90} has other files (1) than release 2."},
    {"password": {"command": ["one", "-b", "-m", "command", "-a", "cat /etc/airflow/secrets/admin_password"],
                  "on_host": True}},
])
def test_it_fits_on_one_screen(monkeypatch, argv, steps):
    monkeypatch.setattr(sys, "argv", ["ansible-playbook", *argv, str(ROOT / "site.yml")])
    lines = screen(**steps)
    assert len(lines) <= 24
    # A path is never cut.
    assert [line for line in lines if len(line) > 100 and "xxx" not in line and "long/" not in line] == []


def test_the_password_ends_with_its_line_and_the_key_of_the_backups_is_named():
    assert "Password  cat /home/ann/.airflow-secrets/site/admin_password; echo" in text()
    assert "  Keep      a copy of /a/backup_key: nobody can open a backup without it" in screen(
        backup_key="/a/backup_key")
    assert "Keep" not in text()


def test_a_program_keeps_its_first_argument():
    long = "/home/ann/" + "long/" * 18 + "file"
    assert next_steps.fold(["cat", long], "") == [f"cat {long}"]
    assert next_steps.fold(["cat", long, long], "") == [f"cat {long} \\", f"    {long}"]


def test_commands_have_the_form_in_which_the_run_was_started():
    found = [
        line.strip().removeprefix("Health").removeprefix("Run a DAG").strip() for line in text().splitlines()
        if "ansible-playbook" in line
    ]
    assert len(found) == 4
    for line in found:
        words = shlex.split(line)
        assert words[:4] == ["ansible-playbook", "-i", "hosts.yml", "-K"]
        assert pathlib.Path(words[4]).is_file()


def test_the_password_is_a_command():
    assert "cat /home/ann/.airflow-secrets/site/admin_password" in text()
    asked = text(password={"command": ["one", "-b", "-m", "command", "-a", "cat /x"], "on_host": True})
    assert "ansible -i hosts.yml -K one -b -m command -a 'cat /x'" in " ".join(asked.split())
    assert text(password={"command": ["aws"], "pipe": ["jq", "-r", ".admin_password"]}).count(
        "aws | jq -r .admin_password") == 1
    assert "Password" not in text(sign_in="your account at google (airflow_auth)")


def test_the_tunnel_is_for_hosts_that_a_browser_cannot_reach():
    assert "http://localhost:8080, once this command has forwarded the port:" in text(
    ) and "open_ui.yml -e airflow_open=true" in text()
    named = text(url="http://airflow.example.com")
    assert (
        "http://airflow.example.com. If a browser does not reach it, forward the port:" in named
        and "open_ui.yml -e airflow_open=true" in named
    )
    direct = text(url="https://airflow.example.com", tunnel=False)
    assert "https://airflow.example.com" in direct and "open_ui" not in direct


@pytest.mark.parametrize(("given", "url", "tunnel"), [
    ({}, "http://localhost:8080", True),
    ({"airflow_api_base_url": "http://localhost:8080"}, "http://localhost:8080", True),
    ({"airflow_api_base_url": "http://airflow.example.com"}, "http://airflow.example.com", True),
    ({"connection": "local"}, "http://localhost:8080", False),
    # nginx, a TLS proxy of the site's own, and an API server on the network have an address that browsers reach.
    ({"airflow_api_base_url": "https://airflow.example.com", "proxy": ["one"]}, "https://airflow.example.com", False),
    ({"airflow_api_base_url": "https://airflow.example.com"}, "https://airflow.example.com", False),
    ({"airflow_api_base_url": "http://airflow.example.com:8080", "airflow_api_host": "0.0.0.0"},
     "http://airflow.example.com:8080", False),
])
def test_who_needs_the_tunnel(given, url, tunnel):
    variables = {
        "groups": {"airflow": ["one"], "airflow_webserver": ["one"], "airflow_proxy": given.get("proxy", [])},
        "hostvars": {"one": {"ansible_connection": given.get("connection", "ssh")}},
        **DataLoader().load_from_file(str(ROOT / "roles/airflow_common/defaults/main.yml"), trusted_as_template=True),
        **given,
    }
    (play,) = DataLoader().load_from_file(str(ROOT / "playbooks/next_steps.yml"), trusted_as_template=True)
    collected = play["tasks"][-1]["ansible.builtin.set_fact"]["__airflow_next_steps"]
    templar = Templar(loader=DataLoader(), variables={**variables, **play["vars"]})
    assert [templar.template(collected[name]) for name in ("url", "tunnel")] == [url, tunnel]


def test_what_waits_for_a_deploy_is_named():
    assert "X has other files" in text(pending="airflow_dags_source X has other files.") and "deploy_dags.yml" in text(
        pending="x")
    assert "Set airflow_dags_source" in text(example="example_dag") and "dag_id=example_dag" in text(
        example="example_dag")


PLAYS = [
    {
        "hosts": "localhost", "gather_facts": False, "connection": "local", "tasks": [{
            "name": "Do it", "ansible.builtin.debug": {"msg": ""}, "changed_when": "change | default(false) | bool"
        }]
    },
    {
        "hosts": "localhost", "gather_facts": False, "connection": "local", "vars": {"__airflow_run_changed": False},
        "tasks": [{
            "name": "Collect", "ansible.builtin.set_fact": {"__airflow_next_steps": STEPS},
            "when": "__airflow_run_changed"
        }, {"name": "Fail", "ansible.builtin.fail": {}, "when": "fail | default(false) | bool"}]
    },
]


@pytest.mark.parametrize(("arguments", "shown"), [
    (["-e", "change=true"], True), ([], False), (["-e", "change=true", "--check"], False),
    (["-e", "change=true", "-e", "fail=true"], False)])
def test_it_is_shown_after_a_change_whatever_the_directory_and_the_configuration(tmp_path, arguments, shown):
    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "project/callback_plugins").symlink_to(ROOT / "plugins/callback")
    (tmp_path / "project/collections").symlink_to(ROOT / "collections")
    (tmp_path / "project/site.yml").write_text(yaml.safe_dump(PLAYS), encoding="utf-8")
    (tmp_path / "elsewhere/ansible.cfg").write_text("[defaults]\nnocolor = true\n", encoding="utf-8")
    done = forks.run(["ansible-playbook", "-i", "localhost,", tmp_path / "project/site.yml", *arguments],
                     cwd=tmp_path / "elsewhere",
                     env={name: value
                          for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"})
    assert ("Airflow 3.3.2 runs on one." in done.stdout) is shown, done.stdout + done.stderr
    if shown:
        assert done.stdout.index("PLAY RECAP") < done.stdout.index("Airflow 3.3.2 runs on one.")
        assert "ansible-playbook -i localhost, " in done.stdout


def test_site_yml_ends_with_it():
    assert yaml.safe_load(
        (ROOT / "site.yml").read_text(encoding="utf-8"))[-1]["import_playbook"] == "windsock.airflow.next_steps"
