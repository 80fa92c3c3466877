"""A site that an older commit of this project installed: it is updated to this one, and Airflow is removed. bin/test
--long update.
"""

import json
import os
import pathlib
import shutil
import subprocess
import types

import pytest
import yaml
from conftest import ROOT
from pages import inline, script, section
from terminal import NEEDED_HERE, changed_tasks, recap, type_in

pytestmark = pytest.mark.long("update")

# The last commit whose sites had their inventory in the clone, in a file beside the directory that this project uses
# now.
OLD = "588c70d"
PASSWORD = "warehouse-Pass-41"
# The words of the pages that every reader replaces.
ADDRESS, LOGIN = "203.0.113.7", "admin"
MOVE = "A site from before `bin/new-site`"


def update():
    """Commands of docs/update.md: those that update the clone, then the one for the site's ansible.cfg, the dry run,
    the run, the check.
    """
    pull, setup, activate, settings, _changelog, look, run, health = script("docs/update.md", "Update this project")
    return types.SimpleNamespace(clone=[pull, setup, activate], settings=settings, look=look, run=run, health=health)


def steps():
    """Commands in the steps with which a site moves: a copy of the secrets and of the inventory, and a new site. The
    dry run is the one above.
    """
    copy, clean, new = (
        inline("docs/update.md", MOVE, "old-site$"),
        inline("docs/update.md", MOVE, "^git -C"),
        inline("docs/update.md", MOVE, "^bin/new-site ~"),
    )
    assert f"`{update().look}`" in section("docs/update.md", MOVE)
    return types.SimpleNamespace(save=inline("docs/update.md", MOVE, "saved$"), copy=copy, clean=clean, new=new)


@pytest.fixture(scope="module")
def site(host, login, tmp_path_factory):
    """A home with a clone at the old commit, and run(command, ...): type commands there, into one shell."""
    home = tmp_path_factory.mktemp("home")
    project, clone = home / "project.git", home / "airflow"
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, project], check=True)
    # A checkout without a branch has none to pull.
    subprocess.run(["git", "update-ref", "refs/heads/update", "HEAD"], cwd=project, check=True)
    subprocess.run(["git", "symbolic-ref", "HEAD", "refs/heads/update"], cwd=project, check=True)
    subprocess.run(["git", "clone", "--quiet", project, clone], check=True)
    subprocess.run(["git", "reset", "--quiet", "--hard", OLD], cwd=clone, check=True)
    known = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "known_hosts")
    connection = {
        "ansible_host": "127.0.0.1", "ansible_port": login.port, "ansible_user": login.user,
        "ansible_ssh_private_key_file": login.identity_file, "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}"
    }
    hosts = yaml.safe_load((clone / "inventories/single_node/hosts.yml").read_text(encoding="utf-8"))
    hosts["all"]["hosts"] = {"airflow-1": connection}
    here = {"airflow_ca_bundle": os.environ.get("SSL_CERT_FILE", ""),
            "airflow_index_url": os.environ.get("UV_DEFAULT_INDEX", "") or os.environ.get("PIP_INDEX_URL", "")}
    variables = {
        "airflow_version": "3.3.2", **{key: value
                                       for key, value in here.items() if value}, "airflow_connections": {
            "warehouse": {"conn_type": "postgres", "host": "warehouse.example.com", "password": PASSWORD}
        }
    }

    def run(*commands, fails=False, path=""):
        environment = {
            "HOME": str(home), "PATH": f"{path}/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "xterm",
            **{key: os.environ[key]
               for key in NEEDED_HERE if key in os.environ}
        }
        text = "\n".join(["set -e", "cd ~/airflow", *commands]).replace(
            f"--host {ADDRESS} --user {LOGIN}", f"--host 127.0.0.1 --user {login.user}"
        )
        code, shown = type_in(["bash", "-c", text], {"BECOME password:": login.become_pass}, environment, home)
        assert (code != 0) is fails, f"exit {code}\n{text}\n{shown[-8000:]}"
        return shown

    yield types.SimpleNamespace(home=home, clone=clone, run=run, hosts=hosts, variables=variables, login=login)
    # pytest keeps the directories of some runs, and this one has 500 MB.
    shutil.rmtree(clone / ".venv", ignore_errors=True)


def typed(site, *commands, **options):
    return site.run(". .venv/bin/activate", *commands, **options)


def playbook(name, *arguments):
    """The command for a playbook, in the form of the pages."""
    return " ".join(["ansible-playbook -i ~/airflow-site/hosts.yml", name, "-K", *arguments])


def picture(host):
    """What may not change: keys, objects, runs."""
    rows = (
        "SELECT count(*) FROM dag_run UNION ALL SELECT count(*) FROM task_instance UNION ALL SELECT count(*) FROM "
        "ab_user"
    )
    return {
        "secrets": host.check_output(
            "cd /etc/airflow/secrets && sha256sum fernet_key jwt_secret api_secret_key admin_password"),
        "virtualenv": host.check_output("readlink /opt/airflow/venv"),
        "release": host.check_output("readlink /opt/airflow/dags/current"),
        "password": json.loads(host.check_output("airflow connections get warehouse -o json"))[0]["password"],
        "rows": host.check_output(f'runuser -u postgres -- psql -At airflow -c "{rows}"'),
    }


@pytest.fixture(scope="module")
def before(host, site):
    """The old commit installs, from an inventory in its clone."""
    inventory = site.clone / "inventories/single_node"
    (inventory / "hosts.yml").write_text(yaml.safe_dump(site.hosts), encoding="utf-8")
    (inventory / "group_vars").mkdir()
    (inventory / "group_vars/all.yml").write_text(yaml.safe_dump(site.variables), encoding="utf-8")
    # The old commit needed a home that others may enter.
    host.check_output(f"chmod 0755 ~{site.login.user}")
    # With the Ansible of this checkout: an environment of the old commit would only cost time.
    site.run("ansible-playbook -i inventories/single_node/hosts.yml site.yml -K",
             "ansible-playbook -i inventories/single_node/hosts.yml playbooks/run_dag.yml -K -e dag_id=example_dag",
             path=f"{pathlib.Path(shutil.which('ansible-playbook')).parent}:")
    host.check_output(f"chmod 0700 ~{site.login.user}")
    return picture(host)


@pytest.fixture(scope="module")
def moved(site, before):
    """The steps of docs/update.md: a site of its own with the variables of the old one. site.yml finds the copy of the
    secrets itself.
    """
    site.run(steps().save, steps().copy, steps().clean, *update().clone, steps().new)
    assert (site.clone / "bin/new-site").exists(), "git pull has brought this commit"
    # What the page leaves to an editor.
    path = site.home / "airflow-site"
    shutil.copy(site.home / "old-site/hosts.yml", path / "hosts.yml")
    main = path / "group_vars/all/main.yml"
    identity = yaml.safe_load(main.read_text(encoding="utf-8"))["airflow_site_id"]
    old = yaml.safe_load((site.home / "old-site/group_vars/all.yml").read_text(encoding="utf-8"))
    main.write_text(yaml.safe_dump({**old, "airflow_site_id": identity}), encoding="utf-8")
    return path


def test_a_file_of_variables_that_ansible_would_ignore_is_refused(site, moved):
    beside = moved / "group_vars/all.yml"
    beside.write_text("airflow_api_port: 8081\n", encoding="utf-8")
    shown = typed(site, playbook("playbooks/validate.yml"), fails=True)
    beside.unlink()
    assert "group_vars/all.yml" in shown


def test_the_dry_run_builds_no_other_airflow_and_touches_no_key(host, site, before, moved):
    shown = typed(site, update().settings, update().look)
    changed = changed_tasks(shown)
    assert recap(shown)["failed"] == 0 and len(changed) == recap(shown)["changed"], (changed, shown[-6000:])
    # A dry run skips the installation itself. The tasks before it in the same file say what it would install.
    assert [
        task for task in changed
        if task.startswith(("windsock.airflow.postgresql : packages |", "windsock.airflow.airflow : begin |"))
    ] == []
    assert picture(host) == before


def test_the_update_keeps_all_that_was_there(host, site, before, moved):
    (old_copy,) = (site.home / ".airflow-secrets").iterdir()
    backup_key = (old_copy / "backup_key").read_text(encoding="utf-8")
    typed(site, update().run, update().health)
    assert picture(host) == before and before["password"] == PASSWORD
    identity = yaml.safe_load((moved / "group_vars/all/main.yml").read_text(encoding="utf-8"))["airflow_site_id"]
    (new_copy,) = (site.home / ".airflow-secrets").iterdir()
    assert (new_copy.name, (new_copy / "backup_key").read_text(encoding="utf-8")) == (identity, backup_key)
    again = typed(site, update().run)
    assert recap(again)["changed"] == 0, again[-6000:]
    typed(site, inline("docs/install.md", "The commands", "dag_id=example_dag"))


def test_it_is_removed(host, site, moved):
    """With the last command of docs/remove.md."""
    typed(site, script("docs/remove.md")[-1])
    assert host.run("id airflow").rc != 0 and host.run("pgrep -af '[/]opt/airflow'").stdout == ""
    assert not host.file("/opt/airflow").exists and host.check_output("ls /var/backups/airflow")
