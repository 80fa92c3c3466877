"""The CloudWatch agent, by a stand-in: configured, run as its own user, and fed by Airflow."""

import configparser
import json
import os
import pathlib
import time

import metrics
import pytest

AGENT = "/opt/aws/amazon-cloudwatch-agent"
UNIT = "amazon-cloudwatch-agent"
ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = pathlib.Path(
    os.environ.get("AIRFLOW_CLOUDWATCH_SCHEMA") or ROOT.parent / "shared/cloudwatch_agent/schema.json")


@pytest.fixture(scope="module")
def agent(setting):
    """For the tests of an agent that is wanted."""
    if not setting("cloudwatch_agent_enabled"):
        pytest.skip("cloudwatch_agent_enabled is false")


@pytest.fixture(scope="module")
def config(host, agent):
    return json.loads(host.file(f"{AGENT}/etc/amazon-cloudwatch-agent.json").content_string)


@pytest.fixture(scope="module")
def status(host, agent):
    """What the kernel says about the process: key -> text."""
    pid = host.check_output(f"systemctl show --property MainPID --value {UNIT}")
    return dict(line.split(":", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines())


def test_it_is_absent_where_it_is_off(host, setting):
    if setting("cloudwatch_agent_enabled"):
        pytest.skip("cloudwatch_agent_enabled is true")
    assert not host.file(AGENT).exists


def test_it_is_the_stand_in(host, agent):
    """So that nobody takes these tests for proof of more."""
    assert "stand-in for the Amazon CloudWatch Agent" in host.check_output(
        "dpkg-query --show --showformat '${Description}' amazon-cloudwatch-agent")


def test_it_runs_and_comes_back(host, agent):
    assert host.service(UNIT).is_running and host.service(UNIT).is_enabled


def test_it_runs_as_its_user_in_the_groups_that_it_needs(host, setting, status):
    user = setting("cloudwatch_agent_user")
    assert int(status["Uid"].split()[0]) == host.user(user).uid
    if user != "root":
        wanted = {"journald": ["systemd-journal"], "files": [setting("airflow_group")],
                  "none": []}[setting("cloudwatch_agent_log_source")]
        wanted += setting("cloudwatch_agent_groups")
        assert {int(gid) for gid in status["Groups"].split()} == {host.group(name).gid for name in wanted}


def test_it_has_loaded_the_configuration_of_now(host, config):
    assert json.loads(host.file(f"{AGENT}/var/loaded-config.json").content_string) == config


def test_it_measures_and_names_what_it_was_told(host, setting, config):
    metrics_of_host = config["metrics"]["metrics_collected"]
    assert config["metrics"]["namespace"] == setting("cloudwatch_agent_namespace")
    assert {"cpu", "mem", "disk", "net", "swap"} & metrics_of_host.keys() == set(
        setting("cloudwatch_agent_host_metrics"))
    if "disk" in metrics_of_host:
        assert metrics_of_host["disk"]["resources"] == setting("cloudwatch_agent_disk_paths")
    if "net" in metrics_of_host:
        assert metrics_of_host["net"]["resources"] == setting("cloudwatch_agent_net_interfaces")
    assert config["agent"]["metrics_collection_interval"] == setting("cloudwatch_agent_metrics_interval")
    assert config["agent"].items() >= setting("cloudwatch_agent_config").get("agent", {}).items()
    if setting("cloudwatch_agent_common_config"):
        common = configparser.ConfigParser()
        common.read_string(host.file(f"{AGENT}/etc/common-config.toml").content_string)
        found = {
            section: {key: json.loads(value)
                      for key, value in common[section].items()}
            for section in common.sections()
        }
        assert found == setting("cloudwatch_agent_common_config")
    for entry in (
        config["logs"]["logs_collected"].get(setting("cloudwatch_agent_log_source"), {}).get("collect_list", [])
    ):
        assert entry["log_group_name"].startswith(setting("cloudwatch_agent_log_group_prefix") + "/")


def test_its_own_schema_accepts_the_configuration(config):
    if not SCHEMA.is_file():
        pytest.skip(f"no schema of the agent in {SCHEMA}; name it in AIRFLOW_CLOUDWATCH_SCHEMA")
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft4Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(config)


def test_it_can_read_the_logs_that_it_ships(host, setting, config):
    source = setting("cloudwatch_agent_log_source")
    if source == "none":
        pytest.skip("cloudwatch_agent_log_source is none")
    entries = config["logs"]["logs_collected"][source]["collect_list"]
    assert {entry["log_group_name"].rsplit("/", 1)[1] for entry in entries} >= {"scheduler", "triggerer"}
    reader = "runuser -u {0} --".format(setting("cloudwatch_agent_user"))
    for entry in entries:
        if source == "files":
            host.check_output(f"{reader} head -c 1 {entry['file_path']}")
        else:
            assert host.check_output(
                f"{reader} journalctl --quiet --lines 1 --unit {entry['units'][0]} 2>/dev/null"), entry


def test_airflows_metrics_arrive(host, setting, config):
    if not setting("cloudwatch_agent_statsd_address"):
        pytest.skip("cloudwatch_agent_statsd_address is empty")
    for _second in range(60):
        names = host.run(f"cat {AGENT}/var/statsd-metrics.txt").stdout.split()
        if any(name.startswith("airflow.scheduler") for name in names):
            return
        time.sleep(1)
    raise AssertionError(f"no metric of the scheduler within a minute: {names}")


def test_it_listens_on_no_address_but_the_given_one(host, setting, agent):
    address = setting("cloudwatch_agent_statsd_address")
    sockets = host.check_output("ss --udp --listening --numeric --processes | grep amazon-cloud || true")
    assert all(address in line for line in sockets.splitlines()) and bool(sockets) == bool(address)


def test_a_configuration_that_it_refuses_never_replaces_the_good_one(host, config):
    """What the role's validate does, by hand."""
    done = host.run(f"""
        echo '{{"agent": 1}}' > /tmp/bad.json
        {AGENT}/bin/config-translator --input /tmp/bad.json --output /tmp/out.toml --mode auto; result=$?
        rm -f /tmp/bad.json; exit $result""")
    assert done.rc != 0 and "agent is not a mapping" in done.stderr


def test_it_looks_for_the_processes_of_each_component(config, major):
    """By the patterns that test_statsd.py tries."""
    entries = {
        entry["append_dimensions"]["component"]: entry["pattern"]
        for entry in config["metrics"]["metrics_collected"]["procstat"]
    }
    assert entries == {name: component["process"] for name, component in metrics.components(major).items()}


def test_the_timer_measures_what_the_agent_cant(host, agent):
    """A certificate of ten days, and a backup of two hours ago. As the unit runs it, to a listener of the test's own.
    """
    assert host.service("cloudwatch-agent-gauges.timer").is_running
    assert host.service("cloudwatch-agent-gauges.timer").is_enabled
    received = host.check_output("""
        mkdir -p /var/lib/test-gauges && cd /var/lib/test-gauges
        openssl req -x509 -newkey rsa:2048 -nodes -days 10 -subj /CN=test -keyout key -out pem 2>/dev/null
        touch -d '2 hours ago' file
        python3 -c '
import socket, subprocess
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", 8126))
listener.settimeout(5)
subprocess.run(["/usr/local/sbin/cloudwatch-agent-gauges", "127.0.0.1:8126",
                "days=c.days=/var/lib/test-gauges/pem", "days=c.none=/var/lib/test-gauges/no",
                "hours=b.hours=/var/lib/test-gauges/file", "hours=b.never=/var/lib/test-gauges/no",
                "hours=b.none=/no/file"], check=True)
print(*[listener.recv(100).decode() for _ in range(3)])'
        rm -r /var/lib/test-gauges""").split()
    values = {name: float(value.removesuffix("|g")) for name, value in (line.split(":") for line in received)}
    assert values.keys() == {"c.days", "b.hours", "b.never"}
    assert 9.9 < values["c.days"] <= 10
    assert 2 <= values["b.hours"] < 2.1
    assert 0 <= values["b.never"] < 0.1


def test_the_unit_of_the_timer_succeeds_and_reaches_the_agent(host, setting, agent):
    """With all of its sandbox: a file that only root may read is measured."""
    host.check_output("install -d -m 0700 /var/lib/airflow-backup && systemctl start cloudwatch-agent-gauges.service")
    try:
        for _second in range(10):
            if setting("cloudwatch_agent_file_ages").keys() <= set(
                    host.file(f"{AGENT}/var/statsd-metrics.txt").content_string.split()):
                return
            time.sleep(1)
        raise AssertionError(host.check_output("journalctl --unit cloudwatch-agent-gauges --lines 20 --no-pager"))
    finally:
        host.check_output("rmdir --ignore-fail-on-non-empty /var/lib/airflow-backup")
