"""What a killed build leaves in EC2 and AppStream: found by its tags, judged by its age, removed by its kind.

Ours is what has the tag ``kiln:run``, unless its other tags name another project, or an image that kiln.toml
does not have. Whatever serves has another sign: a target's tag, or an Auto Scaling group's. Where neither AWS
nor the run's id tells the age, a sweep notes when it saw a thing first, and a later one removes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from kiln.config import Config
from launch import appstream, builder_state, names, needs, pages, removal
from launch.cloud import Cloud
from launch.plan import Say
from launch.records import now, stamp
from launch.trouble import code, told
from launch.until import until

_LOOKS = 60

GROUP_TAG = "aws:autoscaling:groupName"

BROKEN = ("failed", "error", "invalid")
"""States of an AMI that will never be of use."""


@dataclass(frozen=True)
class Left:
    """Something that a run left behind.

    Parameters
    ----------
    kind:
        As in ``instance``.
    id:
        By which it is removed.
    what:
        Its name and state, for people.
    region:
        Where.
    run:
        Value of its tag.
    made:
        When, by AWS, by the run's id, or when a sweep first saw it; None where nothing tells.
    operations:
        ``service:Operation`` of its removal.
    remove:
        Removes it, and ends when it is gone.
    """

    kind: str
    id: str
    what: str
    region: str
    run: str
    made: datetime | None
    operations: tuple[str, ...]
    remove: Callable[[Say], None]


def _ours(config: Config, tags: dict[str, str]) -> bool:
    project, image = tags.get(names.PROJECT), tags.get(names.IMAGE)
    if names.RUN not in tags or project not in (None, config.project.name):
        return False
    return project is not None or image is None or image in config.image


def _made(tags: dict[str, str], time: datetime | None) -> datetime | None:
    if time is not None:
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return names.started(tags.get(names.RUN, "")) or names.started(tags.get(names.SEEN, ""))


def note_seen(cloud: Cloud, left: Left, _: Say) -> None:
    """Write down that something was seen now; the request is ``CreateTags``.

    Parameters
    ----------
    cloud:
        The account.
    left:
        Something of EC2 that has an id of its own.
    """
    tag = {names.SEEN: stamp(now())}
    try:
        cloud.client("ec2", left.region).create_tags(Resources=[left.id], Tags=names.tags(tag))
    except ClientError as error:
        if not code(error).endswith("NotFound"):
            raise


def find(cloud: Cloud, config: Config, region: str) -> list[Left]:
    """Find what runs left in a region, of any age, in the order in which it can be removed.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    region:
        Where.

    Returns
    -------
    list of Left
        Instances first: what they use cannot go before them.

    Raises
    ------
    KilnError
        AWS did not tell.
    """
    kinds = (_instances, _images, _snapshots, _volumes, _keys, _security_groups)
    with told(f"looking for what killed runs left in {region}"):
        found = [each for kind in kinds for each in kind(cloud, config, region)]
        if any(image.appstream is not None for image in config.image.values()):
            found += _builders(cloud, config, region)
    return found


def _tagged(
    cloud: Cloud, config: Config, region: str, operation: str, key: str, **params: Any
) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """What has the tag of a run and is ours, with its tags."""
    client = cloud.client("ec2", region)
    filters = [{"Name": "tag-key", "Values": [names.RUN]}]
    for each in pages.every(client, operation, key, Filters=filters, **params):
        tags = names.read(each.get("Tags"))
        if _ours(config, tags):
            yield each, tags


# ---- instances


def _instances(cloud: Cloud, config: Config, region: str) -> Iterator[Left]:
    """Builders of Packer, and what ``kiln prove --ami`` started; never what serves a target."""
    client = cloud.client("ec2", region)
    filters = [
        {"Name": "tag-key", "Values": [names.RUN]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    for each in pages.held(pages.every(client, "describe_instances", "Reservations", Filters=filters)):
        tags = names.read(each.get("Tags"))
        if not _ours(config, tags) or tags.keys() & {names.TARGET, GROUP_TAG, names.PROTECTED}:
            continue
        yield Left(
            "instance",
            each["InstanceId"],
            f"instance {each['InstanceId']}, {each['State']['Name']}",
            region,
            tags[names.RUN],
            _made(tags, each.get("LaunchTime")),
            ("ec2:TerminateInstances",),
            _terminate(cloud, region, each["InstanceId"]),
        )


def _terminate(cloud: Cloud, region: str, instance: str) -> Callable[[Say], None]:
    client = cloud.client("ec2", region)

    def gone() -> bool:
        filters = [{"Name": "instance-id", "Values": [instance]}]
        found = client.describe_instances(Filters=filters)["Reservations"]
        states = {one["State"]["Name"] for each in found for one in each["Instances"]}
        return states <= {"terminated"}

    def remove(say: Say) -> None:
        say(f"waiting for {instance} to be terminated")
        removal.removed(cloud, instance, lambda: client.terminate_instances(InstanceIds=[instance]), gone)

    return remove


# ---- images and disks


def _images(cloud: Cloud, config: Config, region: str) -> Iterator[Left]:
    """Half-made AMIs: those that failed, and those that are pending longer than anything takes."""
    for each, tags in _tagged(
        cloud,
        config,
        region,
        "describe_images",
        "Images",
        Owners=["self"],
        IncludeDeprecated=True,
        IncludeDisabled=True,
    ):
        if each["State"] not in ("pending", *BROKEN) or names.PROTECTED in tags:
            continue
        made = datetime.fromisoformat(each["CreationDate"].replace("Z", "+00:00"))
        yield Left(
            "ami",
            each["ImageId"],
            f"AMI {each['ImageId']} ({each.get('Name')}), {each['State']}",
            region,
            tags[names.RUN],
            _made(tags, made),
            ("ec2:DeregisterImage", "ec2:DeleteSnapshot"),
            partial(removal.deregister, cloud, region, each),
        )


def _snapshots(cloud: Cloud, config: Config, region: str) -> Iterator[Left]:
    """Snapshots that no AMI is made of: uploads that were begun and not ended, and what an AMI left."""
    found = {
        each["SnapshotId"]: (each, tags)
        for each, tags in _tagged(cloud, config, region, "describe_snapshots", "Snapshots", OwnerIds=["self"])
        if names.PROTECTED not in tags
    }
    for snapshot in needs.unused_snapshots(cloud, region, found):
        each, tags = found[snapshot]
        yield Left(
            "snapshot",
            snapshot,
            f"snapshot {snapshot}, {each['State']}, of no image",
            region,
            tags[names.RUN],
            _made(tags, each.get("StartTime")),
            ("ec2:DeleteSnapshot",),
            partial(removal.delete_snapshot, cloud, region, snapshot),
        )


def _volumes(cloud: Cloud, config: Config, region: str) -> Iterator[Left]:
    """Volumes that nothing is attached to."""
    for each, tags in _tagged(cloud, config, region, "describe_volumes", "Volumes"):
        if each["State"] not in ("available", "error") or names.PROTECTED in tags or names.TARGET in tags:
            continue
        yield Left(
            "volume",
            each["VolumeId"],
            f"volume {each['VolumeId']}, {each['State']}, {each.get('Size')} GiB",
            region,
            tags[names.RUN],
            _made(tags, each.get("CreateTime")),
            ("ec2:DeleteVolume",),
            _deleting_volume(cloud, region, each["VolumeId"]),
        )


def _deleting_volume(cloud: Cloud, region: str, volume: str) -> Callable[[Say], None]:
    client = cloud.client("ec2", region)

    def gone() -> bool:
        filters = [{"Name": "volume-id", "Values": [volume]}]
        states = {each["State"] for each in client.describe_volumes(Filters=filters)["Volumes"]}
        return states <= {"deleted", "deleting"}

    return lambda _: removal.removed(cloud, volume, lambda: client.delete_volume(VolumeId=volume), gone)


# ---- keys and security groups


def _keys(cloud: Cloud, config: Config, region: str) -> Iterator[Left]:
    """Temporary keys."""
    for each, tags in _tagged(cloud, config, region, "describe_key_pairs", "KeyPairs"):
        name = each["KeyName"]
        yield Left(
            "key",
            name,
            f"key pair {name}",
            region,
            tags[names.RUN],
            _made(tags, each.get("CreateTime")),
            ("ec2:DeleteKeyPair",),
            _deleting_key(cloud, region, name),
        )


def _deleting_key(cloud: Cloud, region: str, name: str) -> Callable[[Say], None]:
    client = cloud.client("ec2", region)

    def gone() -> bool:
        filters = [{"Name": "key-name", "Values": [name]}]
        return not client.describe_key_pairs(Filters=filters)["KeyPairs"]

    return lambda _: removal.removed(cloud, f"key {name}", lambda: client.delete_key_pair(KeyName=name), gone)


def _security_groups(cloud: Cloud, config: Config, region: str) -> Iterator[Left]:
    """Temporary security groups. EC2 does not say when one was made: the run's id must."""
    for each, tags in _tagged(cloud, config, region, "describe_security_groups", "SecurityGroups"):
        group = each["GroupId"]
        yield Left(
            "security group",
            group,
            f"security group {group} ({each['GroupName']})",
            region,
            tags[names.RUN],
            _made(tags, None),
            ("ec2:DeleteSecurityGroup",),
            _deleting_group(cloud, region, group),
        )


def _deleting_group(cloud: Cloud, region: str, group: str) -> Callable[[Say], None]:
    client = cloud.client("ec2", region)

    def gone() -> bool:
        filters = [{"Name": "group-id", "Values": [group]}]
        return not client.describe_security_groups(Filters=filters)["SecurityGroups"]

    def remove(say: Say) -> None:
        # The network interface of an instance that was just terminated goes a moment later.
        def look() -> bool | None:
            try:
                client.delete_security_group(GroupId=group)
            except ClientError as error:
                if code(error) == "DependencyViolation":
                    say(f"{group} is still in use")
                    return None
                if not gone():
                    raise
            return True

        until(cloud, look, f"{group} in {region} to be free", _LOOKS)

    return remove


# ---- image builders


def _builders(cloud: Cloud, config: Config, region: str) -> Iterator[Left]:
    """Image builders of AppStream, which bill while they run."""
    doing = f"listing the image builders in {region}"
    for each in appstream.listed(cloud, region, doing, "describe_image_builders", "ImageBuilders"):
        tags = appstream.tags(cloud, region, each["Arn"])
        if not _ours(config, tags) or names.PROTECTED in tags or each["State"] == "DELETING":
            continue
        yield Left(
            "image builder",
            each["Name"],
            f"image builder {each['Name']}, {each['State']}",
            region,
            tags[names.RUN],
            _made(tags, each.get("CreatedTime")),
            ("appstream:StopImageBuilder", "appstream:DeleteImageBuilder"),
            partial(builder_state.remove, cloud, region, each["Name"]),
        )
