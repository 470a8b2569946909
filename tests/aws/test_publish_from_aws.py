"""Publishing what Packer made on AWS: its AMI itself where it is as kiln.toml says, else a copy of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import config as toml
from kiln import version_files
from kiln.errors import Exit
from launch import names, publish
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.plan import Plan
from tests.aws import versions
from tests.aws.conftest import OTHER, REGION, REGIONS, Seeded
from tests.emulator.handle import Emulator

IMAGE = "monai-label"
NAME = f"kiln-{IMAGE}-{versions.VERSION}"

Client = Callable[..., Any]


def packer_ami(
    client: Client,
    *,
    key: str | None = None,
    version: str = versions.VERSION,
    boot: str = "uefi-preferred",
    account: str = "111122223333",
) -> str:
    """An AMI as amazon-ebs leaves it: its tags, no IMDS support, not shared."""
    ec2 = client("ec2", REGION, account)
    encryption = {"Encrypted": True, "KmsKeyId": key} if key else {}
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=8, **encryption)["VolumeId"]
    part = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.delete_volume(VolumeId=volume)
    for _ in range(5):
        ec2.describe_snapshots(SnapshotIds=[part])
    tags = {"kiln:run": "bake-1", "kiln:image": IMAGE, "kiln:version": version, "kiln:base": "ami-0debian"}
    ami: str = ec2.register_image(
        Name=NAME,
        Architecture="x86_64",
        BootMode=boot,
        EnaSupport=True,
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": part}}],
        TagSpecifications=[{"ResourceType": "image", "Tags": names.tags(tags)}],
    )["ImageId"]
    for _ in range(5):
        ec2.describe_images(ImageIds=[ami])
    return ami


def planned() -> tuple[Plan, Cloud]:
    cloud = Cloud(REGION, names.run_id("publish"))
    return publish.plan(cloud, toml.load(), version_files.find(IMAGE)), cloud


def done() -> None:
    made, cloud = planned()
    assert made.refusals == []
    assert carry_out(made, cloud) == Exit.DONE
    assert planned()[0].steps == []


def named(client: Client, region: str) -> dict[str, dict[str, Any]]:
    found = client("ec2", region).describe_images(Owners=["self"])["Images"]
    return {each["Name"]: each for each in found if each["Name"].startswith("kiln-monai")}


def test_an_ami_with_the_right_key_is_published_itself(
    seeded: Seeded, build: Path, kiln_toml: Path, client: Client, emulator: Emulator
) -> None:
    ami = packer_ami(client, key=seeded.keys[REGION])
    versions.put_from_aws(build, ami)
    done()
    image = named(client, REGION)[NAME]
    assert image["ImageId"] == ami
    assert image["ImdsSupport"] == "v2.0"
    part = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2 = client("ec2")
    for thing in (image, ec2.describe_snapshots(SnapshotIds=[part])["Snapshots"][0]):
        tags = names.read(thing["Tags"])
        assert (tags[names.PROJECT], tags[names.PARENT]) == ("kiln", "ami-0debian")
        assert names.MANIFEST_DIGEST in tags
    shared = ec2.describe_snapshot_attribute(SnapshotId=part, Attribute="createVolumePermission")
    assert shared["CreateVolumePermissions"] == [{"UserId": OTHER}]
    (copy,) = named(client, REGIONS[1]).values()
    assert (copy["Name"], copy["ImdsSupport"]) == (NAME, "v2.0")
    assert not [each for each in emulator.mutating() if each["service"] == "ebs"]


def test_of_an_unencrypted_ami_a_copy_is_published_and_it_is_removed(
    seeded: Seeded, build: Path, kiln_toml: Path, client: Client
) -> None:
    ami = packer_ami(client)
    versions.put_from_aws(build, ami)
    before = {each["SnapshotId"] for each in client("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    done()
    (image,) = named(client, REGION).values()
    assert (image["Name"], image["BootMode"], image["ImdsSupport"]) == (NAME, "uefi", "v2.0")
    assert image["ImageId"] != ami
    assert image["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    after = client("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]
    ours = [each for each in after if names.VERSION in names.read(each.get("Tags"))]
    # Packer's snapshot is gone with its AMI, the copy's is there: as many as before.
    assert (len(ours), len(after)) == (1, len(before))
    assert len(named(client, REGIONS[1])) == 1


@pytest.mark.parametrize(
    ("check", "how"),
    [
        ("ami-missing", {}),
        ("ami-other", {"version": versions.LATER}),
        ("ami-boot", {"boot": "legacy-bios"}),
        ("ami-missing", {"account": OTHER}),
    ],
    ids=["gone", "of another version", "of a BIOS", "of another account"],
)
def test_what_packer_left_is_refused(
    seeded: Seeded, build: Path, kiln_toml: Path, client: Client, check: str, how: dict[str, str]
) -> None:
    ami = packer_ami(client, **how) if how else "ami-0123456789abcdef0"
    versions.put_from_aws(build, ami)
    assert [each.check for each in planned()[0].refusals] == [check]
