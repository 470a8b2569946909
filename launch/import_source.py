"""The AMI and the role of an import: what AppStream asks of them, looked at before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from kiln.errors import KilnError
from launch.appstream import HINTS
from launch.cloud import Cloud
from launch.plan import Plan
from launch.trouble import AGAIN, code, told


@dataclass(frozen=True)
class Condition:
    """What CreateImportedImage asks of an AMI (administration guide, "Import Image").

    Parameters
    ----------
    check:
        Its name.
    is_:
        Reads it off the AMI.
    holds:
        Whether that is right.
    asks:
        What would be right, for people.
    hint:
        What to do where it is not.
    """

    check: str
    is_: Callable[[dict[str, Any]], Any]
    holds: Callable[[Any], bool]
    asks: str
    hint: str


def _disks(ami: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["Ebs"] for each in ami.get("BlockDeviceMappings", []) if "Ebs" in each]


def _disk(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda ami: next((disk.get(key) for disk in _disks(ami)), None)


def _must(check: str, key: str, value: Any, hint: str) -> Condition:
    """A member of the AMI that must have one value."""
    return Condition(check, lambda ami: ami.get(key), lambda found: found == value, str(value), hint)


SOURCE = "start from a TPM-Windows_Server-2022 or -2025 Full Base AMI (SSM: /aws/service/ami-windows-latest)"

LARGEST_GB = 500

CONDITIONS: tuple[Condition, ...] = (
    _must("ami-state", "State", "available", f"wait until EC2 calls it so, then {AGAIN}"),
    _must("ami-public", "Public", False, "take its launch permission for all away"),
    _must("ami-kind", "ImageType", "machine", SOURCE),
    _must("ami-architecture", "Architecture", "x86_64", SOURCE),
    _must("ami-virtualization", "VirtualizationType", "hvm", SOURCE),
    _must("ami-boot-mode", "BootMode", "uefi", SOURCE),
    _must("ami-tpm", "TpmSupport", "v2.0", SOURCE),
    _must("ami-ena", "EnaSupport", True, "set ena_support = true in the template"),
    _must("ami-platform", "PlatformDetails", "Windows", f"no SQL Server, no Linux: {SOURCE}"),
    _must("ami-root-device", "RootDeviceName", "/dev/sda1", SOURCE),
    Condition(
        "ami-volumes",
        lambda ami: len(ami.get("BlockDeviceMappings", [])) - _ephemeral(ami),
        lambda found: found == 1,
        "1",
        "leave only the root volume in the template",
    ),
    Condition(
        "ami-volume-type",
        _disk("VolumeType"),
        lambda found: found in ("gp2", "gp3"),
        "gp2 or gp3",
        "set volume_type in the template",
    ),
    Condition(
        "ami-volume-size",
        _disk("VolumeSize"),
        lambda found: found is not None and 0 < found <= LARGEST_GB,
        f"at most {LARGEST_GB} GB",
        "set a smaller volume_size in the template",
    ),
    Condition(
        "ami-encrypted",
        lambda ami: any(disk.get("Encrypted") for disk in _disks(ami)),
        lambda found: not found,
        "False",
        "AppStream imports no encrypted AMI: set encrypt = false under publish, then bake and publish again",
    ),
)


def _ephemeral(ami: dict[str, Any]) -> int:
    """Windows AMIs name 26 instance store devices that are no volumes."""
    return sum("VirtualName" in each and "Ebs" not in each for each in ami.get("BlockDeviceMappings", []))


BY_DEFAULT = (
    "and this account encrypts every new volume there, so no AMI of it can be imported: make the image on a "
    "builder instead (kiln builder run)"
)


def find_ami(cloud: Cloud, region: str, name: str) -> dict[str, Any] | None:
    """Return our own AMI of a name, None where there is none.

    Raises
    ------
    KilnError
        There are two, or it could not be found out.
    """
    with told(f"looking for AMI {name} in {region}"):
        found = cloud.client("ec2", region).describe_images(
            Owners=["self"], Filters=[{"Name": "name", "Values": [name]}], IncludeDeprecated=True
        )["Images"]
    if len(found) > 1:
        ids = ", ".join(sorted(each["ImageId"] for each in found))
        raise KilnError(
            f"there are several AMIs named {name} in {region}: {ids}", "deregister the wrong ones"
        )
    return found[0] if found else None


def judge(plan: Plan, cloud: Cloud, region: str, ami: dict[str, Any]) -> None:
    """Refuse an AMI that AppStream would not import.

    Parameters
    ----------
    plan:
        Gets the refusals.
    cloud, region:
        Where it is.
    ami:
        As DescribeImages gives it.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    ident = ami["ImageId"]
    if ami.get("OwnerId") != cloud.account:
        plan.refuse(
            "ami-owner",
            f"{ident} belongs to {ami.get('OwnerId')}, and AppStream imports only what {cloud.account} owns",
            "copy it into this account (kiln publish), or use the credentials of its owner",
        )
    with told(f"asking whether {region} encrypts by default"):
        default = cloud.client("ec2", region).get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    for condition in CONDITIONS:
        found = condition.is_(ami)
        if condition.holds(found):
            continue
        hint = condition.hint
        if condition.check == "ami-encrypted" and default:
            hint = f"AppStream imports no encrypted AMI, {BY_DEFAULT}"
        subject = condition.check.removeprefix("ami-").replace("-", " ")
        plan.refuse(condition.check, f"{ident}: {subject} is {found}, and must be {condition.asks}", hint)
    if default:
        plan.notes.append(
            f"{region} encrypts new volumes by default: the next AMI baked there cannot be imported"
        )


def judge_role(plan: Plan, cloud: Cloud, arn: str) -> None:
    """Refuse a role that AppStream may not take.

    Parameters
    ----------
    plan:
        Gets the refusal.
    cloud:
        The account.
    arn:
        Of the role.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    role = arn.rpartition("/")[2]
    hint = HINTS["InvalidRoleException"]
    if f":{cloud.account}:" not in arn:
        plan.refuse("role", f"{arn} is a role of another account", "name a role of this account in kiln.toml")
        return
    with told(f"looking at role {role}"):
        try:
            found = cloud.client("iam").get_role(RoleName=role)["Role"]
        except ClientError as error:
            if code(error) != "NoSuchEntity":
                raise
            plan.refuse("role", f"there is no role {role}", f"make it: {hint}")
            return
    statements = found["AssumeRolePolicyDocument"].get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    trusted: set[str] = set()
    for statement in statements:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        if statement.get("Effect") == "Allow":
            trusted |= {services} if isinstance(services, str) else set(services)
    if "appstream.amazonaws.com" not in trusted:
        plan.refuse("role", f"role {role} does not trust appstream.amazonaws.com", hint)
