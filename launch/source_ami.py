"""The AMI that a bake on AWS begins with: found as Packer finds it, looked at before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kiln.errors import KilnError
from launch import ami, pages
from launch.cloud import Cloud
from launch.import_source import CONDITIONS, Condition
from launch.plan import Plan
from launch.trouble import told

System = Literal["linux", "windows"]


@dataclass(frozen=True)
class Base:
    """Where a bake begins; the Packer template of the image has the same name and owner as defaults.

    Parameters
    ----------
    name, owner:
        Which AMIs: a pattern of EC2's filter, and an account.
    conditions:
        What it must be.
    plain:
        Whether what is made of it must not be encrypted.
    """

    name: str
    owner: str
    conditions: tuple[Condition, ...]
    plain: bool


def _is(check: str, key: str, holds: Callable[[Any], bool], asks: str) -> Condition:
    return Condition(check, lambda found: found.get(key), holds, asks, "name another base in the template")


OF_ITS_OWNER = ("ami-public",)
"""What holds for the AMI that is imported and not for the one it is made of: Amazon's are public."""

BASES: dict[System, Base] = {
    "windows": Base(
        "TPM-Windows_Server-2022-English-Full-Base-*",
        "801119661308",
        tuple(each for each in CONDITIONS if each.check not in OF_ITS_OWNER),
        plain=True,
    ),
    "linux": Base(
        "debian-12-amd64-*",
        "136693071363",
        (
            _is("ami-state", "State", lambda found: found == "available", "available"),
            _is("ami-architecture", "Architecture", lambda found: found == "x86_64", "x86_64"),
            _is("ami-boot-mode", "BootMode", lambda found: found in ami.BOOT_MODES, "one of UEFI"),
            _is("ami-ena", "EnaSupport", lambda found: found is True, "True"),
        ),
        plain=False,
    ),
}
"""System that is baked → what it begins with."""


def find(cloud: Cloud, system: System) -> dict[str, Any]:
    """Return the newest AMI to begin with, as Packer's ``most_recent`` does.

    Parameters
    ----------
    cloud:
        Account and region.
    system:
        What is baked.

    Raises
    ------
    KilnError
        There is none, or it could not be found out.
    """
    base = BASES[system]
    filters = [
        {"Name": name, "Values": [value]}
        for name, value in {
            "name": base.name,
            "root-device-type": "ebs",
            "virtualization-type": "hvm",
            "architecture": "x86_64",
        }.items()
    ]
    with told(f"looking for {base.name} in {cloud.region}"):
        found = pages.every(
            cloud.client("ec2"), "describe_images", "Images", Owners=[base.owner], Filters=filters
        )
        newest = max(found, key=lambda each: str(each["CreationDate"]), default=None)
    if newest is None:
        raise KilnError(
            f"{cloud.region} has no AMI {base.name} of account {base.owner}",
            "choose a region that has it, or name another base in the template",
        )
    return newest


def judge(plan: Plan, cloud: Cloud, system: System, image: dict[str, Any]) -> None:
    """Refuse an AMI of which no image comes that can be used.

    Parameters
    ----------
    plan:
        Gets the refusals.
    cloud, system:
        As of :func:`find`.
    image:
        The AMI, as DescribeImages gives it.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    base = BASES[system]
    for condition in base.conditions:
        found = condition.is_(image)
        if not condition.holds(found):
            name = f"{image['ImageId']} ({image.get('Name')})"
            subject = condition.check.removeprefix("ami-").replace("-", " ")
            what = f"{name}: {subject} is {found}, and must be {condition.asks}"
            plan.refuse(condition.check, what, condition.hint)
    if not base.plain:
        return
    with told(f"asking whether {cloud.region} encrypts by default"):
        default = cloud.client("ec2").get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    if default:
        what = f"{cloud.region} encrypts every new volume, and AppStream imports no encrypted AMI"
        plan.refuse(
            "encrypted-by-default", what, "make the image on a builder instead: kiln builder run IMAGE"
        )
