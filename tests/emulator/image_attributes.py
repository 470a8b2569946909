"""What can be changed of an image: permissions, deprecation, protection, and whether it may be launched."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from moto.core.parse import default_timestamp_parser

from tests.emulator import control, ec2, keys
from tests.emulator.images import own

ACCOUNT = re.compile(r"\d{12}")

VALUES: dict[str, str] = {
    "description": "Description",
    "bootMode": "BootMode",
    "imdsSupport": "ImdsSupport",
    "tpmSupport": "TpmSupport",
    "sriovNetSupport": "SriovNetSupport",
    "deregistrationProtection": "DeregistrationProtection",
}
"""Name of an attribute → member of the answer, where it is a text."""

ATTRIBUTES = {
    "description": "description",
    "bootMode": "boot_mode",
    "imdsSupport": "imds_support",
    "tpmSupport": "tpm_support",
    "sriovNetSupport": "sriov",
    "deregistrationProtection": "deregistration_protection",
}

BLOCKED: dict[tuple[str, str], str] = {}
"""Account and region → whether its images may be public; AWS blocks it unless told otherwise."""

control.RESETS.append(BLOCKED.clear)


def describe_image_attribute(self: Any) -> dict[str, Any]:
    """DescribeImageAttribute, of an image of one's own."""
    image, name = own(self), self._get_param("Attribute")
    self.error_on_dryrun()
    answer: dict[str, Any] = {"ImageId": image.id}
    if name == "launchPermission":
        return answer | {"LaunchPermissions": list(image.launch_permissions)}
    if name == "productCodes":
        return answer | {"ProductCodes": []}
    if name not in VALUES:
        raise ec2.refuse("InvalidRequest", f"The emulator has no attribute {name} of an image")
    return answer | {VALUES[name]: {"Value": getattr(image, ATTRIBUTES[name], None) or ""}}


def modify_image_attribute(self: Any) -> dict[str, Any]:
    """ModifyImageAttribute: launch permissions, the description, IMDS support."""
    image = own(self)
    add, remove = _permissions(self)
    for each in add:
        _may_be_shared(self, image, each)
    self.error_on_dryrun()
    image.launch_permissions += [each for each in add if each not in image.launch_permissions]
    image.launch_permissions = [each for each in image.launch_permissions if each not in remove]
    if said := self._get_param("Description"):
        image.description = said.get("Value", "")
    if said := self._get_param("ImdsSupport"):
        image.imds_support = said["Value"]
    name, value = self._get_param("Attribute"), self._get_param("Value")
    if name in ("description", "imdsSupport") and value is not None:
        setattr(image, ATTRIBUTES[name], value)
    return {}


def _permissions(self: Any) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    said = self._get_param("LaunchPermission") or {}
    changes = {"add": list(said.get("Add", [])), "remove": list(said.get("Remove", []))}
    operation = self._get_param("OperationType")
    if operation:
        changes[operation] += [{"UserId": user} for user in self._get_param("UserIds", []) or []]
        changes[operation] += [{"Group": group} for group in self._get_param("UserGroups", []) or []]
    return changes["add"], changes["remove"]


def _may_be_shared(self: Any, image: Any, permission: dict[str, str]) -> None:
    user, group = permission.get("UserId"), permission.get("Group")
    if user is not None and not ACCOUNT.fullmatch(user):
        raise ec2.refuse("InvalidAMIAttributeItemValue", f'Invalid attribute item value "{user}" for userId')
    if image.state == "disabled":
        raise ec2.refuse("InvalidAMIID.Unavailable", f"The image {image.id} is disabled and cannot be shared")
    disks = [mapping.get("Ebs") or {} for mapping in image.block_device_mappings]
    made = [self.ec2_backend.snapshots.get(disk.get("SnapshotId")) for disk in disks]
    encrypted = [snapshot for snapshot in made if snapshot is not None and snapshot.encrypted]
    if any(keys.managed(snapshot.kms_key_id) for snapshot in encrypted):
        raise ec2.refuse("InvalidParameter", f"Snapshots of {image.id} with EBS default key cannot be shared")
    if group == "all":
        if encrypted:
            raise ec2.refuse("OperationNotPermitted", f"The encrypted image {image.id} cannot be public")
        if BLOCKED.get((self.current_account, self.region), "block-new-sharing") == "block-new-sharing":
            raise ec2.refuse(
                "OperationNotPermitted",
                "You can't publicly share this image because block public access for AMIs is enabled "
                "for this account.",
            )


def reset_image_attribute(self: Any) -> dict[str, Any]:
    """ResetImageAttribute: only launch permissions can be."""
    image = own(self)
    if self._get_param("Attribute") != "launchPermission":
        raise ec2.refuse("InvalidRequest", "The request received was invalid.")
    self.error_on_dryrun()
    image.launch_permissions = []
    return {}


def disable_image(self: Any) -> dict[str, Any]:
    """DisableImage: no launch from now on, and every launch permission is lost for good."""
    image = own(self)
    if image.state not in ("available", "disabled"):
        raise ec2.refuse("InvalidAMIID.Unavailable", f"The image {image.id} is {image.state}")
    self.error_on_dryrun()
    image.state, image.launch_permissions = "disabled", []
    return {"Return": True}


def enable_image(self: Any) -> dict[str, Any]:
    """EnableImage: of a disabled one; permissions do not come back."""
    image = own(self)
    if image.state not in ("available", "disabled"):
        raise ec2.refuse("InvalidAMIID.Unavailable", f"The image {image.id} is {image.state}")
    self.error_on_dryrun()
    image.state = "available"
    return {"Return": True}


def enable_image_deprecation(self: Any) -> dict[str, Any]:
    """EnableImageDeprecation: to the minute, not in the past, not more than ten years ahead."""
    image, asked = own(self), self._get_param("DeprecateAt")
    when = asked if hasattr(asked, "year") else default_timestamp_parser(asked)
    if not ec2.now() < when < ec2.now() + timedelta(days=3653):
        raise ec2.refuse("InvalidParameterValue", f"DeprecateAt {asked} is not within ten years from now")
    self.error_on_dryrun()
    image.deprecation_time = ec2.text_of(when.replace(second=0, microsecond=0))
    return {"Return": True}


def disable_image_deprecation(self: Any) -> dict[str, Any]:
    """DisableImageDeprecation."""
    image = own(self)
    self.error_on_dryrun()
    image.deprecation_time = None
    return {"Return": True}


def enable_image_deregistration_protection(self: Any) -> dict[str, Any]:
    """EnableImageDeregistrationProtection."""
    image = own(self)
    self.error_on_dryrun()
    cooldown = self._get_param("WithCooldown")
    image.deregistration_protection = "enabled-with-cooldown" if cooldown else "enabled-without-cooldown"
    return {"Return": image.deregistration_protection}


def disable_image_deregistration_protection(self: Any) -> dict[str, Any]:
    """DisableImageDeregistrationProtection; the day of a cooldown does not pass here."""
    image = own(self)
    self.error_on_dryrun()
    if getattr(image, "deregistration_protection", "disabled") != "enabled-with-cooldown":
        image.deregistration_protection = "disabled"
    return {"Return": getattr(image, "deregistration_protection", "disabled")}


def get_image_block_public_access_state(self: Any) -> dict[str, Any]:
    """GetImageBlockPublicAccessState."""
    self.error_on_dryrun()
    state = BLOCKED.get((self.current_account, self.region), "block-new-sharing")
    return {"ImageBlockPublicAccessState": state, "ManagedBy": "account"}


def enable_image_block_public_access(self: Any) -> dict[str, Any]:
    """EnableImageBlockPublicAccess."""
    self.error_on_dryrun()
    BLOCKED[self.current_account, self.region] = "block-new-sharing"
    return {"ImageBlockPublicAccessState": "block-new-sharing"}


def disable_image_block_public_access(self: Any) -> dict[str, Any]:
    """DisableImageBlockPublicAccess."""
    self.error_on_dryrun()
    BLOCKED[self.current_account, self.region] = "unblocked"
    return {"ImageBlockPublicAccessState": "unblocked"}


def install() -> None:
    """Extend moto."""
    ec2.extend(
        describe_image_attribute,
        modify_image_attribute,
        reset_image_attribute,
        disable_image,
        enable_image,
        enable_image_deprecation,
        disable_image_deprecation,
        enable_image_deregistration_protection,
        disable_image_deregistration_protection,
        get_image_block_public_access_state,
        enable_image_block_public_access,
        disable_image_block_public_access,
    )
