"""A snapshot from the disk on this machine, by EBS direct: begun or gone on with, filled, completed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from kiln.errors import KilnError
from launch import disk, journal, names, pages, upload
from launch.ami import IDENTITY
from launch.cloud import Cloud
from launch.plan import Request, Say, requests
from launch.trouble import AGAIN, code, told
from launch.until import LOOKS, until

TIMEOUT_MINUTES = 24 * 60
"""How long AWS keeps a pending snapshot to which nothing is sent (StartSnapshot, ``Timeout``): a run that was
killed in the evening goes on in the morning; later, ``kiln sweep`` removes what is left."""

_SEALING_LOOKS = 8
"""How often we look whether a snapshot that takes nothing more is being completed already."""

_REFUSED = ("ValidationException", "ConflictException", "ResourceNotFoundException")

_TRIES = 3


@dataclass(frozen=True)
class Wanted:
    """What a snapshot is to be.

    Parameters
    ----------
    region:
        Where.
    path:
        The disk on this machine.
    tags:
        All of its tags.
    encrypt:
        Whether it is encrypted.
    key:
        ARN of the customer key, None for AWS's own.
    """

    region: str
    path: Path
    tags: dict[str, str]
    encrypt: bool
    key: str | None

    @property
    def identity(self) -> dict[str, str]:
        """The tags by which it is found."""
        return {name: self.tags[name] for name in IDENTITY}


def sending(region: str) -> tuple[Request, ...]:
    """Return the requests of :func:`make`."""
    direct = requests("ebs", region, "StartSnapshot", "CompleteSnapshot")
    return (*direct, *upload.putting(region), *requests("ec2", region, "DeleteSnapshot"))


def find(cloud: Cloud, region: str, tags: dict[str, str]) -> list[dict[str, Any]]:
    """Find snapshots of this account by their tags.

    Parameters
    ----------
    cloud, region:
        Where.
    tags:
        All of them must be there.

    Returns
    -------
    list of dict
        As EC2 describes them, oldest first.
    """
    filters = [{"Name": f"tag:{name}", "Values": [value]} for name, value in sorted(tags.items())]
    ec2 = cloud.client("ec2", region)
    found = pages.every(ec2, "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters)
    return sorted(found, key=lambda each: (each["StartTime"], each["SnapshotId"]))


def state(cloud: Cloud, region: str, snapshot: str) -> str:
    """Return ``pending``, ``completed``, ``error``, or ``gone`` for one that is not there."""
    try:
        found = cloud.client("ec2", region).describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    except ClientError as error:
        if code(error) == "InvalidSnapshot.NotFound":
            return "gone"
        raise
    return str(found[0]["State"]) if found else "gone"


def delete(cloud: Cloud, region: str, snapshot: str) -> None:
    """Delete a snapshot; one that is gone already is as good."""
    try:
        cloud.client("ec2", region).delete_snapshot(SnapshotId=snapshot)
    except ClientError as error:
        if code(error) != "InvalidSnapshot.NotFound":
            raise


def make(cloud: Cloud, wanted: Wanted, say: Say) -> str:
    """Bring the disk into a snapshot; goes on with one that an earlier run has begun.

    Parameters
    ----------
    cloud:
        The account.
    wanted:
        What it is to be.
    say:
        Is told how far it is.

    Returns
    -------
    str
        Id of the snapshot, completed, with every block read back in AWS's own list.

    Raises
    ------
    KilnError
        The disk cannot be read, or AWS does not take it.
    """
    ours: dict[str, list[str]] = {}
    for found in find(cloud, wanted.region, wanted.identity):
        ours.setdefault(found["State"], []).append(found["SnapshotId"])
    ready, begun, dead = (ours.pop(state, []) for state in ("completed", "pending", "error"))
    try:
        if not ready:
            with disk.opened(wanted.path) as image:
                ready = [_upload(cloud, wanted, image, begun, dead, say)]
    except OSError as error:
        raise KilnError(f"uploading {wanted.path}: {error}", AGAIN) from error
    # Two runs at the same time, or a request whose snapshot was not listed yet: one is enough.
    for each in (*ready[1:], *begun, *dead, *(left for lefts in ours.values() for left in lefts)):
        if each != ready[0]:
            delete(cloud, wanted.region, each)
        journal.remove(wanted.path.parent, each)
    journal.remove(wanted.path.parent, ready[0])
    return ready[0]


def _upload(
    cloud: Cloud, wanted: Wanted, image: disk.Disk, begun: list[str], dead: list[str], say: Say
) -> str:
    """Fill one that was begun, or a new one; what will never be completed goes from ``begun`` to ``dead``."""
    for _ in range(_TRIES):
        if not begun:
            begun.append(_start(cloud, wanted, image.gib, dead))
        outcome = _fill(cloud, wanted, image, begun[0], say)
        if outcome == "completed":
            return begun[0]
        if outcome != "pending":
            dead.append(begun.pop(0))
    raise KilnError(f"AWS did not complete the snapshot of {wanted.path} in {wanted.region}", AGAIN)


def _start(cloud: Cloud, wanted: Wanted, gib: int, dead: list[str]) -> str:
    encryption: dict[str, Any] = {}
    if wanted.encrypt:
        # Never False: EBS takes the parameter as true or not at all.
        encryption = {"Encrypted": True, **({"KmsKeyArn": wanted.key} if wanted.key else {})}
    # The run stands in the tags, so another run's request is another one to AWS. The dead are in it as well:
    # the same token would only give the same snapshot back.
    mark = names.token("snapshot", wanted.region, *sorted(wanted.tags.values()), *sorted(dead))
    answer = cloud.client("ebs", wanted.region).start_snapshot(
        VolumeSize=gib,
        Description=f"{wanted.tags[names.IMAGE]} {wanted.tags[names.VERSION]}",
        Tags=names.tags(wanted.tags),
        ClientToken=mark,
        Timeout=TIMEOUT_MINUTES,
        **encryption,
    )
    return str(answer["SnapshotId"])


def _fill(cloud: Cloud, wanted: Wanted, image: disk.Disk, at: str, say: Say) -> str:
    """Send what is missing, and complete; returns the state that it came to."""
    region = wanted.region
    with journal.Journal(wanted.path.parent, at, image.blocks) as taken:
        try:
            upload.send(cloud, region, image, taken, at, say)
            cloud.client("ebs", region).complete_snapshot(
                SnapshotId=at,
                ChangedBlocksCount=len(taken),
                Checksum=upload.linear(taken),
                ChecksumAlgorithm="SHA256",
                ChecksumAggregationMethod="LINEAR",
            )
        except ClientError as error:
            if code(error) not in _REFUSED:
                raise
            # Perhaps it was completed already, and only the answer was lost.
            found = _settled(cloud, region, at, _SEALING_LOOKS)
            if found == "pending":
                # AWS has not all that the journal says. A put twice is harmless: all of it once more.
                taken.forget()
                say(f"{at}: {code(error)}: every block is sent again")
            if found != "completed":
                return found
        else:
            say(f"{at}: AWS completes it")
            found = _settled(cloud, region, at)
        if found == "completed":
            with told(f"reading the blocks of {at} back"):
                if sum(1 for _ in blocks(cloud, region, at)) != len(taken):
                    raise KilnError(
                        f"{at} does not have the {len(taken)} blocks that were sent",
                        f"aws ec2 delete-snapshot --region {region} --snapshot-id {at}, and {AGAIN}",
                    )
        return found


def _settled(cloud: Cloud, region: str, at: str, looks: int = 0) -> str:
    """Wait until a snapshot is no longer pending; with ``looks``, only so long."""

    def look() -> str | None:
        found = state(cloud, region, at)
        return None if found == "pending" else found

    try:
        return until(cloud, look, f"{at} in {region} to be complete", looks or LOOKS)
    except KilnError:
        if looks:
            return "pending"
        raise


def copy(cloud: Cloud, wanted: Wanted, origin: tuple[str, str]) -> str:
    """Copy a snapshot, as with another key; goes on with a copy that an earlier run has begun.

    Parameters
    ----------
    cloud:
        The account.
    wanted:
        What it is to be.
    origin:
        Region and id of the snapshot that is copied.

    Returns
    -------
    str
        Id of the copy, completed.

    Raises
    ------
    KilnError
        AWS could not copy it.
    """
    region = wanted.region
    ours = find(cloud, region, wanted.identity)
    alive = [str(each["SnapshotId"]) for each in ours if each["State"] in ("completed", "pending")]
    if not alive:
        kms = {"KmsKeyId": wanted.key} if wanted.key else {}
        alive = [
            cloud.client("ec2", region).copy_snapshot(
                SourceRegion=origin[0],
                SourceSnapshotId=origin[1],
                Description=f"{wanted.tags[names.IMAGE]} {wanted.tags[names.VERSION]}",
                TagSpecifications=[{"ResourceType": "snapshot", "Tags": names.tags(wanted.tags)}],
                **({"Encrypted": True, **kms} if wanted.encrypt else {}),
            )["SnapshotId"]
        ]
    if _settled(cloud, region, alive[0]) != "completed":
        raise KilnError(
            f"{alive[0]}, a copy of {origin[1]}, failed in {region}",
            f"usually its key may not be used; {AGAIN}",
        )
    # CopySnapshot knows no client token: one whose answer was lost was made all the same.
    for each in find(cloud, region, wanted.identity):
        if each["SnapshotId"] != alive[0]:
            delete(cloud, region, each["SnapshotId"])
    return alive[0]


def blocks(cloud: Cloud, region: str, snapshot: str) -> Iterator[int]:
    """List the blocks of a completed snapshot: those that hold something.

    Parameters
    ----------
    cloud, region:
        Where.
    snapshot:
        Its id.

    Yields
    ------
    int
        Number of a block, in order.
    """
    client = cloud.client("ebs", region)
    token: dict[str, str] = {}
    while True:
        page = client.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=10_000, **token)
        for each in page.get("Blocks", []):
            yield each["BlockIndex"]
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}
