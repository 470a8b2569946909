"""The emulated AppStream: each rule with its source.

*API* is the documentation in botocore's model of the service; *import* is
https://docs.aws.amazon.com/appstream2/latest/developerguide/import-image.html, *limits* the page ``limits``
and *images* the page ``administer-images`` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.handle import Process
from tests.unit import emulated
from tests.unit.emulated import ACCOUNT, OTHER, REGION, World

BASE = "AppStream-WinServer2022-06-18-2026"
GRAPHICS_BASE = "AppStream-Graphics-NV-WinServer2022-06-18-2026"
SIZE = "stream.standard.large"
WINDOWS = "ami-0717200000000003"


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with emulated.serve() as process:
        yield process


@pytest.fixture
def world(server: Process) -> Iterator[World]:
    """An empty account; at the end every request and answer was what botocore's model says."""
    server.reset()
    server.settings(describe_seconds=0)
    yield World(server)
    wrong = [each for each in server.requests() if not each["valid_answer"]]
    assert not wrong, [(each["operation"], each["wrong_answer"]) for each in wrong[:3]]


@pytest.fixture
def appstream(world: World) -> Any:
    return world.client("appstream")


def refused(code: str, words: str = "") -> Any:
    """A request that is refused with a code, and a message with certain words."""
    return pytest.raises(ClientError, match=rf"\({code}Exception\).*{words}")


def image(appstream: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = appstream.describe_images(Names=[name])["Images"][0]
    return found


def fleet_of(appstream: Any, name: str = "readers") -> dict[str, Any]:
    found: dict[str, Any] = appstream.describe_fleets(Names=[name])["Fleets"][0]
    return found


def builder_of(appstream: Any, name: str = "builder") -> dict[str, Any]:
    found: dict[str, Any] = appstream.describe_image_builders(Names=[name])["ImageBuilders"][0]
    return found


def fleet(appstream: Any, name: str = "readers", **given: Any) -> Any:
    made = {"ImageName": BASE, "InstanceType": SIZE, "ComputeCapacity": {"DesiredInstances": 2}, **given}
    return appstream.create_fleet(Name=name, **made)["Fleet"]


def running(world: World, appstream: Any, **given: Any) -> None:
    fleet(appstream, **given)
    appstream.start_fleet(Name="readers")
    world.advance(600)
    assert fleet_of(appstream)["State"] == "RUNNING"


def builder(world: World, appstream: Any, **given: Any) -> None:
    appstream.create_image_builder(Name="builder", **{"ImageName": BASE, "InstanceType": SIZE, **given})
    world.advance(600)


def assistant(world: World, name: str = "slicer", **given: Any) -> Any:
    return world.server.admin(
        "image_assistant", account=ACCOUNT, region=REGION, builder="builder", image=name, **given
    )


def role(
    world: World, name: str = "import", service: str = "appstream.amazonaws.com", actions: Any = None
) -> str:
    iam = world.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    wanted = ["ec2:ModifyImageAttribute", "ec2:DescribeImages"] if actions is None else actions
    if wanted:
        allow = {"Effect": "Allow", "Action": wanted, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy)
    return str(arn)


def windows(world: World, **changes: Any) -> str:
    """An AMI of ours that can be imported, unless something is changed."""
    ec2 = world.client("ec2")
    disk = {"VolumeSize": 60, "VolumeType": "gp3", **changes.pop("disk", {})}
    mappings = [{"DeviceName": "/dev/sda1", "Ebs": disk}, *changes.pop("more", [])]
    run = ec2.run_instances(
        ImageId=changes.pop("base", WINDOWS),
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=mappings,
    )
    name = changes.pop("name", f"slicer-windows-2022-{world.made}")
    world.made += 1
    made = ec2.create_image(InstanceId=run["Instances"][0]["InstanceId"], Name=name)["ImageId"]
    while ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "pending":
        pass
    if tags := changes.pop("tags", None):
        ec2.create_tags(Resources=[made], Tags=[{"Key": key, "Value": text} for key, text in tags.items()])
    if changes.pop("public", False):
        ec2.disable_image_block_public_access()
        ec2.modify_image_attribute(ImageId=made, LaunchPermission={"Add": [{"Group": "all"}]})
    assert not changes
    return str(made)


def bring_in(world: World, ami: str, **given: Any) -> Any:
    asked = {"Name": "slicer", "SourceAmiId": ami, **given}
    if "IamRoleArn" not in asked:
        asked["IamRoleArn"] = role(world)
    return world.client("appstream").create_imported_image(**asked)


# -- imports


def test_an_import_goes_through_its_states(world: World, appstream: Any) -> None:
    """import: 30 to 60 minutes; the image is of type CUSTOM."""
    catalog = [{"Name": "slicer", "AbsoluteAppPath": "C:\\Slicer\\Slicer.exe", "DisplayName": "3D Slicer"}]
    bring_in(world, windows(world), AppCatalogConfig=catalog, Tags={"kiln:project": "kiln"})
    seen = []
    for _ in range(30):
        seen.append(image(appstream, "slicer")["State"])
        world.advance(180)
    assert list(dict.fromkeys(seen)) == ["PENDING", "IMPORTING", "AVAILABLE"]
    found = image(appstream, "slicer")
    assert found["ImageType"] == "CUSTOM" and found["Platform"] == "WINDOWS_SERVER_2022"
    assert found["Visibility"] == "PRIVATE" and found["Applications"][0]["DisplayName"] == "3D Slicer"
    tags = appstream.list_tags_for_resource(ResourceArn=found["Arn"])["Tags"]
    assert tags == {"kiln:project": "kiln"}


def test_a_dry_run_that_succeeds_is_an_error_of_status_412(world: World, appstream: Any) -> None:
    """API, DryRunOperationException."""
    with refused("DryRunOperation") as caught:
        bring_in(world, windows(world), DryRun=True)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    with refused("ResourceNotFound"):
        appstream.describe_images(Names=["slicer"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"public": True}, "is public"),
        ({"disk": {"Encrypted": True}}, "is encrypted"),
        ({"disk": {"VolumeSize": 501}}, "more than 500 GB"),
        ({"disk": {"VolumeType": "st1"}}, "another type than gp2 or gp3"),
        ({"more": [{"DeviceName": "xvdf", "Ebs": {"VolumeSize": 1}}]}, "exactly one EBS volume"),
        ({"tags": {"kiln-test:os": "WINDOWS_SERVER_2019"}}, "Windows Server 2022 or 2025"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_an_ami_that_cannot_be_imported_is_refused_at_once(
    world: World, changes: dict[str, Any], words: str, dry: bool
) -> None:
    """import, required AMI properties: what DescribeImages shows is checked before anything starts."""
    with refused("IncompatibleImage", words):
        bring_in(world, windows(world, **changes), DryRun=dry)


def test_a_linux_image_has_everything_wrong_with_it(world: World) -> None:
    with refused("IncompatibleImage") as caught:
        bring_in(world, world.ami(Architecture="arm64"))
    message = str(caught.value)
    for words in ("x86_64", "boot mode", "TPM 2.0", "ENA", "platform Windows", "/dev/sda1"):
        assert words in message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"actions": ["ec2:DescribeImages"]}, "does not allow ec2:ModifyImageAttribute"),
        ({"service": "ec2.amazonaws.com"}, "cannot be assumed"),
        (None, "does not exist"),
    ],
)
def test_a_role_that_cannot_be_used(world: World, given: dict[str, Any] | None, words: str) -> None:
    """API, CreateImportedImageRequest.IamRoleArn: trust, and what the role must allow."""
    arn = f"arn:aws:iam::{ACCOUNT}:role/nobody" if given is None else role(world, **given)
    with refused("InvalidRole", words):
        bring_in(world, windows(world), IamRoleArn=arn, DryRun=True)


def test_what_does_not_go_together(world: World, appstream: Any) -> None:
    """API, InvalidParameterCombinationException."""
    ami, arn = windows(world), role(world)
    twice = [{"Name": "a", "AbsoluteAppPath": "x"}, {"Name": "a", "AbsoluteAppPath": "y"}]
    for given, words in (
        ({"IamRoleArn": arn}, "either SourceAmiId"),
        ({"SourceAmiId": ami}, "IamRoleArn is required"),
        ({"SourceAmiId": ami, "IamRoleArn": arn, "AppCatalogConfig": twice}, "a name of its own"),
        (
            {
                "SourceAmiId": ami,
                "IamRoleArn": arn,
                "RuntimeValidationConfig": {"IntendedInstanceType": "stream.standard.large"},
            },
            "does not run on",
        ),
    ):
        with refused("InvalidParameterCombination", words):
            appstream.create_imported_image(Name="slicer", **given)


def test_an_ami_that_is_not_ours(world: World) -> None:
    """API: not there, or of another account (the emulated AWS's own Windows AMI)."""
    with refused("ResourceNotFound"):
        bring_in(world, "ami-00000000000000000", DryRun=True)
    with refused("OperationNotPermitted", "not owned"):
        bring_in(world, WINDOWS, IamRoleArn=role(world, "second"), DryRun=True)


def test_a_name_is_taken_once(world: World) -> None:
    ami = windows(world)
    bring_in(world, ami)
    with refused("ResourceAlreadyExists"):
        bring_in(world, ami, IamRoleArn=f"arn:aws:iam::{ACCOUNT}:role/import")


@pytest.mark.parametrize(
    ("inside", "validated", "state", "code", "words"),
    [
        ("Windows updates are pending", False, "FAILED", "IMAGE_IMPORT_FAILURE", "Windows updates"),
        ("validation: streaming failed", True, "FAILED", "IMAGE_IMPORT_FAILURE", "streaming failed"),
        ("validation: streaming failed", False, "AVAILABLE", "", ""),
        ("internal", False, "FAILED", "INTERNAL_ERROR", "internal error"),
    ],
)
def test_an_import_that_fails_says_why(
    world: World, appstream: Any, inside: str, validated: bool, state: str, code: str, words: str
) -> None:
    """import; API, Image.StateChangeReason and ImageErrors."""
    given = (
        {"RuntimeValidationConfig": {"IntendedInstanceType": "GeneralPurpose.m5.large"}} if validated else {}
    )
    bring_in(world, windows(world, tags={"kiln-test:import": inside}), **given)
    world.advance(2000)
    assert image(appstream, "slicer")["State"] == ("VALIDATING" if validated else state)
    world.advance(1500)
    found = image(appstream, "slicer")
    assert found["State"] == state
    if state == "FAILED":
        assert found["StateChangeReason"]["Code"] == code
        assert words in found["ImageErrors"][0]["ErrorMessage"] and found["ImageErrors"][0]["ErrorTimestamp"]
        appstream.delete_image(Name="slicer")


def test_an_ami_that_goes_away_meanwhile_fails_its_import(world: World, appstream: Any) -> None:
    ami = windows(world)
    bring_in(world, ami)
    world.client("ec2").deregister_image(ImageId=ami)
    world.advance(2000)
    assert "deregistered" in image(appstream, "slicer")["ImageErrors"][0]["ErrorMessage"]


def test_graphics_have_a_quota_of_0(world: World, appstream: Any) -> None:
    """limits: every graphics size."""
    validation = {"RuntimeValidationConfig": {"IntendedInstanceType": "Accelerated.g5.xlarge"}}
    with refused("LimitExceeded", "Accelerated.g5.xlarge"):
        bring_in(world, windows(world), DryRun=True, **validation)
    with refused("LimitExceeded", "may run 0 instances of stream.graphics"):
        fleet(appstream, ImageName=GRAPHICS_BASE, InstanceType="stream.graphics.g5.xlarge")
    with refused("LimitExceeded"):
        builder(world, appstream, ImageName=GRAPHICS_BASE, InstanceType="stream.graphics.g5.xlarge")
    world.server.settings(appstream_limits={"fleets:stream.graphics.g5.xlarge": 2})
    fleet(appstream, ImageName=GRAPHICS_BASE, InstanceType="stream.graphics.g5.xlarge")


# -- images


def test_images_are_public_private_or_shared(world: World, appstream: Any) -> None:
    """images; API, DescribeImages."""
    assert {each["Visibility"] for each in appstream.describe_images()["Images"]} == {"PUBLIC"}
    available(world, appstream)
    with refused("ResourceNotFound"):
        world.client("appstream", OTHER).describe_images(Names=["slicer"])
    permissions = {"allowFleet": True, "allowImageBuilder": False}
    appstream.update_image_permissions(Name="slicer", SharedAccountId=OTHER, ImagePermissions=permissions)
    assert image(appstream, "slicer")["ImageSharedWithOthers"] == "TRUE"
    other = world.client("appstream", OTHER)
    (found,) = other.describe_images(Type="SHARED")["Images"]
    assert found["ImagePermissions"] == permissions and found["Visibility"] == "SHARED"
    made = other.create_fleet(
        Name="readers", ImageArn=found["Arn"], InstanceType=SIZE, ComputeCapacity={"DesiredInstances": 1}
    )
    assert made["Fleet"]["ImageName"] == "slicer"
    with refused("OperationNotPermitted"):
        other.create_image_builder(Name="b", ImageArn=found["Arn"], InstanceType=SIZE)
    (shared,) = appstream.describe_image_permissions(Name="slicer")["SharedImagePermissionsList"]
    assert shared == {"sharedAccountId": OTHER, "imagePermissions": permissions}


def available(world: World, appstream: Any, name: str = "slicer") -> None:
    """An image of ours, by an image builder."""
    builder(world, appstream)
    assert assistant(world, name)["status"] == 0
    world.advance(1200)
    assert image(appstream, name)["State"] == "AVAILABLE"


def test_an_image_in_use_or_shared_is_not_deleted(world: World, appstream: Any) -> None:
    """images: not while a fleet uses it, nor while it is shared."""
    available(world, appstream)
    fleet(appstream, ImageName="slicer")
    with refused("ResourceInUse", "fleets readers"):
        appstream.delete_image(Name="slicer")
    appstream.delete_fleet(Name="readers")
    appstream.update_image_permissions(
        Name="slicer", SharedAccountId=OTHER, ImagePermissions={"allowFleet": True}
    )
    with refused("ResourceInUse", "shared"):
        appstream.delete_image(Name="slicer")
    appstream.delete_image_permissions(Name="slicer", SharedAccountId=OTHER)
    assert appstream.delete_image(Name="slicer")["Image"]["State"] == "DELETING"
    world.advance(60)
    with refused("ResourceNotFound"):
        appstream.describe_images(Names=["slicer"])
    with refused("ResourceNotFound"):
        appstream.delete_image(Name=BASE)


def test_images_are_paged(world: World, appstream: Any) -> None:
    """API, DescribeImages.MaxResults: at most 25."""
    first = appstream.describe_images(MaxResults=2)
    second = appstream.describe_images(MaxResults=25, NextToken=first["NextToken"])
    assert len(first["Images"]) == 2 and len(second["Images"]) == 3 and "NextToken" not in second
    with refused("InvalidParameterCombination"):
        appstream.describe_images(Names=[BASE], Arns=[first["Images"][0]["Arn"]])


def test_an_image_is_copied_without_its_tags(world: World, appstream: Any) -> None:
    """API, CopyImage; limits: two copies at a time to a region."""
    builder(world, appstream)
    assistant(world, tags={"a": "b"})
    world.advance(1200)
    asked = {"SourceImageName": "slicer", "DestinationImageName": "copy", "DestinationRegion": "eu-west-1"}
    appstream.copy_image(**asked)
    there = world.client("appstream", region="eu-west-1")
    assert image(there, "copy")["State"] == "COPYING"
    appstream.copy_image(**{**asked, "DestinationImageName": "second"})
    with refused("LimitExceeded", "being copied"):
        appstream.copy_image(**{**asked, "DestinationImageName": "third"})
    world.advance(900)
    found = image(there, "copy")
    assert found["State"] == "AVAILABLE"
    assert "Tags" not in there.list_tags_for_resource(ResourceArn=found["Arn"])


# -- image builders


def test_a_builder_starts_streams_stops_and_goes(world: World, appstream: Any) -> None:
    """API, CreateImageBuilder: PENDING, then RUNNING; a deletion needs STOPPED."""
    made = appstream.create_image_builder(Name="builder", ImageName=BASE, InstanceType=SIZE)["ImageBuilder"]
    assert made["State"] == "PENDING"
    with refused("OperationNotPermitted", "PENDING"):
        appstream.create_image_builder_streaming_url(Name="builder")
    world.advance(600)
    assert builder_of(appstream)["State"] == "RUNNING"
    assert builder_of(appstream)["NetworkAccessConfiguration"]["EniPrivateIpAddress"]
    url = appstream.create_image_builder_streaming_url(Name="builder", Validity=60)
    assert url["StreamingURL"].startswith("https://") and url["Expires"]
    with refused("OperationNotPermitted", "RUNNING"):
        appstream.delete_image_builder(Name="builder")
    with refused("OperationNotPermitted", "RUNNING"):
        appstream.update_image_builder(Name="builder", Description="x")
    assert appstream.stop_image_builder(Name="builder")["ImageBuilder"]["State"] == "STOPPING"
    world.advance(120)
    assert builder_of(appstream)["State"] == "STOPPED"
    appstream.update_image_builder(Name="builder", Description="x")
    appstream.start_image_builder(Name="builder")
    world.advance(600)
    with refused("ResourceNotAvailable"):
        appstream.start_image_builder(Name="builder")
    appstream.stop_image_builder(Name="builder")
    world.advance(120)
    assert appstream.delete_image_builder(Name="builder")["ImageBuilder"]["State"] == "DELETING"
    world.advance(60)
    with refused("ResourceNotFound"):
        builder_of(appstream)


def test_image_assistant_makes_an_image_and_stops_the_builder(world: World, appstream: Any) -> None:
    """tutorial-image-builder: SNAPSHOTTING while the image is made, then STOPPED; the image is NATIVE."""
    builder(world, appstream)
    assert assistant(world, dry_run=True)["status"] == 0
    with refused("ResourceNotFound"):
        image(appstream, "slicer")
    told = assistant(world, applications=[{"Name": "Slicer", "AbsoluteAppPath": "C:\\Slicer.exe"}])
    assert told["status"] == 0
    assert (
        builder_of(appstream)["State"] == "SNAPSHOTTING" and image(appstream, "slicer")["State"] == "PENDING"
    )
    world.advance(60)
    assert image(appstream, "slicer")["State"] == "CREATING"
    assert assistant(world, "another")["status"] == 1
    world.advance(1000)
    found = image(appstream, "slicer")
    assert (found["State"], found["ImageType"], found["ImageBuilderName"]) == (
        "AVAILABLE",
        "NATIVE",
        "builder",
    )
    assert found["Applications"][0]["Name"] == "Slicer"
    assert builder_of(appstream)["State"] == "STOPPED"


def test_an_image_that_cannot_be_made_says_so(world: World, appstream: Any) -> None:
    builder(world, appstream)
    assistant(world, fails="the builder went away")
    world.advance(1200)
    found = image(appstream, "slicer")
    assert found["State"] == "FAILED" and found["StateChangeReason"]["Code"] == "IMAGE_BUILDER_NOT_AVAILABLE"


def test_a_builder_in_a_network_that_is_not_there_fails(world: World, appstream: Any) -> None:
    """API, ImageBuilder.ImageBuilderErrors."""
    builder(world, appstream, VpcConfig={"SubnetIds": ["subnet-00000000000000000"]})
    found = builder_of(appstream)
    assert found["State"] == "FAILED"
    assert [each["ErrorCode"] for each in found["ImageBuilderErrors"]] == ["SUBNET_NOT_FOUND"]
    appstream.delete_image_builder(Name="builder")


def test_a_builder_has_an_address_in_its_subnet_or_one_that_a_test_names(
    world: World, appstream: Any
) -> None:
    subnet = world.client("ec2").describe_subnets()["Subnets"][0]
    builder(world, appstream, VpcConfig={"SubnetIds": [subnet["SubnetId"]]})
    address = builder_of(appstream)["NetworkAccessConfiguration"]["EniPrivateIpAddress"]
    assert address.rpartition(".")[0] == subnet["CidrBlock"].rpartition(".")[0]
    world.server.settings(appstream_builder_address="127.0.0.1")
    appstream.stop_image_builder(Name="builder")
    world.advance(120)
    appstream.start_image_builder(Name="builder")
    world.advance(600)
    assert builder_of(appstream)["NetworkAccessConfiguration"]["EniPrivateIpAddress"] == "127.0.0.1"


def test_any_state_can_be_set(world: World, appstream: Any) -> None:
    """States that nothing here leads to: a launcher has to meet them all the same."""
    builder(world, appstream)
    world.server.admin(
        "appstream_state",
        account=ACCOUNT,
        region=REGION,
        kind="builders",
        resource="builder",
        state="PENDING_QUALIFICATION",
        then=[[60, "RUNNING"]],
    )
    assert builder_of(appstream)["State"] == "PENDING_QUALIFICATION"
    world.advance(60)
    assert builder_of(appstream)["State"] == "RUNNING"


# -- fleets


def test_a_fleet_starts_and_stops(world: World, appstream: Any) -> None:
    """API: STOPPED, STARTING, RUNNING, STOPPING."""
    assert fleet(appstream)["State"] == "STOPPED"
    appstream.start_fleet(Name="readers")
    assert fleet_of(appstream)["State"] == "STARTING"
    with refused("OperationNotPermitted", "STARTING"):
        appstream.update_fleet(Name="readers", DisplayName="x")
    with refused("OperationNotPermitted"):
        appstream.start_fleet(Name="readers")
    world.advance(600)
    found = fleet_of(appstream)
    assert found["State"] == "RUNNING" and found["FleetErrors"] == []
    assert found["ComputeCapacityStatus"] == {"Desired": 2, "Running": 2, "InUse": 0, "Available": 2}
    with refused("ResourceInUse"):
        appstream.delete_fleet(Name="readers")
    appstream.stop_fleet(Name="readers")
    assert fleet_of(appstream)["State"] == "STOPPING"
    world.advance(300)
    assert fleet_of(appstream)["State"] == "STOPPED"
    appstream.delete_fleet(Name="readers")


LIVE = (
    {"DisplayName": "Readers"},
    {"ComputeCapacity": {"DesiredInstances": 3}},
    {"ImageName": "AppStream-WinServer2022-06-18-2026"},
    {"IdleDisconnectTimeoutInSeconds": 600},
    {"DisconnectTimeoutInSeconds": 600},
)
STOPPED = (
    {"Description": "x"},
    {"InstanceType": "stream.standard.medium"},
    {"StreamView": "DESKTOP"},
    {"EnableDefaultInternetAccess": True},
    {"MaxUserDurationInSeconds": 3600},
    {"DisableIMDSV1": True},
    {"AttributesToDelete": ["VPC_CONFIGURATION"]},
    {"DeleteVpcConfig": True},
)


def test_what_changes_while_a_fleet_runs(world: World, appstream: Any) -> None:
    """API, UpdateFleet."""
    running(world, appstream)
    for change in LIVE:
        appstream.update_fleet(Name="readers", **change)
    for change in STOPPED:
        with refused("OperationNotPermitted", "stop it first"):
            appstream.update_fleet(Name="readers", **change)
    appstream.stop_fleet(Name="readers")
    world.advance(300)
    for change in (*LIVE, *STOPPED):
        appstream.update_fleet(Name="readers", **change)


def test_capacity_follows_after_a_while(world: World, appstream: Any) -> None:
    running(world, appstream)
    appstream.update_fleet(Name="readers", ComputeCapacity={"DesiredInstances": 4})
    assert fleet_of(appstream)["ComputeCapacityStatus"]["Running"] == 2
    world.advance(300)
    assert fleet_of(appstream)["ComputeCapacityStatus"]["Running"] == 4


def test_another_system_needs_a_stop(world: World, appstream: Any) -> None:
    """field-notes/appstream.md: an OS change needs STOPPED."""
    running(world, appstream)
    with refused("OperationNotPermitted", "stop it first"):
        appstream.update_fleet(Name="readers", ImageName="AppStream-WinServer2025-06-18-2026")


def test_images_and_instance_types_go_together(world: World, appstream: Any) -> None:
    """import: stream.* for images of type NATIVE, the other families for CUSTOM."""
    bring_in(world, windows(world))
    world.advance(2000)
    with refused("IncompatibleImage", "CUSTOM"):
        fleet(appstream, ImageName="slicer")
    fleet(appstream, ImageName="slicer", InstanceType="GeneralPurpose.m5.large")
    with refused("IncompatibleImage", "NATIVE"):
        fleet(appstream, "other", InstanceType="GeneralPurpose.m5.large")
    with refused("IncompatibleImage"):
        fleet(appstream, "other", ImageName=GRAPHICS_BASE)


def test_an_image_that_is_not_ready(world: World, appstream: Any) -> None:
    """API, ResourceNotAvailableException, ResourceNotFoundException."""
    builder(world, appstream)
    assistant(world)
    with refused("ResourceNotAvailable", "PENDING"):
        fleet(appstream, ImageName="slicer")
    with refused("ResourceNotFound"):
        fleet(appstream, ImageName="nobody")


def test_a_fleet_whose_network_is_not_there_stops_again_and_says_why(world: World, appstream: Any) -> None:
    """API, Fleet.FleetErrors."""
    network = {"SubnetIds": ["subnet-00000000000000000"], "SecurityGroupIds": ["sg-00000000000000000"]}
    fleet(appstream, VpcConfig=network)
    appstream.start_fleet(Name="readers")
    world.advance(600)
    found = fleet_of(appstream)
    assert found["State"] == "STOPPED"
    codes = [each["ErrorCode"] for each in found["FleetErrors"]]
    assert codes == ["SUBNET_NOT_FOUND", "SECURITY_GROUPS_NOT_FOUND"]


def test_a_subnet_that_is_too_small(world: World, appstream: Any) -> None:
    """API, FleetErrorCode SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES."""
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/28")["Subnet"]["SubnetId"]
    fleet(appstream, VpcConfig={"SubnetIds": [subnet]}, ComputeCapacity={"DesiredInstances": 12})
    appstream.start_fleet(Name="readers")
    world.advance(600)
    found = fleet_of(appstream)
    assert found["State"] == "RUNNING" and found["ComputeCapacityStatus"]["Running"] == 0
    assert found["FleetErrors"][0]["ErrorCode"] == "SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES"


def test_a_role_of_the_fleet(world: World, appstream: Any) -> None:
    """API, InvalidRoleException; FleetErrorCode MACHINE_ROLE_IS_MISSING."""
    with refused("InvalidRole"):
        fleet(appstream, IamRoleArn=f"arn:aws:iam::{ACCOUNT}:role/nobody")
    fleet(appstream, IamRoleArn=role(world, "machine", actions=[]))
    world.client("iam").delete_role(RoleName="machine")
    appstream.start_fleet(Name="readers")
    world.advance(600)
    assert [each["ErrorCode"] for each in fleet_of(appstream)["FleetErrors"]] == ["MACHINE_ROLE_IS_MISSING"]


def test_quotas(world: World, appstream: Any) -> None:
    """limits: per type, all fleets of a region together; ten of each resource."""
    world.server.settings(appstream_limits={f"fleets:{SIZE}": 3, "stacks": 1})
    fleet(appstream)
    with refused("LimitExceeded", "4 were asked for"):
        fleet(appstream, "other")
    with refused("LimitExceeded"):
        appstream.update_fleet(Name="readers", ComputeCapacity={"DesiredInstances": 4})
    appstream.create_stack(Name="one")
    with refused("LimitExceeded", "stacks"):
        appstream.create_stack(Name="two")


def test_names_are_taken_once_and_missing_ones_told(world: World, appstream: Any) -> None:
    """API, ResourceAlreadyExistsException, ResourceNotFoundException."""
    fleet(appstream)
    appstream.create_stack(Name="stack")
    builder(world, appstream)
    with refused("ResourceAlreadyExists"):
        fleet(appstream)
    with refused("ResourceAlreadyExists"):
        appstream.create_stack(Name="stack")
    with refused("ResourceAlreadyExists"):
        builder(world, appstream)
    for ask in (appstream.describe_fleets, appstream.describe_stacks, appstream.describe_image_builders):
        with refused("ResourceNotFound"):
            ask(Names=["nobody"])


def test_a_fleet_needs_capacity_and_an_image(world: World, appstream: Any) -> None:
    """API, InvalidParameterCombinationException."""
    with refused("InvalidParameterCombination", "ComputeCapacity"):
        appstream.create_fleet(Name="readers", ImageName=BASE, InstanceType=SIZE)
    with refused("InvalidParameterCombination", "ImageName"):
        appstream.create_fleet(Name="readers", InstanceType=SIZE, ComputeCapacity={"DesiredInstances": 1})


# -- stacks


def test_a_stack_holds_one_fleet(world: World, appstream: Any) -> None:
    """field-notes/appstream.md: moving it is disassociate, then associate."""
    fleet(appstream)
    fleet(appstream, "other")
    appstream.create_stack(Name="stack", DisplayName="Readers", Tags={"a": "b"})
    appstream.associate_fleet(FleetName="readers", StackName="stack")
    appstream.associate_fleet(FleetName="readers", StackName="stack")
    assert appstream.list_associated_fleets(StackName="stack")["Names"] == ["readers"]
    assert appstream.list_associated_stacks(FleetName="readers")["Names"] == ["stack"]
    with refused("LimitExceeded", "readers"):
        appstream.associate_fleet(FleetName="other", StackName="stack")
    with refused("ResourceInUse"):
        appstream.delete_stack(Name="stack")
    with refused("ResourceInUse", "stack"):
        appstream.delete_fleet(Name="readers")
    appstream.disassociate_fleet(FleetName="readers", StackName="stack")
    appstream.associate_fleet(FleetName="other", StackName="stack")
    appstream.update_stack(Name="stack", Description="x")
    (found,) = appstream.describe_stacks(Names=["stack"])["Stacks"]
    assert found["DisplayName"] == "Readers" and found["Description"] == "x"


def test_whoever_streams_keeps_the_fleet_in_its_stack(world: World, appstream: Any) -> None:
    """API, DisassociateFleet: ResourceInUseException."""
    running(world, appstream)
    appstream.create_stack(Name="stack")
    appstream.associate_fleet(FleetName="readers", StackName="stack")
    asked = {"account": ACCOUNT, "region": REGION, "fleet": "readers", "user": "ann"}
    session = world.server.admin("appstream_session", **asked)
    assert fleet_of(appstream)["ComputeCapacityStatus"]["InUse"] == 1
    with refused("ResourceInUse", "stream"):
        appstream.disassociate_fleet(FleetName="readers", StackName="stack")
    (found,) = appstream.describe_sessions(StackName="stack", FleetName="readers")["Sessions"]
    assert found["UserId"] == "ann" and found["State"] == "ACTIVE"
    appstream.expire_session(SessionId=session)
    appstream.disassociate_fleet(FleetName="readers", StackName="stack")


# -- what all have


def test_tags(world: World, appstream: Any) -> None:
    """API, TagResource: at most 50."""
    arn = fleet(appstream, Tags={"a": "1"})["Arn"]
    appstream.tag_resource(ResourceArn=arn, Tags={"a": "2", "b": "3"})
    appstream.untag_resource(ResourceArn=arn, TagKeys=["b"])
    assert appstream.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"a": "2"}
    with refused("LimitExceeded"):
        appstream.tag_resource(ResourceArn=arn, Tags={f"t{n}": "x" for n in range(50)})
    with refused("ResourceNotFound"):
        appstream.list_tags_for_resource(ResourceArn=f"{arn}x")


def test_pages(world: World, appstream: Any) -> None:
    """API: NextToken of fleets, stacks, builders."""
    world.server.settings(appstream_page=2)
    for name in ("a", "b", "c"):
        fleet(appstream, name, ComputeCapacity={"DesiredInstances": 1})
        appstream.create_stack(Name=name)
        appstream.create_image_builder(Name=name, ImageName=BASE, InstanceType=SIZE)
    for member, ask in (
        ("Fleets", appstream.describe_fleets),
        ("Stacks", appstream.describe_stacks),
        ("ImageBuilders", appstream.describe_image_builders),
    ):
        first = ask()
        second = ask(NextToken=first["NextToken"])
        names = [each["Name"] for each in first[member] + second[member]]
        assert names == ["a", "b", "c"] and "NextToken" not in second


def test_time_goes_by_with_each_describe(world: World, appstream: Any) -> None:
    world.server.settings(describe_seconds=15)
    fleet(appstream)
    appstream.start_fleet(Name="readers")
    seen = [fleet_of(appstream)["State"] for _ in range(45)]
    assert list(dict.fromkeys(seen)) == ["STARTING", "RUNNING"]


def test_accounts_and_regions_are_apart(world: World, appstream: Any) -> None:
    fleet(appstream)
    assert world.client("appstream", OTHER).describe_fleets()["Fleets"] == []
    assert world.client("appstream", region="eu-west-1").describe_fleets()["Fleets"] == []


def test_a_request_that_the_model_forbids(world: World, appstream: Any) -> None:
    """API: patterns of names; boto3 itself lets them through."""
    with pytest.raises(ClientError, match="ValidationException"):
        fleet(appstream, "no spaces")
