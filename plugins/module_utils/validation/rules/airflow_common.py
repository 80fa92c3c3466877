"""Variables that all roles of Airflow read: the database, task logs, ECS, alerts."""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    secret_problem,
)
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_secrets import SECRETS_NAMES

RANGES = {
    "airflow_api_port": (1024, 65535),
    "airflow_api_workers": (1, 256),
    "airflow_parallelism": (1, 10000),
    "airflow_database_port": (1, 65535),
    "airflow_database_pool_size": (1, 1000),
    "airflow_database_max_overflow": (0, 1000),
    "airflow_package_lock_timeout": (0, 86400),
}
PATTERNS = {
    # The name of a directory on the controller, and what tells two sites apart.
    "airflow_site_id": (
        r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "valid is a UUID in lower case, such as 0d4b3f6e-6c39-4f0e-9f0a-5f1c1f0c8f11. bin/new-site writes one. If the "
        "site had another id "
        "before, put that one back: the controller finds its copy of the secrets by it."),
    # A prefix in a bucket, or a log group.
    "airflow_remote_base_log_folder": (
        r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?|cloudwatch://arn:aws[a-z-]*:logs:[a-z0-9-]+:[0-9]{12}:log-group:[A-Za-z0-9._/#-]{1,512}",
        "valid are s3://bucket/prefix and cloudwatch://arn:aws:logs:<region>:<account>:log-group:<name>. Other places "
        "need the package of their "
        "provider, and go into airflow_config.logging."),
}
EXCLUSIVE = [("airflow_database_url", "airflow_database_host"), ("airflow_auth", "airflow_webserver_config_file")]
FILES = ["airflow_webserver_config_file"]
# Options of airflow_database_url. The second line is psycopg2's alone: asyncpg, the other driver of Airflow, does
# without them.
DATABASE_URL_OPTIONS = ("sslmode", "target_session_attrs", "application_name", "connect_timeout", "keepalives",
                        "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout")
# What airflow_ecs must have, if it is used.
ECS_NEEDS = ("region", "cluster", "task_definition", "container_name", "subnets")


def parse_url(url: str) -> tuple[str, int, str] | None:
    """(host, port, password), or None for what is no PostgreSQL address."""
    try:
        parts = urllib.parse.urlsplit(url)
        if not re.fullmatch(r"postgres(ql)?(\+\w+)?", parts.scheme) or not parts.hostname or not parts.path.strip("/"):
            return None
        return parts.hostname, parts.port or 5432, urllib.parse.unquote(parts.password or "")
    except ValueError:
        return None


def database_address(values: Values) -> tuple[str, int] | None:
    """(host, port) of an external database, or None."""
    url, host = values.get("airflow_database_url"), values.get("airflow_database_host")
    if url:
        parsed = parse_url(url)
        return parsed[:2] if parsed else None
    return (host, values["airflow_database_port"]) if host else None


def check_database(values: Values, site: Site) -> Problems:
    url = values.get("airflow_database_url")
    if url:
        parsed = parse_url(url)
        if parsed is None:
            yield "airflow_database_url", (
                "is no address of a PostgreSQL database. Valid is postgresql://user:password@host:port/name"
                "?sslmode=verify-full, with special characters of the password percent-encoded. It is not shown, as it "
                "may hold a password."
            )
        elif parsed[2]:
            problem = secret_problem({}, parsed[2])
            if problem:
                yield "airflow_database_url", "its password " + problem.replace(
                    ", or leave it empty and one is generated", "")
        options = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query,
                                              keep_blank_values=True)) if parsed else {}
        foreign = sorted(set(options) - set(DATABASE_URL_OPTIONS))
        if foreign:
            yield "airflow_database_url", (
                "has the option {0}; valid are {1}. Certificates are files on the hosts: authorities go into "
                "airflow_database_sslrootcert, the client's own into airflow_environment, as PGSSLCERT and PGSSLKEY."
            ).format(", ".join(foreign), ", ".join(DATABASE_URL_OPTIONS))
    if values.get("airflow_database_host") and values.get("airflow_database_password") == "" \
            and values.get("airflow_secrets_source") not in (*SECRETS_NAMES, "ansible_vault"):
        yield "airflow_database_password", (
            "is empty, but airflow_database_host ({0}) names an external server, whose password can't be "
            "generated. Set it, best in a vault."
        ).format(site.where("airflow_database_host"))


def check_ecs(values: Values, site: Site) -> Problems:
    """An executor that starts containers has to know where."""
    ecs = values.get("airflow_ecs")
    wanted = isinstance(ecs, dict) and ecs or "AwsEcsExecutor" in (values.get("airflow_executor") or "")
    missing = [name for name in ECS_NEEDS if not (ecs or {}).get(name)] if wanted else []
    if missing:
        yield "airflow_ecs", ("lacks {0}, which AwsEcsExecutor needs. roles/airflow_common/README.md explains "
                              "them.").format(
            ", ".join(missing))


def check_alerts(values: Values, site: Site) -> Problems:
    """Who hears of failures."""
    value = values.get("airflow_alerts")
    if not isinstance(value, dict) or not value:
        return
    wrong, email = [], value.get("email")
    if not any(value.get(name) for name in ("email", "slack_webhook_url", "sns_topic_arn")):
        wrong.append("names nobody: give it email, slack_webhook_url or sns_topic_arn, or leave it empty.")
    if isinstance(email, dict):
        missing = [name for name in ("to", "from", "host") if not email.get(name)]
        wrong += ["email lacks {0}.".format(", ".join(missing))] if missing else []
        to: list[Any] = email["to"] if isinstance(email.get("to"), list) else []
        wrong += [
            "email.to has {0}, which is no address.".format(json.dumps(one)) for one in to
            if not re.fullmatch(r"[^@\s]+@[^@\s]+", str(one))
        ]
        if email.get("user") and email.get("security") == "none":
            wrong.append("email would send a password in clear: leave user out, or take security starttls or tls.")
    # The address is a secret, and not repeated.
    if value.get("slack_webhook_url") and not re.fullmatch(r"https?://[^\s/]+/\S+", str(value["slack_webhook_url"])):
        wrong.append("slack_webhook_url is no address; valid is one such as https://hooks.slack.com/services/...")
    topic = value.get("sns_topic_arn")
    if topic and not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w-]+", str(topic)):
        wrong.append(
            "sns_topic_arn is {0}; valid is one such as arn:aws:sns:eu-central-1:123456789012:airflow-alerts.".format(
                json.dumps(topic)))
    limit = value.get("limit", 1)
    if not isinstance(limit, int) or limit < 1:
        wrong.append("limit is {0}; valid are messages an hour, 1 or more.".format(json.dumps(limit)))
    for text in wrong:
        yield "airflow_alerts", text + " docs/alerts.md has examples."


CHECKS = (check_database, check_ecs, check_alerts)
