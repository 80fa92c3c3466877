"""Tell which PostgreSQL the hosts' systems bring."""

import yaml
from ansible_collections.windsock.airflow.plugins.plugin_utils import collection


def of_systems(hosts):
    """Return {host: major}, by what role postgresql knows of systems. A host without facts is left out.

    hosts: variables of each host.
    """
    found = {}
    for host in hosts:
        facts = host["ansible_facts"]
        if "distribution" in facts:
            file = f"roles/postgresql/vars/{facts['distribution']}-{facts['distribution_major_version']}.yml"
            with open(collection.path(file), encoding="utf-8") as text:
                found[host["inventory_hostname"]] = yaml.safe_load(text)["__postgresql_distribution_version"]
    return found


class FilterModule:
    def filters(self):
        return {"postgresql_of_systems": of_systems}
