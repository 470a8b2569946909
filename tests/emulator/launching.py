"""How a group starts an instance, and why it could not: what EC2 refuses at once, and what it takes back.

An image that is gone or disabled and a quota of vCPUs that is used up are refused by RunInstances; a key that
Auto Scaling's role may not use lets the instance begin, and end with ``Client.InternalError``
(https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-instancelaunchfailure.html).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG
from moto.core.exceptions import ServiceException
from moto.ec2.models.instance_types import INSTANCE_TYPES

from tests.emulator import configuration, images, keys
from tests.emulator.configuration import Choice, Configuration

HEALTH_TAG = "kiln-test:health"
"""Of an AMI or an instance: ``unhealthy`` fails EC2's status checks and the target group's,
``target-unhealthy`` only the latter, ``after:SECONDS`` is healthy to the target group only so long after its
launch, ``launch-error`` ends as it begins."""

VCPU_QUOTAS = {
    **dict.fromkeys("acdhimrtz", "L-1216C47A"),
    **dict.fromkeys(("g", "vt"), "L-DB2E81BA"),
    "p": "L-417A185B",
    "inf": "L-1945791B",
    "trn": "L-2C3B7624",
    "x": "L-7295265B",
    "f": "L-74FC7D96",
}
"""First letters of an instance type → quota code of its on-demand vCPUs
(https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html)."""

OTHER_FAMILIES = ("mac", "hpc", "dl", "u")
"""Families whose quotas are not emulated."""

CLIENT_ERROR = (
    "Instance became unhealthy while waiting for instance to be in InService state. "
    "Termination Reason: Client.InternalError: Client error on launch"
)
VCPU_ERROR = (
    "You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance "
    "bucket that the specified instance type belongs to. Please visit "
    "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit. "
    "Launching EC2 instance failed."
)

KEY_CHECKS: list[Callable[[Any, Choice], str]] = []
"""Asked with group and choice before a launch; what is returned is why a snapshot's key cannot be used, and
the instance ends as it begins."""

LIMITS: list[Callable[[Any, str], float | None]] = []
"""Asked with EC2's backend and a quota code for a limit of vCPUs; None is none known."""


def vcpus(instance_type: str) -> int:
    """How many vCPUs an instance type has; one of a type that moto does not know."""
    found = INSTANCE_TYPES.get(instance_type) or {}
    return int(found.get("VCpuInfo", {}).get("DefaultVCpus") or 1)


def quota(instance_type: str) -> str:
    """Quota code that an instance type counts against; empty where none is known."""
    found = re.match("[a-z]+", instance_type)
    letters = found.group() if found else ""
    if letters in OTHER_FAMILIES:
        return ""
    return VCPU_QUOTAS.get(letters) or VCPU_QUOTAS.get(letters[:1], "")


def used(ec2: Any) -> Counter[str]:
    """vCPUs in use of each quota."""
    counts: Counter[str] = Counter()
    for reservation in ec2.reservations.values():
        for instance in reservation.instances:
            if instance.state in ("pending", "running"):
                counts[quota(instance.instance_type)] += vcpus(instance.instance_type)
    return counts


def limit(ec2: Any, code: str) -> float | None:
    """How many vCPUs a quota allows; None where there is no limit here."""
    return next((found for ask in LIMITS if (found := ask(ec2, code)) is not None), None)


def image(group: Any, choice: Choice) -> Any:
    """The AMI as the group's account sees it; None where it does not."""
    return images.find(group.account_id, group.region, choice.image_id)


def missing(group: Any, choice: Choice) -> str:
    """Why there is no such image for the account; empty where there is."""
    return "" if image(group, choice) else f"The image id '[{choice.image_id}]' does not exist"


def refused(group: Any, choice: Choice) -> str:
    """Why RunInstances would refuse; empty where it would not."""
    if trouble := missing(group, choice):
        return f"{trouble}. Launching EC2 instance failed."
    if image(group, choice).state != "available":
        return f"The image id '[{choice.image_id}]' is not available. Launching EC2 instance failed."
    code = quota(choice.instance_type)
    allowed = limit(group.ec2_backend, code)
    if allowed is not None and used(group.ec2_backend)[code] + vcpus(choice.instance_type) > allowed:
        return VCPU_ERROR.format(limit=f"{allowed:g}")
    return ""


def doomed(group: Any, choice: Choice, instance: Any) -> str:
    """Why an instance ends as it begins; empty where it does not."""
    volumes = [group.ec2_backend.get_volume(each.volume_id) for _, each in instance.get_block_device_mapping]
    locked = [each for each in volumes if each.encrypted and not may_attach(group, each.kms_key_id)]
    asked = any(check(group, choice) for check in KEY_CHECKS)
    return CLIENT_ERROR if locked or asked or health_tag(group, choice) == "launch-error" else ""


def may_attach(group: Any, key: str | None) -> bool:
    """Whether Auto Scaling may start an instance from a volume with a key: the key's policy or a grant has to
    name its role (AWS's user guide, ``key-policy-requirements-EBS-encryption``)."""
    found = keys.find(group.account_id, group.region, key) if key else None
    return found is None or keys.may_use(keys.service_role(group.account_id), found, keys.TO_ATTACH)


def health_tag(group: Any, choice: Choice) -> str:
    """What the AMI's tag says of the health of its instances."""
    found = image(group, choice)
    return str(found.ec2_backend.tags.get(found.id, {}).get(HEALTH_TAG, "")) if found else ""


def place(group: Any) -> dict[str, Any]:
    """Subnet or zone with the fewest of the group's instances."""
    states = group.instance_states
    if group.vpc_zone_identifier:
        counts = Counter(state.instance.subnet_id for state in states)
        subnets = group.vpc_zone_identifier.split(",")
        return {"subnet_id": min(subnets, key=lambda each: counts[each]), "placement": None}
    counts = Counter(state.instance.placement.zone for state in states)
    return {"subnet_id": None, "placement": min(group.availability_zones, key=lambda each: counts[each])}


def run(group: Any, source: Configuration, choice: Choice) -> Any:
    """Have EC2 start an instance.

    Raises
    ------
    ServiceException
        EC2's refusal.
    """
    template = choice.template
    tags = {**group.get_propagated_tags(), ASG_NAME_TAG: group.name}
    if template is not None:
        found = configuration.version(group, template)
        tags |= found.instance_tags
        user_data, groups = found.user_data, found.security_groups
        given = {"LaunchTemplateId": template["LaunchTemplateId"], "Version": template["Version"]}
        options: dict[str, Any] = {"launch_template": given, "launch_config": None}
    else:
        config = group.autoscaling_backend.launch_configurations[source.launch_config]
        user_data, groups = config.user_data, config.security_groups
        options = {"launch_template": None, "launch_config": config}
    reservation = group.ec2_backend.run_instances(
        choice.image_id,
        1,
        user_data,
        groups,
        instance_type=choice.instance_type,
        tags={"instance": tags},
        is_instance_type_default=False,
        associate_public_ip=None,
        **options,
        **place(group),
    )
    (instance,) = reservation.instances
    instance.autoscaling_group = group
    return instance


def message(error: ServiceException) -> str:
    """A refusal of EC2 as a scaling activity tells it."""
    text = str(getattr(error, "message", error)).rstrip(".")
    return f"{text}. Launching EC2 instance failed."
