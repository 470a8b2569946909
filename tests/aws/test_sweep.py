"""Sweep: what killed runs left goes, by tag and age; nothing younger, nothing foreign."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kiln import cli
from kiln.errors import Exit
from launch.lock import Holding
from launch.records import written
from tests.aws import released
from tests.aws.conftest import BUCKET, REGION, REGIONS
from tests.aws.released import V1
from tests.emulator.handle import Emulator

Client = Callable[..., Any]

OLD, YOUNG = "bake-20260101T000000Z-abcdef", f"bake-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-abcdef"


@pytest.fixture(autouse=True)
def bucket(client: Client, kiln_toml: Path) -> None:
    released.ready(client)


def kiln(*arguments: str) -> int:
    return cli.run(list(arguments))


def tags(run: str = OLD, **more: str) -> list[dict[str, str]]:
    given = {"kiln:run": run, "kiln:image": "monai-label"} | {f"kiln:{k}": v for k, v in more.items()}
    return [{"Key": key, "Value": value} for key, value in given.items()]


def said(kind: str, run: str = OLD, **more: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tags(run, **more)}]


def build(client: Client, run: str = OLD, **more: str) -> dict[str, str]:
    """All that a build has while it runs."""
    ec2 = client("ec2")
    suffix = "-".join((run, *more.values()))
    ami, snapshot = released.register(client, name=f"base-{suffix}", tags={})
    group = ec2.create_security_group(
        GroupName=f"packer_{suffix}", Description="temporary",
        TagSpecifications=said("security-group", run, **more),
    )["GroupId"]  # fmt: skip
    key = ec2.create_key_pair(KeyName=f"packer_{suffix}", TagSpecifications=said("key-pair", run, **more))[
        "KeyPairId"
    ]
    instance = ec2.run_instances(
        ImageId=ami, MinCount=1, MaxCount=1, InstanceType="t3.micro", SecurityGroupIds=[group],
        TagSpecifications=said("instance", run, **more),
    )["Instances"][0]["InstanceId"]  # fmt: skip
    volume = ec2.create_volume(
        AvailabilityZone=f"{REGION}a", Size=8, TagSpecifications=said("volume", run, **more)
    )["VolumeId"]
    upload = client("ebs").start_snapshot(VolumeSize=1, Tags=tags(run, **more))["SnapshotId"]
    return {
        "group": group, "key": key, "instance": instance, "volume": volume, "upload": upload,
        "base": snapshot,
    }  # fmt: skip


def left(client: Client, made: dict[str, str]) -> set[str]:
    """Which of the things of a build are still there."""
    ec2 = client("ec2")
    instances = {
        one["InstanceId"]
        for each in ec2.describe_instances()["Reservations"]
        for one in each["Instances"]
        if one["State"]["Name"] != "terminated"
    }
    there = {
        "group": {each["GroupId"] for each in ec2.describe_security_groups()["SecurityGroups"]},
        "key": {each["KeyPairId"] for each in ec2.describe_key_pairs()["KeyPairs"]},
        "instance": instances,
        "volume": {each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]},
    }
    snapshots = {each["SnapshotId"] for each in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    there |= {"upload": snapshots, "base": snapshots}
    return {kind for kind, identity in made.items() if identity in there[kind]}


def grow_old(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that AWS dates is of now; the sweep is three days later."""
    import launch.leftovers
    import launch.sweep

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=3)

    monkeypatch.setattr(launch.sweep, "datetime", Later)


ALL = {"group", "key", "instance", "volume", "upload", "base"}


def test_what_a_killed_build_left_goes(
    client: Client,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = build(client)
    grow_old(emulator, monkeypatch)
    since = len(emulator.requests())
    assert kiln("sweep", "--plan", "--json") == Exit.DONE
    plan = json.loads(capsys.readouterr().out)
    assert emulator.mutating(since) == []
    assert {each["kind"] for each in plan["left"]} == {
        "instance", "key", "security group", "volume", "snapshot",
    }  # fmt: skip
    assert kiln("sweep") == Exit.DONE
    assert left(client, made) == {"base"}
    announced = {request for step in plan["steps"] for request in step["requests"]}
    sent = {f"{r['service']}:{r['operation']}@{r['region']}" for r in emulator.mutating(since)}
    assert sent <= announced
    assert all(each["valid"] for each in emulator.requests(since))
    assert kiln("sweep", "--exit-code") == Exit.NOTHING_TO_DO


def test_what_is_younger_stays(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    made = build(client, run=YOUNG)
    assert kiln("sweep", "--exit-code") == Exit.NOTHING_TO_DO
    assert left(client, made) == ALL
    assert "of younger runs stay" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [{"project": "other"}, {"image": "something-else"}], ids=["project", "image"]
)
def test_what_is_foreign_stays(
    client: Client, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    made = build(client, **more)
    grow_old(emulator, monkeypatch)
    assert kiln("sweep", "--exit-code") == Exit.NOTHING_TO_DO
    assert left(client, made) == ALL


def test_what_serves_stays(client: Client, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    amis = released.publish(client, V1, regions=REGIONS[:1])
    ec2 = client("ec2")
    serving = ec2.run_instances(
        ImageId=amis[REGION], MinCount=1, MaxCount=1, InstanceType="t3.micro",
        TagSpecifications=said("instance", target="annotators"),
    )["Instances"][0]["InstanceId"]  # fmt: skip
    grow_old(emulator, monkeypatch)
    assert kiln("sweep", "--exit-code") == Exit.NOTHING_TO_DO
    states = ec2.describe_instances(InstanceIds=[serving])["Reservations"][0]["Instances"][0]["State"]
    assert states["Name"] == "running"
    found = ec2.describe_images(ImageIds=[amis[REGION]])["Images"][0]
    assert found["State"] == "available", "a published AMI has the tag of its run too"


def test_of_what_nothing_tells_the_age_the_first_sight_counts(
    client: Client,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ec2 = client("ec2")
    group = ec2.create_security_group(
        GroupName="prove", Description="x", TagSpecifications=said("security-group", "kiln-prove-abc")
    )["GroupId"]
    assert kiln("sweep") == Exit.DONE
    assert "was seen today: its age is not known" in capsys.readouterr().out
    assert kiln("sweep", "--exit-code") == Exit.NOTHING_TO_DO
    grow_old(emulator, monkeypatch)
    assert kiln("sweep") == Exit.DONE
    assert group not in {each["GroupId"] for each in ec2.describe_security_groups()["SecurityGroups"]}


def test_expired_locks_go(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for name, until in (("annotators", now - timedelta(hours=25)), ("readers", now - timedelta(minutes=1))):
        holding = Holding(
            name=name, who="ada", doing="kiln apply", machine="m", process="", nonce="1",
            since=until - timedelta(minutes=5), until=until,
        )  # fmt: skip
        released.put(client, f"locks/{name}.json", written(holding))
    assert kiln("sweep") == Exit.DONE
    keys = [each["Key"] for each in client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert keys == ["kiln/locks/readers.json"]


@pytest.mark.campaign
@pytest.mark.parametrize("fault", ["throttle", "5xx", "lost"])
@pytest.mark.parametrize("operation", ["TerminateInstances", "DeleteSecurityGroup", "DeleteKeyPair"])
def test_faults_are_survived(
    client: Client, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, fault: str, operation: str
) -> None:
    made = build(client)
    grow_old(emulator, monkeypatch)
    emulator.faults([{"service": "ec2", "operation": operation, "fault": fault, "times": 2}])
    assert kiln("sweep") == Exit.DONE
    assert left(client, made) == {"base"}
