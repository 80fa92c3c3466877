"""Failures reach people: by e-mail, a Slack webhook and SNS, as airflow_alerts in the inventory says.

Every task gets task_failed as a callback of its failure, besides its own; no DAG has to do anything. For DAGs to use:
deadline_missed (Airflow 3) and sla_missed (Airflow 2). A channel that does not answer costs the task seconds and
nothing else, and what is logged about it never holds its address.

alerts test    send a message through each channel and print as JSON what came of it
"""

from __future__ import annotations

import asyncio
import fcntl
import html
import json
import logging
import smtplib
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pluggy

from airflow_runtime import settings

HOUR = 3600
# Seconds for one step of a conversation, and for all channels together.
STEP, TOGETHER = 5, 12
LONGEST_ERROR = 500

hookimpl: Callable[..., Any] = pluggy.HookimplMarker("airflow.policy")
log = logging.getLogger(__name__)


def recipients() -> dict[str, Any]:
    """Return what the inventory says; nothing where no alerts are wanted."""
    path = settings.config_dir() / "secrets/alerts"
    try:
        wanted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return wanted
    except FileNotFoundError:
        return {}


# ---- channels: each raises what went wrong


def send_email(to: dict[str, Any], subject: str, body: str) -> None:
    """Hand a message to an SMTP server."""
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, to["from"], ", ".join(to["to"])
    message.set_content(body)
    context = ssl.create_default_context()
    security = to.get("security", "starttls")
    port = to.get("port") or {"tls": 465, "starttls": 587}.get(security, 25)
    server = (smtplib.SMTP_SSL(to["host"], port, timeout=STEP, context=context)
              if security == "tls" else smtplib.SMTP(to["host"], port, timeout=STEP))
    with server:
        if security == "starttls":
            server.starttls(context=context)
        if to.get("user"):
            server.login(to["user"], to.get("password", ""))
        server.send_message(message)


def send_slack(to: str, subject: str, body: str) -> None:
    """Post to an incoming webhook."""
    # Slack takes three characters for its own.
    data = json.dumps({"text": html.escape(f"*{subject}*\n{body}", quote=False)}).encode()
    with urllib.request.urlopen(urllib.request.Request(to, data, {"Content-Type": "application/json"}),
                                timeout=STEP) as response:
        response.read()


def send_sns(to: str, subject: str, body: str) -> None:
    """Publish to a topic, with the identity that boto3 finds on the host."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=STEP, read_timeout=STEP, retries={"total_max_attempts": 1})
    # A subject of SNS is ASCII, of 100 characters at most, on one line.
    client = boto3.client("sns", region_name=to.split(":")[3], config=config)
    client.publish(TopicArn=to, Subject=subject.encode("ascii", "replace").decode()[:100], Message=body)


CHANNELS = {"email": send_email, "slack_webhook_url": send_slack, "sns_topic_arn": send_sns}


def reason(error: Exception) -> str:
    """Return what went wrong, without the address: it may be a secret."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        return (
            f"{type(error.reason).__name__}: {error.reason}"
            if isinstance(error.reason, OSError)
            else "the address is not valid"
        )
    if isinstance(error, smtplib.SMTPResponseException):
        return (
            f"SMTP {error.smtp_code} "
            f"{error.smtp_error.decode(errors='replace') if isinstance(error.smtp_error, bytes) else error.smtp_error}"
        )
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "the server refuses every recipient"
    if isinstance(error, (OSError, smtplib.SMTPException)):
        return f"{type(error).__name__}: {error}"
    return type(error).__name__


def send(to: dict[str, Any], subject: str, body: str) -> dict[str, str]:
    """Send through each channel that there is, at once; return {channel: what went wrong, or nothing}."""
    wanted = {name: function for name, function in CHANNELS.items() if to.get(name)}
    outcome = dict.fromkeys(wanted, f"no answer within {TOGETHER} s")

    def one(name: str, function: Callable[[Any, str, str], None]) -> None:
        try:
            function(to[name], " ".join(subject.split()), body)
            outcome[name] = ""
        except Exception as error:
            outcome[name] = reason(error)

    # They don't keep the process alive: what hangs, in a name server for one, is left behind.
    threads = [threading.Thread(target=one, args=item, daemon=True) for item in wanted.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + TOGETHER
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    return dict(outcome)


# ---- not too many


def admitted(limit: int) -> tuple[bool, str]:
    """Return (whether a message may be sent, what to add to it). The last one of an hour says that it is the last."""
    # What was sent in this hour, by all processes of the host.
    with (settings.home() / "alerts.json").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # After the wait: an earlier time than that of who came first would be a new hour.
        now = time.time()
        file.seek(0)
        try:
            count = json.loads(file.read())
        except ValueError:
            count = {"since": 0, "sent": 0, "held": 0}
        held = 0
        if not 0 <= now - count["since"] < HOUR:
            held, count = count["held"], {"since": now, "sent": 0, "held": 0}
        sent = count["sent"] < limit
        count["sent" if sent else "held"] += 1
        last = sent and count["sent"] == limit
        file.seek(0)
        file.truncate()
        json.dump(count, file)
    notes = [f"Before this, {held} messages were held back by the limit of {limit} an hour."] if held else []
    if last:
        until = time.strftime("%H:%M UTC", time.gmtime(count["since"] + HOUR))
        notes.append(
            f"This is the last of {limit} messages; until {until} failures are counted and not sent. Airflow shows "
            "them all."
        )
    return sent, "\n".join(notes)


def alert(subject: str, body: str) -> None:
    """Send a message, unless there were too many in this hour. Never fails."""
    try:
        to = recipients()
        if not any(to.get(name) for name in CHANNELS):
            return
        try:
            go, note = admitted(to.get("limit", 20))
        except OSError:
            # A full disk, for one: rather a message too many.
            go, note = True, ""
        if not go:
            log.info("No alert was sent: the limit of this hour is reached.")
            return
        for channel, wrong in send(to, subject, f"{body}\n{note}".strip()).items():
            if wrong:
                log.warning("The alert could not be sent by %s: %s", channel.partition("_")[0], wrong)
            else:
                log.info("An alert was sent by %s.", channel.partition("_")[0])
    except Exception as error:
        log.warning("The alert could not be sent: %s", type(error).__name__)


# ---- what Airflow calls


@hookimpl
def task_policy(task: Any) -> None:
    """Give a task the callback, besides its own. Called for every task when its DAG is read."""
    own = task.on_failure_callback or []
    own = list(own) if isinstance(own, (list, tuple)) else [own]
    if task_failed not in own:
        task.on_failure_callback = [*own, task_failed]


def veiled(text: str) -> str:
    """Return the text without what Airflow knows as a secret."""
    try:
        from airflow.sdk.log import redact
    except ImportError:
        from airflow.utils.log.secrets_masker import redact
    return str(redact(text))


def task_failed(context: dict[str, Any]) -> None:
    """Tell that a task has failed, after its last try."""
    try:
        task = context.get("ti") or context["task_instance"]
        error = context.get("exception") or context.get("reason") or "no reason was given"
        text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
        where = f"{task.dag_id}.{task.task_id}" + (f"[{task.map_index}]" if getattr(task, "map_index", -1) >= 0 else "")
        lines = [
            f"DAG: {task.dag_id}",
            f"Task: {where}",
            f"Run: {task.run_id}",
            f"Try: {task.try_number}",
            f"Host: {getattr(task, 'hostname', '') or socket.getfqdn()}",
            f"Error: {veiled(text)[:LONGEST_ERROR]}",
            f"Log: {task.log_url}",
        ]
    except Exception as error:
        log.warning("The alert could not be written: %s", type(error).__name__)
        return
    alert(f"Airflow: {where} failed", "\n".join(lines))


async def deadline_missed(context: dict[str, Any] | None = None, **_more: Any) -> None:
    """Tell that a run has missed its deadline: the callback of a DeadlineAlert (Airflow 3), as
    AsyncCallback(deadline_missed).
    """
    run = (context or {}).get("dag_run") or {}
    lines = [
        f"DAG: {run.get('dag_id')}", f"Run: {run.get('dag_run_id') or run.get('run_id')}", f"State: {run.get('state')}",
        f"Deadline: {((context or {}).get('deadline') or {}).get('deadline_time')}"
    ]
    await asyncio.to_thread(alert, f"Airflow: {run.get('dag_id')} missed its deadline", "\n".join(lines))


# Airflow stores this name in its database, and imports it later.
deadline_missed.__module__ = "airflow_alerts"


def sla_missed(dag: Any, task_list: Any, blocking_task_list: Any, slas: Any, blocking_tis: Any) -> None:
    """Tell that tasks have missed their SLA: sla_miss_callback of a DAG (Airflow 2)."""
    alert(f"Airflow: {dag.dag_id} missed an SLA",
          f"DAG: {dag.dag_id}\nTasks that are late:\n{task_list}\nTasks that they wait for:\n{blocking_task_list}")


if __name__ == "__main__":
    if sys.argv[1:] != ["test"]:
        sys.exit(__doc__)
    json.dump(
        send(recipients(), f"Airflow: test from {socket.getfqdn()}",
             "Somebody runs send_test_alert. Alerts about failures come this way."), sys.stdout)
