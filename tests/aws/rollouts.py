"""Published versions without a publication, and what a test asks of a rollout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kiln import compat, manifest
from launch import names
from tests.aws.conftest import BUCKET, REGION
from tests.unit import contract

FIRST = "20260102T030405Z-01234567"
SECOND = "20260203T040506Z-89abcdef"
THIRD = "20260304T050607Z-76543210"
KERNEL = "6.1.0-1-cloud-amd64"

Clients = Callable[..., Any]


def driver(version: str = "535.309.01") -> manifest.Driver:
    """Debian's driver, whole."""
    return manifest.Driver(
        version=version,
        flavour="proprietary",
        modules=[
            manifest.Module(name=name, version=version, kernel=KERNEL, processor="amd64")
            for name in ("nvidia", "nvidia-uvm", "nvidia-modeset")
        ],
        libraries={name: [version] for name in compat.LIBRARIES},
        firmware={f"nvidia/{version}/gsp_tu10x.bin": True},
        fabric_manager=None,
    )


def described(version: str, image: str = "monai-label", **facts: Any) -> manifest.Manifest:
    """A manifest of a server image; facts are put in place of its own."""
    made = contract.made(image, version)
    own: dict[str, Any] = {
        "kernel": KERNEL,
        "driver": driver(),
        "cuda": "12.8",
        "torch": "2.10.0+cu128",
        "architectures": ["sm_75", "sm_80", "sm_86", "sm_90"],
        "monai_label": "0.8.5",
        "settings_schemas": [1],
        "weights": "pinned",
    }
    return made.model_copy(update={"facts": made.facts.model_copy(update=own | facts)})


@dataclass(frozen=True)
class Put:
    """A version as it lies in the account."""

    version: str
    ami: str
    manifest_digest: str


def put(
    client: Clients,
    version: str,
    *,
    image: str = "monai-label",
    key: str | None = None,
    account: str | None = None,
    region: str = REGION,
    **facts: Any,
) -> Put:
    """Publish a version the short way: an AMI with our tags, and its manifest in the records."""
    body = described(version, image, **facts).model_dump_json(indent=1).encode()
    digest = hashlib.sha256(body).hexdigest()
    client("s3").put_object(Bucket=BUCKET, Key=f"kiln/images/{image}/{version}/manifest.json", Body=body)
    ec2 = client("ec2", region) if account is None else client("ec2", region, account)
    encrypted: dict[str, Any] = {"Encrypted": True, "KmsKeyId": key} if key else {}
    volume = ec2.create_volume(AvailabilityZone=f"{region}a", Size=40, **encrypted)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.delete_volume(VolumeId=volume)
    _until(lambda: ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed")
    tags = {
        names.PROJECT: "kiln",
        names.IMAGE: image,
        names.VERSION: version,
        names.MANIFEST_DIGEST: digest,
    }
    ami = ec2.register_image(
        Name=names.ami("kiln", image, version),
        Architecture="x86_64",
        BootMode="uefi",
        EnaSupport=True,
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        ImdsSupport="v2.0",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3"}}
        ],
        TagSpecifications=[{"ResourceType": "image", "Tags": names.tags(tags)}],
    )["ImageId"]
    _until(lambda: ec2.describe_images(ImageIds=[ami])["Images"][0]["State"] == "available")
    return Put(version, ami, digest)


def _until(there: Callable[[], bool]) -> None:
    for _ in range(20):
        if there():
            return
    raise AssertionError("it does not become available")


def promote(client: Clients, put_: Put, channel: str = "stable", image: str = "monai-label") -> None:
    """Let a channel name a version."""
    client("ssm").put_parameter(
        Name=f"/kiln/{image}/{channel}",
        Value=put_.ami,
        Type="String",
        DataType="aws:ec2:image",
        Overwrite=True,
    )


def group(client: Clients, name: str = "kiln-annotators") -> dict[str, Any]:
    """The group as AWS describes it."""
    found: dict[str, Any] = client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])[
        "AutoScalingGroups"
    ][0]
    return found


def amis(client: Clients, name: str = "kiln-annotators") -> set[str]:
    """AMIs that the group's instances run."""
    ids = [each["InstanceId"] for each in group(client, name)["Instances"]]
    found = client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
    return {each["ImageId"] for some in found for each in some["Instances"]}


def version_data(client: Clients, template: str, version: str) -> dict[str, Any]:
    """A version of a launch template."""
    found: dict[str, Any] = client("ec2").describe_launch_template_versions(
        LaunchTemplateId=template, Versions=[version]
    )["LaunchTemplateVersions"][0]
    return found


def rollouts(client: Clients, target: str = "annotators") -> list[dict[str, Any]]:
    """Records of rollouts, oldest first."""
    s3 = client("s3")
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"kiln/rollouts/{target}/").get("Contents", [])
    keys = sorted(each["Key"] for each in found)
    return [json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys]


def settle(client: Clients, name: str = "kiln-annotators", number: int = 4) -> None:
    """Let the group's first instances come into service."""
    for _ in range(60):
        if sum(each["LifecycleState"] == "InService" for each in group(client, name)["Instances"]) == number:
            return
    raise AssertionError("the instances do not come into service")


def now() -> datetime:
    return datetime.now(UTC)
