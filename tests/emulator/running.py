"""RunInstances: what EC2 refuses, what it takes from image and template, and what ends as it begins."""

from __future__ import annotations

import copy
import threading
from typing import Any

from moto.core.responses import EmptyResult
from moto.ec2.models.instances import InstanceBackend, StateReason
from moto.ec2.responses import EC2Response

from tests.emulator import control, ec2, images, keys, parameters, snapshots

TOKENS: dict[tuple[str, str, str], tuple[dict[str, Any], Any]] = {}
"""Account, region and client token → what was asked and moto's answer."""

control.RESETS.append(TOKENS.clear)

_LOCAL = threading.local()
"""``direct`` is set while RunInstances itself is answered, and not where Auto Scaling starts instances."""


def image_for(backend: Any, image_id: str) -> Any:
    """The image that is to be launched.

    Raises
    ------
    EC2ClientError
        It is not there, not ours to launch, or not available.
    """
    if image_id.startswith("resolve:ssm:"):
        found = parameters.resolve(backend.account_id, backend.region_name, image_id)
        if found is None:
            name = image_id.removeprefix("resolve:ssm:")
            raise ec2.refuse("InvalidParameterValue", f"The Systems Manager parameter {name} does not exist")
        image_id = found
    if not image_id:
        raise ec2.refuse("MissingParameter", "The request must contain the parameter ImageId")
    image = images.find(backend.account_id, backend.region_name, image_id)
    if image is None:
        if any(image_id in each.amis for each in ec2.accounts(backend.region_name)):
            raise ec2.refuse("AuthFailure", f"Not authorized for images: [{image_id}]")
        raise ec2.refuse("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    if image.state != "available":
        raise ec2.refuse("InvalidAMIID.Unavailable", f"The image {image_id} is {image.state}")
    return image


def disks(image: Any, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Block devices of an instance: the image's, changed by what the request or the template says."""
    merged = {each["DeviceName"]: copy.deepcopy(dict(each)) for each in image.block_device_mappings}
    for each in asked:
        device = each["DeviceName"]
        if "NoDevice" in each:
            merged.pop(device, None)
            continue
        ebs = {**(merged.get(device, {}).get("Ebs") or {}), **(each.get("Ebs") or {})}
        merged[device] = {**merged.get(device, {}), **each, "Ebs": ebs}
    return [each for each in merged.values() if each.get("Ebs")]


def denied(principal: str, volumes: list[Any], region: str) -> bool:
    """Whether one of the volumes has a key that whoever starts the instance may not use."""
    for volume in volumes:
        if volume.encrypted and volume.kms_key_id:
            key = keys.find(volume.ec2_backend.account_id, region, volume.kms_key_id)
            if not keys.may_use(principal, key, keys.TO_ATTACH):
                return True
    return False


def _run(original: Any) -> Any:
    def run_instances(
        self: Any, image_id: str, count: int, user_data: Any, security_group_names: Any, **kwargs: Any
    ) -> Any:
        data: dict[str, Any] = {}
        if kwargs.get("launch_template"):
            data = self._get_template_from_args(kwargs["launch_template"]).data
        image = image_for(self, image_id or data.get("ImageId", ""))
        asked = kwargs.pop("block_device_mappings", None) or data.get("BlockDeviceMappings") or []
        kwargs["block_device_mappings"] = disks(image, list(asked))
        options = {**data.get("MetadataOptions", {}), **(kwargs.get("metadata_options") or {})}
        if getattr(image, "imds_support", None) == "v2.0":
            options.setdefault("HttpTokens", "required")
        kwargs["metadata_options"] = options
        for name, member in (("instance_initiated_shutdown_behavior", "InstanceInitiatedShutdownBehavior"),):
            kwargs[name] = kwargs.get(name) or data.get(member)
        snapshots.LENT.update(_lent(image))
        try:
            reservation = original(self, image.id, count, user_data, security_group_names, **kwargs)
        finally:
            snapshots.LENT.clear()
        for instance in reservation.instances:
            instance.boot_mode = getattr(image, "boot_mode", None)
            _template_tags(self, instance, data)
            if getattr(_LOCAL, "direct", False):
                _end_without_key(self, instance)
        return reservation

    return run_instances


def _lent(image: Any) -> dict[str, Any]:
    found = image.ec2_backend.snapshots
    used = [(each.get("Ebs") or {}).get("SnapshotId") for each in image.block_device_mappings]
    return {each: found[each] for each in used if each in found}


def _template_tags(backend: Any, instance: Any, data: dict[str, Any]) -> None:
    """Tags that a template wants on volumes; moto knows only those of instances."""
    for spec in data.get("TagSpecifications", []):
        if spec.get("ResourceType") == "volume":
            for _, attached in instance.get_block_device_mapping:
                backend.create_tags(
                    [attached.volume_id], {tag["Key"]: tag.get("Value", "") for tag in spec.get("Tags", [])}
                )


def _end_without_key(backend: Any, instance: Any) -> None:
    volumes = [backend.get_volume(each.volume_id) for _, each in instance.get_block_device_mapping]
    if not denied(keys.root(backend.account_id), volumes, backend.region_name):
        return
    instance.terminate()
    instance.state_reason = StateReason(
        "Client.InternalError: Client error on launch", "Client.InternalError"
    )
    instance._reason = "Server.InternalError"


def _answer(original: Any) -> Any:
    def run_instances(self: Any) -> Any:
        """RunInstances: once for a client token, within the quota."""
        token = self._get_param("ClientToken")
        asked = {key: value for key, value in dict(self.params).items() if key != "DryRun"}
        key = (self.current_account, self.region, token)
        if token and key in TOKENS:
            before, made = TOKENS[key]
            if before != asked:
                raise ec2.refuse(
                    "IdempotentInstanceMismatch",
                    "The client token was used with other parameters of a request",
                )
            return made
        _within_quota(self)
        _LOCAL.direct = True
        try:
            made = original(self)
        finally:
            _LOCAL.direct = False
        if token:
            TOKENS[key] = (asked, made)
        return made

    return run_instances


def _within_quota(self: Any) -> None:
    from tests.emulator import launching

    kind, template = self._get_param("InstanceType"), self._get_param("LaunchTemplate")
    backend = self.ec2_backend
    if not kind and template:
        kind = backend._get_template_from_args(dict(template)).instance_type
    code = launching.quota(kind or "m1.small")
    limit = launching.limit(backend, code)
    wanted = launching.vcpus(kind or "m1.small") * int(self._get_param("MinCount") or 1)
    if limit is not None and launching.used(backend)[code] + wanted > limit:
        raise ec2.refuse(
            "VcpuLimitExceeded",
            f"You have requested more vCPU capacity than your current vCPU limit of {limit:g} allows for the "
            "instance bucket that the specified instance type belongs to.",
        )


def _asked_disks(self: Any) -> list[dict[str, Any]]:
    """Block devices as the request has them; moto fills in what it does not say, and the image says it."""
    return [dict(each) for each in self._get_param("BlockDeviceMappings", []) or []]


def _modify(original: Any) -> Any:
    def modify_instance_attribute(self: Any) -> Any:
        """ModifyInstanceAttribute: of a stopped instance also ENA support, which moto does not know."""
        said = self._get_param("EnaSupport")
        if not said:
            return original(self)
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        if instance._state.name != "stopped":
            raise ec2.refuse("IncorrectInstanceState", f"{instance.id} is {instance._state.name}")
        self.error_on_dryrun()
        instance.ena_support = bool(said.get("Value"))
        return EmptyResult()

    return modify_instance_attribute


def install() -> None:
    """Extend moto; what Auto Scaling starts is judged where it does."""
    InstanceBackend.run_instances = _run(InstanceBackend.run_instances)  # type: ignore[method-assign]
    EC2Response._parse_block_device_mapping = _asked_disks  # type: ignore[method-assign]
    modify = EC2Response.modify_instance_attribute
    EC2Response.modify_instance_attribute = _modify(modify)  # type: ignore[method-assign]
    EC2Response.run_instances = _answer(EC2Response.run_instances)  # type: ignore[method-assign]
