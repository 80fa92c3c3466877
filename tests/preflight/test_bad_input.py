"""Bad input stops before a host is changed, in one message that names the file and the key. Each is run as a user
would.
"""

import os
import pathlib
import re
import shutil
import socket

import pytest
import yaml
from collection_of_test import collection
from conftest import Site

pytestmark = pytest.mark.playbook

# The last line of the message is the file that a user has to edit.
FILE = "group_vars/all/main.yml:"


def test_an_airflow_version_without_lock_and_constraints(site):
    run = site.run(airflow_version="3.3.9")
    run.refuses("airflow_version", FILE, "3.3.9 has no lock", "2.11.2, 3.3.2", "airflow_constraints")
    assert "no host was contacted" in run.output


@pytest.fixture(scope="module")
def refused(tmp_path_factory, system):
    """A run with all these mistakes in its input: preflight reports all problems at once."""
    site = Site(tmp_path_factory.mktemp("input"), system)
    inventory = yaml.safe_load((site.directory / "hosts.yml").read_text(encoding="utf-8"))
    inventory["all"]["children"]["airflow_proxy"] = {"hosts": {"site": None}}
    site.write("hosts.yml", inventory)
    return site.run(
        "-e",
        "postgresql_prot=1",
        airflow_team_name="data",
        preflight_allowed_variables=["airflow_team_name"],
        airflow_excutor="LocalExecutor",
        # A section of the site's own is left to Airflow.
        airflow_config={
            "core": {"paralelism": 5}, "our.team": {"anything": 1}, "webserver": {"default_ui_timezone": "UTC"}
        },
        airflow_timezone="UTC",
        airflow_parallelism="many",
        airflow_services_unit_overrides={"webserver": {"Service": {"MemoryHigh": "2G"}}},
        airflow_backup_dir=f"{site.base['airflow_log_dir']}/backups",
        airflow_admin_password="ChangeMe_123",
        airflow_fernet_key="<your key>",
        airflow_database_password="{{ vault_database_password }}",
        postgresql_memory_percent=30,
        airflow_api_host="0.0.0.0",
        airflow_connections={
            "a": {"conn_type": "http", "pasword": "horse-battery"}, "b": {"uri": "http//me:horse-battery@h"}
        },
        airflow_pools={"etl": {"slots": "{{ 2 - 7 }}"}},
        airflow_users=["ann"],
        airflow_auth={
            "type": "oauth", "provider": "google", "client_id": "a", "client_secret": "horse-battery",
            "issuer": "https://x"
        },
        airflow_webserver_config_file="/no/such.py")


def test_all_problems_of_the_input_are_reported_at_once_before_a_host_is_contacted(refused):
    assert "no host was contacted: 23 problems." in refused.output, refused.output
    # No value of a secret, and not the site's own variable.
    for text in ("horse-battery", "ChangeMe_123", "<your key>", "airflow_team_name"):
        assert text not in refused.output


def test_a_misspelt_variable(refused):
    refused.refuses("airflow_excutor", FILE, "no role knows", "Did you mean airflow_executor?")
    refused.refuses(". postgresql_prot (command line, -e)", "Did you mean postgresql_port?")


def test_options_that_airflow_does_not_have(refused):
    """Before a virtualenv is built. What depends on facts is judged on the host."""
    refused.refuses("airflow_config", FILE, "Airflow 3.3.2 has no option core.paralelism. Did you mean parallelism?")
    refused.refuses("airflow_timezone", FILE,
                    "no role knows this variable. Airflow's own option core.default_timezone goes into airflow_config")
    refused.refuses(
        "airflow_config", FILE,
        "Airflow 3.3.2 has no section webserver, which Airflow 2.11.2 has. Remove webserver.default_ui_timezone.")


def test_a_string_where_a_number_belongs_a_unit_that_is_not_there_and_backups_among_logs(refused):
    refused.refuses("airflow_parallelism", FILE, '"many", a string, where a whole number belongs')
    refused.refuses("airflow_services_unit_overrides", FILE, "there is no component webserver",
                    "api-server, dag-processor, scheduler, triggerer")
    refused.refuses("airflow_backup_dir", FILE, "log/backups, and airflow_log_dir",
                    "One would be removed with the other")


def test_a_placeholder_secret(refused):
    refused.refuses("airflow_admin_password", FILE, "is a placeholder")
    refused.refuses("airflow_fernet_key", FILE, "is a placeholder")


def test_a_secret_whose_vault_is_missing(refused):
    refused.refuses("airflow_database_password", FILE, "vault_database_password is undefined")


def test_the_same_key_beside_playbook_and_inventory(refused):
    refused.refuses("postgresql_memory_percent", FILE, "group_vars/all/postgresql.yml:", "silently wins")


def test_files_of_variables_that_ansible_ignores(site):
    """For every group and host, and whatever the file's suffix."""
    pairs = {
        "group_vars/all/": "group_vars/all.yml", "group_vars/airflow_scheduler/": "group_vars/airflow_scheduler.yaml",
        "host_vars/site/": "host_vars/site.json", "group_vars/airflow_postgres": "group_vars/airflow_postgres.yml",
        "group_vars/airflow.yml": "group_vars/airflow.yaml"
    }
    for kept, ignored in pairs.items():
        site.write(kept + ("main.yml" if kept.endswith("/") else ""), {"airflow_log_format": "json"})
        site.write(ignored, {"airflow_version": "2.11.2", "airflow_database_host": "db.example.com"})
    run = site.run()
    for kept, ignored in pairs.items():
        run.refuses("{0}/{1}: Ansible reads only {0}/{2}, and silently ignores".format(site.directory, ignored, kept),
                    "Move what is in")
    assert "5 problems." in run.output


def test_a_proxy_without_a_name(refused):
    refused.refuses("airflow_api_base_url (default of roles/airflow_common, set it in ", "group_vars/all/main.yml",
                    "such as https://airflow.example.com")
    refused.refuses("airflow_api_host", FILE, "Valid is 127.0.0.1")


def test_objects_of_airflow(refused):
    refused.refuses("airflow_connections", FILE, "airflow_connections.a has pasword", "Did you mean password?")
    refused.refuses("airflow_connections", FILE, "airflow_connections.b.uri is no URI")
    refused.refuses("airflow_pools", FILE, "airflow_pools.etl.slots is -5")
    refused.refuses("airflow_users", FILE, "where a dictionary belongs")


def test_a_sign_in_that_lets_in_everybody(refused):
    refused.refuses("airflow_auth", FILE, "so everybody with an account of the provider could sign in")
    refused.refuses("airflow_auth", FILE, "provider google has no issuer")
    refused.refuses("airflow_auth", FILE, "has to be https://...")
    refused.refuses("airflow_auth", FILE, "only one of them may be set")
    refused.refuses("airflow_webserver_config_file", FILE, "there is no file /no/such.py")


def test_a_sign_in_with_misspelt_words(site):
    run = site.run(
        airflow_auth={"type": "oauth", "provider": "gogle", "client_secret": "changeme", "allowed_domian": []})
    run.refuses("airflow_auth", FILE, "Did you mean")


@pytest.fixture(scope="module")
def refused_on_host(tmp_path_factory, system):
    """A run that finds all these mistakes on the host, in one answer of it."""
    site = Site(tmp_path_factory.mktemp("host"), system)
    python = site.directory / "python3.8"
    python.write_text("#!/bin/sh\necho 3 8\n", encoding="utf-8")
    python.chmod(0o755)
    url = "postgresql://airflow:horse-battery@127.0.0.1:{0}/airflow?sslmode=verify-full".format(
        site.base["airflow_database_port"])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", site.base["airflow_api_port"]))
        listener.listen()
        return site.run("-vvv",
                        airflow_python=str(python),
                        airflow_database_url=url,
                        preflight_min_disk_mb=999999999,
                        preflight_min_memory_mb=999999999,
                        airflow_backup_schedule="0 2 * * *")


def test_all_problems_of_a_host_are_reported_at_once(refused_on_host):
    times = 1 if shutil.which("systemd-analyze") else 0
    assert f"Nothing was changed on site: {5 + times} problems." in refused_on_host.output, refused_on_host.output
    assert "horse-battery" not in refused_on_host.output


def test_a_python_that_is_too_old(refused_on_host):
    refused_on_host.refuses("airflow_python", FILE, "is Python 3.8, too old for Airflow 3.3.2", "3.10 to 3.14")


def test_an_unreachable_external_database(refused_on_host):
    port = refused_on_host.site.base["airflow_database_port"]
    refused_on_host.refuses("airflow_database_url", FILE, "cannot be reached", "127.0.0.1, port {0}".format(port),
                            "refused")


def test_a_port_in_use_by_someone_else(refused_on_host):
    port = refused_on_host.site.base["airflow_api_port"]
    refused_on_host.refuses("Its port {0} is in use by".format(port), "pid {0}".format(os.getpid()), "airflow_api_port",
                            FILE)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_a_time_that_systemd_does_not_know(refused_on_host):
    refused_on_host.refuses("airflow_backup_schedule", FILE, '"0 2 * * *"', "calendar expression")


def test_too_little_disk(refused_on_host):
    refused_on_host.refuses("MB free on the file system of", "airflow_install_dir", FILE, "999999999")


def test_too_little_memory(refused_on_host):
    refused_on_host.refuses("MB of memory", "preflight_min_memory_mb", FILE)


def test_an_unsupported_system_and_an_option_whose_value_needs_facts(site, system):
    """The rest of such a host is not judged."""
    site.systems = {"Debian": ["99"]}
    run = site.run(airflow_config={"core": {"paralelism": "{{ ansible_facts['processor_vcpus'] }}"}},
                   preflight_min_disk_mb=999999999)
    run.refuses("It runs {0} {1}, which is not supported".format(*system), "Debian 99")
    run.refuses("airflow_config", FILE, "Airflow 3.3.2 has no option core.paralelism. Did you mean parallelism?")
    assert "Nothing was changed on site: 2 problems." in run.output


def test_site_stops_at_preflight(site):
    run = site.run("--check", playbook="site.yml", airflow_vershun="3.3.2")
    run.refuses("airflow_vershun", FILE)
    assert run.output.count("PLAY [") == 1


def test_good_input_passes_and_brings_the_facts(site):
    """No later play has to gather facts, and those that a template needs are there."""
    site.write("later.yml", [{
        "import_playbook": str(pathlib.Path(__file__).resolve().parents[2] / "playbooks/validate.yml")
    }, {
        "hosts": "airflow", "gather_facts": True, "tasks": [{
            "ansible.builtin.debug": {
                "msg": (
                    "facts: {{ ansible_facts['memtotal_mb'] }} {{ ansible_facts['processor_vcpus'] }} {{ "
                    "ansible_facts['distribution_major_version'] }}"
                    " {{ ansible_facts['pkg_mgr'] }} {{ ansible_facts['python']['version']['minor'] }} {{ "
                    "ansible_facts['architecture'] }}"
                )
            }
        }]
    }])
    run = site.run(playbook=site.directory / "later.yml")
    assert run.code == 0, run.output
    assert re.search(r"facts: \d+ \d+ \S+ \S+ \d+ \S+", run.output)
    assert "Gathering Facts" not in run.output
    run.changed_nothing()


def test_a_host_that_left_group_airflow_and_keeps_the_database(site, monkeypatch):
    """The module's own text, with units below the site's directory."""
    root, programs = site.directory / "root", site.directory / "bin"
    units = root / "etc/systemd/system"
    for directory in (units, programs):
        directory.mkdir(parents=True)
    (units / "airflow-scheduler.service").write_text(
        "# Generated by role airflow_services from templates/x.j2.\n", encoding="utf-8"
    )
    (programs / "systemctl").write_text("#!/bin/sh\necho active\n", encoding="utf-8")
    (programs / "systemctl").chmod(0o755)
    module = collection(site.directory) / "plugins/modules/validate.py"
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(site.directory / "collections"))
    text = module.read_text(encoding="utf-8")
    text = text.replace("def left_units(module, root=\"/\")", f"def left_units(module, root=\"{root}\")")
    text = text.replace('get_bin_path("systemctl")', f'get_bin_path("systemctl", opt_dirs=["{programs}"])')
    module.write_text(text, encoding="utf-8")
    inventory = yaml.safe_load((site.directory / "hosts.yml").read_text(encoding="utf-8"))
    inventory["all"]["hosts"]["db"] = dict(inventory["all"]["hosts"]["site"])
    inventory["all"]["children"]["airflow_postgres"] = {"hosts": {"db": None}}
    site.write("hosts.yml", inventory)
    peers = {"postgresql_listen_addresses": ["127.0.0.1", "10.20.0.5"], "postgresql_allowed_networks": ["10.20.0.0/24"]}
    run = site.run("--tags", "preflight", playbook="windsock.airflow.validate", **peers)
    assert run.code != 0 and "Nothing was changed on db: 1 problem." in run.output, run.output
    assert "Nothing was changed on site" not in run.output
    assert "these units of Airflow still run there, or start with the host: airflow-scheduler.service." in run.output


@pytest.mark.parametrize(("name", "text", "told"), [
    ("group_vars/all/more.yml", "airflow_executor: [a\nairflow_log_format: : json\n",
     ":2:21: Ansible cannot read this file of variables: YAML parsing failed: Colons"),
    ("host_vars/site.yml", "\tairflow_executor: a\n",
     ":1:1: Ansible cannot read this file of variables: YAML parsing failed: Tabs"),
    ("group_vars/airflow/vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n3333\n",
     ": Ansible cannot read this file of variables: Attempting to decrypt but no vault"),
    ("group_vars/airflow.yml", "- airflow_executor\n",
     ": this file of variables holds a list where names with values belong"),
])
def test_a_file_of_variables_that_cannot_be_read(site, name, text, told):
    path = site.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    run = site.run()
    assert run.code != 0
    assert f"[ERROR]: {path}{told}" in run.output, run.output


def test_the_line_that_counts(site):
    """Not one of the same key elsewhere, and of two the last, which Ansible takes."""
    more = site.directory / "group_vars/all/more.yml"
    more.parent.mkdir(parents=True)
    more.write_text(
        "ours:\n  airflow_log_format: yes\nairflow_log_format: text\nairflow_config:\n  core:\n    parallelism: 5\n"
        "  scheduler: {}\n  core: {}\nairflow_log_format: yaml\nours: {airflow_log_format: yes}\n",
        encoding="utf-8")
    hosts = site.directory / "hosts.yml"
    hosts.write_text(hosts.read_text(encoding="utf-8") + "  vars:\n    ours: {airflow_executor: x}\n"
                     "    airflow_keep_venvs: many\n    airflow_parallelism: 4\n    airflow_parallelism: 8\n",
                     encoding="utf-8")
    last = len(hosts.read_text(encoding="utf-8").splitlines())
    run = site.run()
    run.refuses("airflow_log_format ({0}:9): is \"yaml\"".format(more))
    run.refuses("airflow_log_format ({0}:9): line 3 sets it too".format(more))
    run.refuses("airflow_config.core ({0}:8): line 5 sets it too".format(more))
    run.refuses("airflow_keep_venvs ({0}:{1}): is \"many\"".format(hosts, last - 2))
    run.refuses("airflow_parallelism ({0}:{1}): line {2} sets it too".format(hosts, last, last - 1))
    assert "5 problems." in run.output
