# Copyright the Windsock contributors
# Apache License 2.0 (see LICENSE)

"""The facts that roles here read, for modules host_facts and preflight."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.facts import ansible_collector
from ansible.module_utils.facts.hardware.linux import LinuxHardware
from ansible.module_utils.facts.namespace import PrefixFactNamespace
from ansible.module_utils.facts.system.distribution import DistributionFactCollector
from ansible.module_utils.facts.system.pkg_mgr import PkgMgrFactCollector
from ansible.module_utils.facts.system.platform import PlatformFactCollector
from ansible.module_utils.facts.system.python import PythonFactCollector
from ansible.module_utils.facts.system.service_mgr import ServiceMgrFactCollector

# By name: the list of all collectors would bring all of their files to the host.
COLLECTORS = [
    DistributionFactCollector, PkgMgrFactCollector, PlatformFactCollector, PythonFactCollector, ServiceMgrFactCollector
]


def facts(module: Any) -> dict[str, Any]:
    """Cheap facts only: all hardware facts would take 0.3 s, and minutes where a network file system hangs."""
    collector = ansible_collector.get_ansible_collector(
        all_collector_classes=COLLECTORS,
        namespace=PrefixFactNamespace(namespace_name="ansible", prefix="ansible_"),
        filter_spec=[],
        gather_subset=["all"],
        gather_timeout=10,
        minimal_gather_subset=frozenset(),
    )
    found: dict[str, Any] = collector.collect(module=module)
    hardware = LinuxHardware(module)
    some = hardware.get_memory_facts()
    some.update(hardware.get_cpu_facts(collected_facts=found))
    found.update({"ansible_" + name: value for name, value in some.items()})
    return found
