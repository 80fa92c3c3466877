"""Who owns rules, and for which hosts they hold. A new file in rules/ is named here; a new rule in such a file is not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    check_data,
    placed,
)
from ansible_collections.windsock.airflow.plugins.module_utils.validation.rules import (
    airflow,
    airflow_backup,
    airflow_common,
    airflow_config,
    airflow_dags,
    airflow_secrets,
    airflow_services,
    aws,
    cloudwatch_agent,
    host,
    logrotate,
    postgresql,
    reverse_proxy,
    sign_in,
)

# On each host of this group, before a host is contacted.
BY_GROUP = {
    "airflow": (airflow_common, airflow, airflow_secrets, airflow_config, airflow_dags, airflow_services,
                airflow_backup, sign_in),
    "airflow_proxy": (reverse_proxy, ),
}
# Rules of roles that may be used alone.
BY_ROLE = {
    "aws": aws.check_role,
    "airflow_secrets": airflow_secrets.check_rotation,
    "cloudwatch_agent": cloudwatch_agent.check_role,
    "logrotate": logrotate.check_role,
    "postgresql": postgresql.check_role,
    "postgresql_neighbours": postgresql.check_neighbours,
    "reverse_proxy": reverse_proxy.check_role,
}
OF_GROUPS = [owner for owners in BY_GROUP.values() for owner in owners]
DATA: dict[str, Any] = {
    kind: {name: line for owner in OF_GROUPS for name, line in getattr(owner, kind, {}).items()}
    for kind in ("PATTERNS", "SECRETS")
}
DATA |= {kind: [line for owner in OF_GROUPS for line in getattr(owner, kind, ())] for kind in ("EXCLUSIVE", "FILES")}
# Ranges hold wherever the variable is set.
DATA["RANGES"] = {
    name: line
    for owner in (*OF_GROUPS, cloudwatch_agent, host, logrotate, postgresql)
    for name, line in getattr(owner, "RANGES", {}).items()
}


def check_groups_of_host(values: Values, site: Site, groups: Collection[str]) -> Problems:
    """Yield what is wrong with the variables of a host that is in these groups."""
    checks = [
        check for group, owners in BY_GROUP.items() if group in groups for owner in owners
        for check in getattr(owner, "CHECKS", ())
    ]
    found = list(check_data(values, site, DATA)) if "airflow" in groups else []
    for name, text in [*found, *(problem for check in checks for problem in check(values, site))]:
        yield name, placed(name, text, site)
