"""Where secrets come from, and that Airflow takes them from nowhere else."""

from __future__ import annotations

import json
import re

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    major_of,
    options_of,
)

# Kind, and the shortest valid value if one is given. airflow_secrets_source has those that the inventory leaves empty.
SECRETS = {
    "airflow_fernet_key": {"kind": "fernet"},
    "airflow_api_secret_key": {"shortest": 16},
    "airflow_jwt_secret": {"shortest": 16},
    "airflow_database_password": {"shortest": 1},
    "airflow_admin_password": {"shortest": 8},
}
# Sources that keep them under a name: what a name has to look like, and one that does.
SECRETS_NAMES = {
    "aws_secrets_manager": {"pattern": r"[A-Za-z0-9/_+=.@-]{1,500}", "example": "airflow/prod"},
    "aws_ssm": {"pattern": r"(/(?!aws/|ssm/)[A-Za-z0-9_.-]+){1,14}", "example": "/airflow/prod"},
}
# What airflow_secrets_backend knows by a name of its own, and the class that airflow.cfg names.
SECRETS_BACKENDS = {
    "aws_secrets_manager": "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend",
    "aws_ssm": "airflow.providers.amazon.aws.secrets.systems_manager.SystemsManagerParameterStoreBackend",
    "hashicorp_vault": "airflow.providers.hashicorp.secrets.vault.VaultBackend",
}
# Secrets that the roles keep in files: the option of airflow.cfg, or the end of its variable of the environment, that
# would take one's place.
SECRETS_ELSEWHERE = r"(fernet_key|secret_key|jwt_secret|sql_alchemy_conn(_async)?)(_cmd|_secret)?"


def check_secrets_source(values: Values, site: Site) -> Problems:
    """Where the secrets come from that nobody gave."""
    source, name = values.get("airflow_secrets_source"), values.get("airflow_secrets_name")
    rule = SECRETS_NAMES.get(str(source))
    if rule and name is not None and not re.fullmatch(rule["pattern"], name):
        yield "airflow_secrets_name", (
            "is {0}; airflow_secrets_source ({1}) is {2}, which needs a name such as {3}, one for each environment."
        ).format(json.dumps(name), site.where("airflow_secrets_source"), source, rule["example"])
    if source == "ansible_vault":
        needless = set()
        if values.get("airflow_database_url"):
            needless.add("airflow_database_password")
        if major_of(values) == 2:
            needless.add("airflow_jwt_secret")
        for secret in SECRETS:
            if secret not in needless and values.get(secret) == "":
                yield secret, (
                    "is empty, but airflow_secrets_source ({0}) is ansible_vault, which leaves none to be generated. "
                    "Set it to a variable "
                    "that `ansible-vault encrypt` has encrypted, or take another source.").format(
                        site.where("airflow_secrets_source"))


def check_secrets_backend(values: Values, site: Site) -> Problems:
    """Where Airflow looks for connections and variables besides."""
    value = values.get("airflow_secrets_backend")
    if isinstance(value, dict) and value:
        backend = value.get("backend")
        if backend not in SECRETS_BACKENDS and not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", str(backend)):
            yield "airflow_secrets_backend", ("its backend is {0}; valid are {1}, or the import path of a "
                                              "class.{2}").format(
                json.dumps(backend), ", ".join(SECRETS_BACKENDS), did_you_mean(str(backend), SECRETS_BACKENDS))


def secrets_elsewhere(values: Values) -> list[tuple[str, str]]:
    """Airflow would take a secret from there, and what the roles read, write and rotate is the file that it has in
    place of that.
    """
    environment = values.get("airflow_environment")
    named = [("airflow_environment", name) for name in (environment if isinstance(environment, dict) else {})
             if re.fullmatch("AIRFLOW__[A-Z_]+__({0})".format(SECRETS_ELSEWHERE), str(name), re.IGNORECASE)]
    named += [("airflow_config", "{0}.{1}".format(section, option))
              for section, option, value in options_of(values.get("airflow_config"))
              if value is not None and re.fullmatch(SECRETS_ELSEWHERE, option, re.IGNORECASE)]
    return named


def check_secrets_elsewhere(values: Values, site: Site) -> Problems:
    for variable, name in secrets_elsewhere(values):
        yield variable, (
            "has {0}, which Airflow would use instead of the file that holds this secret and that rotations change. "
            "Set "
            "airflow_fernet_key, airflow_api_secret_key, airflow_jwt_secret, airflow_database_password or "
            "airflow_database_url instead."
        ).format(name)


def check_rotation(values: Values, site: Site) -> Problems:
    """A rotation may be run without the first play of site.yml."""
    found = ["{0}.{1}".format(variable, name) for variable, name in secrets_elsewhere(values)]
    if found:
        yield "airflow_secrets", ", ".join(found)


CHECKS = (check_secrets_source, check_secrets_backend, check_secrets_elsewhere)
