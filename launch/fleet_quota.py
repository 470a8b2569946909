"""Quotas of AppStream's instance types, looked at before a fleet or a builder is made: many begin at 0."""

from __future__ import annotations

from typing import Any, Literal

from botocore.exceptions import ClientError

from launch import pages
from launch.appstream import listed
from launch.cloud import Cloud
from launch.plan import Plan
from launch.trouble import code, told

SERVICE = "appstream2"
"""What Service Quotas calls AppStream."""

GRAPHICS = ("stream.graphics", "Accelerated.")
"""Types whose quota is 0 until more was asked for (administration guide, "Service Quotas")."""

Use = Literal["fleet", "image builder"]

HINT = "ask for more under Service Quotas, Amazon AppStream 2.0; it takes a day or two"


def read(cloud: Cloud, region: str, instance_type: str, use: Use) -> float | None:
    """Return how many instances of a type the account may run.

    Parameters
    ----------
    cloud, region:
        Where.
    instance_type:
        As AppStream calls it.
    use:
        Fleets and builders have quotas of their own.

    Returns
    -------
    float or None
        The applied value, else AWS's default; None where Service Quotas names no quota of the type.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    client = cloud.client("service-quotas", region)
    # Applied values are listed only where they differ from the default or were asked for.
    with told(f"reading the quota of {instance_type} in {region}"):
        for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
            for quota in _listed(client, operation):
                name = quota["QuotaName"].lower()
                if instance_type.lower() in name.split() and use in name:
                    return float(quota["Value"])
    return None


def _listed(client: Any, operation: str) -> list[dict[str, Any]]:
    try:
        return list(pages.every(client, operation, "Quotas", ServiceCode=SERVICE))
    except ClientError as error:
        if code(error) == "NoSuchResourceException":
            return []
        raise


def used(cloud: Cloud, region: str, instance_type: str, but: str) -> int:
    """Count the instances of a type that other fleets want.

    Parameters
    ----------
    cloud, region, instance_type:
        Which.
    but:
        Name of a fleet that is not counted.
    """
    fleets: list[dict[str, Any]] = listed(cloud, region, "listing the fleets", "describe_fleets", "Fleets")
    return sum(
        (fleet.get("ComputeCapacityStatus") or {}).get("Desired") or 0
        for fleet in fleets
        if fleet["InstanceType"] == instance_type and fleet["Name"] != but and fleet["State"] != "STOPPED"
    )


def judge(plan: Plan, cloud: Cloud, region: str, instance_type: str, use: Use, needed: int, but: str) -> None:
    """Refuse what the quota does not allow.

    Parameters
    ----------
    plan:
        Gets the refusal, or a note where there is no such quota.
    cloud, region, instance_type, use:
        As of :func:`read`.
    needed:
        Instances that are to run.
    but:
        Name of the fleet that they are for: what it runs now is not counted.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    allowed = read(cloud, region, instance_type, use)
    if allowed is None and not instance_type.startswith(GRAPHICS):
        plan.notes.append(
            f"Service Quotas names no quota of {instance_type} for a {use}: AppStream tells when it starts"
        )
        return
    taken = used(cloud, region, instance_type, but) if use == "fleet" else 0
    if allowed is None:
        plan.refuse(
            "quota",
            f"no quota of {instance_type} for a {use} is known in {region}, and graphics begin at 0",
            HINT,
        )
    elif taken + needed > allowed:
        others = f" and other fleets want {taken}" if taken else ""
        plan.refuse(
            "quota",
            f"the quota of {instance_type} for a {use} in {region} is {allowed:g}: needed {needed}{others}",
            HINT,
        )
