"""What ``kiln publish`` plans in a region: how its AMI comes to be, and what belongs to it."""

from __future__ import annotations

from functools import partial
from typing import Any

from rich.filesize import decimal

from kiln.manifest import Disk
from launch import ami, publishing, sharing, snapshot
from launch.packer_ami import judge
from launch.plan import Plan, Request, requests
from launch.publication import Place, Subject
from launch.trouble import told


def first(subject: Subject, place: Place, made: Plan) -> None:
    """Plan the AMI of the first region: over the uploaded disk, over a copy of Packer's, or Packer's own.

    Parameters
    ----------
    subject:
        The version.
    place:
        The first region, as it is.
    made:
        Gets the steps, and refusals for what cannot be published.
    """
    image, source, key = place.image, subject.source, place.ground.key
    wanted = snapshot.Wanted(
        place.region,
        subject.files.disk,
        subject.tags,
        subject.publish.encrypt,
        key.arn if key else None,
    )
    if image is not None:
        _wait(subject, place, made)
        if not ami.belongs(image, subject.tags):
            # Packer's own, for only that one counts as ours without its tags.
            _judge(subject, made)
            things = [str(image["ImageId"]), *ami.snapshots(image)]
            does = f"tag {' and '.join(things)} as {subject.version}"
            do = partial(publishing.tag, subject, place.region, things)
            made.add("register", does, requests("ec2", place.region, "CreateTags"), do)
        if image.get("ImdsSupport") != "v2.0":
            # Before the copies, which take it over.
            does = f"let {image['ImageId']} in {place.region} take IMDSv2 only"
            allowed = requests("ec2", place.region, "ModifyImageAttribute")
            made.add("register", does, allowed, partial(publishing.imds, subject, place.region))
    else:
        with told(f"looking for snapshots in {place.region}"):
            found = snapshot.find(subject.cloud, place.region, wanted.identity)
        (_duplicate if source else _upload)(subject, wanted, found, made)
    if source and source.is_of(subject.version) and not subject.adopts:
        # It has the name that the next step needs, and would only cost.
        made.add(
            "clean up",
            f"remove {source.ami} in {source.region}, which Packer made, and its snapshots: a copy is there",
            requests("ec2", source.region, "DeregisterImage"),
            partial(publishing.retire, subject, wanted),
        )
    if image is None:
        made.add(
            "register",
            f"register {subject.name} in {place.region}: UEFI, NVMe, ENA, IMDSv2 only",
            requests("ec2", place.region, "RegisterImage"),
            partial(publishing.register, subject, wanted),
        )


def _judge(subject: Subject, made: Plan) -> bool:
    """Refuse Packer's AMI where it cannot be published; tell whether it can."""
    assert subject.source is not None
    account, encrypt = subject.cloud.account, subject.publish.encrypt
    reasons = list(judge(subject.source, subject.image, subject.version, account, encrypt=encrypt))
    made.refusals += reasons
    return not reasons


def _duplicate(subject: Subject, wanted: snapshot.Wanted, found: list[dict[str, Any]], made: Plan) -> None:
    """A copy of the disk of Packer's AMI, with the key that kiln.toml names."""
    ready = any(each["State"] == "completed" for each in found)
    if ready and len(found) == 1:
        return
    if not ready and not _judge(subject, made):
        return
    source = subject.source
    assert source is not None
    # Where the copy is there, and only another one beside it is to go, Packer's may be gone already.
    origin = ami.snapshots(source.image)[0] if source.image else "the snapshot"
    how = f", encrypted with {wanted.key}" if wanted.key else ""
    made.add(
        "upload",
        f"copy {origin}, the disk of {source.ami}, to {wanted.region}{how}",
        requests("ec2", wanted.region, "CopySnapshot", "DeleteSnapshot"),
        partial(publishing.duplicate, subject, wanted, (source.region, origin)),
    )


def _upload(subject: Subject, wanted: snapshot.Wanted, found: list[dict[str, Any]], made: Plan) -> None:
    ready = [each["SnapshotId"] for each in found if each["State"] == "completed"]
    begun = [each["SnapshotId"] for each in found if each["State"] == "pending"]
    if len(ready) == len(found) == 1:
        return
    if ready:
        does = f"remove what other runs left in {wanted.region} beside {ready[0]}"
    elif reason := subject.files.damaged():
        made.refuse(*reason)
        return
    else:
        disk: Disk = subject.files.manifest.disk
        size = f"{decimal(disk.virtual_bytes)}, {decimal(disk.bytes)} as it lies here"
        where = f"go on with {begun[0]}" if begun else "to a new snapshot"
        does = f"upload {disk.file} ({size}) to {wanted.region}: {where}"
    made.add("upload", does, snapshot.sending(wanted.region), partial(publishing.upload, subject, wanted))


def _wait(subject: Subject, place: Place, made: Plan) -> None:
    """An earlier run has begun it: wait for it, which changes nothing."""
    assert place.image is not None
    if place.image["State"] == "pending":
        does = f"wait for {place.image['ImageId']} in {place.region}"
        made.add("copy", does, (), partial(publishing.wait, subject, place.region), lane=place.region)


def copy(subject: Subject, place: Place, made: Plan) -> None:
    """Plan the AMI of another region; parameters as of :func:`first`."""
    if place.image is not None:
        _wait(subject, place, made)
        return
    allowed: tuple[Request, ...] = requests("ec2", place.region, "CopyImage")
    does = f"copy {subject.name} to {place.region}"
    if place.ground.key:
        does += f", encrypted with {place.ground.key.arn}"
    if place.failed:
        does = f"remove {', '.join(place.failed)}, which failed, and {does}"
        allowed += requests("ec2", place.region, "DeregisterImage")
    made.add("copy", does, allowed, partial(publishing.copy, subject, place), lane=place.region)


def finish(subject: Subject, place: Place, made: Plan) -> None:
    """Plan what belongs to an AMI in its region, and the look at it that ends with its record.

    Parameters
    ----------
    subject, place, made:
        As of :func:`first`; ``made`` has the steps that make the AMI.
    """
    region, image, count = place.region, place.image, len(made.steps)
    add = partial(made.add, "finish", lane=region)
    name = image["ImageId"] if image else subject.name
    ready = image if image and image["State"] == "available" else None
    made_here = (region, "" if region == subject.home else region)
    touched = any(step.lane in made_here and step.stage != "records" for step in made.steps)
    if image and image.get("ImdsSupport") != "v2.0" and region != subject.home:
        allowed = requests("ec2", region, "ModifyImageAttribute")
        add(f"let {name} in {region} take IMDSv2 only", allowed, partial(publishing.imds, subject, region))
    if change := _sharing(subject, place):
        do = partial(publishing.share, subject, region)
        add(f"{name} in {region}: {change}", sharing.changing(region), do)
    if ready is None or subject.deprecate_at(ready) not in (None, ami.deprecated_at(ready)):
        days = subject.publish.deprecate_after_days
        allowed = requests("ec2", region, "EnableImageDeprecation")
        do = partial(publishing.deprecate, subject, region)
        add(f"deprecate {name} in {region} {days} days after it was made", allowed, do)
    stale = place.record is None or (image is not None and place.record.ami != image["ImageId"])
    if stale or touched or len(made.steps) > count:
        allowed = subject.records.writing if stale or image is None else ()
        does = f"read {name} in {region} back: private, encrypted, shared as kiln.toml says"
        if allowed:
            does += f"; write {subject.records.url(subject.record_key(region))}"
        add(does, allowed, partial(publishing.conclude, subject, place))


def _sharing(subject: Subject, place: Place) -> str:
    """Say who will be added or removed; empty where nothing changes."""
    if place.shared is None:
        return str(sharing.change(sharing.Shared(frozenset()), subject.wanted, keep_others=True))
    things = {"": place.shared, **place.parts}
    said = []
    for name, there in things.items():
        if change := sharing.change(there, subject.wanted, keep_others=subject.keep_others):
            said.append(f"{name}: {change}" if name else str(change))
    return "; ".join(said)
