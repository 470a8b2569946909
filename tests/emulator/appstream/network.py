"""The network that AppStream puts instances into: what of it is missing, in the words of ``FleetErrors``."""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.models import ec2_backends

from tests.emulator.appstream.models import AppStreamBackend

Errors = list[dict[str, str]]


def errors(backend: AppStreamBackend, config: dict[str, Any] | None, instances: int) -> Errors:
    """What keeps instances from getting their network interfaces.

    Parameters
    ----------
    config:
        ``VpcConfig``; None is AWS's own network.
    instances:
        How many interfaces are needed.
    """
    found: Errors = []
    ec2 = ec2_backends[backend.account_id][backend.region_name]
    config = config or {}
    free = []
    for identity in config.get("SubnetIds") or []:
        try:
            free.append(int(ec2.get_subnet(identity).available_ip_address_count))
        except ServiceException:
            found.append(_error("SUBNET_NOT_FOUND", f"The subnet {identity} does not exist."))
    for identity in config.get("SecurityGroupIds") or []:
        if ec2.get_security_group_from_id(identity) is None:
            found.append(
                _error("SECURITY_GROUPS_NOT_FOUND", f"The security group {identity} does not exist.")
            )
    if free and sum(free) < instances:
        message = f"The subnets have {sum(free)} free addresses, and {instances} instances need one each."
        found.append(_error("SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES", message))
    return found


def _error(code: str, message: str) -> dict[str, str]:
    return {"ErrorCode": code, "ErrorMessage": message}
