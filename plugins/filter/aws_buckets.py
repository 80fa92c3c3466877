"""List the rules by which buckets lose old objects."""


def aws_expiries(buckets):
    """Return [{bucket, prefix, days}], from the rules that each bucket declares as {prefix: days}."""
    return [
        {"bucket": bucket["name"], "prefix": prefix, "days": days}
        for bucket in buckets
        for prefix, days in bucket.get("expire", {}).items()
    ]


class FilterModule:
    def filters(self):
        return {"aws_expiries": aws_expiries}
