"""Write declared ingress as rules of a security group."""


def aws_ingress(declared):
    """Return the rules for module amazon.aws.ec2_security_group."""
    return [
        {
            "proto": "tcp",
            "ports": [rule["port"]],
            "rule_desc": rule.get("description", "declared in aws_security_groups_ingress"),
            "cidr_ipv6" if ":" in rule["source"] else "cidr_ip": rule["source"],
        }
        for rule in declared
    ]


class FilterModule:
    def filters(self):
        return {"aws_ingress": aws_ingress}
