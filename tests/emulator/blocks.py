"""EBS direct: blocks of a snapshot by their checksums, which are looked at; the data is not kept.

``keep_blocks`` among the settings keeps it too, for small disks that are to be read back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from moto.ec2.models import ec2_backends

from tests.emulator import control, ec2, faults, keys, own, snapshots
from tests.emulator.control import Answer
from tests.emulator.own import RefusedError
from tests.emulator.understand import Asked

BLOCK = 512 * 1024
"""Bytes of a block, which EBS fixes."""

ZEROS = hashlib.sha256(bytes(BLOCK)).digest()

control.setting("keep_blocks", False)


@dataclass
class Upload:
    """What was put into a snapshot.

    Parameters
    ----------
    asked:
        The request that began it, for a second one with its token.
    answer:
        What was answered then.
    open:
        Whether blocks may still be put.
    sums:
        Index → SHA-256.
    data:
        Index → content, where it is kept.
    """

    asked: dict[str, Any]
    answer: dict[str, Any]
    open: bool = True
    sums: dict[int, bytes] = field(default_factory=dict)
    data: dict[int, bytes] = field(default_factory=dict)


UPLOADS: dict[str, Upload] = {}
"""Snapshot → what was put into it. A copy has the content of the first of its line."""

TOKENS: dict[tuple[str, str, str], str] = {}
"""Account, region and client token → snapshot."""

control.RESETS += [UPLOADS.clear, TOKENS.clear]


def _invalid(reason: str, message: str) -> RefusedError:
    return RefusedError(400, "ValidationException", message, Reason=reason)


def _absent(snapshot_id: str) -> RefusedError:
    return RefusedError(
        404, "ResourceNotFoundException", f"there is no {snapshot_id}", Reason="SNAPSHOT_NOT_FOUND"
    )


def digest(snapshot: Any) -> str | None:
    """A digest over the content of a snapshot; None for one that was not uploaded."""
    upload = UPLOADS.get(snapshots.origin(snapshot))
    if upload is None:
        return None
    listed = ((index, sum_.hex()) for index, sum_ in sorted(upload.sums.items()) if sum_ != ZEROS)
    return hashlib.sha256(json.dumps(list(listed)).encode()).hexdigest()


def start(asked: Asked, account: str) -> Answer:
    """StartSnapshot."""
    with control.LOCK:
        given, backend = asked.params, ec2_backends[account][asked.region]
        token = (account, asked.region, given.get("ClientToken", ""))
        if token[2] and token in TOKENS:
            known = UPLOADS[TOKENS[token]]
            if known.asked != given:
                raise RefusedError(409, "ConflictException", "the token was used with other parameters")
            return own.answer(known.answer, 201)
        parent = _parent(given, account, asked.region)
        if parent and ("Encrypted" in given or "KmsKeyArn" in given):
            raise _invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId with Encrypted or KmsKeyArn")
        if given.get("KmsKeyArn") and not given.get("Encrypted"):
            raise _invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn without Encrypted")
        encrypted, key = keys.encryption(backend, given.get("Encrypted"), given.get("KmsKeyArn"))
        if parent:
            encrypted, key = parent.encrypted, parent.kms_key_id
        if encrypted and not keys.may_use(
            keys.root(account), _key(account, asked.region, key), keys.TO_WRITE
        ):
            raise _invalid("INVALID_CUSTOMER_KEY", f"the key {key} cannot be used")
        tags = {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])}
        snapshot = snapshots.make(
            backend,
            size=given["VolumeSize"],
            description=given.get("Description", ""),
            encrypted=encrypted,
            key=key,
            tags=tags,
        )
        # It stays pending until it is completed, however often it is looked at.
        snapshot.settling = None
        answer = {
            "SnapshotId": snapshot.id,
            "OwnerId": account,
            "Status": "pending",
            "StartTime": time.time(),
            "VolumeSize": given["VolumeSize"],
            "BlockSize": BLOCK,
            "Description": given.get("Description", ""),
            "Tags": given.get("Tags", []),
            **({"KmsKeyArn": key} if encrypted else {}),
            **({"ParentSnapshotId": parent.id} if parent else {}),
        }
        UPLOADS[snapshot.id] = Upload(given, answer)
        if parent:
            UPLOADS[snapshot.id].sums |= _content(parent).sums
        if token[2]:
            TOKENS[token] = snapshot.id
        return own.answer(answer, 201)


def _key(account: str, region: str, key: str | None) -> Any:
    return keys.find(account, region, key) if key else None


def _parent(given: dict[str, Any], account: str, region: str) -> Any:
    if "ParentSnapshotId" not in given:
        return None
    return _completed(given["ParentSnapshotId"], account, region)


def _open(snapshot_id: str, account: str, region: str) -> tuple[Any, Upload]:
    snapshot = ec2_backends[account][region].snapshots.get(snapshot_id)
    upload = UPLOADS.get(snapshot_id)
    if snapshot is None or upload is None:
        raise _absent(snapshot_id)
    if not upload.open:
        raise _invalid("INVALID_SNAPSHOT_ID", f"{snapshot_id} is {snapshot.status}, and takes no block")
    return snapshot, upload


def put(asked: Asked, account: str) -> Answer:
    """PutSnapshotBlock: length and checksum are looked at before the block counts."""
    given, data = asked.params, asked.body
    index, wanted = given["BlockIndex"], given.get("Checksum")
    if given.get("DataLength") != BLOCK or len(data) != BLOCK:
        raise _invalid("INVALID_BLOCK", f"a block has {BLOCK} bytes, and {len(data)} came")
    found = hashlib.sha256(data).digest()
    if given.get("ChecksumAlgorithm") != "SHA256" or base64.b64encode(found).decode() != wanted:
        raise _invalid("INVALID_BLOCK", f"block {index} does not have the checksum {wanted}")
    with control.LOCK:
        snapshot, upload = _open(given["SnapshotId"], account, asked.region)
        if index >= snapshot.volume.size * (1 << 30) // BLOCK:
            raise _invalid("INVALID_PARAMETER_VALUE", f"block {index} is beyond {snapshot.volume.size} GiB")
        upload.sums[index] = found
        if control.SETTINGS["keep_blocks"]:
            upload.data[index] = data
    headers = [("x-amz-Checksum", str(wanted)), ("x-amz-Checksum-Algorithm", "SHA256")]
    return 201, [*headers, ("content-type", "application/json")], b"{}"


def complete(asked: Asked, account: str) -> Answer:
    """CompleteSnapshot: the count of blocks, and the checksum over all where one is given."""
    given = asked.params
    with control.LOCK:
        snapshot, upload = _known(given["SnapshotId"], account, asked.region)
        if given["ChangedBlocksCount"] != len(upload.sums):
            raise _invalid(
                "INVALID_PARAMETER_VALUE",
                f"ChangedBlocksCount is {given['ChangedBlocksCount']}, and {len(upload.sums)} were put",
            )
        if given.get("Checksum"):
            linear = hashlib.sha256(b"".join(upload.sums[index] for index in sorted(upload.sums))).digest()
            if base64.b64encode(linear).decode() != given["Checksum"]:
                raise _invalid("INVALID_PARAMETER_VALUE", "the checksum is not that of the blocks")
        if upload.open:
            upload.open = False
            snapshot.settling = ec2.Settling("completed")
        return own.answer({"Status": "completed" if snapshot.status == "completed" else "pending"}, 202)


def _known(snapshot_id: str, account: str, region: str) -> tuple[Any, Upload]:
    snapshot = ec2_backends[account][region].snapshots.get(snapshot_id)
    if snapshot is None or snapshot_id not in UPLOADS:
        raise _absent(snapshot_id)
    return snapshot, UPLOADS[snapshot_id]


def _completed(snapshot_id: str, account: str, region: str) -> Any:
    for backend in ec2.accounts(region):
        snapshot = backend.snapshots.get(snapshot_id)
        if snapshot is not None and snapshots.visible(snapshot, account):
            if snapshot.status != "completed":
                raise _invalid("INVALID_SNAPSHOT_ID", f"{snapshot_id} is {snapshot.status}")
            return snapshot
    raise _absent(snapshot_id)


def _content(snapshot: Any) -> Upload:
    return UPLOADS.get(snapshots.origin(snapshot)) or Upload({}, {})


def _token(snapshot: Any, index: int, sum_: bytes) -> str:
    return base64.b64encode(
        hashlib.sha256(f"{snapshots.origin(snapshot)}/{index}".encode() + sum_).digest()
    ).decode()


def list_blocks(asked: Asked, account: str) -> Answer:
    """ListSnapshotBlocks, of a snapshot that is complete."""
    with control.LOCK:
        snapshot = _completed(asked.params["SnapshotId"], account, asked.region)
        blocks = [
            {"BlockIndex": index, "BlockToken": _token(snapshot, index, sum_)}
            for index, sum_ in sorted(_content(snapshot).sums.items())
        ]
    return _page(asked, "Blocks", blocks, snapshot)


def list_changed(asked: Asked, account: str) -> Answer:
    """ListChangedBlocks, between two snapshots that are complete."""
    with control.LOCK:
        second = _completed(asked.params["SecondSnapshotId"], account, asked.region)
        first_id = asked.params.get("FirstSnapshotId")
        first = _completed(first_id, account, asked.region) if first_id else None
        before = _content(first).sums if first else {}
        after = _content(second).sums
        changed = []
        for index in sorted(set(before) | set(after)):
            if before.get(index) != after.get(index):
                block: dict[str, Any] = {"BlockIndex": index}
                if index in before:
                    block["FirstBlockToken"] = _token(first, index, before[index])
                if index in after:
                    block["SecondBlockToken"] = _token(second, index, after[index])
                changed.append(block)
    return _page(asked, "ChangedBlocks", changed, second)


def _page(asked: Asked, member: str, items: list[dict[str, Any]], snapshot: Any) -> Answer:
    size = asked.params.get("MaxResults", 10_000)
    token = asked.params.get("NextToken")
    first = int(token) if token else asked.params.get("StartingBlockIndex", 0)
    items = [item for item in items if item["BlockIndex"] >= first]
    answer: dict[str, Any] = {
        member: items[:size],
        "ExpiryTime": time.time() + 7 * 86400,
        "VolumeSize": snapshot.volume.size,
        "BlockSize": BLOCK,
    }
    if len(items) > size:
        answer["NextToken"] = str(items[size]["BlockIndex"])
    return own.answer(answer)


def get(asked: Asked, account: str) -> Answer:
    """GetSnapshotBlock: what was kept, or zeros where the checksum says so."""
    index = asked.params["BlockIndex"]
    with control.LOCK:
        snapshot = _completed(asked.params["SnapshotId"], account, asked.region)
        upload = _content(snapshot)
        sum_ = upload.sums.get(index)
        if sum_ is None or _token(snapshot, index, sum_) != asked.params["BlockToken"]:
            raise _invalid("INVALID_BLOCK_TOKEN", f"no block {index} has this token")
        data = upload.data.get(index, bytes(BLOCK) if sum_ == ZEROS else None)
    if data is None:
        return faults.answer(asked, 501, "NotEmulated", "the emulator keeps blocks only with keep_blocks set")
    headers = [
        ("x-amz-Data-Length", str(BLOCK)),
        ("x-amz-Checksum", base64.b64encode(sum_).decode()),
        ("x-amz-Checksum-Algorithm", "SHA256"),
        ("content-type", "application/octet-stream"),
    ]
    return 200, headers, data


@control.action
def blocks(account: str, region: str, snapshot: str) -> dict[str, str]:
    """Index → SHA-256 of every block of a snapshot."""
    found = _content(ec2_backends[account][region].snapshots[snapshot])
    return {str(index): sum_.hex() for index, sum_ in sorted(found.sums.items())}


OPERATIONS = {
    "StartSnapshot": start,
    "PutSnapshotBlock": put,
    "CompleteSnapshot": complete,
    "ListSnapshotBlocks": list_blocks,
    "ListChangedBlocks": list_changed,
    "GetSnapshotBlock": get,
}


def install() -> None:
    """Answer in place of moto."""
    for name, act in OPERATIONS.items():
        own.operation("ebs", name, act)
