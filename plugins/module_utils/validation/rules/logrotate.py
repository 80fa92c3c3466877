"""Log files of components and tasks."""

from __future__ import annotations

import re

from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import (
    Problems,
    Site,
    Values,
    check_patterns,
    check_ranges,
)

RANGES = {
    "logrotate_rotate": (1, None),
    "logrotate_maxsize_mb": (1, None),
    "logrotate_task_log_max_age_days": (0, None, "0 (no limit) or more"),
    "logrotate_task_log_max_size_mb": (0, None, "0 (no limit) or more"),
    "logrotate_task_log_min_free_percent": (0, 90, "0 (off) to 90"),
}
PATTERNS = {
    "logrotate_directory": (r"(?s)/[^/]+/[^/]+.*",
                            "valid is an absolute path of two levels or more, such as /var/log/airflow.")
}


def check_role(values: Values, site: Site) -> Problems:
    yield from check_patterns(values, PATTERNS)
    if not all(re.fullmatch("[a-z][a-z0-9-]*", name) for name in values["logrotate_components"]):
        yield "logrotate_components", ("logrotate_components is {0}; valid are names of lower-case letters, digits and "
                                       "dashes.").format(
            values["logrotate_components"])
    yield from check_ranges(values, RANGES)
