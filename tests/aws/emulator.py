"""Run moto's server on 127.0.0.1:<port>, where moto differs from AWS corrected to what AWS does.

Corrections are here and nowhere else: the product must not know that an emulator exists. Each says what moto does, and
what AWS does.
"""

import functools
import sys
import types

import moto.server
from moto.core.responses import EmptyResult
from moto.ec2 import utils as ec2_utils
from moto.ec2.models.nat_gateways import NatGatewayBackend
from moto.elasticache.exceptions import CacheSubnetGroupNotFound
from moto.elasticache.models import ElastiCacheBackend
from moto.elasticache.responses import ElastiCacheResponse
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.rds.exceptions import DBParameterGroupNotFoundError
from moto.rds.models import DBInstance, DBParameterGroup, RDSBackend


def correct_missing_parameter_group():
    """moto lists nothing where the named parameter group is unknown; AWS says DBParameterGroupNotFound."""
    original = RDSBackend.describe_db_parameter_groups

    @functools.wraps(original)
    def corrected(self, wanted):
        name = wanted.get("db_parameter_group_name") or wanted.get("DBParameterGroupName")
        found = original(self, wanted)
        if name and not found:
            raise DBParameterGroupNotFoundError(name)
        return found

    RDSBackend.describe_db_parameter_groups = corrected


def correct_parameters():
    """moto's parameter groups begin empty; those of AWS have all parameters of their family. This is the one that we
    set.
    """
    original = DBParameterGroup.__init__

    @functools.wraps(original)
    def corrected(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.parameters["rds.force_ssl"].update(ParameterName="rds.force_ssl",
                                                ParameterValue="0",
                                                DataType="boolean",
                                                IsModifiable=True)

    DBParameterGroup.__init__ = corrected


def correct_database():
    """moto gives a gp3 database neither IOPS nor throughput, and keeps "16" for its version; AWS gives it 3000 and 125,
    and a minor version.
    """
    original = DBInstance.__init__

    @functools.wraps(original)
    def corrected(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.storage_type == "gp3":
            self.iops = self.iops or 3000
            self.storage_throughput = self.storage_throughput or 125
        if "." not in self.engine_version:
            self.engine_version += ".4"

    DBInstance.__init__ = corrected


def correct_changes_of_a_database():
    """moto changes a database at once; AWS restarts it for another class in the maintenance window, unless the request
    applies it immediately.
    """
    original = RDSBackend.modify_db_instance

    @functools.wraps(original)
    def corrected(self, db_instance_identifier, db_kwargs):
        database = self.describe_db_instances(db_instance_identifier)[0]
        pending = getattr(database, "pending_modified_values", {})
        wanted = db_kwargs.get("db_instance_class", database.db_instance_class)
        if db_kwargs.get("apply_immediately"):
            db_kwargs = {"db_instance_class": pending.get("DBInstanceClass", wanted), **db_kwargs}
            pending = {}
        elif wanted != database.db_instance_class:
            pending = {"DBInstanceClass": wanted}
            db_kwargs = {key: value for key, value in db_kwargs.items() if key != "db_instance_class"}
        database.pending_modified_values = pending
        return original(self, db_instance_identifier, db_kwargs)

    RDSBackend.modify_db_instance = corrected


def correct_caches():
    """moto does not know the members of a replication group, nor how a group or a subnet group ends; AWS describes each
    member, and removes them.
    """
    create, delete = ElastiCacheBackend.create_replication_group, ElastiCacheBackend.delete_replication_group

    @functools.wraps(create)
    def created(self, **kwargs):
        group = create(self, **kwargs)
        for name in group.member_clusters:
            self.cache_clusters[name] = types.SimpleNamespace(
                cache_cluster_id=name,
                replication_group_id=group.replication_group_id,
                cache_cluster_status="available",
                engine=group.engine,
                engine_version=group.engine_version + ".1",
                cache_subnet_group_name=group.cache_subnet_group_name,
                security_groups=[{"security_group_id": name, "status": "active"} for name in group.security_group_ids])
        return group

    @functools.wraps(delete)
    def deleted(self, replication_group_id, **kwargs):
        group = delete(self, replication_group_id, **kwargs)
        for name in group.member_clusters:
            del self.cache_clusters[name]
        return self.replication_groups.pop(replication_group_id)

    def delete_cache_subnet_group(self):
        if not self.elasticache_backend.cache_subnet_groups.pop(self._get_param("CacheSubnetGroupName"), None):
            raise CacheSubnetGroupNotFound(self._get_param("CacheSubnetGroupName"))
        return EmptyResult()

    ElastiCacheBackend.create_replication_group, ElastiCacheBackend.delete_replication_group = created, deleted
    ElastiCacheResponse.delete_cache_subnet_group = delete_cache_subnet_group


def correct_types_of_tags():
    """moto names two types of resources otherwise than AWS when it is asked for their tags."""
    ec2_utils.EC2_PREFIX_TO_RESOURCE.update(eipalloc="elastic-ip", nat="natgateway")


def correct_removal_of_nat_gateways():
    """moto leaves the network interface of a NAT gateway behind; AWS removes it."""
    original = NatGatewayBackend.delete_nat_gateway

    @functools.wraps(original)
    def corrected(self, nat_gateway_id):
        gateway = original(self, nat_gateway_id)
        self.enis.pop(gateway._eni.id, None)
        return gateway

    NatGatewayBackend.delete_nat_gateway = corrected


def correct_conditions():
    """moto denies whatever a statement with a condition is about.

    To AWS a statement whose condition is not met says nothing. That requests come over TLS is taken as given here,
    although tests speak plain HTTP over loopback; other conditions are taken as met.
    """
    original = IAMPolicyStatement.is_action_permitted

    @functools.wraps(original)
    def corrected(self, *args, **kwargs):
        condition = self._statement.get("Condition")
        if not condition or "Resource" not in self._statement:
            return original(self, *args, **kwargs)
        if condition.get("Bool", {}).get("aws:SecureTransport") == "false":
            return PermissionResult.NEUTRAL
        bare = {key: value for key, value in self._statement.items() if key != "Condition"}
        return original(IAMPolicyStatement(bare), *args, **kwargs)

    IAMPolicyStatement.is_action_permitted = corrected


if __name__ == "__main__":
    correct_missing_parameter_group()
    correct_parameters()
    correct_database()
    correct_changes_of_a_database()
    correct_caches()
    correct_types_of_tags()
    correct_removal_of_nat_gateways()
    correct_conditions()
    moto.server.main(["--host", "127.0.0.1", "--port", sys.argv[1]])
