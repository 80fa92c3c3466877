"""Running tasks outlive restarts, and the host comes back by itself."""

import json
import os
import random
import signal
import subprocess
import time

import pytest
from airflow_api import Api
from conftest import ROOT, host_name
from playbook import SETTINGS, look
from slow_tasks import SlowTasks, wait_until_healthy

# Running tasks in an ordinary run. Twenty are the long part "restarts".
FEW = 2


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


@pytest.fixture(scope="module")
def tasks(host, setting, api):
    made = SlowTasks(host, setting, api)
    yield made
    made.remove()


@pytest.mark.long("restarts")
@pytest.mark.major(3)
def test_running_task_outlives_an_api_server_that_is_away_for_40_seconds(host, tasks):
    run = tasks.start()
    host.check_output("systemctl stop airflow-api-server")
    time.sleep(40)
    host.check_output("systemctl start airflow-api-server")
    assert tasks.end(run) == [("success", 1)]


def seconds_of_stop(host, unit):
    """Stop a unit, start it again, and return the seconds of the stop. It ends well, or the test fails."""
    host.check_output(f"systemctl stop {unit}")
    found = host.service(unit).systemd_properties
    assert (found["Result"], found["ActiveState"]) == ("success", "inactive")
    told, ended = (int(found[name]) for name in ("ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic"))
    host.check_output(f"systemctl start {unit}")
    return (ended - told) / 1_000_000


@pytest.mark.long("restarts")
@pytest.mark.major(3)
def test_an_idle_triggerer_never_waits_for_a_child_that_has_ended(host):
    """Airflow's wait took ten seconds in six of ten stops, so five stops in a row show the fault nearly always."""
    times = [seconds_of_stop(host, "airflow-triggerer") for _number in range(5)]
    assert max(times) < 5, times
    # It has closed its row, so that the next one takes its triggers at once.
    left = host.check_output(
        "runuser -u postgres -- psql -At -d airflow -c \"SELECT count(*) FROM job WHERE job_type = 'TriggererJob' "
        "AND state = 'running'\"")
    assert left == "1"


@pytest.mark.long("restarts")
@pytest.mark.major(3)
def test_a_server_that_nobody_asks_does_not_clear_its_memory_before_it_ends(host, setting):
    """Which takes Python two seconds. bench/restart has the times."""
    host.check_output("systemctl stop airflow-api-server")
    found = host.service("airflow-api-server").systemd_properties
    host.check_output("systemctl start airflow-api-server")
    wait_until_healthy(host, setting)
    assert (found["Result"], found["ExecMainStatus"]) == ("success", str(signal.SIGALRM.value))


# Sends a request in two halves: the server is told to stop in between. Prints the line with the status of the answer.
SLOW_REQUEST = """
import socket, subprocess, time
body = b'{"username": "nobody", "password": "wrong"}'
one = socket.create_connection(("127.0.0.1", PORT))
head = "POST /auth/token HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\n"
head += "Content-Length: %d\\r\\n\\r\\n" % len(body)
one.sendall(head.encode() + body[:5])
time.sleep(1)
subprocess.run(["systemctl", "stop", "--no-block", "airflow-api-server"], check=True)
time.sleep(4)
one.sendall(body[5:])
print(one.recv(1000).decode().splitlines()[0])
"""


@pytest.mark.major(3)
def test_a_request_that_runs_is_answered_before_the_server_ends(host, setting):
    said = host.check_output(
        f"python3 - <<'CODE'\n{SLOW_REQUEST.replace('PORT', str(setting('airflow_api_port')))}\nCODE")
    host.check_output("timeout 30 sh -c 'while systemctl is-active --quiet airflow-api-server; do sleep 0.2; done'")
    host.check_output("systemctl start airflow-api-server")
    wait_until_healthy(host, setting)
    assert said.startswith("HTTP/1.1 401"), said


@pytest.mark.long("restarts")
@pytest.mark.major(3)
def test_a_server_that_is_stopped_while_it_starts_is_waited_for_seconds_only(host, setting):
    """A SIGTERM that Python drops cost 100 s. Which moment drops it is chance; tests/unit/test_components.py has a
    process that always does.
    """
    for pause in (0.5, 2, 4):
        host.check_output("systemctl stop airflow-api-server")
        host.check_output(f"systemctl start --no-block airflow-api-server && sleep {pause}")
        begin = time.monotonic()
        host.check_output("systemctl stop airflow-api-server")
        assert time.monotonic() - begin < 15
    host.check_output("systemctl start airflow-api-server")
    wait_until_healthy(host, setting)


def module(name, host, *arguments, **options):
    """Run a module on the host as the roles do, and return its result."""
    done = subprocess.run(
        [
            "ansible",
            "-i",
            os.environ["MOLECULE_INVENTORY_FILE"],
            host_name(host),
            "--become",
            "-m",
            name,
            "-a",
            json.dumps(options),
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, **SETTINGS, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{"):])[0]


def test_the_prune_sees_which_virtualenv_the_components_use(host, setting):
    install = setting("airflow_install_dir")
    linked = host.check_output(f"basename $(readlink -f {install}/venv)")
    found = module("windsock.airflow.airflow_virtualenv_prune", host, "--check", install_dir=install, keep=100)
    for unit in ("airflow-scheduler", "airflow-triggerer"):
        assert int(host.check_output(f"systemctl show {unit} --property=MainPID --value")) in found["in_use"][linked]
    assert found["removed"] == []


# A library of a virtualenv, mapped as the dynamic linker maps it. Arguments and environment do not name it.
HOLDS = ("import mmap, time; file = open('/opt/prune-test/ve' + 'nvs/used/library', 'rb'); "
         "held = mmap.mmap(file.fileno(), 0, prot=1); time.sleep(600)")


def test_a_virtualenv_that_a_sandboxed_service_uses_outlives_two_switches(host):
    host.check_output(
        "mkdir -p /opt/prune-test/venvs && cd /opt/prune-test && mkdir venvs/linked venvs/used venvs/unused && "
        "ln -s venvs/linked venv && head -c 5000 /dev/zero > venvs/used/library")
    # The user and the namespaces of a component.
    host.check_output("systemd-run --quiet --collect --unit prune-test -p User=airflow -p ProtectSystem=strict "
                      "-p PrivateTmp=yes python3 -c %s", HOLDS)
    try:
        pid = host.check_output("systemctl show prune-test --property=MainPID --value")
        host.check_output(f"timeout 20 sh -c 'until grep -q venvs/used /proc/{pid}/maps; do sleep 0.1; done'")
        found = module("windsock.airflow.airflow_virtualenv_prune", host, install_dir="/opt/prune-test", keep=0)
        assert (found["removed"], found["in_use"]) == (["unused"], {"used": [int(pid)]})
        assert host.file("/opt/prune-test/venvs/used/library").exists
        host.check_output("systemctl stop prune-test")
        assert module("windsock.airflow.airflow_virtualenv_prune", host, install_dir="/opt/prune-test",
                      keep=0)["removed"] == ["used"]
    finally:
        host.run("systemctl stop prune-test; rm -r /opt/prune-test")


@pytest.mark.major(3)
def test_health_names_dags_that_nobody_parses_any_more(host, setting):
    """As after the loss of the DAG processor's virtualenv: Airflow takes all DAGs for removed and starts no run."""
    current = f"{setting('airflow_install_dir')}/dags/current"
    database = f"runuser -u postgres -- psql -d {setting('airflow_database_name')} -Atc"
    # Nobody parses meanwhile, and the release has been in place for long.
    host.check_output(f"systemctl stop airflow-dag-processor && touch -h -d '1 hour ago' {current}")
    try:
        host.check_output(f"{database} 'UPDATE dag SET is_stale = true'")
        code, said = look("check_health")
    finally:
        host.check_output(f"touch -h {current}; systemctl start airflow-dag-processor")
        parsed = f'{database} "SELECT count(*) FROM dag WHERE NOT is_stale"'
        host.check_output("timeout 90 sh -c %s", f'until [ "$({parsed})" -ge 3 ]; do sleep 0.5; done')
    assert code != 0
    found = [result["status"] for result in said["results"] if result["cause"] == "stale_dags"]
    assert found == ["CRITICAL"], said["results"]


@pytest.fixture
def room(host, number):
    """Room for so many tasks at once. Every host has room for a few."""
    if number <= FEW:
        yield
        return
    drop_in = "/run/systemd/system/airflow-scheduler.service.d/twenty.conf"
    restart = "systemctl daemon-reload && systemctl restart airflow-scheduler"
    host.check_output(
        f"mkdir -p $(dirname {drop_in}) && printf '[Service]\nEnvironment=AIRFLOW__CORE__PARALLELISM=20\n' > {drop_in} "
        f"&& {restart}"
    )
    yield
    host.check_output(f"rm {drop_in} && {restart}")


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("number", [FEW, pytest.param(20, marks=pytest.mark.long("restarts"))])
def test_running_tasks_outlive_a_restart_of_every_component(host, major, tasks, seed, number):
    """One component after the other, the scheduler last: it ends when its tasks have."""
    run = tasks.start(number)
    since = host.check_output("date +%s")
    said = f"journalctl --unit airflow-scheduler --since @{since} --output cat --no-pager"
    units = ["airflow-api-server", "airflow-dag-processor", "airflow-triggerer"
             ] if major == 3 else ["airflow-webserver", "airflow-triggerer"]
    for unit in random.Random(seed).sample(units, len(units)):
        host.check_output(f"systemctl restart {unit}")
    host.check_output("systemctl restart --no-block airflow-scheduler")
    for _second in range(60):
        if f"waiting for {number} running tasks" in host.check_output(said):
            break
        time.sleep(1)
    assert tasks.states(run) == [("running", 1)] * number
    assert host.check_output("systemctl show airflow-scheduler --property=ActiveState --value") == "deactivating"
    assert tasks.end(run) == [("success", 1)] * number
    lines = host.check_output(said)
    assert f"waiting for {number} running tasks" in lines
    assert "gave up" not in lines and "killed" not in lines


@pytest.mark.long("restarts")
@pytest.mark.major(3)
def test_a_database_that_is_late_is_waited_for(host, setting):
    """As on a host that boots beside its database: all is asked to start, and the database is there twenty seconds
    later.
    """
    host.check_output("systemctl stop airflow.target 'airflow-*.service' postgresql.service")
    host.check_output("systemctl start --no-block airflow.target")
    time.sleep(20)
    host.check_output("systemctl start postgresql.service")
    wait_until_healthy(host, setting)
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


# One system boots like another: the units differ between the majors, and the way that they start at a boot does not.
@pytest.mark.long("restarts", ordinary=3)
def test_a_rebooted_host_comes_back_healthy_without_a_hand(host, setting, api):
    subprocess.run(["docker", "restart", "--time", "120", host_name(host)], check=True, capture_output=True)
    wait_until_healthy(host, setting)
    assert api.wait("example_dag", api.start_run("example_dag")) == "success"
