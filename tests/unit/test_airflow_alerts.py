"""Alerts: every task gets the callback, nothing that goes wrong reaches the task, and not too many are sent."""

import asyncio
import importlib
import json
import logging
import socket
import sys
import threading
import time
import types

import pytest

WEBHOOK = "http://127.0.0.1:9/services/marker-webhook"


class NoHook:
    """Stands in for pluggy, which only the hosts need."""

    def HookimplMarker(self, _name):  # noqa: N802
        return lambda function: function


@pytest.fixture
def alerts(host_settings, monkeypatch, caplog):
    """The module as it is on a host; `told` is what its channels were given."""
    monkeypatch.setitem(sys.modules, "pluggy", NoHook())
    monkeypatch.delitem(sys.modules, "airflow_runtime.alerts", raising=False)
    module = importlib.import_module("airflow_runtime.alerts")
    module.to, module.count = host_settings / "config/secrets/alerts", host_settings / "home/alerts.json"
    module.told = []
    module.set = lambda **settings: module.to.write_text(json.dumps(settings))
    module.veiled = str
    monkeypatch.setitem(module.CHANNELS, "slack_webhook_url", lambda to, subject, body: module.told.append(
        (to, subject, body)))
    caplog.set_level(logging.INFO)
    return module


def failed_task(**more):
    return types.SimpleNamespace(dag_id="d",
                                 task_id="t",
                                 run_id="r",
                                 try_number=2,
                                 map_index=-1,
                                 hostname="h",
                                 log_url="http://localhost/log",
                                 **more)


def test_a_task_gets_it_once_besides_its_own(alerts):
    own = print
    for given, expected in (([], 1), (None, 1), ([own], 2), (own, 2), ((own,), 2)):
        task = types.SimpleNamespace(on_failure_callback=given)
        alerts.task_policy(task)
        alerts.task_policy(task)
        assert len(task.on_failure_callback) == expected
        assert task.on_failure_callback[-1] is alerts.task_failed


def test_a_failure_is_told_with_its_link(alerts):
    alerts.set(slack_webhook_url=WEBHOOK)
    alerts.task_failed({"ti": failed_task(), "exception": ValueError("no\nrows")})
    ((to, subject, body),) = alerts.told
    assert (to, subject) == (WEBHOOK, "Airflow: d.t failed")
    for line in ("Run: r", "Try: 2", "Error: ValueError: no", "Log: http://localhost/log"):
        assert line in body


def test_nothing_is_sent_where_nothing_is_configured(alerts):
    alerts.task_failed({"ti": failed_task()})
    alerts.set(limit=3)
    alerts.task_failed({"ti": failed_task()})
    assert alerts.told == []
    assert not alerts.count.exists()


@pytest.mark.parametrize("broken", [{}, {"ti": None, "task_instance": object()}])
def test_what_goes_wrong_does_not_reach_the_task(alerts, broken):
    alerts.set(slack_webhook_url=WEBHOOK)
    alerts.task_failed(broken)
    alerts.to.write_text("{not json")
    alerts.task_failed({"ti": failed_task()})
    assert alerts.told == []


def test_a_refusal_is_logged_without_the_address(alerts, monkeypatch, caplog):
    real = alerts.send_slack
    monkeypatch.setitem(alerts.CHANNELS, "slack_webhook_url", real)
    for address in (WEBHOOK, "not-a-url/marker-webhook", "http://[broken/marker-webhook"):
        alerts.set(slack_webhook_url=address)
        alerts.task_failed({"ti": failed_task()})
    assert caplog.text.count("could not be sent by slack") == 3
    assert "marker-webhook" not in caplog.text


def test_a_server_that_never_answers_costs_seconds(alerts, monkeypatch):
    monkeypatch.setattr(alerts, "TOGETHER", 0.3)
    monkeypatch.setitem(alerts.CHANNELS, "slack_webhook_url", lambda *_: time.sleep(30))
    begin = time.monotonic()
    assert "no answer" in alerts.send({"slack_webhook_url": WEBHOOK}, "s", "b")["slack_webhook_url"]
    assert time.monotonic() - begin < 5


def test_a_hundred_failures_are_not_a_hundred_messages(alerts, monkeypatch):
    now = [1000000.0]
    monkeypatch.setattr(alerts.time, "time", lambda: now[0])
    alerts.set(slack_webhook_url=WEBHOOK, limit=3)
    for _number in range(100):
        alerts.task_failed({"ti": failed_task()})
    assert len(alerts.told) == 3
    assert ["This is the last of 3" in body for _to, _subject, body in alerts.told] == [False, False, True]
    now[0] += 3600
    alerts.task_failed({"ti": failed_task()})
    assert "97 messages were held back" in alerts.told[-1][2]


def test_many_processes_keep_to_one_limit(alerts):
    alerts.set(slack_webhook_url=WEBHOOK, limit=5)
    threads = [threading.Thread(target=alerts.alert, args=("s", "b")) for _number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alerts.told) == 5


def test_a_count_that_can_not_be_kept_keeps_no_alert_back(alerts):
    alerts.set(slack_webhook_url=WEBHOOK)
    alerts.count.mkdir()
    alerts.alert("s", "b")
    assert len(alerts.told) == 1
    alerts.count.rmdir()
    alerts.count.write_text("torn {")
    alerts.alert("s", "b")
    assert len(alerts.told) == 2


def test_deadlines_and_slas_are_told(alerts):
    alerts.set(slack_webhook_url=WEBHOOK)
    context = {"dag_run": {"dag_id": "d", "dag_run_id": "r", "state": "running"}, "deadline": {"deadline_time": "noon"}}
    asyncio.run(alerts.deadline_missed(context=context, anything="more"))
    alerts.sla_missed(types.SimpleNamespace(dag_id="d"), "t on noon", "", [], [])
    assert [subject
            for _to, subject, _body in alerts.told] == ["Airflow: d missed its deadline", "Airflow: d missed an SLA"]
    assert "Deadline: noon" in alerts.told[0][2]


def test_a_password_is_never_sent_in_clear_to_a_server_without_starttls(alerts):
    """STARTTLS is the default; a server that does not know it is not signed in to."""
    heard = []

    def serve(listener):
        connection = listener.accept()[0]
        with connection, connection.makefile("rwb") as stream:
            stream.write(b"220 x\r\n")
            stream.flush()
            for line in stream:
                heard.append(line)
                stream.write(b"221 x\r\n" if line.startswith(b"QUIT") else b"250 x\r\n")
                stream.flush()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        to = {
            "to": ["a@b.c"], "from": "d@e.f", "host": "127.0.0.1", "port": listener.getsockname()[1], "user": "me",
            "password": "marker"
        }
        outcome = alerts.send({"email": to}, "s", "b")["email"]
    assert "STARTTLS" in outcome
    assert not any(b"AUTH" in line or b"MAIL" in line for line in heard)


def test_a_component_that_runs_reads_the_configuration_it_was_started_with(alerts, host_settings, monkeypatch):
    """Its directory may have another name in the inventory by now."""
    (host_settings / "old/secrets").mkdir(parents=True)
    (host_settings / "old/secrets/alerts").write_text(json.dumps({"slack_webhook_url": "old"}), encoding="utf-8")
    alerts.set(slack_webhook_url=WEBHOOK)
    assert alerts.recipients() == {"slack_webhook_url": WEBHOOK}
    monkeypatch.setenv("AIRFLOW_CONFIG", str(host_settings / "old/airflow.cfg"))
    assert alerts.recipients() == {"slack_webhook_url": "old"}


def test_dags_know_the_callbacks_by_a_name_that_stays(alerts):
    """Airflow stores the name of deadline_missed in its database, and asks the module of the policy for task_policy."""
    sys.modules.pop("airflow_alerts", None)
    public = importlib.import_module("airflow_alerts")
    assert public.task_policy is alerts.task_policy and public.sla_missed is alerts.sla_missed
    name = f"{public.deadline_missed.__module__}.{public.deadline_missed.__qualname__}"
    assert name == "airflow_alerts.deadline_missed" and public.deadline_missed is alerts.deadline_missed
