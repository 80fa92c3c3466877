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
FILES = ["airflow_services_unit_templates", "airflow_services_configure_after"]
# Variables whose keys are names of components.
PER_COMPONENT = (
    "airflow_services_unit_overrides", "airflow_services_unit_templates", "airflow_services_configure_after",
    "airflow_services_restart_files",
)
# Sections of a component's unit. Only airflow.target is enabled, so there is no Install.
UNIT_SECTIONS = ("Unit", "Service")


def check_components(values: Values, site: Site) -> Problems:
    """What is meant for a component that is not there would have no effect."""
    for name in PER_COMPONENT:
        given = values.get(name) or {}
        components = site.components(values) if given else []
        for component in [key for key in given if key not in components]:
            yield name, "there is no component {0}; Airflow {1} has {2}.{3}".format(
                component, values.get("airflow_version"), ", ".join(components),
                did_you_mean(str(component), components))


def check_lists(values: Values, site: Site) -> Problems:
    for name in ("airflow_services_configure_after", "airflow_services_restart_files"):
        for component, paths in (values.get(name) or {}).items():
            if not isinstance(paths, (list, tuple)) or any(not str(path).startswith("/") for path in paths):
                yield name, "{0} needs a list of absolute paths, such as {0}: [/etc/krb5.conf].".format(component)


def check_unit_overrides(values: Values, site: Site) -> Problems:
    """Directives that systemd does not know are refused by it, on the host."""
    for component, body in (values.get("airflow_services_unit_overrides") or {}).items():
        if not isinstance(body, dict) or any(not isinstance(directives, dict) for directives in body.values()):
            yield "airflow_services_unit_overrides", ("{0} needs sections with directives, such as {0}: {{Service: "
                                                      "{{MemoryHigh: 8G}}}}.").format(
                component)
        else:
            for section in sorted(set(body) - set(UNIT_SECTIONS)):
                yield "airflow_services_unit_overrides", "{0} has the section {1}; valid are {2}.{3}".format(
                    component, section, ", ".join(UNIT_SECTIONS), did_you_mean(str(section), UNIT_SECTIONS))


CHECKS = (check_components, check_lists, check_unit_overrides)
