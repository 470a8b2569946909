"""AMIs of a version: found by their name, registered, copied, waited for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from kiln.errors import KilnError
from launch import names
from launch.cloud import Cloud
from launch.trouble import code
from launch.until import until

ROOT_DEVICE = "/dev/xvda"

REGISTERED: dict[str, Any] = {
    "Architecture": "x86_64",
    "VirtualizationType": "hvm",
    "RootDeviceName": ROOT_DEVICE,
    # The disk has an EFI system partition and no BIOS boot code. NVMe has no parameter: every instance that
    # boots by UEFI has it, and the image has the driver.
    "BootMode": "uefi",
    "EnaSupport": True,
    "ImdsSupport": "v2.0",
}
"""How an AMI from a local disk is registered, whatever the image."""

BOOT_MODES = ("uefi", "uefi-preferred")

IDENTITY = (names.PROJECT, names.IMAGE, names.VERSION, names.INPUT_DIGEST, names.MANIFEST_DIGEST)
"""The tags that say what something is."""

_LOST = ("failed", "error", "invalid")


def find(cloud: Cloud, region: str, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """Find AMIs of this account by their names, deprecated and disabled ones too.

    Parameters
    ----------
    cloud, region:
        Where.
    wanted:
        Names.

    Returns
    -------
    list of dict
        As EC2 describes them.
    """
    answer = cloud.client("ec2", region).describe_images(
        Owners=["self"],
        Filters=[{"Name": "name", "Values": sorted(wanted)}],
        IncludeDeprecated=True,
        IncludeDisabled=True,
    )
    return list(answer["Images"])


def describe(cloud: Cloud, region: str, ami: str) -> dict[str, Any] | None:
    """Return an AMI by its id as EC2 describes it, None where there is none that we may see."""
    try:
        found = cloud.client("ec2", region).describe_images(
            ImageIds=[ami], IncludeDeprecated=True, IncludeDisabled=True
        )["Images"]
    except ClientError as error:
        if code(error) in ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed"):
            return None
        raise
    return dict(found[0]) if found else None


def snapshots(image: dict[str, Any]) -> list[str]:
    """Return the snapshots of an AMI, the root's first."""
    mapped = [each for each in image.get("BlockDeviceMappings", []) if each.get("Ebs", {}).get("SnapshotId")]
    mapped.sort(key=lambda each: each.get("DeviceName") != image.get("RootDeviceName"))
    return [str(each["Ebs"]["SnapshotId"]) for each in mapped]


def encrypted(image: dict[str, Any]) -> bool:
    """Tell whether every snapshot of an AMI is encrypted."""
    disks = [each["Ebs"] for each in image.get("BlockDeviceMappings", []) if "Ebs" in each]
    return bool(disks) and all(each.get("Encrypted", False) for each in disks)


def is_public(image: dict[str, Any]) -> bool:
    """Tell whether anybody may launch an AMI."""
    return bool(image.get("Public", False))


def lost(image: dict[str, Any]) -> bool:
    """Tell whether an AMI will never be of use: its making failed."""
    return image["State"] in _LOST


def register(
    cloud: Cloud, region: str, name: str, snapshot: str, tags: dict[str, str], description: str
) -> str:
    """Register an AMI over a snapshot.

    Parameters
    ----------
    cloud, region:
        Where.
    name:
        Derived, so unique: RegisterImage takes no client token, and the name does its work.
    snapshot:
        Of the root disk, completed.
    tags:
        Of the AMI.
    description:
        For people.

    Returns
    -------
    str
        Its id; of the one that is there already where the request was sent before.

    Raises
    ------
    KilnError
        The name is another image's.
    """
    root = {"SnapshotId": snapshot, "VolumeType": "gp3", "DeleteOnTermination": True}
    try:
        answer = cloud.client("ec2", region).register_image(
            Name=name,
            Description=description,
            BlockDeviceMappings=[{"DeviceName": ROOT_DEVICE, "Ebs": root}],
            TagSpecifications=[{"ResourceType": "image", "Tags": names.tags(tags)}],
            **REGISTERED,
        )
    except ClientError as error:
        return _named(cloud, region, name, tags, error)
    return str(answer["ImageId"])


def copy(
    cloud: Cloud,
    region: str,
    name: str,
    source: tuple[str, str],
    tags: dict[str, str],
    description: str,
    *,
    encrypt: bool,
    key: str | None,
    failed: Iterable[str] = (),
) -> str:
    """Begin to copy an AMI.

    Parameters
    ----------
    cloud, region, name, tags, description:
        As of :func:`register`; the snapshots get the tags too.
    source:
        Region and id of the AMI that is copied.
    encrypt, key:
        Whether the copy is encrypted, and the ARN of the customer key, None for AWS's own.
    failed:
        Ids of copies that failed before: a request with their token would be answered with them.

    Returns
    -------
    str
        Its id, as of :func:`register`.

    Raises
    ------
    KilnError
        The name is another image's.
    """
    encryption: dict[str, Any] = {"Encrypted": True, **({"KmsKeyId": key} if key else {})} if encrypt else {}
    kinds = ("image", "snapshot")
    try:
        answer = cloud.client("ec2", region).copy_image(
            Name=name,
            Description=description,
            SourceRegion=source[0],
            SourceImageId=source[1],
            ClientToken=names.token("copy", region, *source, *sorted(tags.values()), *sorted(failed)),
            TagSpecifications=[{"ResourceType": kind, "Tags": names.tags(tags)} for kind in kinds],
            **encryption,
        )
    except ClientError as error:
        return _named(cloud, region, name, tags, error)
    return str(answer["ImageId"])


def _named(cloud: Cloud, region: str, name: str, tags: dict[str, str], error: ClientError) -> str:
    """Return the AMI that already has the name, if it is what we wanted to make."""
    if code(error) != "InvalidAMIName.Duplicate":
        raise error
    found = find(cloud, region, [name])
    if found and belongs(found[0], tags):
        return str(found[0]["ImageId"])
    raise collision(region, name, found[0]["ImageId"] if found else "an AMI") from error


def collision(region: str, name: str, ami: str) -> KilnError:
    """Return the error for a name that another AMI has."""
    return KilnError(
        f"{ami} in {region} has the name {name}, and is not this version",
        f"look where it comes from; to give the name free: aws ec2 deregister-image --region {region}"
        f" --image-id {ami}",
    )


def belongs(image: dict[str, Any], tags: dict[str, str]) -> bool:
    """Tell whether an AMI or a snapshot is of the version that the tags name, whichever run made it."""
    there = names.read(image.get("Tags"))
    return all(there.get(name) == tags[name] for name in IDENTITY)


def await_available(cloud: Cloud, region: str, ami: str) -> dict[str, Any]:
    """Wait until an AMI can be launched.

    Parameters
    ----------
    cloud, region:
        Where.
    ami:
        Its id.

    Returns
    -------
    dict
        As EC2 describes it.

    Raises
    ------
    KilnError
        Its making failed, or takes too long.
    """

    def look() -> dict[str, Any] | None:
        # One that was made a moment ago may not be there yet.
        image = describe(cloud, region, ami)
        if image is None or image["State"] == "pending":
            return None
        if image["State"] != "available":
            reason = image.get("StateReason", {}).get("Message") or "EC2 gives no reason"
            raise KilnError(
                f"{ami} in {region} is {image['State']}: {reason}",
                "usually its key may not be used; run again, the same command removes it and makes it anew",
            )
        return image

    return until(cloud, look, f"{ami} in {region} to be available")


def remove(cloud: Cloud, region: str, ami: str) -> None:
    """Deregister an AMI and delete its snapshots; one that is gone already is as good."""
    try:
        cloud.client("ec2", region).deregister_image(ImageId=ami, DeleteAssociatedSnapshots=True)
    except ClientError as error:
        if code(error) not in ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"):
            raise


def deprecation(image: dict[str, Any], days: int) -> datetime:
    """Return when an AMI should be called deprecated.

    Parameters
    ----------
    image:
        As EC2 describes it.
    days:
        From its creation.

    Returns
    -------
    datetime
        UTC, to the minute, as EC2 keeps it.
    """
    made = _time(image["CreationDate"]) + timedelta(days=days)
    return made.replace(second=0, microsecond=0)


def deprecated_at(image: dict[str, Any]) -> datetime | None:
    """Return when EC2 calls an AMI deprecated, UTC, to the minute; None for never."""
    text = image.get("DeprecationTime")
    return _time(text).replace(second=0, microsecond=0) if text else None


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=UTC)
