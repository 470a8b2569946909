"""``kiln publish``: a proven version becomes an AMI in every region of kiln.toml, private, and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from kiln import config as kiln_toml
from kiln import version_files
from kiln.config import Config
from kiln.version_files import VersionFiles
from launch import ami, names, preflight, publish_region
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.lock import Lock, of_image
from launch.plan import Plan, Say
from launch.publication import Place, Subject
from launch.records import MANIFEST, PROOF, SBOM


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
        publish_region.first(subject, places[0], made)
        for place in places[1:]:
            publish_region.copy(subject, place, made)
        for place in places:
            publish_region.finish(subject, place, made)
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
