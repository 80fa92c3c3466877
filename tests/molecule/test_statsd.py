"""A capture of what a running Airflow sends by StatsD: all that alarms and the dashboard ask for is in it. And the
processes that the agent measures.
"""

import re
import time

import metrics
import pytest
from airflow_api import Api

# Notes each name once, as the stand-in for the agent does.
LISTENER = r"""
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind((\"127.0.0.1\", 8125))
seen = set()
while True:
    for line in listener.recv(65535).decode().splitlines():
        name = line.split(\":\")[0]
        if name not in seen:
            seen.add(name)
            print(name, file=open(\"/run/statsd-metrics.txt\", \"a\"))
"""


@pytest.fixture
def captured(host, setting):
    """A function that says the names sent until now, as CloudWatch has them."""
    path = "/opt/aws/amazon-cloudwatch-agent/var/statsd-metrics.txt"
    if not setting("cloudwatch_agent_enabled"):
        path = "/run/statsd-metrics.txt"
        host.check_output(f'systemd-run --quiet --unit=statsd-capture python3 -c "{LISTENER}"')
    yield lambda: set(map(metrics.cloudwatch, host.run(f"cat {path}").stdout.split()))
    host.run(f"systemctl stop statsd-capture; rm -f {path}" if path.startswith("/run") else "true")


def test_alarms_and_dashboard_ask_for_what_airflow_sends(host, setting, major, captured):
    api = Api(host, setting, major)
    # Its first task succeeds; what is put into the command of another one ends that.
    run = api.start_run("tutorial", conf={"greeting": '"; exit 1; "'})
    end = time.monotonic() + 90
    while missing := metrics.of_airflow() - captured():
        assert time.monotonic() < end, f"not sent within 90 s: {sorted(missing)}"
        time.sleep(1)
    # A metric of each DAG or task would be paid for, each month.
    names = captured()
    assert not [name for name in names if "tutorial" in name or "example_dag" in name]
    assert len(names) <= metrics.load("files/aws_prices.yml")["counted"]["metrics_of_airflow"], sorted(names)
    api.ask("PATCH", f"/dags/tutorial/dagRuns/{run.replace('+', '%2B')}", {"state": "failed"})


def test_patterns_find_the_processes_of_each_component(host, major):
    """The unit's main process, and nothing of another unit."""
    processes = [line.split(None, 2) for line in host.check_output("ps -eo pid=,unit=,args=").splitlines()]
    for component in metrics.components(major).values():
        unit = component["unit"] + ".service"
        found = {pid: of for pid, of, command in processes if re.search(component["process"], command)}
        assert host.check_output("systemctl show --property=MainPID --value %s", unit) in found, (unit, processes)
        assert set(found.values()) == {unit}
