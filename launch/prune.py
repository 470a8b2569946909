"""Remove old versions that nothing needs, in every region, with their snapshots (``kiln prune``).

What stays is named with its reason. The records stay too: a version that was removed is marked by
``pruned.json``, and nobody can promote it again.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

from pydantic import Field

from kiln import config as kiln_toml
from kiln.config import Config
from kiln.errors import KilnError
from kiln.manifest import Strict
from launch import ami as amis
from launch import appstream_image, lock, names, needs, removal, usage
from launch import snapshot as snapshots
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.needs import Need, Place
from launch.plan import Plan, Say, requests
from launch.records import Records, now, written
from launch.trouble import AGAIN, told

PRUNED = "pruned.json"

USAGE, REMOVE, RECORD = "usage", "remove", "record"


class Pruned(Strict):
    """``pruned.json``: a version whose images were removed; its other records stay."""

    image: str = Field(description="name of the image in kiln.toml")
    version: str = Field(description="its version")
    account: str = Field(description="account whose images of it are gone")
    who: str = Field(description="ARN of the operator")
    when: datetime = Field(description="UTC")


def run(
    image: str,
    *,
    keep: int | None,
    only_plan: bool,
    as_json: bool,
    exit_code: bool,
    profile: str | None,
    config: Path | None,
) -> int:
    """Run ``kiln prune``.

    Parameters
    ----------
    image:
        Which.
    keep:
        How many versions stay in any case; by default as kiln.toml says.
    only_plan, as_json, exit_code:
        As of :func:`launch.execute.carry_out`.
    profile:
        Of the AWS configuration.
    config:
        Another kiln.toml.

    Returns
    -------
    int
        The exit code.
    """
    read = kiln_toml.load(config)
    cloud = Cloud(read.publication(image).regions[0], names.run_id("prune"), profile)

    def make() -> Plan:
        return plan(cloud, read, image, keep=keep)

    return carry_out(
        make(),
        cloud,
        only_plan=only_plan,
        as_json=as_json,
        exit_code=exit_code,
        lock=lock.Lock(cloud, read, lock.of_image(image)),
        again=make,
    )


def plan(cloud: Cloud, config: Config, image: str, *, keep: int | None) -> Plan:
    """Plan what to remove.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    image, keep:
        As of :func:`run`.

    Returns
    -------
    Plan
        With a note for each version that is kept for a need.

    Raises
    ------
    KilnError
        What is there, or who needs it, could not be found out.
    """
    most = keep or config.publication(image).keep
    made = Plan(
        f"kiln prune {image}" + (f" --keep {keep}" if keep else ""),
        f"prune {image}: keep {most} version{'s' if most > 1 else ''} and what is needed",
    )
    records = Records(cloud, config)
    _refuse_busy(made, config, records, image)
    regions = needs.regions_of(records, config, image, cloud.account)
    there = needs.places(cloud, config, image, regions)
    versions = sorted({version for place in there.values() for version in place.versions}, reverse=True)
    revoked = {version for version in versions if records.revocation(image, version) is not None}
    # A revoked version takes nobody's place among those that are kept.
    kept = [version for version in versions if version not in revoked][:most]
    old = [version for version in versions if version not in kept]
    users = needs.find(cloud, records, config, image, there, old)
    made.facts |= {
        "kept": kept,
        "needed": {version: [vars(each) for each in users[version]] for version in old if users[version]},
        "removed": [],
    }
    for version in old:
        blocking = [each for each in users[version] if each.kind != needs.UNSEEN]
        if blocking:
            reasons = "; ".join(str(each) for each in blocking[:3])
            more = len(blocking) - 3
            made.notes.append(f"{version} stays: {reasons}" + (f", and {more} more" if more > 0 else ""))
            continue
        made.facts["removed"].append(version)
        _remove(made, cloud, config, records, image, version, there, users[version])
    going = made.facts["removed"]
    _orphans(made, cloud, config, image, there, kept, revoked)
    published, pruned = _recorded(records, image, cloud.account)
    gone = sorted(published - pruned - set(versions))
    for version in [*(each for each in going if each not in pruned), *gone]:
        made.add(
            RECORD,
            f"mark the records of {image}@{version} as pruned",
            records.writing,
            partial(_mark, cloud, config, records, image, version, regions),
        )
    # Stages are carried out in the order of the list.
    made.steps.sort(key=lambda step: (USAGE, REMOVE, RECORD).index(step.stage))
    return made


def _refuse_busy(made: Plan, config: Config, records: Records, image: str) -> None:
    """Refuse while a rollout of the image is under way: which version it goes to is seen only at its end."""
    busy = {each.name: each for each in lock.held(records)}
    for name, target in config.target.items():
        if target.image == image and name in busy:
            made.refuse(
                "rollout",
                f"{name} runs {image} and is locked by {busy[name].describe()}",
                "wait until that run ends",
            )


def _recorded(records: Records, image: str, account: str) -> tuple[set[str], set[str]]:
    """Return the versions that were published in this account, and those that are marked as pruned."""
    prefix = records.key("images", image) + "/"
    published, pruned = set(), set()
    for key in records.keys(prefix):
        version, _, name = key.removeprefix(prefix).partition("/")
        if name.startswith(f"published/{account}-"):
            published.add(version)
        elif name == PRUNED:
            pruned.add(version)
    return published, pruned


# ---- removing


def _remove(
    made: Plan,
    cloud: Cloud,
    config: Config,
    records: Records,
    image: str,
    version: str,
    there: dict[str, Place],
    users: list[Need],
) -> None:
    for region, place in there.items():
        machine, stream = place.amis.get(version), place.streams.get(version)
        unseen = [each for each in users if each.region == region]
        if machine is not None and unseen:
            made.add(
                USAGE,
                f"ask EC2 which other accounts use {machine['ImageId']} ({version})",
                usage.asking(region),
                partial(usage.ask, cloud, region, config.project.name, machine["ImageId"]),
                lane=region,
            )
        condition = ", if the report says that nobody uses it" if unseen else ""
        if stream is not None:
            made.add(
                REMOVE,
                f"delete AppStream image {stream['Name']} in {region}",
                requests("appstream", region, "DeleteImage"),
                partial(_stream, cloud, config, records, image, version, region),
                lane=region,
            )
        if machine is not None:
            snapshots = amis.snapshots(machine)
            made.add(
                REMOVE,
                f"deregister {machine['ImageId']} ({version}) in {region} and delete "
                f"{', '.join(snapshots) or 'no snapshot'}{condition}",
                requests("ec2", region, "DeregisterImage", "DeleteSnapshot"),
                partial(_ami, cloud, config, records, image, version, region),
                lane=region,
            )


def _still_needed(
    cloud: Cloud, config: Config, records: Records, image: str, version: str, place: Place, say: Say
) -> bool:
    """Look once more, right before: somebody may have begun to use it since the plan was made."""
    found = needs.in_region(cloud, records, config, image, place, [version])[version]
    if found:
        say(f"{version} stays in {place.region}: {found[0]}")
    return bool(found)


def _ami(
    cloud: Cloud, config: Config, records: Records, image: str, version: str, region: str, say: Say
) -> None:
    place = needs.place(cloud, config, image, region)
    machine = place.amis.get(version)
    if machine is None or _still_needed(cloud, config, records, image, version, place, say):
        return
    removal.deregister(cloud, region, machine, say)


def _stream(
    cloud: Cloud, config: Config, records: Records, image: str, version: str, region: str, say: Say
) -> None:
    place = needs.place(cloud, config, image, region)
    stream = place.streams.get(version)
    if stream is not None and not _still_needed(cloud, config, records, image, version, place, say):
        appstream_image.remove(cloud, region, stream["Name"], say)


def _orphans(
    made: Plan,
    cloud: Cloud,
    config: Config,
    image: str,
    there: dict[str, Place],
    kept: list[str],
    revoked: set[str],
) -> None:
    """Plan to delete snapshots whose AMI is gone, of versions older than what is kept, or revoked."""
    ours = {names.PROJECT: config.project.name, names.IMAGE: image}
    for region, place in there.items():
        used = needs.snapshots_of(place)
        with told(f"listing the snapshots of {image} in {region}"):
            found = snapshots.find(cloud, region, ours)
        old = {}
        for each in found:
            version = names.read(each.get("Tags")).get(names.VERSION, "")
            left = version in revoked or (kept and version < min(kept))
            if version and left and each["SnapshotId"] not in used:
                old[each["SnapshotId"]] = version
        for snapshot in needs.unused_snapshots(cloud, region, old):
            made.add(
                REMOVE,
                f"delete {snapshot} in {region}, left of {old[snapshot]}",
                requests("ec2", region, "DeleteSnapshot"),
                partial(removal.delete_snapshot, cloud, region, snapshot),
                lane=region,
            )


def _mark(
    cloud: Cloud,
    config: Config,
    records: Records,
    image: str,
    version: str,
    regions: list[str],
    say: Say,
) -> None:
    """Mark a version as pruned, once it is gone from every region."""
    left = needs.places(cloud, config, image, regions)
    if where := [region for region, place in left.items() if version in place.versions]:
        say(f"{version} is still in {', '.join(where)}: not marked")
        return
    key = records.version_key(image, version, PRUNED)
    if not records.exists(key):
        body = Pruned(
            image=image, version=version, account=cloud.account, who=cloud.identity["Arn"], when=now()
        )
        try:
            records.put_once(key, written(body))
        except KilnError as error:
            if not records.exists(key):
                raise
            raise KilnError(f"{version} was marked by another run: {error.what}", AGAIN) from error
