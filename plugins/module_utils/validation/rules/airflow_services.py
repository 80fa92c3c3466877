"""Units of Airflow's components."""

from __future__ import annotations

from ansible_collections.windsock.airflow.plugins.module_utils.spelling import did_you_mean
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Problems, Site, Values

RANGES = {
    "airflow_services_watchdog_timeout": (30, 3600),
    "airflow_services_watchdog_task_timeout": (0, 86400),
    "airflow_services_watchdog_restarts": (1, 100),
    "airflow_services_watchdog_window": (60, 86400),
}
# Sections of a component's unit. Only airflow.target is enabled, so there is no Install.
UNIT_SECTIONS = ("Unit", "Service")


def check_unit_overrides(values: Values, site: Site) -> Problems:
    """Directives for a component that is not there would be in no unit. Those that systemd does not know are refused by it, on the host."""
    overrides = values.get("airflow_services_unit_overrides") or {}
    components = site.components(values) if overrides else []
    for component, body in overrides.items():
        if component not in components:
            yield "airflow_services_unit_overrides", "there is no component {0}; Airflow {1} has {2}.{3}".format(
                component, values.get("airflow_version"), ", ".join(components), did_you_mean(str(component), components))
        elif not isinstance(body, dict) or any(not isinstance(directives, dict) for directives in body.values()):
            yield "airflow_services_unit_overrides", "{0} needs sections with directives, such as {0}: {{Service: {{MemoryHigh: 8G}}}}.".format(
                component)
        else:
            for section in sorted(set(body) - set(UNIT_SECTIONS)):
                yield "airflow_services_unit_overrides", "{0} has the section {1}; valid are {2}.{3}".format(
                    component, section, ", ".join(UNIT_SECTIONS), did_you_mean(str(section), UNIT_SECTIONS))


CHECKS = (check_unit_overrides,)
