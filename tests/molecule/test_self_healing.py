"""What the watchdog mends without a person, and the runbooks that restart, drain and recover."""

import json
import shlex
import time

import pytest
from airflow_api import Api
from conftest import host_name
from playbook import play
from slow_tasks import SlowTasks, wait_until_healthy

# Seconds of silence until the watchdog acts: the product's, and those of these tests. Airflow beats every five.
LIMIT, SHORT = 60, 12
# It looks six times within them, and once more where the last beat came just after a look. What follows, evidence and a
# new start, takes as long with either; so what has to be over within two minutes with the product's has to be over here
# within this.
TWO_MINUTES = 120 - (LIMIT - SHORT) * 7 / 6
TOOL = "/opt/airflow/venv/bin/python /opt/airflow/libexec/airflow_runtime/run.py components"
RESTARTS = "/var/lib/airflow-watchdog/restarts.jsonl"


@pytest.fixture(scope="module")
def tasks(host, setting, major):
    made = SlowTasks(host, setting, Api(host, setting, major))
    yield made
    made.remove()


def main_process(host, name):
    return host.check_output(f"systemctl show airflow-{name} --property=MainPID --value")


def freeze(host, name):
    """Stop the component's main process as a hang would, and return it."""
    process = main_process(host, name)
    host.check_output(f"kill -STOP {process}")
    return process


def mended(host, name, frozen, seconds):
    """Return whether a new process of the component is well within so many seconds."""
    main = f"$(systemctl show airflow-{name} --property=MainPID --value)"
    well = f"[ {main} != {frozen} ] && systemctl is-active --quiet airflow-{name} && {TOOL} health {name}"
    return host.run(f"timeout {seconds:.0f} sh -c '{well.join(('until ', '; do sleep 0.5; done'))}'").rc == 0


def stays_well(host, name, seconds):
    """Return whether the component calls itself well for so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if host.run(f"{TOOL} health {name}").rc:
            return False
        time.sleep(1)
    return True


def restarts(host):
    return [json.loads(line) for line in host.run(f"cat {RESTARTS}").stdout.splitlines()]


def test_recover_scheduler_reports_refuses_and_mends(host, tasks):
    run = tasks.start()
    host.check_output("systemctl stop airflow-watchdog")
    frozen = freeze(host, "scheduler")
    report = play("runbooks/recover_scheduler")
    assert (report.failed, report.changed) == (False, 0)
    assert "dag slow_dag" in report.text and "Nothing was changed" in report.text
    assert not stays_well(host, "scheduler", 60)
    assert main_process(host, "scheduler") == frozen
    done = play("runbooks/recover_scheduler", airflow_confirm=host_name(host))
    assert not done.failed, done.output
    assert "The scheduler beats. Evidence on" in done.text
    # Its task ended with it, was named, and is repeated at once although it has no retries.
    assert "gave up on dag slow_dag" in host.check_output(
        "journalctl --unit airflow-scheduler --output cat --no-pager --lines 400")
    assert tasks.end(run) == [("success", 2)]
    again = play("runbooks/recover_scheduler", airflow_confirm=host_name(host))
    assert again.failed and "Nothing to recover" in again.text
    assert host.service("airflow-watchdog").is_running


@pytest.mark.long("stops")
def test_a_drain_has_a_limit_and_names_what_it_gave_up_on(host, setting, tasks):
    settings = f"{setting('airflow_config_dir')}/components.json"
    run = tasks.start()
    host.check_output(
        f"""cp -p {settings} /tmp/drain.json && sed -i 's/"drain_timeout": [0-9]*/"drain_timeout": 3/' {settings}""")
    try:
        host.check_output("systemctl restart airflow-scheduler")
    finally:
        host.check_output(f"cp -p /tmp/drain.json {settings}")
    said = host.check_output("journalctl --unit airflow-scheduler --output cat --no-pager --lines 400")
    assert "waiting for 1 running tasks, until" in said
    assert f"gave up on dag slow_dag, run {run}, task wait_for [0], try 1" in said
    # It is repeated at once, although it has no retries.
    assert tasks.end(run) == [("success", 2)]


@pytest.mark.long("stops")
def test_restart_airflow_restarts_all_and_waits_for_tasks(host, tasks):
    own = host.check_output("systemctl show airflow.target --property=Wants --value").split()
    before = {unit: host.check_output(f"systemctl show {unit} --property=MainPID --value") for unit in own}
    run = tasks.start()
    tasks.let_end(after=10)
    done = play("runbooks/restart_airflow")
    assert not done.failed, done.output
    after = {unit: host.check_output(f"systemctl show {unit} --property=MainPID --value") for unit in own}
    assert [unit for unit in own if before[unit] == after[unit]] == []
    assert tasks.end(run) == [("success", 1)]


def test_restart_airflow_refuses_a_component_that_there_is_none_of(airflow_version):
    wrong = play("runbooks/restart_airflow", airflow_component="schedular")
    assert wrong.failed and wrong.changed == 0
    assert (f"-e airflow_component=schedular: Airflow {airflow_version} has api-server, dag-processor, scheduler, "
            "triggerer") in wrong.text


def test_a_drained_host_runs_no_task_until_it_is_undrained(host, setting, tasks):
    report = play("runbooks/drain_host")
    assert (report.failed, report.changed) == (False, 0)
    run = tasks.start()
    tasks.let_end(after=10)
    done = play("runbooks/drain_host", airflow_confirm=host_name(host), airflow_reason="a test")
    assert not done.failed, done.output
    assert "is drained, and stays so after a reboot" in done.text
    assert tasks.states(run) == [("success", 1)]
    # What a boot does.
    host.check_output("systemctl start airflow.target airflow-scheduler.service")
    assert not host.service("airflow-scheduler").is_running
    # site.yml leaves it so, and calls it healthy.
    assert host.check_output(f"{TOOL} pending") == "[]"
    health = host.run(f"{TOOL} health")
    assert health.rc == 0 and "--   airflow-scheduler: drained, since" in health.stdout and "a test" in health.stdout
    assert not play("runbooks/undrain_host", airflow_confirm=host_name(host)).failed
    assert host.service("airflow-scheduler").is_running
    wait_until_healthy(host, setting)


@pytest.fixture(scope="module")
def watchdog(host, setting):
    """The watchdog, in a hurry."""
    settings, kept = f"{setting('airflow_config_dir')}/components.json", "/tmp/components.json"
    # An earlier run within the hour has used up what it may restart.
    host.check_output(f"rm -f {RESTARTS} && cp -p {settings} {kept}")
    host.check_output(f"""sed -i 's/"watchdog_timeout": {LIMIT}/"watchdog_timeout": {SHORT}/' {settings}""")
    # Its settings are no reason to restart a component.
    assert host.check_output(f"{TOOL} pending") == '["airflow-watchdog.service"]'
    host.check_output("systemctl restart airflow-watchdog")
    yield host.service("airflow-watchdog")
    host.check_output(f"cp -p {kept} {settings} && systemctl restart airflow-watchdog")


@pytest.fixture
def psql(host):
    """A function that runs SQL as the database's administrator, and undoes what the tests leave in the database."""
    def run(sql):
        return host.check_output(f"cd / && runuser -u postgres -- psql -d airflow -qAtc {shlex.quote(sql)}")
    yield run
    run("DELETE FROM job WHERE hostname = 'another'")
    run("ALTER ROLE airflow RESET search_path")
    run("DROP SCHEMA IF EXISTS skewed CASCADE")


@pytest.fixture
def restarted(host):
    """A function that restarts the triggerer, and returns what its journal says of that."""
    def restart():
        cursor = host.check_output("journalctl --lines 0 --show-cursor --no-pager | sed -n 's/^-- cursor: //p'")
        # The unit limits both halves: a stop ends in a kill, and a start that takes too long fails.
        done = host.run("systemctl restart airflow-triggerer")
        said = host.check_output(
            f"journalctl --unit airflow-triggerer --after-cursor='{cursor}' --output short-precise --no-pager")
        assert done.rc == 0, f"{done.stderr}{said}"
        return said
    return restart


def test_the_triggerer_of_another_host_does_not_stand_for_this_one(host, psql, restarted):
    """The other one beats before this one has a row, so the start must wait for the own row and note that one."""
    psql("INSERT INTO job (job_type, state, hostname, start_date, latest_heartbeat)"
         " VALUES ('TriggererJob', 'running', 'another', now() + interval '1 minute', now() + interval '20 s')")
    said = restarted()
    assert "waiting: no heartbeat of host" in said, said
    own = psql("SELECT max(id) FROM job WHERE job_type = 'TriggererJob' AND hostname <> 'another'")
    assert host.check_output("cat /run/airflow-triggerer/beats").endswith(f", {own}]")
    assert host.run(f"{TOOL} health triggerer").rc == 0


@pytest.mark.parametrize(("seconds", "said"),
                         [(600, "600 s ahead of"),
                          pytest.param(-600, "600 s behind", marks=pytest.mark.long("diagnosis"))])
def test_another_clock_of_the_database_is_reported_and_makes_no_start_endless(host, psql, restarted, seconds, said):
    """Sessions of Airflow see a clock of the database that differs, as on a server whose clock nobody keeps."""
    psql("CREATE SCHEMA skewed")
    psql("GRANT USAGE ON SCHEMA skewed TO airflow")
    for clock in ("now", "clock_timestamp"):
        psql(f"CREATE FUNCTION skewed.{clock}() RETURNS timestamptz LANGUAGE sql"
             f" AS 'SELECT pg_catalog.{clock}() + make_interval(secs => {seconds})'")
    psql("ALTER ROLE airflow SET search_path = skewed, pg_catalog, public")
    assert f"the database's clock is {said} this host's" in restarted()
    health = host.run(f"{TOOL} health")
    assert health.rc == 1
    assert [line for line in health.stdout.splitlines() if line.startswith("FAIL")] == [
        f"FAIL clock: the database's clock is {said} this host's: synchronise both with NTP"], health.stdout


# The first time beside two other components, then alone.
@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.long("diagnosis"))])
def test_a_hung_scheduler_is_mended_each_time_in_a_row(host, watchdog, times):
    before = len(restarts(host))
    frozen = {name: freeze(host, name) for name in ("dag-processor", "triggerer")}
    for _time in range(times):
        assert mended(host, "scheduler", freeze(host, "scheduler"), TWO_MINUTES)
    assert all(mended(host, name, process, 10) for name, process in frozen.items())
    made = restarts(host)[before:]
    schedulers = [entry for entry in made if entry["unit"] == "airflow-scheduler.service"]
    assert len(schedulers) == times
    assert {entry["unit"]
            for entry in made} == {f"airflow-{name}.service"
                                   for name in ("scheduler", "dag-processor", "triggerer")}
    evidence = host.file(schedulers[-1]["evidence"])
    assert evidence.mode == 0o640
    for part in ("State:\tT (stopped)", "==== row in table job\n", "SchedulerJob", "==== sessions of the database\n",
                 "airflow scheduler", "==== journal\n"):
        assert part in evidence.content_string
    assert watchdog.is_running


def started_anew(host):
    """How often systemd has started each component because it had ended."""
    lines = host.check_output("systemctl show 'airflow-*.service' --property=Id,NRestarts").split("\n\n")
    return {
        one["Id"]: int(one["NRestarts"])
        for one in (dict(line.split("=", 1) for line in block.splitlines()) for block in lines)
    }


@pytest.mark.long("diagnosis")
def test_a_database_that_is_down_is_no_reason_to_restart(host, setting, watchdog):
    before, by_systemd = restarts(host), started_anew(host)
    ended = (
        "systemctl show airflow-scheduler airflow-dag-processor airflow-triggerer --property=SubState --value | grep . "
        "| sort -u"
    )
    host.check_output("systemctl stop postgresql")
    try:
        # They end, each in its own time; none of them is started before there is a database.
        waits = host.run(f"timeout 120 sh -c 'until [ \"$({ended})\" = start-pre ]; do sleep 1; done'").rc == 0
        time.sleep(SHORT)
        assert waits and host.check_output(ended) == "start-pre", host.check_output(ended)
    finally:
        host.check_output("systemctl start postgresql")
    wait_until_healthy(host, setting)
    assert restarts(host) == before
    # What ends without its database starts once, and waits for it.
    assert {unit: number for unit, number in started_anew(host).items() if number - by_systemd[unit] > 1} == {}
    assert watchdog.is_running
