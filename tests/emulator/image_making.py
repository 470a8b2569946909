"""How images come to be and end: registered from snapshots, made of instances, copied, deregistered."""

from __future__ import annotations

import re
from typing import Any

from tests.emulator import control, ec2, snapshots
from tests.emulator.images import KEPT, Image, disk, find, own

NAME = re.compile(r"[A-Za-z0-9()\[\]. /\-'@_]{3,128}")


def _unique(self: Any) -> str:
    name = self._get_param("Name")
    if not NAME.fullmatch(name):
        raise ec2.refuse(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
            "'(', ')', '.', '-', '/' and '_'",
        )
    for image in self.ec2_backend.amis.values():
        if image.name == name and image.owner_id == self.current_account:
            raise ec2.refuse(
                "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}"
            )
    return str(name)


def register_image(self: Any) -> dict[str, Any]:
    """RegisterImage, from snapshots: their encryption is the image's, and nothing else can be asked for."""
    name = _unique(self)
    attributes = {
        attribute: self._get_param(parameter)
        for parameter, (attribute, _) in KEPT.items()
        if self._get_param(parameter) is not None
    }
    tags = ec2.asked_tags(self, "image", ("image",))
    mappings = [_mapped(self, each) for each in self._get_param("BlockDeviceMappings", []) or []]
    if not mappings:
        raise ec2.refuse("MissingParameter", "The request must contain the parameter blockDeviceMappings")
    root = attributes.setdefault("root_device_name", "/dev/sda1")
    if root not in [each["DeviceName"] for each in mappings]:
        raise ec2.refuse("InvalidBlockDeviceMapping", f"The root device {root} is not in the mapping")
    if attributes.get("tpm_support") and attributes.get("boot_mode") != "uefi":
        raise ec2.refuse("InvalidParameterCombination", "TpmSupport requires the boot mode uefi")
    self.error_on_dryrun()
    image = Image(self.ec2_backend, name, mappings, **attributes)
    image.add_tags(tags)
    return {"ImageId": image.id}


def _mapped(self: Any, mapping: dict[str, Any]) -> dict[str, Any]:
    ebs = dict(mapping.get("Ebs") or {})
    if not ebs:
        return dict(mapping)
    if "SnapshotId" not in ebs:
        raise ec2.refuse(
            "MissingParameter", f"{mapping['DeviceName']}: an image is registered from snapshots"
        )
    if "Encrypted" in ebs or "KmsKeyId" in ebs:
        raise ec2.refuse(
            "InvalidParameterCombination", "The parameters encrypted and snapshotId cannot be used together"
        )
    snapshot = snapshots.find(self.current_account, self.region, ebs["SnapshotId"])
    if snapshot.owner_id != self.current_account:
        raise ec2.refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot.id}' does not exist.")
    if snapshot.status != "completed":
        raise ec2.refuse(
            "InvalidParameterValue", f"Snapshot is in invalid state - {snapshot.status}: {snapshot.id}"
        )
    size = ebs.get("VolumeSize", snapshot.volume.size)
    if size < snapshot.volume.size:
        raise ec2.refuse(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot '{snapshot.id}', "
            f"expect size >= {snapshot.volume.size}GB",
        )
    return {
        **mapping,
        "Ebs": {
            "DeleteOnTermination": True,
            "VolumeType": "gp2",
            **ebs,
            "VolumeSize": size,
            "Encrypted": snapshot.encrypted,
        },
    }


def create_image(self: Any) -> dict[str, Any]:
    """CreateImage: snapshots of an instance's volumes, tagged as the request says."""
    backend, instance = self.ec2_backend, self.ec2_backend.get_instance(self._get_param("InstanceId"))
    name = _unique(self)
    if instance._state.name not in ("running", "stopped"):
        raise ec2.refuse("IncorrectInstanceState", f"{instance.id} is {instance._state.name}")
    image_tags = ec2.asked_tags(self, "image", ("image", "snapshot"))
    snapshot_tags = ec2.asked_tags(self, "snapshot", ("image", "snapshot"))
    self.error_on_dryrun()
    asked = {each["DeviceName"]: each for each in self._get_param("BlockDeviceMappings", []) or []}
    source = find(self.current_account, self.region, instance.image_id)
    image = Image(
        backend,
        name,
        [],
        **(source.described() if isinstance(source, Image) else {"boot_mode": None}),
        source_instance=instance.id,
        source_image_id=instance.image_id,
        source_region=self.region,
    )
    image.description = self._get_param("Description") or ""
    image.instance_id = instance.id
    image.platform = instance.platform
    image.architecture = instance.architecture
    image.virtualization_type, image.ena_support = "hvm", True
    image.root_device_name = instance.root_device_name
    for device, attached in instance.get_block_device_mapping:
        if "NoDevice" in asked.get(device, {}):
            continue
        volume = backend.get_volume(attached.volume_id)
        described = f"Created by CreateImage({instance.id}) for {image.id}"
        snapshot = snapshots.of_volume(backend, volume, described, snapshot_tags)
        image.mappings.append(disk(device, snapshot, volume.volume_type, asked.get(device, {})))
    image.add_tags(image_tags)
    return {"ImageId": image.id}


TOKENS: dict[tuple[str, str, str], tuple[dict[str, Any], str]] = {}
"""Account, region and client token of a copy → its parameters and image."""

control.RESETS.append(TOKENS.clear)


def copy_image(self: Any) -> dict[str, Any]:
    """CopyImage: tags where asked for, never permissions; a key that may not be used fails it later."""
    backend, account = self.ec2_backend, self.current_account
    token = self._get_param("ClientToken")
    asked = {key: value for key, value in dict(self.params).items() if key != "DryRun"}
    known = TOKENS.get((account, self.region, token)) if token else None
    if known:
        if known[0] != asked:
            raise ec2.refuse(
                "IdempotentParameterMismatch",
                "The client token you have provided is associated with a resource with other parameters.",
            )
        return {"ImageId": known[1]}
    source = find(account, self._get_param("SourceRegion"), self._get_param("SourceImageId"))
    if source is None:
        wanted = self._get_param("SourceImageId")
        raise ec2.refuse("InvalidAMIID.NotFound", f"The image id '[{wanted}]' does not exist")
    if source.state != "available":
        raise ec2.refuse("InvalidAMIID.Unavailable", f"The image {source.id} is {source.state}")
    name = _unique(self)
    image_tags = ec2.asked_tags(self, "image", ("image", "snapshot"))
    snapshot_tags = ec2.asked_tags(self, "snapshot", ("image", "snapshot"))
    self.error_on_dryrun()
    described = source.described() if isinstance(source, Image) else {}
    image = Image(
        backend,
        name,
        [],
        **described,
        source_image_id=source.id,
        source_region=self._get_param("SourceRegion"),
    )
    image.description = self._get_param("Description") or ""
    image.platform = source.platform
    for mapping in source.block_device_mappings:
        image.mappings.append(_copied(self, image, source, mapping, snapshot_tags))
    if self._get_param("CopyImageTags"):
        given = ec2.tags_of(source.ec2_backend, source.id)
        image.add_tags({key: value for key, value in given.items() if not key.startswith("aws:")})
    image.add_tags(image_tags)
    if token:
        TOKENS[account, self.region, token] = (asked, image.id)
    return {"ImageId": image.id}


def _copied(
    self: Any, image: Image, source: Any, mapping: dict[str, Any], tags: dict[str, str]
) -> dict[str, Any]:
    ebs = mapping.get("Ebs")
    if not ebs:
        return dict(mapping)
    owner = ec2.ec2_backends[source.ec2_backend.account_id][source.ec2_backend.region_name]
    snapshot = owner.snapshots[ebs["SnapshotId"]]
    copied = snapshots.copy(
        self.ec2_backend,
        snapshot,
        bool(self._get_param("Encrypted")) or snapshot.encrypted,
        self._get_param("KmsKeyId"),
        f"Copied for DestinationAmi {image.id} from SourceAmi {source.id} for SourceSnapshot {snapshot.id}.",
        tags,
    )
    new = {**ebs, "SnapshotId": copied.id, "Encrypted": copied.encrypted}
    return {**mapping, "Ebs": {key: value for key, value in new.items() if key != "KmsKeyId"}}


def deregister_image(self: Any) -> dict[str, Any]:
    """DeregisterImage, with its snapshots where asked for: those that another image needs stay."""
    image = own(self)
    if getattr(image, "deregistration_protection", "disabled").startswith("enabled"):
        raise ec2.refuse(
            "OperationNotPermitted",
            f"AMI {image.id} cannot be deregistered because deregistration protection is enabled.",
        )
    self.error_on_dryrun()
    backend = self.ec2_backend
    backend.amis.pop(image.id)
    backend.deleted_amis.append(image.id)
    backend.tags.pop(image.id, None)
    answer: dict[str, Any] = {"Return": True}
    if self._get_param("DeleteAssociatedSnapshots"):
        answer["DeleteSnapshotResults"] = []
        for mapping in image.block_device_mappings:
            snapshot = (mapping.get("Ebs") or {}).get("SnapshotId")
            if snapshot is None:
                continue
            used = snapshots.user_of(backend, snapshot, but=image.id)
            if not used:
                snapshots.remove(backend, snapshot)
            answer["DeleteSnapshotResults"].append(
                {"SnapshotId": snapshot, "ReturnCode": "skipped" if used else "success"}
            )
    return answer


def install() -> None:
    """Extend moto."""
    ec2.extend(register_image, create_image, copy_image, deregister_image)
