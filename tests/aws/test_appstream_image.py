"""An AMI becomes an AppStream image: judged before anything is sent, waited for, failures explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln.config import Config
from kiln.errors import Exit, KilnError
from launch import appstream_image
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.plan import Plan
from tests.aws import streaming
from tests.aws.conftest import REGION
from tests.aws.streaming import FIRST, Ground, name
from tests.emulator.handle import Emulator

Clients = Callable[..., Any]


@pytest.fixture
def ground(client: Clients, emulator: Emulator) -> Ground:
    # Each look at AppStream lets five minutes go by: a test need not look as often as a run does.
    emulator.settings(describe_seconds=300)
    return streaming.ground(client)


@pytest.fixture
def config(kiln_toml: Path, ground: Ground) -> Config:
    return streaming.write(kiln_toml)


def planned(cloud: Cloud, config: Config, version: str = FIRST) -> Plan:
    made = Plan("kiln apply readers", "test")
    appstream_image.plan_import(made, cloud, config, "slicer", version, REGION)
    return made


def refusals(made: Plan) -> dict[str, str]:
    for each in made.refusals:
        assert "\n" not in each.what + each.hint
        assert each.hint
    return {each.check: f"{each.what} | {each.hint}" for each in made.refusals}


def test_an_ami_is_imported_and_then_there_is_nothing_to_do(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator
) -> None:
    ami = streaming.windows_ami(client, FIRST)
    streaming.import_role(client)
    before = len(emulator.requests())
    made = planned(cloud, config)
    assert not emulator.mutating(before), "a plan changes nothing"
    assert [step.does.split(" as ")[0] for step in made.steps] == [f"import {ami}"]
    assert carry_out(made, cloud) is Exit.DONE
    assert streaming.sent(emulator, before) == ["CreateImportedImage"]
    there = client("appstream").describe_images(Names=[name(FIRST)])["Images"][0]
    assert there["State"] == "AVAILABLE" and there["ImageType"] == "CUSTOM"
    tags = client("appstream").list_tags_for_resource(ResourceArn=there["Arn"])["Tags"]
    assert tags["kiln:version"] == FIRST and tags["kiln:image"] == "slicer" and tags["kiln:run"] == "test-run"
    again = planned(cloud, config)
    assert not again.steps and not again.refusals
    assert all(each["valid"] for each in emulator.requests(before))


def test_the_catalogue_of_kiln_toml_is_the_catalogue_of_the_image(
    cloud: Cloud, kiln_toml: Path, client: Clients, ground: Ground
) -> None:
    config = streaming.write(
        kiln_toml,
        appstream=f"""import_role = "{streaming.ROLE}"
display_name = "3D Slicer"
agent = "ALWAYS_LATEST"
[[image.slicer.appstream.applications]]
name = "slicer"
path = 'C:\\Slicer\\Slicer.exe'
display_name = "3D Slicer"
launch_parameters = "--no-splash"
working_directory = 'C:\\Slicer'
""",
    )
    streaming.windows_ami(client, FIRST)
    streaming.import_role(client)
    carry_out(planned(cloud, config), cloud)
    there = client("appstream").describe_images(Names=[name(FIRST)])["Images"][0]
    assert there["DisplayName"] == "3D Slicer"
    (application,) = there["Applications"]
    assert application["LaunchPath"] == "C:\\Slicer\\Slicer.exe"
    assert application["LaunchParameters"] == "--no-splash"


def test_a_run_that_was_killed_waits_for_what_it_has_asked_for(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator
) -> None:
    ami = streaming.windows_ami(client, FIRST)
    role = streaming.import_role(client)
    client("appstream").create_imported_image(Name=name(FIRST), SourceAmiId=ami, IamRoleArn=role)
    made = planned(cloud, config)
    assert made.steps[0].does.startswith(f"wait for AppStream image {name(FIRST)}")
    before = len(emulator.requests())
    assert carry_out(made, cloud) is Exit.DONE
    assert not emulator.mutating(before)


def test_a_busy_appstream_is_asked_again(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator
) -> None:
    streaming.windows_ami(client, FIRST)
    streaming.import_role(client)
    made = planned(cloud, config)
    busy = {"fault": "error", "code": "ConcurrentModificationException", "times": 3}
    throttled = {"fault": "throttle", "times": 2}
    emulator.faults(
        [
            {"service": "appstream", "operation": "CreateImportedImage", **busy},
            {"service": "appstream", "operation": "DescribeImages", **throttled},
        ]
    )
    assert carry_out(made, cloud) is Exit.DONE
    assert appstream_image.find(cloud, REGION, name(FIRST)) is not None


def test_an_answer_that_was_lost_is_no_second_import(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator
) -> None:
    streaming.windows_ami(client, FIRST)
    streaming.import_role(client)
    made = planned(cloud, config)
    emulator.faults(
        [{"service": "appstream", "operation": "CreateImportedImage", "fault": "lost", "times": 1}]
    )
    assert carry_out(made, cloud) is Exit.DONE
    assert len(client("appstream").describe_images(Type="PRIVATE")["Images"]) == 1


def test_an_ami_that_appstream_would_not_take_is_refused_with_what_to_do(
    cloud: Cloud, config: Config, client: Clients, emulator: Emulator
) -> None:
    ec2 = client("ec2")
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=600, Encrypted=True)["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    for _ in range(20):
        if ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed":
            break
    disk = {"SnapshotId": snapshot, "VolumeType": "io1", "Iops": 100}
    ec2.register_image(
        Name=name(FIRST),
        Architecture="arm64",
        BootMode="legacy-bios",
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[{"DeviceName": each, "Ebs": disk} for each in ("/dev/xvda", "/dev/xvdb")],
    )
    ec2.enable_ebs_encryption_by_default()
    before = len(emulator.requests())
    made = planned(cloud, config)
    found = refusals(made)
    wrong = {
        "architecture",
        "boot-mode",
        "tpm",
        "ena",
        "platform",
        "root-device",
        "volumes",
        "volume-type",
    }
    wrong |= {"volume-size", "encrypted"}
    assert {f"ami-{each}" for each in wrong} <= set(found), sorted(found)
    assert "role" in found, "the role is not there"
    assert "kiln builder run" in found["ami-encrypted"], (
        "the account encrypts by default: there is another way"
    )
    assert carry_out(made, cloud) is Exit.REFUSED
    assert not emulator.mutating(before)


def test_nothing_to_import_and_a_role_that_does_not_do(
    cloud: Cloud, kiln_toml: Path, config: Config, client: Clients
) -> None:
    assert "kiln publish slicer@" in refusals(planned(cloud, config))["appstream-image"]
    ami = streaming.windows_ami(client, FIRST)
    streaming.import_role(client, "ec2.amazonaws.com")
    assert "does not trust appstream" in refusals(planned(cloud, config))["role"]
    client("iam").delete_role_policy(RoleName="kiln-appstream-import", PolicyName="import")
    client("iam").delete_role(RoleName="kiln-appstream-import")
    streaming.import_role(client, may=False)
    # What only AppStream can see of the role comes out of the dry run.
    found = refusals(planned(cloud, config))["import-dry-run"]
    assert "InvalidRoleException" in found and "ec2:ModifyImageAttribute" in found
    client("ec2").deregister_image(ImageId=ami)


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (
            "Port 8443 is in use",
            ("IMAGE_IMPORT_FAILURE", "VALIDATION_ERROR: Port 8443 is in use", "correct in the AMI"),
        ),
        ("internal", ("INTERNAL_ERROR", "AWS Support")),
    ],
)
def test_a_failed_import_is_explained_and_made_anew(
    inside: str, words: tuple[str, ...], cloud: Cloud, config: Config, client: Clients, emulator: Emulator
) -> None:
    ami = streaming.windows_ami(client, FIRST, inside=inside)
    streaming.import_role(client)
    with pytest.raises(KilnError) as failed:
        carry_out(planned(cloud, config), cloud)
    text = str(failed.value)
    assert all(word in text for word in words), text
    assert text.count("\n") == 1
    client("ec2").delete_tags(Resources=[ami], Tags=[{"Key": "kiln-test:import"}])
    made = planned(cloud, config)
    assert "in place of the one that is FAILED" in made.steps[0].does
    before = len(emulator.requests())
    assert carry_out(made, cloud) is Exit.DONE
    assert streaming.sent(emulator, before) == ["DeleteImage", "CreateImportedImage"]


@pytest.mark.parametrize(
    "error", ["LimitExceededException", "OperationNotPermittedException", "InvalidAccountStatusException"]
)
def test_what_appstream_refuses_at_once_is_a_refusal_with_what_to_do(
    error: str, cloud: Cloud, config: Config, client: Clients, emulator: Emulator
) -> None:
    streaming.windows_ami(client, FIRST)
    streaming.import_role(client)
    rule = {"service": "appstream", "operation": "CreateImportedImage", "fault": "error", "code": error}
    # botocore takes LimitExceededException for a throttle and asks six times.
    emulator.faults([{**rule, "times": 6}])
    assert error in refusals(planned(cloud, config))["import-dry-run"]


def test_names_that_appstream_keeps_or_does_not_take(config: Config) -> None:
    project = config.project
    for wrong, words in ((f"aws-{'x' * 10}", "keeps for its own"), ("x" * 40, "characters")):
        changed = config.model_copy(update={"project": project.model_copy(update={"name": wrong})})
        image = "slicer" if words.startswith("keeps") else "y" * 40
        with pytest.raises(KilnError, match=words):
            appstream_image.name_of(changed, image, FIRST)
    assert appstream_image.version_of(config, "slicer", name(FIRST)) == FIRST
    assert appstream_image.version_of(config, "slicer", "AppStream-WinServer2022") is None
