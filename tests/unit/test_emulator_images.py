"""The emulator's images and snapshots behave as EC2's do where moto's do not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws.conftest import ACCOUNT, OTHER, shared_key

ROOT_DISK = "/dev/xvda"


def snapshot(ec2: Any, **more: Any) -> str:
    """A snapshot that is complete."""
    volume = ec2.create_volume(AvailabilityZone=f"{ec2.meta.region_name}a", Size=8, **more)["VolumeId"]
    made: str = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.delete_volume(VolumeId=volume)
    settle(lambda: ec2.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]["State"], "completed")
    return made


def settle(look: Any, wanted: str) -> None:
    """Look until something is as it should be, a few times."""
    seen = [look() for _ in range(4)]
    assert seen[-1] == wanted, seen


def register(ec2: Any, name: str = "kiln-a", **more: Any) -> str:
    """An image that is available."""
    disk = {"DeviceName": ROOT_DISK, "Ebs": {"SnapshotId": more.pop("snapshot", None) or snapshot(ec2)}}
    image: str = ec2.register_image(
        **{
            "Name": name,
            "Architecture": "x86_64",
            "RootDeviceName": ROOT_DISK,
            "VirtualizationType": "hvm",
            "BlockDeviceMappings": [disk],
            **more,
        }
    )["ImageId"]
    settle(lambda: shown(ec2, image)["State"], "available")
    return image


def shown(ec2: Any, image: str, **more: Any) -> dict[str, Any]:
    """An image as it is described."""
    found: dict[str, Any] = ec2.describe_images(ImageIds=[image], **more)["Images"][0]
    return found


def refused(code: str) -> Any:
    """Expect an error of AWS."""
    return pytest.raises(ClientError, match=rf"\({code.replace('.', '[.]')}\)")


def test_everything_that_was_registered_is_described(client: Any) -> None:
    ec2 = client("ec2")
    image = register(
        ec2, BootMode="uefi", TpmSupport="v2.0", ImdsSupport="v2.0", EnaSupport=True, Description="text"
    )
    found = shown(ec2, image)
    assert {
        key: found[key] for key in ("BootMode", "TpmSupport", "ImdsSupport", "EnaSupport", "Description")
    } == {
        "BootMode": "uefi",
        "TpmSupport": "v2.0",
        "ImdsSupport": "v2.0",
        "EnaSupport": True,
        "Description": "text",
    }
    disk = found["BlockDeviceMappings"][0]
    assert disk["DeviceName"] == ROOT_DISK
    assert disk["Ebs"]["VolumeSize"] == 8
    assert not disk["Ebs"]["Encrypted"]
    assert not found["Public"]


def test_what_was_not_said_is_not_made_up(client: Any) -> None:
    found = shown(client("ec2"), register(client("ec2")))
    assert not {"BootMode", "TpmSupport", "ImdsSupport"} & set(found)
    assert not found["EnaSupport"]


def test_a_name_is_used_once(client: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2)
    with refused("InvalidAMIName.Duplicate") as error:
        register(ec2)
    assert image in str(error.value)


def test_an_image_is_pending_first(client: Any) -> None:
    ec2 = client("ec2")
    disk = {"DeviceName": ROOT_DISK, "Ebs": {"SnapshotId": snapshot(ec2)}}
    image = ec2.register_image(Name="kiln-a", RootDeviceName=ROOT_DISK, BlockDeviceMappings=[disk])["ImageId"]
    assert [shown(ec2, image)["State"] for _ in range(3)] == ["pending", "pending", "available"]


@pytest.mark.parametrize(
    ("disk", "code"),
    [
        ({"SnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
        ({"VolumeSize": 4}, "InvalidBlockDeviceMapping"),
        ({"Encrypted": True}, "InvalidParameterCombination"),
    ],
)
def test_a_disk_that_cannot_be_is_refused(client: Any, disk: dict[str, Any], code: str) -> None:
    ec2 = client("ec2")
    given = {"SnapshotId": snapshot(ec2), **disk}
    with refused(code):
        ec2.register_image(
            Name="kiln-a",
            RootDeviceName=ROOT_DISK,
            BlockDeviceMappings=[{"DeviceName": ROOT_DISK, "Ebs": given}],
        )
    assert not ec2.describe_images(Owners=["self"])["Images"]


def test_a_copy_has_tags_where_asked_and_no_permissions(client: Any) -> None:
    ec2, there = client("ec2"), client("ec2", "eu-west-1")
    image = register(ec2, TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "1"}]}])
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})
    spec = [{"ResourceType": "snapshot", "Tags": [{"Key": "b", "Value": "2"}]}]
    asked = {"SourceImageId": image, "SourceRegion": "us-east-1", "Name": "kiln-a", "TagSpecifications": spec}
    copied = there.copy_image(**asked, CopyImageTags=True, ClientToken="one")["ImageId"]
    assert there.copy_image(**asked, CopyImageTags=True, ClientToken="one")["ImageId"] == copied
    with refused("IdempotentParameterMismatch"):
        there.copy_image(**asked, CopyImageTags=False, ClientToken="one")
    settle(lambda: shown(there, copied)["State"], "available")
    found = shown(there, copied)
    assert found["Tags"] == [{"Key": "a", "Value": "1"}]
    assert (found["SourceImageId"], found["SourceImageRegion"]) == (image, "us-east-1")
    made = found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert there.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]["Tags"] == spec[0]["Tags"]
    attribute = there.describe_image_attribute(ImageId=copied, Attribute="launchPermission")
    assert attribute["LaunchPermissions"] == []


def test_a_copy_is_encrypted_by_the_key_of_its_region(client: Any) -> None:
    ec2, there = client("ec2"), client("ec2", "eu-west-1")
    key = shared_key(client("kms", "eu-west-1"))
    copied = there.copy_image(
        SourceImageId=register(ec2),
        SourceRegion="us-east-1",
        Name="kiln-a",
        Encrypted=True,
        KmsKeyId="alias/kiln",
    )["ImageId"]
    settle(lambda: shown(there, copied)["State"], "available")
    made = shown(there, copied)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    found = there.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]
    assert (found["Encrypted"], found["KmsKeyId"]) == (True, key)


@pytest.mark.parametrize("policy", [None, "alias/nowhere"])
def test_a_copy_with_a_key_that_may_not_be_used_fails_later(
    client: Any, emulator: Any, policy: str | None
) -> None:
    ec2, there = client("ec2"), client("ec2", "eu-west-1")
    key = shared_key(client("kms", "eu-west-1"))
    if policy is None:
        none = {"Version": "2012-10-17", "Statement": []}
        emulator.admin("set_key_policy", account=ACCOUNT, region="eu-west-1", key=key, policy=none)
    copied = there.copy_image(
        SourceImageId=register(ec2),
        SourceRegion="us-east-1",
        Name="kiln-a",
        Encrypted=True,
        KmsKeyId=policy or "alias/kiln",
    )["ImageId"]
    settle(lambda: shown(there, copied)["State"], "failed")
    assert shown(there, copied)["StateReason"]["Message"] == "Given key ID is not accessible"


def test_an_account_that_encrypts_by_default_has_no_plain_snapshot(client: Any) -> None:
    ec2 = client("ec2")
    ec2.enable_ebs_encryption_by_default()
    made = snapshot(ec2)
    found = ec2.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]
    assert found["Encrypted"]
    manager = client("kms").describe_key(KeyId=found["KmsKeyId"])["KeyMetadata"]["KeyManager"]
    assert manager == "AWS"


def test_what_awss_key_encrypts_is_not_shared(client: Any) -> None:
    ec2 = client("ec2")
    ec2.enable_ebs_encryption_by_default()
    made = snapshot(ec2)
    image = register(ec2, snapshot=made)
    with refused("InvalidParameterValue"):
        ec2.modify_snapshot_attribute(
            SnapshotId=made, Attribute="createVolumePermission", OperationType="add", UserIds=[OTHER]
        )
    with refused("InvalidParameter"):
        ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})


def test_another_account_sees_what_is_shared_with_it_and_nothing_else(client: Any) -> None:
    ec2, theirs = client("ec2"), client("ec2", account=OTHER)
    image = register(ec2)
    with refused("InvalidAMIID.NotFound"):
        shown(theirs, image)
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})
    assert shown(theirs, image)["OwnerId"] == ACCOUNT
    with refused("AuthFailure"):
        theirs.deregister_image(ImageId=image)


def test_images_are_not_public_by_mistake(client: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2)
    with refused("OperationNotPermitted"):
        ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    ec2.disable_image_block_public_access()
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    assert shown(ec2, image)["Public"]


def test_a_disabled_image_loses_its_permissions_and_cannot_be_launched(client: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2)
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})
    ec2.disable_image(ImageId=image)
    assert not ec2.describe_images(ImageIds=[image])["Images"]
    assert shown(ec2, image, IncludeDisabled=True)["State"] == "disabled"
    with refused("InvalidAMIID.Unavailable"):
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    with refused("InvalidAMIID.Unavailable"):
        ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})
    ec2.enable_image(ImageId=image)
    attribute = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
    assert attribute["LaunchPermissions"] == []
    assert shown(ec2, image)["State"] == "available"


def test_deprecation_is_for_a_time_to_come(client: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2)
    with refused("InvalidParameterValue"):
        ec2.enable_image_deprecation(ImageId=image, DeprecateAt=datetime(2020, 1, 1, tzinfo=UTC))
    ec2.enable_image_deprecation(ImageId=image, DeprecateAt=datetime.now(UTC) + timedelta(days=90))
    assert shown(ec2, image)["DeprecationTime"].endswith(":00.000Z")
    ec2.disable_image_deprecation(ImageId=image)
    assert "DeprecationTime" not in shown(ec2, image)


def test_a_protected_image_stays(client: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2)
    ec2.enable_image_deregistration_protection(ImageId=image)
    with refused("OperationNotPermitted"):
        ec2.deregister_image(ImageId=image)
    ec2.disable_image_deregistration_protection(ImageId=image)
    ec2.deregister_image(ImageId=image)
    with refused("InvalidAMIID.NotFound"):
        shown(ec2, image)


def test_snapshots_go_with_their_image_unless_another_needs_them(client: Any) -> None:
    ec2 = client("ec2")
    made = snapshot(ec2)
    first, second = register(ec2, "kiln-a", snapshot=made), register(ec2, "kiln-b", snapshot=made)
    with refused("InvalidSnapshot.InUse"):
        ec2.delete_snapshot(SnapshotId=made)
    answer = ec2.deregister_image(ImageId=first, DeleteAssociatedSnapshots=True)
    assert answer["DeleteSnapshotResults"] == [{"SnapshotId": made, "ReturnCode": "skipped"}]
    answer = ec2.deregister_image(ImageId=second, DeleteAssociatedSnapshots=True)
    assert answer["DeleteSnapshotResults"] == [{"SnapshotId": made, "ReturnCode": "success"}]
    with refused("InvalidSnapshot.NotFound"):
        ec2.describe_snapshots(SnapshotIds=[made])


def test_an_image_of_an_instance_has_tagged_snapshots_of_its_volumes(client: Any) -> None:
    ec2 = client("ec2")
    run = ec2.run_instances(
        ImageId=register(ec2, BootMode="uefi"), MinCount=1, MaxCount=1, InstanceType="t3.micro"
    )
    spec = [{"ResourceType": kind, "Tags": [{"Key": "a", "Value": kind}]} for kind in ("image", "snapshot")]
    instance = run["Instances"][0]["InstanceId"]
    image = ec2.create_image(InstanceId=instance, Name="kiln-b", TagSpecifications=spec)["ImageId"]
    settle(lambda: shown(ec2, image)["State"], "available")
    found = shown(ec2, image)
    assert found["Tags"] == [{"Key": "a", "Value": "image"}]
    assert (found["BootMode"], found["SourceInstanceId"]) == ("uefi", instance)
    (disk,) = found["BlockDeviceMappings"]
    made = ec2.describe_snapshots(SnapshotIds=[disk["Ebs"]["SnapshotId"]])["Snapshots"][0]
    assert made["Tags"] == [{"Key": "a", "Value": "snapshot"}]


def test_filters_are_those_of_the_service(client: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2, "kiln-monai-1")
    register(ec2, "other")
    found = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["kiln-*"]}])["Images"]
    assert [each["ImageId"] for each in found] == [image]
    with refused("InvalidParameterValue"):
        ec2.describe_images(Filters=[{"Name": "nonsense", "Values": ["x"]}])


def test_the_state_has_no_ids(client: Any, emulator: Any) -> None:
    image = register(client("ec2"))
    assert image not in json.dumps(emulator.state())
    assert emulator.state()["images"][f"{ACCOUNT}/us-east-1/kiln-a"]["State"] == "available"


def test_answers_are_what_the_model_says(client: Any, emulator: Any) -> None:
    ec2 = client("ec2")
    image = register(ec2, BootMode="uefi")
    ec2.copy_image(SourceImageId=image, SourceRegion="us-east-1", Name="kiln-b")
    ec2.describe_images(Owners=["amazon"])
    ec2.describe_snapshots(OwnerIds=["self"])
    ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    wrong = [each["wrong_answer"] for each in emulator.requests() if not each["valid_answer"]]
    assert wrong == []
