"""What the steps of ``kiln publish`` do. Each finds what an earlier run has done, and does the rest."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any

from kiln.errors import KilnError
from kiln.published import Published
from launch import ami, names, sharing, snapshot
from launch.plan import Say
from launch.publication import Place, Subject
from launch.records import written
from launch.trouble import AGAIN
from launch.until import until

_LOOKS = 20
"""How often an AMI is read back until all is seen: EC2 tells what was changed with a delay."""


def upload(subject: Subject, wanted: snapshot.Wanted, say: Say) -> None:
    """Bring the disk into a snapshot."""
    say(f"{snapshot.make(subject.cloud, wanted, say)} in {wanted.region} is complete")


def register(subject: Subject, wanted: snapshot.Wanted, say: Say) -> None:
    """Register the AMI over the snapshot that the upload has left."""
    region = wanted.region
    image = subject.here(region)
    if image is None:
        found = snapshot.find(subject.cloud, region, wanted.identity)
        ready = [each["SnapshotId"] for each in found if each["State"] == "completed"]
        if not ready:
            raise KilnError(f"the snapshot of {subject.name} in {region} is gone", AGAIN)
        at = ami.register(subject.cloud, region, subject.name, ready[0], subject.tags, subject.description)
    else:
        at = image["ImageId"]
    ami.await_available(subject.cloud, region, at)
    say(f"{at} in {region} is available")


def tag(subject: Subject, region: str, things: list[str], _say: Say) -> None:
    """Tag what Packer made: what is there already is written over with the same."""
    subject.cloud.client("ec2", region).create_tags(Resources=things, Tags=names.tags(subject.tags))


def wait(subject: Subject, region: str, say: Say) -> None:
    """Wait for an AMI that is being made."""
    image = _image(subject, region)
    ami.await_available(subject.cloud, region, image["ImageId"])
    say(f"{image['ImageId']} in {region} is available")


def copy(subject: Subject, place: Place, say: Say) -> None:
    """Copy the AMI to a region, and wait for it."""
    region = place.region
    for each in place.failed:
        ami.remove(subject.cloud, region, each)
    image = subject.here(region)
    if image is None:
        at = ami.copy(
            subject.cloud,
            region,
            subject.name,
            (subject.home, _image(subject, subject.home)["ImageId"]),
            subject.tags,
            subject.description,
            encrypt=subject.publish.encrypt,
            key=place.ground.key.arn if place.ground.key else None,
            failed=place.failed,
        )
    else:
        at = image["ImageId"]
    say(f"waiting for {at} in {region}")
    ami.await_available(subject.cloud, region, at)


def _image(subject: Subject, region: str) -> dict[str, Any]:
    """Return the AMI of a region; one that was made a moment ago may take a few looks."""
    look = functools.partial(subject.here, region)
    return until(subject.cloud, look, f"{subject.name} in {region} to be there", looks=_LOOKS)


def imds(subject: Subject, region: str, _say: Say) -> None:
    """Let instances of the AMI answer IMDSv2 only, unless their template says otherwise."""
    at = _image(subject, region)["ImageId"]
    client = subject.cloud.client("ec2", region)
    client.modify_image_attribute(ImageId=at, ImdsSupport={"Value": "v2.0"})


def share(subject: Subject, region: str, _say: Say) -> None:
    """Give the AMI and its snapshots to the accounts of kiln.toml, and to nobody else."""
    cloud, image = subject.cloud, _image(subject, region)
    compare = functools.partial(sharing.change, wanted=subject.wanted, keep_others=subject.keep_others)
    at = image["ImageId"]
    sharing.share_image(cloud, region, at, compare(sharing.of_image(cloud, region, at)))
    for part in ami.snapshots(image):
        sharing.share_snapshot(cloud, region, part, compare(sharing.of_snapshot(cloud, region, part)))


def deprecate(subject: Subject, region: str, _say: Say) -> None:
    """Say from when on EC2 calls the AMI deprecated."""
    image = _image(subject, region)
    if when := subject.deprecate_at(image):
        client = subject.cloud.client("ec2", region)
        client.enable_image_deprecation(ImageId=image["ImageId"], DeprecateAt=when)


def conclude(subject: Subject, place: Place, say: Say) -> None:
    """Read the AMI back until all is as it should be, compare a copy's blocks, and write the record.

    Raises
    ------
    KilnError
        Something is not as it should be, and will not become so.
    """
    region = place.region
    key = place.ground.key.arn if place.ground.key else None
    seen: list[str] = []

    def look() -> bool | None:
        seen[:] = subject.flaws(region, key)
        return None if seen else True

    try:
        until(subject.cloud, look, subject.name, looks=_LOOKS)
    except KilnError:
        if not seen:
            raise
        raise KilnError(f"{subject.name} in {region} is not as published: {'; '.join(seen)}", AGAIN) from None
    image = _image(subject, region)
    at = image["ImageId"]
    if region != subject.home and (place.record is None or place.record.ami != at):
        say(f"comparing the blocks of {at} with those of {subject.home}")
        if differs := subject.differs(region):
            raise KilnError(
                f"{at} in {region} is no true copy: {differs}",
                f"remove it (aws ec2 deregister-image --region {region} --image-id {at}), and {AGAIN}",
            )
    _record(subject, place, image)
    say(f"{at} in {region}: private, as kiln.toml says")


def _record(subject: Subject, place: Place, image: dict[str, Any]) -> None:
    region = place.region
    old = place.record
    if old is not None and old.ami == image["ImageId"]:
        return
    source = subject.source
    first = region == subject.home
    new = Published(
        contract=1,
        image=subject.image,
        version=subject.version,
        manifest_digest=subject.files.manifest_digest,
        account=subject.cloud.account,
        region=region,
        ami=image["ImageId"],
        name=image["Name"],
        snapshots=ami.snapshots(image),
        encrypted=ami.encrypted(image),
        kms_key=_key_of(subject, region, image),
        boot_mode=image["BootMode"],
        made_by="amazon-ebs" if source else "ebs-direct",
        copied_from=None if first else subject.home,
        run=subject.cloud.run_id,
        time=datetime.now(UTC).replace(microsecond=0),
    )
    key = subject.record_key(region)
    if old is None:
        subject.records.put_once(key, written(new))
        return
    # The AMI that it names is gone: somebody removed it, and the version was published again.
    there = subject.records.find(key)
    if there is None:
        subject.records.put_once(key, written(new))
    else:
        subject.records.replace(key, written(new), there.etag)


def _key_of(subject: Subject, region: str, image: dict[str, Any]) -> str | None:
    client = subject.cloud.client("ec2", region)
    found = client.describe_snapshots(SnapshotIds=ami.snapshots(image)[:1])["Snapshots"]
    return found[0].get("KmsKeyId") if found else None


def duplicate(subject: Subject, wanted: snapshot.Wanted, origin: tuple[str, str], say: Say) -> None:
    """Copy the disk of Packer's AMI, with the key of kiln.toml."""
    say(f"{snapshot.copy(subject.cloud, wanted, origin)} in {wanted.region} is complete")


def retire(subject: Subject, wanted: snapshot.Wanted, say: Say) -> None:
    """Remove Packer's AMI, once a copy of its disk is there."""
    source = subject.source
    assert source is not None
    found = snapshot.find(subject.cloud, wanted.region, wanted.identity)
    if not any(each["State"] == "completed" for each in found):
        raise KilnError(f"the copy of {source.ami} in {wanted.region} is gone", AGAIN)
    ami.remove(subject.cloud, source.region, source.ami)
    say(f"{source.ami} is gone; its disk is {found[0]['SnapshotId']}")
