"""A publication that was disturbed: answers lost, a run killed; the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import config as toml
from kiln import version_files
from kiln.errors import Exit, KilnError
from launch import names, publish, snapshot
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.journal import Journal
from tests.aws import versions
from tests.aws.conftest import REGION, REGIONS, Seeded
from tests.emulator.handle import Emulator

IMAGE = "monai-label"
FULL = tuple(range(0, 40, 2))

Client = Callable[..., Any]


@pytest.fixture
def version(build: Path, kiln_toml: Path) -> Path:
    return versions.put(build, full=FULL, blocks=41, zeros=())


def run() -> None:
    config = toml.load()
    cloud = Cloud(REGION, names.run_id("publish"))
    made = publish.plan(cloud, config, version_files.find(IMAGE))
    assert made.refusals == []
    assert carry_out(made, cloud) == Exit.DONE


def whole(client: Client) -> None:
    """All is published, once, and nothing else is there."""
    for region in REGIONS:
        ec2 = client("ec2", region)
        images = ec2.describe_images(Owners=["self"])["Images"]
        (image,) = [each for each in images if each["Name"].startswith("kiln-monai")]
        assert image["State"] == "available"
        parts = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
        (part,) = [each for each in parts if names.VERSION in names.read(each.get("Tags"))]
        assert part["SnapshotId"] == image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        listed = client("ebs", region).list_snapshot_blocks(SnapshotId=part["SnapshotId"])["Blocks"]
        assert [each["BlockIndex"] for each in listed] == list(FULL)
    config = toml.load()
    made = publish.plan(Cloud(REGION, "test"), config, version_files.find(IMAGE))
    assert (made.steps, made.refusals) == ([], [])


LOST = [
    ("ebs", "StartSnapshot"),
    ("ebs", "PutSnapshotBlock"),
    ("ebs", "CompleteSnapshot"),
    ("ec2", "RegisterImage"),
    ("ec2", "CopyImage"),
    ("ec2", "ModifyImageAttribute"),
    ("ec2", "ModifySnapshotAttribute"),
    ("ec2", "EnableImageDeprecation"),
    ("s3", "PutObject"),
]


def test_answers_that_are_lost_after_the_action(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator
) -> None:
    """Of every kind of request the first and the third answer is lost, in one run."""
    rules = [{"service": service, "operation": name, "fault": "lost"} for service, name in LOST]
    emulator.faults([*rules, *({**rule, "after": 1} for rule in rules)])
    try:
        run()
    except KilnError:
        run()
    assert all(rule["met"] for rule in emulator.rules() if not rule.get("after"))
    whole(client)


def test_throttled_and_broken_answers(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator
) -> None:
    rules = [
        {"service": service, "operation": name, "fault": fault, "after": after, "times": 1}
        for service, name in LOST
        for after, fault in enumerate(("throttle", "5xx"))
    ]
    emulator.faults(rules)
    run()
    whole(client)


KILLED = ["StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "RegisterImage", "CopyImage"]


@pytest.mark.campaign
@pytest.mark.parametrize("operation", KILLED)
def test_a_run_that_is_killed_right_after_a_request(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator, operation: str
) -> None:
    after = 10 if operation == "PutSnapshotBlock" else 0
    emulator.faults([{"operation": operation, "fault": "hook", "after": after, "times": 99}])
    kiln = Path(sys.executable).parent / "kiln"
    child = subprocess.Popen([kiln, "publish", IMAGE], env=os.environ, stderr=subprocess.PIPE, text=True)
    held = emulator.held(120)
    child.send_signal(signal.SIGKILL)
    assert child.stderr is not None
    said = child.stderr.read()
    child.wait()
    assert held is not None, said
    emulator.release(drop=True)
    emulator.faults([])
    before = len(emulator.mutating())
    run()
    whole(client)
    again = emulator.mutating()[before:]
    started = [each for each in again if each["operation"] == "StartSnapshot"]
    assert not started, "the snapshot that was begun is gone on with"
    if operation == "PutSnapshotBlock":
        puts = [each for each in again if each["operation"] == "PutSnapshotBlock"]
        # Ten were answered and noted; those that were under way when it was killed are sent once more.
        assert len(puts) == len(FULL) - 10


def wanted(version: Path) -> snapshot.Wanted:
    tags = dict.fromkeys((names.PROJECT, names.IMAGE, names.VERSION), "x")
    tags |= dict.fromkeys((names.INPUT_DIGEST, names.MANIFEST_DIGEST, names.RUN), "y")
    return snapshot.Wanted(REGION, version / "image.qcow2", tags, encrypt=False, key=None)


def made(cloud: Cloud, of: snapshot.Wanted) -> str:
    with cloud.permit(snapshot.sending(REGION)):
        return snapshot.make(cloud, of, lambda _: None)


def test_a_journal_that_claims_too_much_is_found_out(
    emulator: Emulator, cloud: Cloud, version: Path, client: Client
) -> None:
    of = wanted(version)
    answer = client("ebs").start_snapshot(VolumeSize=1, Tags=names.tags(of.tags))
    begun = answer["SnapshotId"]
    with Journal(version, begun, 41) as journal:
        journal.add(FULL[3], b"x" * 32)
    assert made(cloud, of) == begun
    listed = client("ebs").list_snapshot_blocks(SnapshotId=begun)["Blocks"]
    assert [each["BlockIndex"] for each in listed] == list(FULL)


def test_a_snapshot_that_is_gone_is_begun_anew(
    emulator: Emulator, cloud: Cloud, version: Path, client: Client
) -> None:
    """The client token would give the one back that somebody has deleted."""
    of = wanted(version)
    first = made(cloud, of)
    client("ec2").delete_snapshot(SnapshotId=first)
    second = made(cloud, of)
    assert second != first
    found = client("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert [each["SnapshotId"] for each in found] == [second]


def test_of_two_that_were_begun_one_is_filled_and_the_other_removed(
    emulator: Emulator, cloud: Cloud, version: Path, client: Client
) -> None:
    of = wanted(version)
    both = [client("ebs").start_snapshot(VolumeSize=1, Tags=names.tags(of.tags))["SnapshotId"] for _ in "ab"]
    assert made(cloud, of) in both
    found = client("ec2").describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert [each["State"] for each in found] == ["completed"]


def test_a_copy_that_failed_is_removed_and_made_anew(
    seeded: Seeded, version: Path, client: Client, emulator: Emulator, kiln_toml: Path
) -> None:
    text = kiln_toml.read_text()
    kiln_toml.write_text(text.replace('["us-east-1", "eu-west-1"]', '["us-east-1"]'))
    run()
    kiln_toml.write_text(text)
    name = f"kiln-{IMAGE}-{versions.VERSION}"
    (home,) = client("ec2").describe_images(Filters=[{"Name": "name", "Values": [name]}])["Images"]
    failed = client("ec2", REGIONS[1]).copy_image(
        Name=name,
        SourceRegion=REGION,
        SourceImageId=home["ImageId"],
        TagSpecifications=[{"ResourceType": kind, "Tags": home["Tags"]} for kind in ("image", "snapshot")],
    )["ImageId"]
    emulator.admin("fail_image", account="111122223333", region=REGIONS[1], name=name)
    run()
    whole(client)
    assert not client("ec2", REGIONS[1]).describe_images(Filters=[{"Name": "image-id", "Values": [failed]}])[
        "Images"
    ]
