"""The variables of all AWS roles."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from ansible_collections.windsock.airflow.plugins.module_utils import spelling
from ansible_collections.windsock.airflow.plugins.module_utils.validation.core import Problems, Site, Values

# A host of this product needs 2 GiB; the sizes below have less in every family.
TOO_SMALL = ("nano", "micro")
SMALLEST_VOLUME_GB = 20
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"


def names(values: Values) -> Iterator[str]:
    """Yield what is wrong with names of variables. __aws_specs: the argument specs of all AWS roles."""
    specs = values["__aws_specs"]
    for name in sorted({name for name in values if name.startswith("aws_")} - set(specs)):
        yield "No role knows %s.%s" % (name, spelling.did_you_mean(name, specs))


def common(values: Values) -> Iterator[str]:
    """Yield what is wrong with the variables that all roles share."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", values["aws_environment"]):
        yield ('aws_environment is "%s"; valid are lower-case letters, digits and dashes, at most 20, such as '
               'production.') % values[
            "aws_environment"]
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]", values["aws_region"]):
        yield 'aws_region is "%s"; valid is the name of a region, such as eu-central-1.' % values["aws_region"]


def network(values: Values) -> Iterator[str]:
    """Yield what is wrong with the network."""
    vpc, subnets = values["aws_network_vpc_id"], values["aws_network_subnet_ids"]
    if bool(vpc) != bool(subnets):
        yield ("aws_network_vpc_id and aws_network_subnet_ids belong together: set both for a VPC that exists, or "
               "neither for a new one.")
    if vpc:
        return
    zones = values["aws_network_zones"]
    if not 1 <= len(zones) <= 3 or len(
            set(zones)) != len(zones) or not all(re.fullmatch(r"[a-z]", zone) for zone in zones):
        yield "aws_network_zones is %s; valid are one to three different letters, such as [a, b]." % zones
    try:
        if not 16 <= ipaddress.IPv4Network(values["aws_network_cidr"]).prefixlen <= 26:
            raise ValueError("a VPC has /16 to /26")
    except ValueError as error:
        yield 'aws_network_cidr is "%s" (%s); valid is a network such as 10.64.0.0/22.' % (
            values["aws_network_cidr"],
            error,
        )
    if not values["aws_network_nat"]:
        missing = [name for name in ("ssm", "ssmmessages") if name not in values["aws_network_endpoints"]]
        if missing:
            yield ("Without aws_network_nat, Session Manager reaches hosts through endpoints only: add %s to "
                   "aws_network_endpoints.") % " and ".join(
                missing)


def ingress(values: Values) -> Iterator[str]:
    """Yield what is wrong with who may connect from outside."""
    for number, rule in enumerate(values["aws_security_groups_ingress"]):
        where, source = "aws_security_groups_ingress[%d]" % number, str(rule["source"])
        if not 1 <= int(rule["port"]) <= 65535:
            yield "%s.port is %s; valid is 1 to 65535." % (where, rule["port"])
        try:
            net = ipaddress.ip_network(source)
        except ValueError as error:
            yield '%s.source is "%s" (%s); valid is an address with its prefix, such as 203.0.113.7/32.' % (
                where, source, error)
            continue
        narrowest = values["aws_security_groups_widest_ipv%d" % net.version]
        if net.prefixlen < narrowest and not rule.get("allow_wide", False):
            yield (
                '%s.source is "%s", which opens port %s to %s; valid is a prefix of /%d or longer. Session Manager '
                'needs no open port '
                "(docs/aws.md). Who means it adds allow_wide: true to this rule.") % (
                    where, source, rule["port"],
                    "the whole internet" if net.prefixlen == 0 else "%d addresses" % net.num_addresses, narrowest)


def instances(values: Values) -> Iterator[str]:
    """Yield what is wrong with the instances."""
    seen = set()
    for number, group in enumerate(values["aws_instances_hosts"]):
        where = "aws_instances_hosts[%d]" % number
        if not re.fullmatch(r"[a-z][a-z0-9-]*", group["name"]) or group["name"] in seen:
            yield '%s.name is "%s"; valid is a name of its own of lower-case letters, digits and dashes.' % (
                where, group["name"])
        seen.add(group["name"])
        if not re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", group["type"]) or group["type"].split(".")[1] in TOO_SMALL:
            yield '%s.type is "%s"; Airflow needs 2 GiB of memory: valid are small and larger, such as t3.large.' % (
                where, group["type"])
        if group["volume_gb"] < SMALLEST_VOLUME_GB:
            yield "%s.volume_gb is %s; valid is %d or more." % (where, group["volume_gb"], SMALLEST_VOLUME_GB)
        if group.get("count", 1) < 0:
            yield "%s.count is %s; valid is 0 or more." % (where, group["count"])
    for key in values["aws_instances_ssh_keys"]:
        if not re.match(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]{40}", key):
            yield ('aws_instances_ssh_keys has "%.30s"; valid is the line of a .pub file. A private key does not '
                   'belong there.') % key


def storage(values: Values) -> Iterator[str]:
    """Yield what is wrong with buckets, tables and containers."""
    for number, bucket in enumerate(values["aws_buckets_declared"]):
        if not re.fullmatch(BUCKET, bucket["name"]):
            yield ('aws_buckets_declared[%d].name is "%s"; valid are 3 to 63 lower-case letters, digits, dots and '
                   'dashes.') % (
                number, bucket["name"])
        for prefix, days in bucket.get("expire", {}).items():
            if not isinstance(days, int) or days < 1:
                yield "aws_buckets_declared[%d].expire.%s is %s; valid is a number of days, 1 or more." % (
                    number,
                    prefix,
                    days,
                )
    for number, grant in enumerate(values["aws_iam_buckets"]):
        if not re.fullmatch(BUCKET, grant["bucket"]):
            yield 'aws_iam_buckets[%d].bucket is "%s"; valid is the name of one bucket, without wildcard.' % (
                number, grant["bucket"])
        if not re.fullmatch(r"[^*?/][^*?]*/", grant["prefix"]):
            yield ('aws_iam_buckets[%d].prefix is "%s"; valid is a prefix that ends in /, without wildcard, such as '
                   'raw/.') % (
                number, grant["prefix"])
    for number, grant in enumerate(values["aws_iam_tables"]):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", grant["table"]):
            yield 'aws_iam_tables[%d].table is "%s"; valid is the name of one table, without wildcard.' % (
                number, grant["table"])
    ecs = values["aws_iam_ecs"]
    for name in ("cluster", "task_definition") if ecs else ():
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", ecs.get(name) or ""):
            yield 'aws_iam_ecs.%s is "%s"; valid is one name, without wildcard, revision or ARN.' % (
                name,
                ecs.get(name) or "",
            )
    if ecs and not ecs.get("roles"):
        yield ("aws_iam_ecs.roles is empty; valid are the ARNs of the execution role and the task role that the task "
               "definition names.")
    for role in ecs.get("roles") or ():
        if not re.fullmatch(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+", role):
            yield ('aws_iam_ecs.roles has "%s"; valid is the ARN of one role, such as '
                   'arn:aws:iam::123456789012:role/airflow-task.') % role


def database(values: Values) -> Iterator[str]:
    """Yield what is wrong with the database."""
    if not values["aws_rds_enabled"]:
        return
    if not values["aws_network_vpc_id"] and len(values["aws_network_zones"]) < 2:
        yield "aws_rds_enabled needs subnets in two zones; aws_network_zones is %s." % values["aws_network_zones"]
    if values["aws_rds_class"].endswith(".nano") or not values["aws_rds_class"].startswith("db."):
        yield 'aws_rds_class is "%s"; valid is a class such as db.t4g.medium.' % values["aws_rds_class"]
    if values["aws_rds_storage_gb"] < 20:
        yield "aws_rds_storage_gb is %s; valid is 20 or more." % values["aws_rds_storage_gb"]
    if not 1 <= values["aws_rds_backup_days"] <= 35:
        yield "aws_rds_backup_days is %s; valid is 1 to 35." % values["aws_rds_backup_days"]


# Since when ElastiCache offers a token with Valkey, and where it ends with Redis OSS.
CACHE_VERSIONS = {"valkey": ((7, 2), (99, 9), "7.2 or higher, such as 8.0"), "redis": ((6, 0), (7, 1), "6.0 to 7.1")}


def cache(values: Values) -> Iterator[str]:
    """Yield what is wrong with the cache."""
    if not values["aws_elasticache_enabled"]:
        return
    version, (lowest, highest,
              valid) = str(values["aws_elasticache_version"]), CACHE_VERSIONS[values["aws_elasticache_engine"]]
    if not re.fullmatch(r"[0-9]{1,2}\.[0-9]", version) or not lowest <= tuple(map(int, version.split("."))) <= highest:
        yield 'aws_elasticache_version is "%s"; valid with %s is %s.' % (
            version,
            values["aws_elasticache_engine"],
            valid,
        )
    if not re.fullmatch(r"cache\.[a-z0-9]+\.[a-z0-9]+", values["aws_elasticache_node_type"]):
        yield 'aws_elasticache_node_type is "%s"; valid is a type such as cache.t4g.micro.' % values[
            "aws_elasticache_node_type"]
    for name, most in (("aws_elasticache_replicas", 5), ("aws_elasticache_snapshot_days", 35)):
        if not 0 <= values[name] <= most:
            yield "%s is %s; valid is 0 to %d." % (name, values[name], most)


# What CloudWatch accepts and module cloudwatchlogs_log_group knows.
RETENTION = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653)


def observability(values: Values) -> Iterator[str]:
    """Yield what is wrong with logs and alarms."""
    days = values["aws_observability_retention_days"]
    if days not in RETENTION:
        yield "aws_observability_retention_days is %s; valid are %s." % (days, ", ".join(map(str, RETENTION)))
    minutes = values["aws_observability_queued_minutes"]
    if not 1 <= minutes <= 180:
        yield ("aws_observability_queued_minutes is %s; valid is 1 to 180: an alarm on a query looks back three "
               "hours.") % minutes


def check_role(values: Values, site: Site) -> Problems:
    """The variables of all AWS roles at once. What is wrong in the last role must not be found after the first has made
    something.
    """
    for check in (names, common, network, ingress, instances, storage, database, cache, observability):
        yield from (("aws", text) for text in check(values))
