"""Divide the addresses of a VPC."""

import ipaddress


def aws_subnets(cidr, zones):
    """Return name, zone and addresses of each subnet: a public one in the first zone, then a private one for each zone.
    """
    quarters = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=2))
    wanted = [("public", zones[0])] + [("private-" + zone, zone) for zone in zones]
    return [{"name": name, "zone": zone, "cidr": str(quarter)} for (name, zone), quarter in zip(wanted, quarters)]


class FilterModule:
    """Filters of role aws_network."""

    def filters(self):
        """Return them by name."""
        return {"aws_subnets": aws_subnets}
