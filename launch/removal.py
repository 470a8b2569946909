"""Removing images and snapshots: what is gone already is as good, whatever AWS answers of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from launch import ami as amis
from launch.cloud import Cloud
from launch.plan import Say
from launch.trouble import code, told
from launch.until import until

_LOOKS = 60


def removed(cloud: Cloud, what: str, send: Callable[[], object], gone: Callable[[], bool]) -> None:
    """Send the request that removes something, and wait until it is gone.

    Parameters
    ----------
    cloud:
        Waits.
    what:
        For the message.
    send:
        Sends it. An error counts only while the thing is there: a request whose answer was lost is sent
        again, and is then answered that there is no such thing, or, where a policy goes by its tags, that it
        is forbidden.
    gone:
        Whether it is gone.

    Raises
    ------
    KilnError
        It does not go.
    """
    try:
        send()
    except ClientError:
        if not gone():
            raise
        return
    until(cloud, lambda: True if gone() else None, f"{what} to be gone", _LOOKS)


def delete_snapshot(cloud: Cloud, region: str, snapshot: str, say: Say) -> None:
    """Delete a snapshot that is there; one that another image uses stays.

    Parameters
    ----------
    cloud, region, snapshot:
        Which. The step must have announced ``DeleteSnapshot``.
    say:
        Is told that it stays.

    Raises
    ------
    KilnError
        It does not go.
    """
    client = cloud.client("ec2", region)

    def gone() -> bool:
        # By a filter: one that is not there is no error then.
        filters = [{"Name": "snapshot-id", "Values": [snapshot]}]
        return not client.describe_snapshots(OwnerIds=["self"], Filters=filters)["Snapshots"]

    with told(f"deleting {snapshot} in {region}"):
        if gone():
            return
        try:
            removed(cloud, snapshot, lambda: client.delete_snapshot(SnapshotId=snapshot), gone)
        except ClientError as error:
            if code(error) != "InvalidSnapshot.InUse":
                raise
            say(f"{snapshot} stays: another image uses it")


def deregister(cloud: Cloud, region: str, image: dict[str, Any], say: Say) -> None:
    """Deregister an AMI and delete its snapshots, those that EC2 leaves too.

    Parameters
    ----------
    cloud, region:
        Where. The step must have announced ``DeregisterImage`` and ``DeleteSnapshot``.
    image:
        As EC2 describes it.
    say:
        Is told what stays.
    """
    ami = str(image["ImageId"])
    removed(
        cloud,
        ami,
        lambda: amis.remove(cloud, region, ami),
        lambda: amis.describe(cloud, region, ami) is None,
    )
    for snapshot in amis.snapshots(image):
        delete_snapshot(cloud, region, snapshot, say)
