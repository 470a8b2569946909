"""Published versions without a publication, and what a test asks of a rollout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kiln import cli, compat, manifest
from launch import names
from launch.cloud import Cloud
from tests.aws.account import BUCKET, REGION, available, new_snapshot, until
from tests.unit import contract

FIRST = "20260102T030405Z-01234567"
SECOND = "20260203T040506Z-89abcdef"
THIRD = "20260304T050607Z-76543210"
KERNEL = "6.1.0-1-cloud-amd64"

Clients = Callable[..., Any]

Capture = pytest.CaptureFixture[str]


def hurry(kiln_toml: Path) -> None:
    """Let a refresh have short pauses."""
    text = kiln_toml.read_text().replace("checkpoint_minutes = 10", "checkpoint_minutes = 4")
    kiln_toml.write_text(text.replace("bake_minutes = 10", "bake_minutes = 4\nwarmup_minutes = 1"))


def kiln(*arguments: str) -> int:
    """Run a command as a user does."""
    return cli.run(list(arguments))


def planned(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """What a command says for programs; by default ``kiln plan annotators``."""
    capsys.readouterr()
    kiln(*(arguments or ("plan", "annotators")), "--json")
    said = capsys.readouterr()
    assert said.out, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def error_of(capsys: Capture) -> tuple[str, str]:
    """The two lines with which a command ended."""
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-2].startswith("error: ") and told[-1].startswith("  fix: "), told
    assert not any("Traceback" in line for line in told)
    return told[-2], told[-1]


def at_look(monkeypatch: pytest.MonkeyPatch, look: int, do: Callable[[], object]) -> None:
    """Do something while a refresh is watched, after so many looks."""
    looks, wait = iter(range(10_000)), Cloud.wait

    def waited(self: Cloud, seconds: float | None = None) -> None:
        if seconds is None and next(looks) == look:
            do()
        wait(self, seconds)

    monkeypatch.setattr(Cloud, "wait", waited)


def interrupt() -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


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
    snapshot = new_snapshot(ec2, region, 40, [], **encrypted)
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
    available(ec2, ami)
    return Put(version, ami, digest)


def promote(client: Clients, put_: Put, channel: str = "stable", image: str = "monai-label") -> None:
    """Let a channel name a version."""
    name, ssm = f"/kiln/{image}/{channel}", client("ssm")
    ssm.put_parameter(Name=name, Value=put_.ami, Type="String", DataType="aws:ec2:image", Overwrite=True)
    # Judged after the answer, as on AWS.
    until(lambda: any(each["Value"] == put_.ami for each in ssm.get_parameters(Names=[name])["Parameters"]))


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
