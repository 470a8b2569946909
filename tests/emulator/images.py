"""Images as EC2 keeps and shows them: all that was said of one, its snapshots, and who may launch it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moto.core.parse import default_timestamp_parser
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.utils import random_ami_id

from tests.emulator import control, ec2, snapshots

KEPT: dict[str, tuple[str, Any]] = {
    "Architecture": ("architecture", "i386"),
    "BootMode": ("boot_mode", None),
    "Description": ("description", ""),
    "EnaSupport": ("ena_support", False),
    "ImdsSupport": ("imds_support", None),
    "RootDeviceName": ("root_device_name", None),
    "SriovNetSupport": ("sriov", None),
    "TpmSupport": ("tpm_support", None),
    "UefiData": ("uefi_data", None),
    "VirtualizationType": ("virtualization_type", "paravirtual"),
}
"""Parameter of RegisterImage → attribute, and what EC2 assumes where nothing was said."""


class Image(Ami):
    """An image of an account; moto's own makes a snapshot of its own invention."""

    def __init__(self, backend: Any, name: str, mappings: list[dict[str, Any]], **attributes: Any) -> None:
        self.ec2_backend = backend
        self.id = random_ami_id()
        self.name = name
        self.owner_id = backend.account_id
        self.owner_alias = None
        self.state = "pending"
        self.state_reason: dict[str, str] | None = None
        self.settling = ec2.Settling("available")
        self.creation_date = ec2.now()
        self.mappings = mappings
        self.launch_permissions = []
        self.image_type, self.hypervisor, self.root_device_type = "machine", "xen", "ebs"
        self.kernel_id = self.platform = self.instance_id = None
        self.image_location = f"{backend.account_id}/{name}"
        self.product_codes = set()
        self.source_image_id = self.source_region = self.source_instance = None
        for attribute, default in KEPT.values():
            setattr(self, attribute, default)
        for attribute, value in attributes.items():
            setattr(self, attribute, value)
        backend.amis[self.id] = self

    @classmethod
    def of_others(cls, backend: Any, facts: dict[str, Any]) -> Image:
        """A public image of Amazon or a distribution, as ``amis.json`` has it."""
        given = {key: value for key, value in facts.items() if key not in ("name", "size", "creation_date")}
        image = cls(backend, facts["name"], [], **{"architecture": "x86_64", "ena_support": True, **given})
        image.virtualization_type, image.owner_alias, image.state = "hvm", "amazon", "available"
        image.creation_date = default_timestamp_parser(facts["creation_date"])
        image.launch_permissions = [{"Group": "all"}]
        snapshot = snapshots.make(backend, size=facts["size"], description=facts["name"])
        snapshot.owner_id, snapshot.status = facts["owner_id"], "completed"
        image.mappings.append(disk(image.root_device_name, snapshot, "gp3", {}))
        backend.amis.pop(image.id, None)
        backend.amis[image.id] = image
        return image

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """What the image says of its disks."""
        return self.mappings

    def described(self) -> dict[str, Any]:
        """What is passed to a copy or to an image of its instance."""
        return {name: getattr(self, name) for name, _ in KEPT.values() if name != "description"}


def own(self: Any, image_id: str | None = None) -> Any:
    """The account's image that a request names.

    Raises
    ------
    EC2ClientError
        It has none of this id.
    """
    wanted = image_id or self._get_param("ImageId")
    if not str(wanted).startswith("ami-"):
        raise ec2.refuse("InvalidAMIID.Malformed", f'Invalid id: "{wanted}" (expecting "ami-...")')
    image = self.ec2_backend.amis.get(wanted)
    if image is None or image.owner_id != self.current_account:
        if any(wanted in backend.amis for backend in ec2.accounts(self.region)):
            raise ec2.refuse("AuthFailure", f"Not authorized for image:{wanted}")
        raise ec2.refuse("InvalidAMIID.NotFound", f"The image id '[{wanted}]' does not exist")
    return image


def seen_by(account: str, region: str) -> list[Any]:
    """Images that an account may launch in a region: its own, those shared with it, public ones."""
    # The account's own backend is there from now on, and with it the public images.
    mine = ec2.ec2_backends[account][region]
    found = [image for image in mine.amis.values() if image.owner_id == account or image.is_public]
    for backend in ec2.accounts(region):
        if backend is not mine:
            found += [
                image
                for image in backend.amis.values()
                if image.owner_id == backend.account_id and (image.is_public or shared(image, account))
            ]
    return found


def shared(image: Any, account: str) -> bool:
    """Whether an image may be launched by an account to which it does not belong."""
    return any(each.get("UserId") == account for each in image.launch_permissions)


def find(account: str, region: str, image_id: str) -> Any:
    """An image that an account may see; None where there is none."""
    return next((image for image in seen_by(account, region) if image.id == image_id), None)


def view(image: Any) -> dict[str, Any]:
    """An image as answers show it."""
    backend = image.ec2_backend
    platform = image.platform
    return {
        "ImageId": image.id,
        "Name": image.name,
        "Description": image.description or None,
        "State": image.state,
        "StateReason": getattr(image, "state_reason", None),
        "OwnerId": image.owner_id,
        "ImageOwnerAlias": image.owner_alias,
        "ImageLocation": image.image_location or f"{image.owner_id}/{image.name}",
        "ImageType": image.image_type,
        "Public": image.is_public,
        "Architecture": image.architecture,
        "VirtualizationType": image.virtualization_type,
        "Hypervisor": image.hypervisor,
        "Platform": platform,
        "PlatformDetails": "Windows" if platform == "windows" else "Linux/UNIX",
        "UsageOperation": "RunInstances:0002" if platform == "windows" else "RunInstances",
        "RootDeviceName": image.root_device_name,
        "RootDeviceType": "ebs",
        "BlockDeviceMappings": image.block_device_mappings,
        "EnaSupport": getattr(image, "ena_support", True),
        "SriovNetSupport": image.sriov,
        "BootMode": image.boot_mode,
        "TpmSupport": getattr(image, "tpm_support", None),
        "ImdsSupport": getattr(image, "imds_support", None),
        "CreationDate": image.creation_date,
        "DeprecationTime": getattr(image, "deprecation_time", None),
        "DeregistrationProtection": getattr(image, "deregistration_protection", "disabled"),
        "SourceInstanceId": getattr(image, "source_instance", None),
        "SourceImageId": getattr(image, "source_image_id", None),
        "SourceImageRegion": getattr(image, "source_region", None),
        "Tags": ec2.tag_list(backend, image.id) or None,
    }


def _facts(image: Any) -> dict[str, Any]:
    disks = [mapping.get("Ebs") or {} for mapping in image.block_device_mappings]
    return {
        "image-id": image.id,
        "name": image.name,
        "state": image.state,
        "description": image.description or "",
        "owner-id": image.owner_id,
        "owner-alias": image.owner_alias,
        "architecture": image.architecture,
        "virtualization-type": image.virtualization_type,
        "root-device-type": "ebs",
        "root-device-name": image.root_device_name,
        "hypervisor": image.hypervisor,
        "image-type": image.image_type,
        "is-public": image.is_public,
        "platform": image.platform,
        "ena-support": bool(getattr(image, "ena_support", True)),
        "boot-mode": image.boot_mode,
        "creation-date": ec2.text_of(image.creation_date),
        "source-image-id": getattr(image, "source_image_id", None),
        "source-instance-id": getattr(image, "source_instance", None),
        "block-device-mapping.snapshot-id": [disk.get("SnapshotId") for disk in disks],
        "block-device-mapping.encrypted": [bool(disk.get("Encrypted")) for disk in disks],
        "block-device-mapping.volume-type": [disk.get("VolumeType") for disk in disks],
        "block-device-mapping.device-name": [each["DeviceName"] for each in image.block_device_mappings],
        "tags": ec2.tags_of(image.ec2_backend, image.id),
    }


def look(image: Any) -> None:
    """Let an image that waits to be available come nearer to it; it is not before its snapshots are."""
    settling = getattr(image, "settling", None)
    if settling is None or image.state != "pending":
        return
    owned = [
        image.ec2_backend.snapshots.get((mapping.get("Ebs") or {}).get("SnapshotId"))
        for mapping in image.block_device_mappings
    ]
    _, image.state = settling.look(image.state)
    if image.state == "pending":
        return
    for snapshot in filter(None, owned):
        if getattr(snapshot, "message", None):
            image.state = "failed"
            image.state_reason = {"Code": "Client.InternalError", "Message": snapshot.message}
        if snapshot.status == "pending":
            snapshot.status = snapshot.settling.settled


def describe_images(self: Any) -> dict[str, Any]:
    """DescribeImages: disabled ones only where asked for, other accounts' deprecated ones too."""
    self.error_on_dryrun()
    account = self.current_account
    wanted = self._get_param("ImageIds", []) or []
    if malformed := [each for each in wanted if not each.startswith("ami-")]:
        raise ec2.refuse("InvalidAMIID.Malformed", f'Invalid id: "{malformed[0]}" (expecting "ami-...")')
    found = seen_by(account, self.region)
    if missing := sorted(set(wanted) - {image.id for image in found}):
        word = "id" if len(missing) == 1 else "ids"
        verb = "does" if len(missing) == 1 else "do"
        raise ec2.refuse(
            "InvalidAMIID.NotFound", f"The image {word} '[{', '.join(missing)}]' {verb} not exist"
        )
    if wanted:
        found = [image for image in found if image.id in wanted]
    if owners := self._get_param("Owners", []) or []:
        names = {account if owner == "self" else owner for owner in owners}
        found = [image for image in found if {image.owner_id, image.owner_alias} & names]
    if users := self._get_param("ExecutableUsers", []) or []:
        found = [image for image in found if _executable(image, users, account)]
    if not self._get_param("IncludeDisabled"):
        found = [image for image in found if image.state != "disabled"]
    if not self._get_param("IncludeDeprecated"):
        found = [image for image in found if image.owner_id == account or not _deprecated(image)]
    found = ec2.filtered(self, found, _facts)
    answer = snapshots.paged(self, [view(image) for image in found], "Images")
    for image in found:
        look(image)
    return answer


def _executable(image: Any, users: list[str], account: str) -> bool:
    if "all" in users and image.is_public:
        return True
    return any(shared(image, account if user == "self" else user) for user in users)


def _deprecated(image: Any) -> bool:
    time = getattr(image, "deprecation_time", None)
    return bool(time and time < ec2.text_of(ec2.now()))


def disk(device: str, snapshot: Any, volume_type: str, asked: dict[str, Any]) -> dict[str, Any]:
    """A block device of an image, from a snapshot of our own making."""
    said = {key: value for key, value in (asked.get("Ebs") or {}).items() if key != "SnapshotId"}
    return {
        "DeviceName": device,
        "Ebs": {
            "DeleteOnTermination": True,
            "SnapshotId": snapshot.id,
            "VolumeSize": snapshot.volume.size,
            "VolumeType": volume_type,
            **said,
            "Encrypted": snapshot.encrypted,
        },
    }


@control.action
def fail_image(account: str, region: str, name: str, message: str = "Internal error") -> None:
    """Let an image that is pending fail."""
    for image in ec2.ec2_backends[account][region].amis.values():
        if image.name == name:
            image.state = "failed"
            image.state_reason = {"Code": "Client.InternalError", "Message": message}


@control.state("images")
def states() -> dict[str, Any]:
    """Every image of an account, by its name."""
    from tests.emulator import state

    return state.of_ec2("amis", _state)


def _state(backend: Any, image: Any) -> tuple[str, dict[str, Any]] | None:
    if image.owner_id != backend.account_id:
        return None
    shown = view(image)
    names = ("Description", "State", "Architecture", "BootMode", "EnaSupport", "TpmSupport", "ImdsSupport")
    names += ("VirtualizationType", "RootDeviceName", "DeregistrationProtection", "SourceImageRegion")
    disks = []
    for mapping in image.block_device_mappings:
        ebs = dict(mapping.get("Ebs") or {})
        snapshot = backend.snapshots.get(ebs.pop("SnapshotId", None))
        content = snapshots.shown(backend, snapshot) if snapshot else None
        disks.append({"device": mapping["DeviceName"], **ebs, "snapshot": content})
    return image.name, {
        **{key: shown[key] for key in names},
        "Deprecated": shown["DeprecationTime"] is not None,
        "Disks": disks,
        "LaunchPermissions": sorted(str(each) for each in image.launch_permissions),
        "Tags": ec2.tags_of(backend, image.id),
    }


def _load(self: Any) -> None:
    for facts in json.loads(Path(__file__).with_name("amis.json").read_text()):
        Image.of_others(self, facts)


def install() -> None:
    """Extend moto."""
    ec2.extend(describe_images)
    AmiBackend._load_amis = _load  # type: ignore[method-assign]
    # moto looks images up by this method where it starts an instance.
    original = AmiBackend.describe_images

    def found(self: Any, ami_ids: Any = None, filters: Any = None, *rest: Any, **more: Any) -> Any:
        named = (filters or {}).get("image-id")
        if named:
            image = find(self.account_id, self.region_name, named if isinstance(named, str) else named[0])
            return [image] if image else []
        return original(self, ami_ids, filters, *rest, **more)

    AmiBackend.describe_images = found  # type: ignore[method-assign]
