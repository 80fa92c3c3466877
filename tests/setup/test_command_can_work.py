"""A command that cannot work ends in one sentence, whichever playbook it names, and before Ansible parses a role."""

import os
import pathlib
import re
import shutil
import string
import subprocess

import forks
import pytest
import yaml
from ansible.cli.playbook import PlaybookCLI
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import controller
from ansible_collections.windsock.airflow.plugins.vars import command_can_work as plugin

pytestmark = pytest.mark.playbook
ROOT = pathlib.Path(__file__).resolve().parents[2]
SITE = ["-i", ROOT / "inventories/single_node/hosts.yml"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
NO_SITE = (
    "The command names no inventory, so it is for the sandbox of this checkout, and there is none. Name your site: -i "
    "~/airflow-site/hosts.yml"
)


def run(directory, *arguments, **environment):
    done = forks.run(["ansible-playbook", *arguments], cwd=directory, env={**ENVIRONMENT, **environment})
    return done.returncode, done.stdout + done.stderr


def test_every_playbook_has_it():
    for directory in {
            path.parent
            for path in [ROOT / "site.yml", *ROOT.glob("playbooks/**/*.yml")] if "group_vars" not in path.parts
    }:
        assert (directory / "vars_plugins/command_can_work.py").is_file(), directory


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/run_dag.yml", "playbooks/runbooks/check_health.yml",
                                      "playbooks/aws/provision.yml"])
def test_the_directory_of_a_command_and_its_ansible_cfg_do_not_matter(tmp_path, playbook):
    (tmp_path / "ansible.cfg").write_text("[defaults]\nroles_path = elsewhere\n", encoding="utf-8")
    code, output = run(tmp_path, *SITE, ROOT / playbook, "--syntax-check")
    assert code == 0, output


def test_a_command_that_can_work_does():
    assert run(ROOT, *SITE, "playbooks/runbooks/check_health.yml", "--list-hosts")[0] == 0


@pytest.fixture
def clone(tmp_path):
    """A checkout without a sandbox, with one playbook of which no role exists."""
    for name in ("plugins", "collections", "requirements", "inventories/sandbox"):
        shutil.copytree(ROOT / name,
                        tmp_path / name,
                        symlinks=True,
                        ignore=shutil.ignore_patterns("host_vars", "__pycache__"))
    (tmp_path / "vars_plugins").symlink_to("plugins/vars")
    shutil.copy(ROOT / "requirements.yml", tmp_path)
    (tmp_path / "roles").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/setup").touch()
    (tmp_path / "ansible.cfg").write_text("[defaults]\ninventory = inventories/sandbox/hosts.yml\n", encoding="utf-8")
    (tmp_path / "play.yml").write_text("- hosts: all\n  roles: [no_such_role]\n", encoding="utf-8")
    return tmp_path


def test_a_command_without_a_site_needs_the_sandbox(clone):
    code, output = run(clone, "play.yml")
    assert code != 0 and NO_SITE in output, output
    assert NO_SITE in run(clone, "play.yml", "-uadmin")[1]
    for arguments in (["-Ki", "inventories/sandbox/hosts.yml"], ["--syntax-check"]):
        assert "no_such_role" in run(clone, "play.yml", *arguments)[1]
    (clone / "inventories/sandbox/host_vars").mkdir()
    (clone / "inventories/sandbox/host_vars/airflow-sandbox.yml").touch()
    assert "no_such_role" in run(clone, "play.yml")[1]


def test_an_inventory_that_does_not_exist_is_refused(tmp_path):
    code, output = run(tmp_path, "-i", "host.yml", ROOT / "site.yml")
    assert code != 0 and "host.yml does not exist. Name your site: -i ~/airflow-site/hosts.yml" in output, output
    assert run(tmp_path, "-i", "one,two", ROOT / "site.yml", "--list-hosts")[0] == 0


def test_the_options_that_name_an_inventory_are_those_of_ansible():
    """Of a word such as -bKi, each letter is an option. One that takes a value ends the word: -uadmin names a user."""
    cli = PlaybookCLI(["ansible-playbook"])
    cli.init_parser()
    flags = {
        name[1]
        for action in cli.parser._actions if action.nargs == 0 for name in action.option_strings
        if re.fullmatch("-[^-]", name)
    }
    assert flags == {letter for letter in string.ascii_letters if plugin.NAMES_INVENTORY.match(f"-{letter}i")} - {"i"}
    others = {name for action in cli.parser._actions for name in action.option_strings if action.dest != "inventory"}
    assert not [name for name in others if plugin.NAMES_INVENTORY.match(name)]
    for word in ("-i", "-ihosts.yml", "-vvvi", "-bKCDihosts.yml", "--inventory", "--inventory=hosts.yml",
                 "--inventory-file", "--inv"):
        assert plugin.NAMES_INVENTORY.match(word), word
    for word in ("-uadmin", "-bulib", "-tinstall", "-linfra", "-C", "site.yml", "my-i"):
        assert not plugin.NAMES_INVENTORY.match(word), word


@pytest.mark.parametrize("limit", ["OLDEST = (99, 0)", "TOO_NEW = (2, 1)"])
def test_an_ansible_that_is_too_old_or_too_new_is_named(clone, limit):
    """The operating system's own, for one."""
    path = clone / "plugins/module_utils/validation/rules/controller.py"
    path.write_text(re.sub(f"^{limit.split()[0]} = .*", limit, path.read_text(encoding="utf-8"), flags=re.MULTILINE),
                    encoding="utf-8")
    code, output = run(clone, "-i", "inventories/sandbox/hosts.yml", "play.yml")
    assert code != 0 and "no_such_role" not in output
    assert re.search(r"This is ansible-core 2[.0-9]+; valid is \d+\.\d+ or newer, older than \d+\.\d+\. "
                     f"Run {clone}/bin/setup, then: . {clone}/.venv/bin/activate", output), output


def test_an_installed_collection_names_its_page(clone):
    """The archive has no bin/."""
    (clone / "bin/setup").unlink()
    (clone / "bin").rmdir()
    assert controller.environment_of(str(clone)) == f"Make an environment as {clone}/docs/collection.md says"


@pytest.mark.parametrize(
    ("version", "valid"), [("2.14.18", False), ("2.19.0rc1", True), ("2.20.1", True), ("2.21.0", False), ("3.0", False)]
)
def test_valid_are_the_ansibles_that_preflight_takes(version, valid):
    assert bool(list(controller.check_ansible("/repo", version))) != valid


def test_an_ansible_without_the_collections_is_told(clone):
    """Its message would be about the first module of one, in whichever role that is."""
    alone = {"ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false", "ANSIBLE_COLLECTIONS_PATH": str(clone / "nothing")}
    code, output = run(clone, "-i", "inventories/sandbox/hosts.yml", "play.yml", **alone)
    assert code != 0 and "no_such_role" not in output
    assert (
        "The controller lacks the collections amazon.aws, ansible.posix, " in output
        and "community.postgresql. " in output
    )
    assert f"Run {clone}/bin/setup, then: . {clone}/.venv/bin/activate" in output
    assert f"ansible-galaxy collection install -r {clone}/requirements.yml" in output


def test_the_collections_are_those_of_requirements():
    required = yaml.safe_load((ROOT / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    assert controller.required_collections(str(ROOT)) == [item["name"] for item in required]


@pytest.mark.parametrize(("stamp", "told"), [("new", True), ("right", False), (None, True)])
def test_an_environment_from_before_a_pull_is_refused(tmp_path, stamp, told):
    """The hash is the one that bin/setup writes."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / ".venv").mkdir()
    for name in ("uv.txt", "controller.txt"):
        (tmp_path / "requirements" / name).write_text(f"of {name}\n", encoding="utf-8")
    right = subprocess.run("cat uv.txt controller.txt | sha256sum | cut -d' ' -f1",
                           shell=True,
                           cwd=tmp_path / "requirements",
                           capture_output=True,
                           text=True,
                           check=True).stdout
    if stamp:
        (tmp_path / ".venv/.stamp").write_text({"new": "0" * 64 + "\n", "right": right}[stamp], encoding="utf-8")
    texts = list(controller.check_environment(str(tmp_path), str(tmp_path / ".venv")))
    assert bool(texts) == told
    assert not texts or f"Run: {tmp_path}/bin/setup" in texts[0]


def test_an_environment_of_another_maker_has_no_stamp(tmp_path):
    assert not list(controller.check_environment(str(ROOT), str(tmp_path)))
