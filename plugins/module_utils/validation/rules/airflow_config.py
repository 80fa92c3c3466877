"""airflow_config: options of airflow.cfg that Airflow would refuse on the host, and secrets that a diff would show."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean, distance, nearest
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    major_of,
    options_of,
)
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules.airflow_secrets import SECRETS_ELSEWHERE
from ansible_collections.windsock.airflow.plugins.module_utils.validation.types import shown, type_text

# Options of airflow.cfg that Airflow and its providers mark as sensitive, per major: these it also reads by
# <option>_cmd. A test asks Airflow itself.
CONFIG_SECRETS = {
    "2": (
        "atlas.password", "celery.broker_url", "celery.flower_basic_auth", "celery.result_backend",
        "celery_broker_transport_options.sentinel_kwargs",
        "celery_result_backend_transport_options.sentinel_kwargs", "core.dataset_manager_kwargs",
        "core.fernet_key", "core.internal_api_secret_key", "core.sql_alchemy_conn", "database.sql_alchemy_conn",
        "database.sql_alchemy_engine_args", "logging.remote_task_handler_kwargs", "opensearch.password",
        "secrets.backend_kwargs", "sentry.sentry_dsn", "smtp.smtp_password", "webserver.secret_key"),
    "3": (
        "api.secret_key", "api_auth.jwt_secret", "atlas.password", "celery.broker_url",
        "celery.flower_basic_auth", "celery.result_backend", "celery_broker_transport_options.sentinel_kwargs",
        "celery_result_backend_transport_options.sentinel_kwargs", "core.asset_manager_kwargs", "core.fernet_key",
        "core.sql_alchemy_conn", "database.sql_alchemy_conn", "database.sql_alchemy_conn_async",
        "database.sql_alchemy_engine_args", "logging.remote_task_handler_kwargs", "opensearch.password",
        "secrets.backend_kwargs", "sentry.sentry_dsn", "webserver.secret_key", "workers.secrets_backend_kwargs"),
}
# Those that Airflow reads from a better place than the environment, which every task sees: what to do instead.
CONFIG_SECRETS_ELSEWHERE = {
    "smtp.smtp_password": (
        "Remove it and smtp_user, and put both into connection smtp_default, which Airflow encrypts and sends its "
        "e-mails with: "
        "airflow_connections: {smtp_default: {conn_type: smtp, host: ..., login: ..., password: ...}}, with the "
        "password in a vault."
    ),
}
# Others, and what is in a dictionary, are taken for secrets by their names. ..._secret is also how Airflow names a
# place in a secrets backend.
SECRET_OPTION = (
    r"(passw(or)?d|passphrase|token|dsn|(client|api|jwt|shared|hmac)_secret|(secret|access|api|account)_key)$"
)


def check_secrets_in_config(values: Values, site: Site) -> Problems:
    """airflow.cfg, and what changes in it, is shown by --diff."""
    known = CONFIG_SECRETS.get(str(major_of(values)), ())
    for section, option, value in options_of(values.get("airflow_config")):
        name = "{0}.{1}".format(section, option)
        if not holds_secret(option, value, name in known) or re.fullmatch(SECRETS_ELSEWHERE, option, re.IGNORECASE):
            continue
        named = "has {0}, a secret that --diff of airflow.cfg would show. ".format(name)
        if name in CONFIG_SECRETS_ELSEWHERE:
            yield "airflow_config", named + CONFIG_SECRETS_ELSEWHERE[name]
            continue
        yield "airflow_config", named + "Set {0}airflow_environment: AIRFLOW__{1}__{2}, which is shown nowhere.".format(
            "{0}_cmd to a command that prints it, or ".format(name) if name in known else "",
            re.sub(r"\W", "_", section.upper()), option.upper())


def options_file(repository: str, version: str) -> str:
    """The file with the options of airflow.cfg that this version has."""
    return os.path.join(repository, "roles", "preflight", "files", "airflow_options", version + ".yml")


def check_config_options(values: Values, site: Site) -> Problems:
    """Sections and options that Airflow would refuse on the host, once its virtualenv is built.

    Sections of providers are as their versions in the lock have them; a site's own section is left to Airflow.
    """
    config: Any = values.get("airflow_config")
    known = site.options(values) if config and isinstance(config, dict) else {}
    locked = not values.get("airflow_lock") and not values.get("airflow_constraints")
    version = values["airflow_version"] if known else ""
    own, of_providers = known.get("sections", {}), known.get("sections_of_providers", {})
    for section, options in config.items() if known else ():
        if options is not None and not isinstance(options, dict):
            yield "airflow_config", "section {0} is {1}, where a dictionary of options belongs.".format(
                section, type_text(options))
            continue
        there = {**of_providers.get(section, {}), **own.get(section, {})}
        near = nearest(str(section), [*own, *of_providers]) if not there else ""
        # Two letters at most: a provider that is not in the lock may have a section that is called alike.
        if near and distance(str(section).lower(), near, 2) <= 2:
            yield (
                "airflow_config",
                "Airflow {0} has no section {1}.{2}".format(version, section, did_you_mean(section, [near])),
            )
        judged = there and (section in own or locked)
        other = site.all_sections().get(section) if not there and not near else None
        for option, value in (options or {}).items():
            name = "{0}.{1}".format(section, option)
            if value is None or name in CONFIG_SECRETS_ELSEWHERE:
                continue
            new = name
            while new in known["renamed"]:
                new = known["renamed"][new]
            bare = re.sub("_cmd$|_secret$", "", str(option)) if option not in there else option
            if new != name:
                yield "airflow_config", "{0} is called {1} in Airflow {2}. Write {1}.".format(name, new, version)
            elif other:
                yield "airflow_config", "Airflow {0} has no section {1}, which Airflow {2} has.{3} Remove {4}.".format(
                    version, section, other, option_meant(option, there, section, own, of_providers), name)
            elif judged and bare not in there:
                yield "airflow_config", "Airflow {0} has no option {1}.{2} All of them are in {3}.".format(
                    version, name, option_meant(option, there, section, own, of_providers), options_file("", version))
            elif judged and bare == option and not fits(value, there[option]):
                yield "airflow_config", "{0} is {1}; valid is {2}.".format(name, shown(str(option), {}, value), {
                    "integer": "a whole number", "float": "a number", "boolean": "true or false"
                }[there[option]])


def option_meant(option: str, there: Iterable[str], section: str, *known: Any) -> Any:
    """The option that was meant: of this section, else one of the same name elsewhere."""
    elsewhere = sorted(
        {other
         for sections in known
         for other, options in sections.items() if option in options and other != section})
    return did_you_mean(option, there) or (" Section {0} has it.".format(" and ".join(elsewhere)) if elsewhere else "")


def fits(value: object, kind: str) -> bool:
    """Whether Airflow can read the value, as airflow.cfg will have it. Some types of its reference are looser than
    these three.
    """
    text = str(value).strip()
    if kind == "boolean":
        return text.lower() in ("true", "t", "1", "false", "f", "0")
    try:
        {"integer": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return False
    return True


def holds_secret(name: str, value: Any, sensitive: bool) -> bool:
    """Whether the value of an option, or anything in it, is a secret: by what Airflow says of the option, else by the
    name.
    """
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    if isinstance(value, dict):
        return any(holds_secret(str(key), inner, False) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return any(holds_secret(name, inner, sensitive) for inner in value)
    # An address without a login has nothing to hide.
    harmless = not isinstance(value, str) or re.fullmatch(r"|[\w+.-]+://[^@?\s]*", value)
    return not harmless and (sensitive or re.search(SECRET_OPTION, name, re.IGNORECASE) is not None)


CHECKS = (check_secrets_in_config, check_config_options)
