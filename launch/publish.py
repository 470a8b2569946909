"""``kiln publish``: a proven version becomes an AMI in every region of kiln.toml, private, and recorded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from kiln import config as kiln_toml
from kiln import version_files
from kiln.config import Config
from kiln.manifest import Disk
from kiln.version_files import VersionFiles
from launch import ami, names, preflight, publishing, sharing, snapshot
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.lock import Lock, of_image
from launch.packer_ami import judge
from launch.plan import Plan, Request, Say, requests
from launch.publication import Place, Subject
from launch.records import MANIFEST, PROOF, SBOM
from launch.trouble import told


def run(
    image: str,
    version: str | None,
    *,
    only_plan: bool,
    as_json: bool,
    exit_code: bool,
    profile: str | None,
    config: Path | None,
) -> int:
    """Publish a version.

    Parameters
    ----------
    image:
        As in kiln.toml.
    version:
        By default the latest proven.
    only_plan, as_json, exit_code:
        As of :func:`launch.execute.carry_out`.
    profile:
        Of ~/.aws/config.
    config:
        Another kiln.toml.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    KilnError
        In two lines; the same command goes on from there.
    """
    settings = kiln_toml.load(config)
    publish = settings.publication(image)
    settings.records()
    files = version_files.find(image, version)
    cloud = Cloud(publish.regions[0], names.run_id("publish"), profile)
    # Hashing the disk takes a while.
    with Console(stderr=True).status(f"looking at {files.folder} and at {len(publish.regions)} regions"):
        made = plan(cloud, settings, files)
    lock = Lock(cloud, settings, of_image(image))
    return carry_out(made, cloud, only_plan=only_plan, as_json=as_json, exit_code=exit_code, lock=lock)


def plan(cloud: Cloud, config: Config, files: VersionFiles) -> Plan:
    """Say what is missing for a version to be published.

    Parameters
    ----------
    cloud:
        The account; its own region is the image's first.
    config:
        kiln.toml.
    files:
        The version on this machine.

    Returns
    -------
    Plan
        Without steps where all is done.

    Raises
    ------
    KilnError
        Something could not be found out.
    """
    image, version = files.manifest.image, files.manifest.version
    made = Plan(f"kiln publish {image}@{version}", f"publish {image}@{version}")
    if reason := files.unproven():
        # Nothing else is asked: what is not proven goes nowhere.
        made.refuse(*reason)
        return made
    subject = Subject(cloud, config, files)
    made.refusals += preflight.not_enabled(cloud, subject.publish.regions)
    if made.refusals:
        return made
    places = subject.places()
    _records(subject, made)
    _refuse(subject, places, made)
    if not made.refusals:
        _first(subject, places[0], made)
        for place in places[1:]:
            _copy(subject, place, made)
        for place in places:
            _finish(subject, place, made)
    if made.refusals:
        made.steps.clear()
    made.facts = {"version": version, "manifest_digest": files.manifest_digest, "regions": _facts(places)}
    return made


def _facts(places: list[Place]) -> list[dict[str, Any]]:
    return [
        {
            "region": place.region,
            "ami": place.image["ImageId"] if place.image else None,
            "state": place.image["State"] if place.image else "missing",
            "key": place.ground.key.arn if place.ground.key else None,
            "recorded": place.record is not None,
        }
        for place in places
    ]


def _records(subject: Subject, made: Plan) -> None:
    """Contract files go first: what stands in AWS always has its papers."""
    records, missing = subject.records, {}
    for name in (MANIFEST, PROOF, SBOM):
        body = subject.files.bytes_of(name)
        if body is None:
            made.notes.append(f"there is no {name} beside the manifest: the channel stable will refuse it")
            continue
        key = records.version_key(subject.image, subject.version, name)
        there = records.get(key)
        if there is None:
            missing[key] = body
        elif there != body and name == MANIFEST:
            made.refuse(
                "records-differ",
                f"{records.url(key)} is another manifest of the same version",
                "publish from the machine that baked it, or bake anew",
            )
        elif there != body:
            made.notes.append(f"{records.url(key)} stays: it is older than the {name} here")
    if missing:
        does = f"write {', '.join(key.rsplit('/', 1)[1] for key in missing)} to {records.url('')}"

        def write(say: Say) -> None:
            for key, body in missing.items():
                say(records.url(key))
                records.put_once(key, body)

        made.add("records", does, records.writing, write)


def _refuse(subject: Subject, places: list[Place], made: Plan) -> None:
    if revoked := subject.records.revocation(subject.image, subject.version):
        what = f"{subject.image}@{subject.version} was revoked by {revoked.who}: {revoked.why}"
        made.refuse("revoked", what, "bake a version without that")
    for place in places:
        made.refusals += place.ground.refusals
        if place.failed and place.region == subject.home:
            # Its snapshot is what the next one needs, so it cannot go the way of a copy that failed.
            what = f"{place.failed[0]} in {place.region} was registered, and failed"
            free = f"aws ec2 deregister-image --region {place.region} --image-id {place.failed[0]}"
            made.refuse("register-failed", what, f"give the name free, and publish again: {free}")
        for each in place.foreign:
            error = ami.collision(place.region, subject.name, each)
            made.refuse("name-taken", error.what, error.hint)
        if place.image and place.image["State"] == "disabled":
            what = f"{place.image['ImageId']} in {place.region} is disabled"
            enable = f"aws ec2 enable-image --region {place.region} --image-id {place.image['ImageId']}"
            made.refuse("disabled", what, f"kiln revoke does that; to take it back: {enable}")


def _first(subject: Subject, place: Place, made: Plan) -> None:
    """The AMI of the first region: over the uploaded disk, over a copy of Packer's, or Packer's own."""
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


def _copy(subject: Subject, place: Place, made: Plan) -> None:
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


def _finish(subject: Subject, place: Place, made: Plan) -> None:
    """What belongs to a published AMI in its region, and the look at it that ends with its record."""
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
