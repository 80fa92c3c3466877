"""A site that an older commit of this project installed: it is updated to this one, and Airflow is removed. bin/test --long update."""

import json
import os
import pathlib
import re
import subprocess
import types

import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.long("update")

# The last commit whose sites had their inventory in the clone, in a file beside the directory that this project uses now.
OLD = "588c70d"
PASSWORD = "warehouse-Pass-41"


@pytest.fixture(scope="module")
def site(host, login, tmp_path_factory):
    """run(clone, inventory, playbook, argument...): a playbook of a clone against the host, with a home of its own for the copy of the secrets."""
    home = tmp_path_factory.mktemp("home")
    old = home / "airflow"
    subprocess.run(["git", "clone", "--quiet", ROOT, old], check=True)
    subprocess.run(["git", "checkout", "--quiet", OLD], cwd=old, check=True)
    known = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "known_hosts")
    connection = {"ansible_host": "127.0.0.1", "ansible_port": login.port, "ansible_user": login.user, "ansible_become_password": login.become_pass,
                  "ansible_ssh_private_key_file": login.identity_file, "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}"}
    hosts = yaml.safe_load((old / "inventories/single_node/hosts.yml").read_text(encoding="utf-8"))
    hosts["all"]["hosts"] = {"airflow-1": connection}
    here = {"airflow_ca_bundle": os.environ.get("SSL_CERT_FILE", ""),
            "airflow_index_url": os.environ.get("UV_DEFAULT_INDEX", "") or os.environ.get("PIP_INDEX_URL", "")}
    variables = {"airflow_version": "3.3.2", **{key: value for key, value in here.items() if value},
                 "airflow_connections": {"warehouse": {"conn_type": "postgres", "host": "warehouse.example.com", "password": PASSWORD}}}

    def run(clone, inventory, playbook, *arguments):
        environment = {**os.environ, "HOME": str(home), "ANSIBLE_CONFIG": str(clone / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        for name in ("ANSIBLE_ROLES_PATH", "ANSIBLE_LIBRARY", "ANSIBLE_ACTION_PLUGINS", "ANSIBLE_MODULE_UTILS"):
            environment.pop(name, None)
        done = subprocess.run(["ansible-playbook", "-i", inventory, playbook, *arguments], cwd=clone, env=environment, text=True, capture_output=True,
                              check=False)
        output = done.stdout + done.stderr
        numbers = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", output.rsplit("PLAY RECAP", 1)[-1])}
        return types.SimpleNamespace(code=done.returncode, output=output, **{"changed": -1, **numbers})

    return types.SimpleNamespace(home=home, old=old, run=run, hosts=hosts, variables=variables, login=login)


def picture(host):
    """What may not change: keys, objects, runs."""
    rows = "SELECT count(*) FROM dag_run UNION ALL SELECT count(*) FROM task_instance UNION ALL SELECT count(*) FROM ab_user"
    return {
        "secrets": host.check_output("cd /etc/airflow/secrets && sha256sum fernet_key jwt_secret api_secret_key admin_password"),
        "virtualenv": host.check_output("readlink /opt/airflow/venv"),
        "release": host.check_output("readlink /opt/airflow/dags/current"),
        "password": json.loads(host.check_output("airflow connections get warehouse -o json"))[0]["password"],
        "rows": host.check_output(f'runuser -u postgres -- psql -At airflow -c "{rows}"'),
    }


@pytest.fixture(scope="module")
def before(host, site):
    """The old commit installs, from an inventory in its clone."""
    inventory = site.old / "inventories/single_node"
    (inventory / "hosts.yml").write_text(yaml.safe_dump(site.hosts), encoding="utf-8")
    (inventory / "group_vars").mkdir()
    (inventory / "group_vars/all.yml").write_text(yaml.safe_dump(site.variables), encoding="utf-8")
    # The old commit needed a home that others may enter.
    host.check_output(f"chmod 0755 ~{site.login.user}")
    for playbook, arguments in (("site.yml", ()), ("playbooks/run_dag.yml", ("-e", "dag_id=example_dag"))):
        done = site.run(site.old, inventory / "hosts.yml", playbook, *arguments)
        assert done.code == 0, done.output
    host.check_output(f"chmod 0700 ~{site.login.user}")
    return picture(host)


@pytest.fixture(scope="module")
def moved(site, before):
    """The steps of docs/update.md: a site of its own with the variables of the old one. site.yml finds the copy of the secrets itself."""
    path = site.home / "airflow-site"
    subprocess.run([ROOT / "bin/new-site", path, "--host", "127.0.0.1", "--user", site.login.user], check=True, env={**os.environ, "HOME": str(site.home)})
    (path / "hosts.yml").write_text(yaml.safe_dump(site.hosts), encoding="utf-8")
    main = path / "group_vars/all/main.yml"
    identity = yaml.safe_load(main.read_text(encoding="utf-8"))["airflow_site_id"]
    main.write_text(yaml.safe_dump({**site.variables, "airflow_site_id": identity}), encoding="utf-8")
    return path


def test_a_file_of_variables_that_ansible_would_ignore_is_refused(site, moved):
    beside = moved / "group_vars/all.yml"
    beside.write_text("airflow_api_port: 8081\n", encoding="utf-8")
    done = site.run(ROOT, moved / "hosts.yml", "playbooks/preflight.yml")
    beside.unlink()
    assert done.code != 0 and "group_vars/all.yml" in done.output


def test_the_dry_run_builds_no_other_airflow_and_touches_no_key(host, site, before, moved):
    done = site.run(ROOT, moved / "hosts.yml", "site.yml", "--check", "--diff")
    assert done.code == 0, done.output
    assert "Install PostgreSQL" not in [line for line in done.output.splitlines() if line.startswith("changed:")]
    assert picture(host) == before


def test_the_update_keeps_all_that_was_there(host, site, before, moved):
    (old_copy,) = (site.home / ".airflow-secrets").iterdir()
    backup_key = (old_copy / "backup_key").read_text(encoding="utf-8")
    done = site.run(ROOT, moved / "hosts.yml", "site.yml")
    assert done.code == 0, done.output
    assert picture(host) == before and before["password"] == PASSWORD
    identity = yaml.safe_load((moved / "group_vars/all/main.yml").read_text(encoding="utf-8"))["airflow_site_id"]
    (new_copy,) = (site.home / ".airflow-secrets").iterdir()
    assert (new_copy.name, (new_copy / "backup_key").read_text(encoding="utf-8")) == (identity, backup_key)
    again = site.run(ROOT, moved / "hosts.yml", "site.yml")
    assert again.code == 0 and again.changed == 0, again.output
    ran = site.run(ROOT, moved / "hosts.yml", "playbooks/run_dag.yml", "-e", "dag_id=example_dag")
    assert ran.code == 0, ran.output


def test_it_is_removed(host, site, moved):
    done = site.run(ROOT, moved / "hosts.yml", "playbooks/remove_airflow.yml", "-e", "confirm=airflow-1")
    assert done.code == 0, done.output
    assert host.run("id airflow").rc != 0 and host.run("pgrep -af '[/]opt/airflow'").stdout == ""
    assert not host.file("/opt/airflow").exists and host.check_output("ls /var/backups/airflow")
