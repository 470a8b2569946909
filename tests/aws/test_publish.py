"""``kiln publish`` on the emulator: what it makes, what it refuses, and what a second run does."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kiln import cli, version_files
from kiln import config as toml
from kiln.published import Published
from launch import names, publish
from launch.cloud import Cloud
from launch.disk import BLOCK
from launch.plan import Plan
from tests.aws import versions
from tests.aws.conftest import ACCOUNT, BUCKET, OTHER, REGIONS, Seeded
from tests.emulator.handle import Emulator

IMAGE = "monai-label"
NAME = f"kiln-{IMAGE}-{versions.VERSION}"
FULL = (0, 1, 5, 6)

Client = Callable[..., Any]


@pytest.fixture
def version(build: Path, kiln_toml: Path) -> Path:
    return versions.put(build, full=FULL)


def command(*arguments: str) -> tuple[int, str]:
    """Run kiln as an operator does; exit code, and what was said on both streams."""
    said = io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = cli.run(list(arguments))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, said.getvalue()


def images(client: Client, region: str) -> list[dict[str, Any]]:
    found = client("ec2", region).describe_images(Owners=["self"], IncludeDeprecated=True)["Images"]
    return [each for each in found if each["Name"].startswith("kiln-monai")]


def snapshots(client: Client, region: str) -> list[dict[str, Any]]:
    found = client("ec2", region).describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return [each for each in found if names.VERSION in names.read(each.get("Tags"))]


def record(client: Client, region: str) -> Published:
    key = f"kiln/images/{IMAGE}/{versions.VERSION}/published/{ACCOUNT}-{region}.json"
    return Published.model_validate_json(client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())


def planned() -> Plan:
    config = toml.load()
    cloud = Cloud(config.publication(IMAGE).regions[0], names.run_id("publish"))
    return publish.plan(cloud, config, version_files.find(IMAGE))


def test_a_proven_version_becomes_a_private_ami_in_every_region(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator
) -> None:
    code, said = command("publish", IMAGE)
    assert code == 0, said
    for region in REGIONS:
        (image,) = images(client, region)
        assert image["Name"] == NAME
        assert (image["State"], image["BootMode"], image["ImdsSupport"]) == ("available", "uefi", "v2.0")
        assert image["EnaSupport"] is True
        assert image["Public"] is False
        (part,) = snapshots(client, region)
        assert (part["Encrypted"], part["KmsKeyId"]) == (True, seeded.keys[region])
        assert image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == part["SnapshotId"]
        manifest = hashlib.sha256((version / "manifest.json").read_bytes()).hexdigest()
        for thing in (image, part):
            tags = names.read(thing["Tags"])
            assert tags[names.PROJECT] == "kiln"
            assert (tags[names.IMAGE], tags[names.VERSION]) == (IMAGE, versions.VERSION)
            assert tags[names.MANIFEST_DIGEST] == manifest
            assert tags[names.INPUT_DIGEST] == "0123456789abcdef" * 4
            assert tags[names.PARENT] == f"debian-12/{'0123456789abcdef' * 4}"
            assert tags[names.RUN].startswith("publish-")
        ec2 = client("ec2", region)
        launch = ec2.describe_image_attribute(ImageId=image["ImageId"], Attribute="launchPermission")
        assert launch["LaunchPermissions"] == [{"UserId": OTHER}]
        volume = ec2.describe_snapshot_attribute(
            SnapshotId=part["SnapshotId"], Attribute="createVolumePermission"
        )
        assert volume["CreateVolumePermissions"] == [{"UserId": OTHER}]
        end = datetime.fromisoformat(image["DeprecationTime"].replace("Z", "+00:00"))
        assert abs(end - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
        written = record(client, region)
        assert (written.ami, written.snapshots) == (image["ImageId"], [part["SnapshotId"]])
        assert (written.encrypted, written.kms_key) == (True, seeded.keys[region])
        assert written.copied_from == (None if region == REGIONS[0] else REGIONS[0])
        assert written.made_by == "ebs-direct"
    for name in ("manifest.json", "proof.json", "sbom.cdx.json"):
        key = f"kiln/images/{IMAGE}/{versions.VERSION}/{name}"
        there = client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert there == (version / name).read_bytes()
    assert not list(version.glob("upload-*"))
    assert all(each["valid"] for each in emulator.requests())


def test_only_blocks_that_are_not_all_zeros_are_sent_and_each_once(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator
) -> None:
    assert command("publish", IMAGE)[0] == 0
    puts = [each for each in emulator.mutating() if each["operation"] == "PutSnapshotBlock"]
    assert sorted(int(each["params"]["BlockIndex"]) for each in puts) == list(FULL)
    (part,) = snapshots(client, REGIONS[0])
    listed = client("ebs").list_snapshot_blocks(SnapshotId=part["SnapshotId"])
    assert [each["BlockIndex"] for each in listed["Blocks"]] == list(FULL)
    assert listed["BlockSize"] == BLOCK


def test_a_second_run_plans_nothing_and_sends_nothing(
    seeded: Seeded, version: Path, emulator: Emulator
) -> None:
    assert command("publish", IMAGE)[0] == 0
    before = len(emulator.mutating())
    code, said = command("publish", IMAGE)
    assert (code, "nothing to do" in said) == (0, True), said
    assert command("publish", IMAGE, "--exit-code")[0] == 4
    assert len(emulator.mutating()) == before


def test_a_plan_sends_nothing_and_names_every_request_that_follows(
    seeded: Seeded, version: Path, emulator: Emulator
) -> None:
    before = len(emulator.mutating())
    code, said = command("publish", f"{IMAGE}@{versions.VERSION}", "--plan", "--json")
    assert code == 0, said
    assert len(emulator.mutating()) == before
    announced = {
        request for step in json.loads(said[said.index("{") :])["steps"] for request in step["requests"]
    }
    assert command("publish", IMAGE)[0] == 0
    sent = {f"{e['service']}:{e['operation']}@{e['region']}" for e in emulator.mutating()[before:]}
    # The lock is a step that comes with the run.
    assert {each for each in sent if not each.startswith("s3:")} <= announced


REFUSED = [
    ("proof-missing", lambda folder: (folder / "proof.json").unlink()),
    ("proof-stale", lambda folder: _edit(folder / "proof.json", manifest_digest="0" * 64)),
    ("proof-refused", lambda folder: _edit(folder / "proof.json", verdict="refused")),
    ("disk-missing", lambda folder: (folder / "image.qcow2").unlink()),
    ("disk-digest", lambda folder: _flip(folder / "image.qcow2")),
]


def _edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize(("check", "harm"), REFUSED, ids=[check for check, _ in REFUSED])
def test_what_is_not_proven_is_refused_before_anything_is_made(
    seeded: Seeded, version: Path, emulator: Emulator, check: str, harm: Callable[[Path], None]
) -> None:
    harm(version)
    before = len(emulator.mutating())
    code, said = command("publish", IMAGE)
    assert code == 3, said
    assert check in said
    assert len(emulator.mutating()) == before


def test_a_check_that_failed_refuses_whatever_the_verdict_says(
    seeded: Seeded, version: Path, build: Path
) -> None:
    checks = json.loads((version / "proof.json").read_text())["checks"]
    checks[0]["outcome"] = "failed"
    _edit(version / "proof.json", checks=checks)
    assert [each.check for each in planned().refusals] == ["proof-refused"]


def test_a_version_that_is_not_here(seeded: Seeded, version: Path) -> None:
    code, said = command("publish", f"{IMAGE}@20990101T000000Z-00000000")
    assert code == 2
    assert versions.VERSION in said


def test_an_image_that_goes_nowhere(seeded: Seeded, version: Path, kiln_toml: Path) -> None:
    text = kiln_toml.read_text()
    start, end = text.index("[image.monai-label.publish]"), text.index("[image.slicer]")
    kiln_toml.write_text(text[:start] + text[end:])
    assert command("publish", IMAGE)[0] == 2


def test_a_name_that_another_image_has_is_refused(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator
) -> None:
    ec2 = client("ec2", REGIONS[1])
    volume = ec2.create_volume(AvailabilityZone=f"{REGIONS[1]}a", Size=1)["VolumeId"]
    part = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    for _ in range(5):
        ec2.describe_snapshots(SnapshotIds=[part])
    mapping = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": part}}
    foreign = ec2.register_image(Name=NAME, RootDeviceName="/dev/xvda", BlockDeviceMappings=[mapping])
    before = len(emulator.mutating())
    code, said = command("publish", IMAGE)
    assert code == 3, said
    assert "name-taken" in said
    assert foreign["ImageId"] in said
    assert len(emulator.mutating()) == before


def test_a_manifest_of_another_bake_in_the_records_is_refused(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator
) -> None:
    key = f"kiln/images/{IMAGE}/{versions.VERSION}/manifest.json"
    client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"{}")
    assert [each.check for each in planned().refusals] == ["records-differ"]


def test_a_version_without_sbom_is_published_with_a_note(
    seeded: Seeded, version: Path, client: Client
) -> None:
    (version / "sbom.cdx.json").unlink()
    assert any("sbom.cdx.json" in note for note in planned().notes)
    assert command("publish", IMAGE)[0] == 0


def test_a_later_list_of_accounts_is_brought_to_what_is_published(
    seeded: Seeded, version: Path, client: Client, kiln_toml: Path
) -> None:
    assert command("publish", IMAGE)[0] == 0
    kiln_toml.write_text(kiln_toml.read_text().replace(f'share_with = ["{OTHER}"]', "share_with = []"))
    made = planned()
    assert {step.stage for step in made.steps} == {"finish"}
    code, said = command("publish", IMAGE)
    assert code == 0, said
    for region in REGIONS:
        (image,) = images(client, region)
        found = client("ec2", region).describe_image_attribute(
            ImageId=image["ImageId"], Attribute="launchPermission"
        )
        assert found["LaunchPermissions"] == []
    assert planned().steps == []


def test_what_somebody_made_public_is_made_private_again(
    seeded: Seeded, build: Path, kiln_toml: Path, client: Client
) -> None:
    """Only an unencrypted image can be: AWS shares no other with everybody."""
    versions.put(build, "slicer")
    assert command("publish", "slicer")[0] == 0
    ec2 = client("ec2")
    found = ec2.describe_images(Owners=["self"])["Images"]
    (image,) = [each for each in found if each["Name"].startswith("kiln-slicer")]
    part = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    ec2.disable_image_block_public_access()
    everybody = {"Add": [{"Group": "all"}]}
    ec2.modify_image_attribute(ImageId=image["ImageId"], LaunchPermission=everybody)
    ec2.modify_snapshot_attribute(
        SnapshotId=part, Attribute="createVolumePermission", CreateVolumePermission=everybody
    )
    code, said = command("publish", "slicer")
    assert (code, "make it private" in said) == (0, True), said
    (image,) = ec2.describe_images(ImageIds=[image["ImageId"]])["Images"]
    assert image["Public"] is False
    shared = ec2.describe_snapshot_attribute(SnapshotId=part, Attribute="createVolumePermission")
    assert shared["CreateVolumePermissions"] == []


def test_another_day_of_deprecation_is_brought_to_what_is_published(
    seeded: Seeded, version: Path, client: Client, kiln_toml: Path
) -> None:
    assert command("publish", IMAGE)[0] == 0
    kiln_toml.write_text(
        kiln_toml.read_text().replace("deprecate_after_days = 90", "deprecate_after_days = 30")
    )
    assert command("publish", IMAGE)[0] == 0
    (image,) = images(client, "us-east-1")
    end = datetime.fromisoformat(image["DeprecationTime"].replace("Z", "+00:00"))
    assert abs(end - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
    assert planned().steps == []


def test_a_region_added_later_is_copied_to_without_an_upload(
    seeded: Seeded, version: Path, client: Client, kiln_toml: Path, emulator: Emulator
) -> None:
    text = kiln_toml.read_text()
    kiln_toml.write_text(text.replace('["us-east-1", "eu-west-1"]', '["us-east-1"]'))
    assert command("publish", IMAGE)[0] == 0
    kiln_toml.write_text(text)
    (version / "image.qcow2").unlink()
    before = len(emulator.mutating())
    code, said = command("publish", IMAGE)
    assert code == 0, said
    assert len(images(client, "eu-west-1")) == 1
    assert not [e for e in emulator.mutating()[before:] if e["service"] == "ebs"]


def test_an_unencrypted_image_for_appstream(
    seeded: Seeded, build: Path, kiln_toml: Path, client: Client
) -> None:
    versions.put(build, "slicer")
    code, said = command("publish", "slicer")
    assert code == 0, said
    found = client("ec2").describe_images(Owners=["self"])["Images"]
    (image,) = [each for each in found if each["Name"].startswith("kiln-slicer")]
    assert image["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is False


def test_expired_credentials_are_told_in_two_lines(seeded: Seeded, version: Path, emulator: Emulator) -> None:
    emulator.faults(
        [{"service": "sts", "fault": "error", "code": "ExpiredToken", "message": "expired", "times": 99}]
    )
    before = len(emulator.mutating())
    code, said = command("publish", IMAGE)
    assert code == 1, said
    assert "sign in again" in said
    assert len(emulator.mutating()) == before


def test_nothing_is_asked_of_aws_for_what_is_not_proven(build: Path, kiln_toml: Path) -> None:
    versions.put(build, verdict=None)
    cloud = Cloud("us-east-1", "test")
    made = publish.plan(cloud, toml.load(), version_files.find(IMAGE, versions.VERSION))
    assert [each.check for each in made.refusals] == ["proof-missing"]
    assert not cloud.counts()
