"""EBS direct in the emulator: checksums are looked at and kept, the data is not."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import pytest

from tests.emulator.fixtures import ACCOUNT
from tests.unit.test_emulator_images import ROOT_DISK, refused, register, settle

BLOCK = 512 * 1024


def checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def put(ebs: Any, snapshot: str, index: int, data: bytes, **more: Any) -> None:
    ebs.put_snapshot_block(
        **{
            "SnapshotId": snapshot,
            "BlockIndex": index,
            "BlockData": data,
            "DataLength": len(data),
            "Checksum": checksum(data),
            "ChecksumAlgorithm": "SHA256",
            **more,
        }
    )


def test_a_disk_is_uploaded_and_becomes_an_image(client: Any, emulator: Any) -> None:
    ebs, ec2 = client("ebs"), client("ec2")
    asked = {
        "VolumeSize": 1,
        "Description": "disk",
        "Tags": [{"Key": "a", "Value": "b"}],
        "ClientToken": "one",
    }
    snapshot = ebs.start_snapshot(**asked)["SnapshotId"]
    assert ebs.start_snapshot(**asked)["SnapshotId"] == snapshot
    with refused("ConflictException"):
        ebs.start_snapshot(**{**asked, "VolumeSize": 2})
    blocks = {0: os.urandom(BLOCK), 7: os.urandom(BLOCK)}
    for index, data in blocks.items():
        put(ebs, snapshot, index, data)
        put(ebs, snapshot, index, data)
    assert [ec2.describe_snapshots()["Snapshots"] and state(ec2, snapshot) for _ in range(4)][-1] == "pending"
    with refused("ValidationException"):
        ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=3)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=2)
    settle(lambda: state(ec2, snapshot), "completed")
    listed = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert [each["BlockIndex"] for each in listed["Blocks"]] == [0, 7]
    found = emulator.admin("blocks", account=ACCOUNT, region="us-east-1", snapshot=snapshot)
    assert found == {str(index): hashlib.sha256(data).hexdigest() for index, data in blocks.items()}
    image = register(ec2, snapshot=snapshot)
    shown = ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]
    assert (shown["DeviceName"], shown["Ebs"]["SnapshotId"]) == (ROOT_DISK, snapshot)
    assert [each["wrong_answer"] for each in emulator.requests() if not each["valid_answer"]] == []
    assert all(each["valid"] for each in emulator.requests())


def state(ec2: Any, snapshot: str) -> str:
    found: str = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"]
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        {"Checksum": checksum(b"another")},
        {"BlockIndex": 2048},
        {"BlockData": b"short", "DataLength": 5, "Checksum": checksum(b"short")},
        {"SnapshotId": "snap-0123456789abcdef0"},
    ],
)
def test_a_block_that_is_wrong_does_not_count(client: Any, wrong: dict[str, Any]) -> None:
    ebs = client("ebs")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    with refused("ResourceNotFoundException" if "SnapshotId" in wrong else "ValidationException"):
        put(ebs, snapshot, 0, bytes(BLOCK), **wrong)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)


def test_nothing_is_put_after_the_end(client: Any) -> None:
    ebs = client("ebs")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    with refused("ValidationException"):
        put(ebs, snapshot, 0, bytes(BLOCK))


def test_the_checksum_over_all_is_looked_at(client: Any) -> None:
    ebs = client("ebs")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    one, two = os.urandom(BLOCK), os.urandom(BLOCK)
    put(ebs, snapshot, 5, two)
    put(ebs, snapshot, 1, one)
    both = hashlib.sha256(one).digest() + hashlib.sha256(two).digest()
    asked = {"SnapshotId": snapshot, "ChangedBlocksCount": 2, "ChecksumAlgorithm": "SHA256"}
    asked["ChecksumAggregationMethod"] = "LINEAR"
    with refused("ValidationException"):
        ebs.complete_snapshot(**asked, Checksum=checksum(b"no"))
    ebs.complete_snapshot(**asked, Checksum=checksum(both))


def test_data_is_kept_only_where_asked_for(client: Any, emulator: Any) -> None:
    ebs, ec2 = client("ebs"), client("ec2")
    emulator.settings(keep_blocks=True)
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    data = os.urandom(BLOCK)
    put(ebs, snapshot, 0, data)
    emulator.settings(keep_blocks=False)
    put(ebs, snapshot, 1, data)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=2)
    settle(lambda: state(ec2, snapshot), "completed")
    tokens = [each["BlockToken"] for each in ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]]
    assert (
        ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=tokens[0])["BlockData"].read()
        == data
    )
    with refused("NotEmulated"):
        ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=1, BlockToken=tokens[1])
    with refused("ValidationException"):
        ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=tokens[1])


def test_an_encrypted_one_needs_a_key_that_may_be_used(client: Any) -> None:
    ebs = client("ebs")
    arn = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/00000000-0000-4000-8000-000000000000"
    with refused("ValidationException"):
        ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=arn)
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    assert ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn=key)["KmsKeyArn"] == key


def test_a_copy_has_the_content_of_its_source(client: Any) -> None:
    ebs, ec2, there = client("ebs"), client("ec2"), client("ec2", "eu-west-1")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, snapshot, 3, os.urandom(BLOCK))
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    settle(lambda: state(ec2, snapshot), "completed")
    copied = there.copy_snapshot(SourceRegion="us-east-1", SourceSnapshotId=snapshot)["SnapshotId"]
    settle(lambda: state(there, copied), "completed")
    listed = client("ebs", "eu-west-1").list_snapshot_blocks(SnapshotId=copied)["Blocks"]
    assert [each["BlockIndex"] for each in listed] == [3]
