"""Lookup typed_command: the next command has the inventory and the options that the run was started with."""

import os
import pathlib
import sys

import pytest
from ansible_collections.windsock.airflow.plugins.plugin_utils import typed_command

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("typed", "repeated"), [
    ("site.yml", ""),
    ("-i ../prod/hosts.yml site.yml", "-i ../prod/hosts.yml"),
    ("site.yml --inventory=a.yml -ib.yml", "--inventory=a.yml -ib.yml"),
    ("-bKi hosts.yml -vvv -CD site.yml", "-b -K -i hosts.yml"),
    ("--limit one -t service --skip-tags health -f 5 site.yml --check --diff", ""),
    ("-i h -u ann --private-key k --ask-become-pass --vault-id prod@v -J site.yml",
     "-i h -u ann --private-key k --ask-become-pass --vault-id prod@v -J"),
    ("-e @site.vars -e airflow_api_port=8081 --extra-vars=@secrets.yml site.yml",
     "-e @site.vars -e airflow_api_port=8081 --extra-vars=@secrets.yml"),
    ("-e airflow_admin_password=hush -e airflow_confirm=one --extra-vars=jwt_secret=x site.yml", ""),
])
def test_the_options_that_name_the_hosts_and_the_way_to_them_are_repeated(typed, repeated):
    assert " ".join(typed_command.options(typed.split())).replace("-i b.yml", "-ib.yml") == repeated


@pytest.mark.parametrize(("directory", "typed", "path"), [
    (ROOT, "site.yml", "playbooks/verify.yml"),
    (ROOT / "playbooks", "remove_airflow.yml", "verify.yml"),
    (ROOT.parent, str(ROOT / "site.yml"), str(ROOT / "playbooks/verify.yml")),
    (ROOT.parent, ROOT.name + "/site.yml", ROOT.name + "/playbooks/verify.yml"),
])
def test_the_playbook_has_the_form_in_which_that_of_the_run_was_typed(monkeypatch, directory, typed, path):
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "argv", ["/somewhere/ansible-playbook", "-i", "hosts.yml", typed])
    assert typed_command.command("playbooks/verify.yml", "-e",
                                 "x=1") == ["ansible-playbook", "-i", "hosts.yml", path, "-e", "x=1"]


def test_a_command_that_is_no_playbook(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ansible-playbook", "-i", "hosts.yml", "-K", str(ROOT / "site.yml")])
    assert typed_command.command("", "host", program="ansible") == ["ansible", "-i", "hosts.yml", "-K", "host"]
    assert os.path.isabs(typed_command.command("site.yml")[-1])


def test_a_run_that_was_started_by_a_full_name_names_the_next_by_theirs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ansible-playbook", "-i", "hosts.yml", "windsock.airflow.site"])
    assert typed_command.command("playbooks/runbooks/check_health.yml") == [
        "ansible-playbook", "-i", "hosts.yml", "windsock.airflow.runbooks.check_health"
    ]
    assert typed_command.command("site.yml")[-1] == "windsock.airflow.site"


def test_several_playbooks_have_the_same_form(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ansible-playbook", str(ROOT / "site.yml")])
    assert typed_command.command("playbooks/airflow.yml", "playbooks/services.yml", "-e", "site.yml=1") == [
        "ansible-playbook",
        str(ROOT / "playbooks/airflow.yml"),
        str(ROOT / "playbooks/services.yml"), "-e", "site.yml=1"
    ]


@pytest.mark.parametrize("word", [
    "airflow_remove_database=true", "without_backup=true remove_database=true", '{"airflow_remove_database": true}',
    '{"without_backup": true, "remove_database": true}'])
@pytest.mark.parametrize("option", [["-e", "{0}"], ["--extra-vars", "{0}"], ["--extra-vars={0}"]])
def test_the_parameters_of_a_playbook_are_repeated_for_itself_only(monkeypatch, word, option):
    typed = [part.replace("{0}", word) for part in option]
    playbook = str(ROOT / "playbooks/remove_airflow.yml")
    monkeypatch.setattr(sys, "argv", ["ansible-playbook", *typed, "-i", "h", "-e", "airflow_x=remove_it", playbook])
    kept = ["-i", "h", "-e", "airflow_x=remove_it"]
    assert typed_command.command("site.yml") == ["ansible-playbook", *kept, str(ROOT / "site.yml")]
    assert typed_command.command("playbooks/remove_airflow.yml") == ["ansible-playbook", *typed, *kept, playbook]
