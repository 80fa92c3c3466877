"""Runbooks of daily work: pause and resume, run, read logs, clear what is stuck, make room, alert."""

import json
import re
import shlex
import time

import pytest
from airflow_api import Api
from conftest import ROOT
from playbook import play

DAGS = "operations_fail operations_hang operations_retry operations_well"
RECORD = "/var/lib/airflow-runbooks/paused.json"
SINK = "/run/alert-sink.jsonl"


@pytest.fixture(scope="module")
def api(host, setting, major):
    return Api(host, setting, major)


def write(host, path, text, mode="0644"):
    host.check_output(f"cat > {path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\nchmod {mode} {path}")


@pytest.fixture(scope="module", autouse=True)
def dags(host, setting, api):
    """The DAGs of these tests, beside those of the release."""
    path = f"{setting('airflow_install_dir')}/dags/current/dags/operations_dags.py"
    write(host, path, (ROOT / "tests/molecule/operations_dags.py").read_text(encoding="utf-8"))
    host.check_output("airflow dags reserialize >/dev/null 2>&1")
    yield
    host.run(f"rm -f {path} {RECORD}")
    for name in [*DAGS.split(), "operations_late"]:
        api.ask("DELETE", f"/dags/{name}")


@pytest.fixture(scope="module")
def sink(host):
    """Who takes the alerts."""
    write(host, "/run/alert-sink.py", (ROOT / "tests/molecule/alert_sink.py").read_text(encoding="utf-8"))
    host.check_output(f"systemd-run --quiet --unit=alert-sink python3 /run/alert-sink.py {SINK}")
    yield lambda: [json.loads(line) for line in host.run(f"cat {SINK}").stdout.splitlines()]
    host.run(f"systemctl stop alert-sink; rm -f {SINK}")


def paused(api):
    found = api.get("/dags?limit=100")["dags"]
    return {dag["dag_id"] for dag in found if dag["is_paused"]}, {dag["dag_id"] for dag in found}


def unpause(api, *names):
    for name in names:
        assert api.ask("PATCH", f"/dags/{name}", {"is_paused": False})[0] == 200


# ---- pause and resume


def test_resume_unpauses_what_pause_has_paused_and_nothing_else(host, api):
    unpause(api, "operations_fail", "operations_well")
    before, known = paused(api)
    assert "operations_hang" in before

    everything = play("runbooks/pause_dags", airflow_wait=True, airflow_confirm="all")
    assert (everything.failed, everything.changed) == (False, 1), everything.output
    assert paused(api)[0] == known
    assert set(json.loads(host.file(RECORD).content_string)) == known - before
    assert (host.file(RECORD).user, host.file(RECORD).mode) == ("root", 0o600)

    # Somebody has unpaused one by hand, which is then none of its business.
    unpause(api, "operations_hang")
    resumed = play("runbooks/resume_dags")
    assert (resumed.failed, resumed.changed) == (False, 1), resumed.output
    assert paused(api)[0] == before - {"operations_hang"}
    assert not host.file(RECORD).exists


# ---- run one, and read what it said


def test_a_run_that_fails_shows_why_and_people_hear_of_it(host, api, setting, sink):
    host.run(f"rm -f {setting('airflow_home')}/alerts.json")
    unpause(api, "operations_fail")
    failed = play("runbooks/trigger_dag", airflow_dag_id="operations_fail", airflow_wait_timeout=120)
    assert failed.failed
    assert "RuntimeError: on purpose" in failed.text
    assert "show_logs.yml -e airflow_dag_id=operations_fail" in failed.text

    end = time.monotonic() + 20
    # Four tasks have failed; the limit of the scenario is three.
    while len(sink()) < 9 and time.monotonic() < end:
        time.sleep(0.5)
    time.sleep(1)
    messages = sink()
    assert sorted(message["by"] for message in messages) == ["email"] * 3 + ["slack"] * 3 + ["sns"] * 3
    for message in messages:
        assert "operations_fail.fail_" in message["text"] + message.get("subject", "")
        assert "Error: RuntimeError: on purpose" in message["text"]
        assert "Log: http" in message["text"]
    assert sum("This is the last of 3 messages" in message["text"] for message in messages) == 3
    assert json.loads(host.file(f"{setting('airflow_home')}/alerts.json").content_string)["held"] == 1

    shown = play("runbooks/show_logs",
                 airflow_dag_id="operations_fail",
                 airflow_task_id="fail_1",
                 airflow_level="error")
    assert (shown.failed, shown.changed) == (False, 0)
    assert "RuntimeError: on purpose, 1" in shown.text
    assert "before the failure" not in shown.text
    # What the log tells of the alert has no address.
    whole = host.check_output(f"cat {setting('airflow_log_dir')}/dag_id=operations_fail/*/*/*.log")
    assert "alert was sent by slack" in whole
    assert "marker-webhook" not in whole


def test_a_try_that_is_not_the_last_alerts_nobody(api, sink):
    count = len(sink())
    run = api.start_run("operations_retry")
    end = time.monotonic() + 40
    while api.tasks("operations_retry", run)["fail"][0] != "up_for_retry" and time.monotonic() < end:
        time.sleep(0.5)
    assert api.tasks("operations_retry", run)["fail"][0] == "up_for_retry"
    assert len(sink()) == count


def test_a_run_that_succeeds_says_so_and_one_that_would_wait_is_refused(host, api):
    unpause(api, "operations_well")
    done = play("runbooks/trigger_dag",
                airflow_dag_id="operations_well",
                airflow_conf={"day": "2026-01-31"},
                airflow_wait_timeout=120)
    assert (done.failed, done.changed) == (False, 1), done.output
    assert ": success" in done.text
    (run, ) = [
        run for run in api.get("/dags/operations_well/dagRuns")["dag_runs"] if run["conf"] == {"day": "2026-01-31"}
    ]
    assert run["state"] == "success"

    host.check_output("airflow dags pause operations_well >/dev/null 2>&1")
    waits = play("runbooks/trigger_dag", airflow_dag_id="operations_well")
    assert waits.failed
    assert "operations_well is paused" in waits.text
    assert (
        "To unpause it and run it: ansible-playbook" in waits.text
        and "run_dag.yml -e airflow_dag_id=operations_well" in waits.text
    )
    assert len(api.get("/dags/operations_well/dagRuns")["dag_runs"]) == 1
    unknown = play("runbooks/trigger_dag", airflow_dag_id="operations_wel")
    assert unknown.failed
    assert "Did you mean operations_well?" in unknown.text


@pytest.mark.major(3)
def test_a_run_that_is_late_alerts(host, api, setting, sink):
    host.run(f"rm -f {setting('airflow_home')}/alerts.json")
    api.start_run("operations_late")
    channels, heard, end = {"email", "slack", "sns"}, set(), time.monotonic() + 90
    while heard != channels and time.monotonic() < end:
        time.sleep(1)
        heard = {
            message["by"]
            for message in sink()
            if "operations_late missed its deadline" in message["text"] + message.get("subject", "")
        }
    assert heard == channels


def test_logs_of_a_component_are_shown_and_bad_arguments_refused():
    shown = play("runbooks/show_logs", airflow_component="scheduler", airflow_since="-1h", airflow_lines=3)
    assert (shown.failed, shown.changed) == (False, 0), shown.output
    assert "scheduler" in shown.text
    wrong = play("runbooks/show_logs", airflow_component="shceduler")
    assert wrong.failed
    assert "component=<" in wrong.text


# ---- alerts


def test_a_test_alert_goes_through_every_channel_or_says_which_refused(host, sink):
    count = len(sink())
    sent = play("runbooks/send_test_alert")
    assert (sent.failed, sent.changed) == (False, 0), sent.output
    assert sorted(message["by"] for message in sink()[count:]) == ["email", "slack", "sns"]

    host.check_output("systemctl stop alert-sink")
    refused = play("runbooks/send_test_alert")
    write(host, "/run/alert-sink.py", (ROOT / "tests/molecule/alert_sink.py").read_text(encoding="utf-8"))
    host.check_output(f"systemd-run --quiet --unit=alert-sink python3 /run/alert-sink.py {SINK}")
    assert refused.failed
    for channel in ("email", "slack_webhook_url", "sns_topic_arn"):
        assert f"{channel}: refused" in refused.text
    assert "marker-webhook" not in sent.output + refused.output


# ---- what is stuck


def test_a_task_that_nobody_works_on_is_named_and_cleared_and_then_runs(host, api, setting):
    run = api.start_run("operations_hang")
    end = time.monotonic() + 60
    while api.tasks("operations_hang", run)["hang"][0] != "running" and time.monotonic() < end:
        time.sleep(0.5)
    # The scheduler and its tasks die at once, and twenty minutes pass.
    host.check_output("systemctl kill --signal=KILL airflow-scheduler; systemctl stop airflow-scheduler")
    age = "UPDATE task_instance SET start_date = now() - interval '20 minutes' WHERE dag_id = 'operations_hang'"
    beat = ("UPDATE task_instance SET last_heartbeat_at = now() - interval '20 minutes' WHERE dag_id = "
            "'operations_hang'") if api.major == 3 else (
        "UPDATE job SET latest_heartbeat = now() - interval '20 minutes' WHERE dag_id = 'operations_hang'")
    host.check_output(
        f"runuser -u postgres -- psql -q {setting('airflow_database_name')} -c {shlex.quote(age)} -c "
        f"{shlex.quote(beat)}"
    )
    try:
        report = play("runbooks/clear_stuck_tasks", airflow_minutes=10)
        assert (report.failed, report.changed) == (False, 0), report.output
        assert "running for 20 min" in report.text
        assert "sign of life" in report.text
        cleared = play("runbooks/clear_stuck_tasks", airflow_minutes=10, airflow_confirm="operations_hang")
        assert (cleared.failed, cleared.changed) == (False, 1), cleared.output
    finally:
        host.check_output("systemctl start airflow-scheduler")
    assert api.wait("operations_hang", run, 120) == "success"
    assert api.tasks("operations_hang", run)["hang"][1] == 2


# ---- room


def test_room_is_made_on_a_host_whose_tmp_is_full(host, setting):
    logs, install = setting("airflow_log_dir"), setting("airflow_install_dir")
    cache, old, torn = "/var/cache/operations", f"{logs}/dag_id=operations_old/task_id=x", f"{install}/venvs/torn"
    host.check_output(
        f"mkdir -p {cache}/uv {old} {torn} && head -c 30000000 /dev/zero > {cache}/uv/wheel && head -c 5000000 "
        f"/dev/zero > {torn}/part && "
        f"head -c 3000000 /dev/zero > {old}/attempt=1.log && touch -d '90 days ago' {old}/attempt=1.log && "
        f"chown -R {setting('airflow_user')}: {logs}/dag_id=operations_old && "
        "mount -t tmpfs -o size=1m tmpfs /tmp && { head -c 2000000 /dev/zero > /tmp/full; true; }")
    try:
        assert host.check_output("df --output=pcent /tmp | tail -1").strip() == "100%"
        report = play("runbooks/free_disk_space", airflow_cache_dir=cache)
        assert (report.failed, report.changed) == (False, 0), report.output
        # With what apt has there.
        assert float(re.search(r"could be had: ([\d.]+) MB, package caches", report.text)[1]) >= 30
        assert host.file(f"{cache}/uv/wheel").exists
        done = play("runbooks/free_disk_space", airflow_cache_dir=cache, airflow_confirm=host.backend.host)
        assert (done.failed, done.changed) == (False, 1), done.output
        assert "Got back" in done.text
    finally:
        host.check_output(f"umount /tmp; rm -rf {cache}")
    for path in (f"{cache}/uv", f"{old}/attempt=1.log", torn):
        assert not host.file(path).exists, path
    # What runs is left alone.
    assert host.run("airflow version").rc == 0
