"""Pages show the last screen of two playbooks as the code prints it, for the data below."""

import base64
import json
import sys

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.windsock.airflow.plugins.callback import next_steps
from repository import ROOT, printed_blocks
from shared_variables import shared_variables

HOME = "/home/ann"
COPY = f"{HOME}/.airflow-secrets/0b7e6c1e-5d0a-4f0f-9d0e-6a4f3c2b1a09"
INSTALLED = {
    "version": "3.3.2", "hosts": "airflow-1", "url": "http://localhost:8080", "tunnel": True, "user": "admin",
    "sign_in": "", "example": "example_dag", "pending": "", "password": {"command": ["cat", f"{COPY}/admin_password"]},
    "backup_key": f"{COPY}/backup_key"
}
BACKUP = "/var/backups/airflow/airflow-20261130T155300Z.tar"
# What the modules have removed from a host with the variables of bin/new-site.
REMOVED = [
    "/etc/airflow", "/etc/logrotate.d/airflow", "/etc/rsyslog.d/10-airflow.conf",
    "/etc/rsyslog.d/airflow-component-logs.rsyslog",
    *(f"/etc/systemd/system/{name}"
      for name in ("airflow-api-server.service", "airflow-backup.service", "airflow-backup.timer",
                   "airflow-clean-database.service", "airflow-clean-database.timer", "airflow-component-logs.service",
                   "airflow-dag-processor.service", "airflow-groom-logs.service", "airflow-groom-logs.timer",
                   "airflow-scheduler.service", "airflow-triggerer.service", "airflow-watchdog.service",
                   "airflow.target")), "/opt/airflow", "/usr/local/bin/airflow", "/usr/local/sbin/airflow-groom-logs",
    "/var/cache/airflow", "/var/lib/airflow", "/var/lib/airflow-component-logs", "/var/lib/airflow-watchdog",
    "/var/lib/systemd/timers/stamp-airflow-backup.timer", "/var/lib/systemd/timers/stamp-airflow-clean-database.timer",
    "/var/lib/systemd/timers/stamp-airflow-groom-logs.timer", "/var/log/airflow"
]


@pytest.fixture
def typed(monkeypatch):
    """typed(word, ...): the command that began the run, after the shell has replaced ~."""
    monkeypatch.chdir(ROOT)
    return lambda *words: monkeypatch.setattr(sys, "argv",
                                              ["ansible-playbook", "-i", f"{HOME}/airflow-site/hosts.yml", *words])


def shown(page):
    """The text that a page shows: its only block of this language."""
    (block,) = printed_blocks((ROOT / page).read_text(encoding="utf-8"))
    return block


def test_the_page_shows_the_end_of_an_installation(typed):
    typed("site.yml", "-K")
    printed = "\n".join(next_steps.screen(INSTALLED)).strip("\n") + "\n"
    assert shown("docs/install.md") == printed, f"put this into the block of docs/install.md:\n{printed}"


def end_of_removal(found, **variables_of_run):
    """The report of the removal, where the question about what is there had this answer."""
    loader = DataLoader()

    def variables(name):
        return loader.load_from_file(str(ROOT / name), trusted_as_template=True)

    plays = variables("playbooks/remove_airflow.yml")
    (report,) = [task for task in plays[-1]["tasks"] if task["name"] == "Report what was removed, and what is left"]
    host = {"__remove_there": {"stdout_lines": found}}
    if "can-back-up" in found:
        host |= {
            "__airflow_config_removed": {"changed_paths": REMOVED}, "__airflow_user_removed": {"changed": True},
            "__airflow_backup_success": {"content": base64.b64encode(json.dumps({"file": BACKUP}).encode()).decode()}
        }
    templar = Templar(loader=loader,
                      variables={
                          **shared_variables(), **variables("roles/airflow_backup/defaults/main.yml"),
                          **variables("roles/postgresql/defaults/main.yml"), **plays[0]["vars"],
                          **report["vars"], "groups": {
                              "airflow": ["airflow-1"], "airflow_scheduler": ["airflow-1"],
                              "airflow_postgres": ["airflow-1"]
                          }, "hostvars": {"airflow-1": host}, "__airflow_database_external": False,
                          "ansible_facts": {"os_family": "Debian"}, "__airflow_secrets_copy_left": COPY,
                          "ansible_check_mode": False, **variables_of_run
                      })
    return templar.template(report["ansible.builtin.debug"]["msg"]) + "\n"


def test_the_page_shows_the_end_of_a_removal(typed):
    typed("playbooks/remove_airflow.yml", "-K", "-e", "airflow_confirm=airflow-1")
    printed = end_of_removal(["path /opt/airflow", "can-back-up", "backups", "database", "tables"])
    assert shown("docs/remove.md") == printed, f"put this into the block of docs/remove.md:\n{printed}"


@pytest.mark.parametrize(("found", "check", "more"), [
    (["can-back-up"], False, True), ([], False, True), (["can-back-up"], True, False)])
def test_the_command_that_removes_the_database_later_works(typed, found, check, more):
    """It makes no backup: what a backup needs is gone by then. Before a removal, it makes one."""
    typed("playbooks/remove_airflow.yml")
    printed = end_of_removal([*found, "database", "tables"], ansible_check_mode=check)
    line = "To remove it: -e airflow_remove_database=true" + (" -e airflow_without_backup=true" if more else "")
    assert line in [text.split(". ")[-1] for text in printed.splitlines()], printed


def test_a_removal_names_only_backups_and_secrets_that_are_there(typed):
    typed("playbooks/remove_airflow.yml")
    assert "- backups" not in end_of_removal([]) and "/var/lib/airflow-backup" not in end_of_removal([])
    s3 = end_of_removal([], airflow_backup_s3_bucket="b", airflow_backup_s3_prefix="p/")
    assert "- backups: s3://b/p/\n" in s3, s3
    printed = end_of_removal(["backups", "replaced airflow-1"])
    assert ("- backups: /var/backups/airflow on airflow-1. To remove those on the host: -e "
            "airflow_remove_backups=true\n") in printed, printed
    told = "- secrets from before a restore: /var/lib/airflow-backup/replaced on airflow-1. They go with the backups: "
    assert told in printed
    gone = end_of_removal(["backups", "replaced airflow-1"], **{"__remove_backups": True})
    assert "/var/lib/airflow-backup" not in gone and "- backups" not in gone
