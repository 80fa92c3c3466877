"""Two hosts have one set of secrets and one DAG release, whichever order the inventory has, whom --limit hides, and who
runs site.yml.
"""

import json
import os
import pathlib
import random

import long_run
import pytest
import testinfra
import yaml
from playbook import play
from slow_tasks import wait_until_healthy

A, B = "airflow-environment-a", "airflow-environment-b"
ENVIRONMENT = long_run.PART == "environment"
LOSSES = ["nothing", "a key", "its secrets", "the release"]
# Few runs: chance would leave a loss out.
ORDINARY = ["its secrets", "the release", "a key"]
# Some lie on one host only, which is not the same in each run.
SECRETS = ["fernet_key", "api_secret_key", "jwt_secret", "sql_alchemy_conn", "database_password", "admin_password"]


@pytest.fixture(scope="module")
def hosts():
    found = {name: testinfra.get_host(f"docker://{name}") for name in (A, B)}
    found[A].check_output(
        "airflow connections add two_hosts --conn-type http --conn-password opened-by-both > /dev/null 2>&1")
    return found


def read(host):
    """The secrets of a host by name, without the address of the database, which differs."""
    held = {}
    for name in SECRETS:
        file = host.file(f"/etc/airflow/secrets/{name}")
        if file.exists:
            held[name] = file.content_string.split("@")[0]
    return held


def release(host):
    return host.check_output("readlink /opt/airflow/dags/current")


def shuffled(inventory, chance):
    """The inventory with the hosts of each group in another order."""
    for group in inventory.values():
        names = list(group.get("hosts") or {})
        chance.shuffle(names)
        if names:
            group["hosts"] = {name: group["hosts"][name] for name in names}
        if group.get("children"):
            shuffled(group["children"], chance)
    return inventory


def without(inventory, host):
    """The inventory without a host."""
    for group in inventory.values():
        (group.get("hosts") or {}).pop(host, None)
        without(group.get("children") or {}, host)
    return inventory


@pytest.fixture
def changed(monkeypatch):
    """changed(change, argument): use the inventory that change(inventory, argument) returns. It lies beside the first
    one, which has the variables.
    """
    path = pathlib.Path(os.environ["MOLECULE_INVENTORY_FILE"])
    other = path.with_name("changed.yml")

    def use(change, argument):
        inventory = change(yaml.safe_load(path.read_text(encoding="utf-8")), argument)
        other.write_text(yaml.safe_dump(inventory, sort_keys=False), encoding="utf-8")
        monkeypatch.setenv("MOLECULE_INVENTORY_FILE", str(other))
        return list(inventory["airflow"]["hosts"])

    yield use
    other.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def before(hosts):
    """What the environment has: secrets, release."""
    both = {name: read(host) for name, host in hosts.items()}
    assert {name for held in both.values() for name in held} == set(SECRETS)
    return {**both[A], **both[B]}, release(hosts[A])


@pytest.mark.long("environment", ordinary=True)
@pytest.mark.parametrize("number", range(20 if ENVIRONMENT else len(ORDINARY)))
def test_an_environment_stays_one(hosts, before, changed, tmp_path, number):
    chance = random.Random(f"{long_run.SEED} {number}")
    names = changed(shuffled, chance)
    limit = chance.choice([None, None, A, B])
    # A colleague's controller has no copy of the secrets.
    colleague = chance.choice([True, False])
    lost = chance.choice(LOSSES) if long_run.SEED else ORDINARY[number]
    victim = limit or chance.choice([A, B])
    if lost == "a key":
        hosts[victim].check_output("rm /etc/airflow/secrets/fernet_key")
    elif lost == "its secrets":
        # The password of the administrator is where it was made, and nothing else has it.
        hosts[victim].check_output("find /etc/airflow/secrets -type f ! -name admin_password -delete")
    elif lost == "the release":
        hosts[victim].check_output("rm -r /opt/airflow/dags/current /opt/airflow/dags/releases")
    story = (
        f"first {names[0]}, limit {limit}, {'colleague' if colleague else 'same controller'}, {victim} has lost {lost}"
    )
    print(story)
    # What the source has by now is another matter: nobody has deployed it.
    (tmp_path / "source").mkdir()
    (tmp_path / "source/later.py").write_text(f"# {number}\n", encoding="utf-8")
    variables = {"airflow_dags_source": str(tmp_path / "source")}
    if colleague:
        variables["airflow_secrets_copy_dir"] = str(tmp_path / "copy")
    done = play("../site", *(["--limit", limit] if limit else []), **variables)
    assert not done.failed, f"{story}\n{done.output}"

    secrets, deployed = before
    for name, host in hosts.items():
        held = read(host)
        assert held == {kind: secrets[kind] for kind in held} and set(SECRETS[:4]) <= set(held), (story, name)
        assert release(host) == deployed, (story, name)
        connection = host.check_output("airflow connections get two_hosts --output json 2>/dev/null")
        assert json.loads(connection[connection.index("["):])[0]["password"] == "opened-by-both", (story, name)
    timers = [
        name for name, host in hosts.items()
        if host.run("systemctl is-enabled airflow-backup.timer").stdout.strip() == "enabled"
    ]
    assert len(timers) == 1, (story, timers)


def test_a_host_that_left_the_inventory_and_still_runs_is_named(hosts, changed):
    """As one whose line moved to another host: site.yml does not reach it, and its scheduler works on."""
    changed(without, B)
    done = play("verify")
    assert (
        done.failed
        and "Another host runs Airflow on the database of this inventory: "
            f"{hosts[B].check_output('hostname')}." in done.text
    ), done.output


@pytest.mark.long("environment")
def test_a_stop_names_a_session_from_outside_of_the_inventory(hosts, changed):
    """As that of a host that somebody took out of the inventory, and on which Airflow still runs."""
    changed(without, B)
    done = play("../tests/molecule/stop", __airflow_services_left_wait=3)
    assert done.failed and "All units of Airflow have stopped, and these still use it" in done.text, done.output
    addresses = hosts[B].check_output("hostname -I").split()
    assert [
        address for address in addresses if f"from {address}, which is no Airflow host of this inventory" in done.text
    ], (addresses, done.output)
    assert "add the host to the inventory, or stop its Airflow yourself" in done.text
    # What was stopped runs again, and nothing was stopped on the other host.
    wait_until_healthy(hosts[A], {"airflow_install_dir": "/opt/airflow"}.__getitem__)
    assert hosts[B].check_output("systemctl is-active airflow-scheduler airflow-api-server").split() == ["active"] * 2
