"""Channels: SSM parameters that name a version; :mod:`launch.history` has what they named before.

For an image of EC2 the parameter has the data type ``aws:ec2:image``, which SSM validates after it has
answered; for one of AppStream it is the image's name as text, since that type cannot hold it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console

from kiln import config as kiln_toml
from kiln.config import Config, FleetTarget
from kiln.errors import Exit, KilnError, UsageError
from kiln.manifest import VERSION_PATTERN
from kiln.published import Published
from launch import appstream_image, names, pages, release
from launch import history as past
from launch.cloud import Cloud
from launch.plan import Request, Say, requests
from launch.records import Records
from launch.settled import settled
from launch.trouble import AGAIN, code, told
from launch.until import until

LOOKS = 40
"""How often a parameter is read back: SSM validates an ``aws:ec2:image`` within seconds, mostly."""

PATIENCE = 6
"""How often, 5 s apart, it is looked for after an answer was lost, before it is set again."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Standing:
    """What a channel names in a region.

    Parameters
    ----------
    region:
        Where.
    value:
        Id of an AMI, or name of an AppStream image.
    version:
        Of ours; None where the value is none of ours, or is gone.
    number:
        Version of the parameter.
    since:
        When it was set.
    """

    region: str
    value: str
    version: str | None
    number: int
    since: datetime

    def __str__(self) -> str:
        return self.version or f"{self.value} (no version of ours)"


# ---- names


def of_appstream(config: Config, image: str) -> bool:
    """Tell whether an image runs on AppStream: kiln.toml has its table, or a fleet that runs it."""
    fleets = (each for each in config.target.values() if isinstance(each, FleetTarget))
    return config.select(image).appstream is not None or any(each.image == image for each in fleets)


def checked(channel: str, version: str | None = None) -> None:
    """Refuse names that cannot be meant.

    Parameters
    ----------
    channel:
        Of a channel.
    version:
        Of a version, None where there is none to check.

    Raises
    ------
    UsageError
        One of them reads otherwise.
    """
    if not _NAME.fullmatch(channel) or len(channel) > 40:
        raise UsageError(f"{channel!r} is no name of a channel", "small letters, digits, dashes: stable, dev")
    if version is not None and not re.fullmatch(VERSION_PATTERN, version):
        raise UsageError(
            f"{version!r} is no version", "a version reads like 20260102T030405Z-89abcdef; see: kiln status"
        )


def channels(cloud: Cloud, records: Records, image: str, regions: list[str]) -> list[str]:
    """List the channels of an image: those with a history, and those that only have a parameter.

    Parameters
    ----------
    cloud, records:
        The account and its bucket.
    image:
        Name in kiln.toml.
    regions:
        Where to look for parameters.
    """
    found = set(records.folders(records.key("channels", image) + "/"))
    for region in regions:
        found |= set(standings(cloud, records.project, image, region))
    return sorted(found)


def standings(cloud: Cloud, project: str, image: str, region: str) -> dict[str, str]:
    """Return channel → value of all channels of an image in a region.

    Parameters
    ----------
    cloud, region:
        Where.
    project, image:
        Whose.
    """
    folder = names.channel(project, image, "")
    with told(f"listing the channels of {image} in {region}"):
        found = pages.every(
            cloud.client("ssm", region),
            "get_parameters_by_path",
            "Parameters",
            Path=folder.rstrip("/"),
            Recursive=False,
        )
        return {each["Name"].removeprefix(folder): each["Value"] for each in found}


# ---- what a version is called in a region


def published(records: Records, image: str, version: str, account: str, region: str) -> Published | None:
    """Return the record of a version in an account and region, None where it was not published there."""
    return records.read(records.published_key(image, version, account, region), Published)


def value_of(
    cloud: Cloud, records: Records, config: Config, image: str, version: str, region: str
) -> tuple[str | None, str]:
    """Return what a channel would say for a version.

    Parameters
    ----------
    cloud, records, config:
        The account, its bucket, kiln.toml.
    image, version, region:
        Which, and where.

    Returns
    -------
    tuple
        The value, None where the version cannot be run there; and why not, else empty.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    record = published(records, image, version, cloud.account, region)
    if of_appstream(config, image):
        name = appstream_image.name_of(config, image, version)
        there = appstream_image.find(cloud, region, name)
        if there is not None and there["State"] == "FAILED":
            return None, appstream_image.explained(there)[0]
        if there is None and record is None:
            return None, f"there is neither an AppStream image {name} nor an AMI of it"
        return name, ""
    if record is None:
        return (
            None,
            f"there is no {records.url(records.published_key(image, version, cloud.account, region))}",
        )
    found = release.machine(cloud, region, record.ami)
    if found is None:
        return None, f"{record.ami} is gone"
    if found.trouble:
        return None, f"{record.ami} is {found.trouble}"
    if found.version != version:
        return None, f"{record.ami} is tagged {found.version or 'with no version'}"
    return record.ami, ""


# ---- reading and writing


def read(
    cloud: Cloud, records: Records, config: Config, image: str, channel: str, region: str
) -> Standing | None:
    """Read what a channel names in a region.

    Parameters
    ----------
    cloud, records, config:
        The account, its bucket, kiln.toml.
    image, channel, region:
        Which, and where.

    Returns
    -------
    Standing or None
        None where there is no such parameter.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    found = _parameter(cloud, names.channel(config.project.name, image, channel), region)
    if found is None:
        return None
    value = found["Value"]
    return Standing(
        region=region,
        value=value,
        version=version_of(cloud, records, config, image, value, region),
        number=found["Version"],
        since=found["LastModifiedDate"],
    )


def _parameter(cloud: Cloud, name: str, region: str) -> dict[str, Any] | None:
    with told(f"reading the channel {name} in {region}"):
        try:
            return dict(cloud.client("ssm", region).get_parameter(Name=name)["Parameter"])
        except ClientError as error:
            if code(error) == "ParameterNotFound":
                return None
            raise


def version_of(
    cloud: Cloud, records: Records, config: Config, image: str, value: str, region: str
) -> str | None:
    """Return the version that a channel's value stands for, None where it is none of ours.

    Parameters
    ----------
    cloud, records, config, image, region:
        As of :func:`read`.
    value:
        Id of an AMI, or name of an AppStream image.
    """
    if of_appstream(config, image):
        found = appstream_image.version_of(config, image, value)
        return found if found and re.fullmatch(VERSION_PATTERN, found) else None
    machine = release.machine(cloud, region, value)
    if machine is not None:
        return machine.version if machine.image == image else None
    # The AMI is gone: what it was stands in the records.
    for version in reversed(records.versions(image)):
        record = published(records, image, version, cloud.account, region)
        if record is not None and record.ami == value:
            return version
    return None


def setting(region: str) -> tuple[Request, ...]:
    """Return the requests of :func:`write` in a region."""
    return requests("ssm", region, "PutParameter")


def write(cloud: Cloud, config: Config, image: str, channel: str, region: str, value: str, say: Say) -> None:
    """Let a channel name something in a region, and read it back.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    image, channel, region:
        Which, and where.
    value:
        Id of an AMI, or name of an AppStream image.
    say:
        Is told what is waited for.

    Raises
    ------
    KilnError
        SSM did not take it. An ``aws:ec2:image`` is validated after the request was answered with 200, and
        what is refused then leaves the parameter as it was (Parameter Store, "Creating parameters of the
        data type aws:ec2:image").
    """
    name = names.channel(config.project.name, image, channel)
    kind = "text" if of_appstream(config, image) else "aws:ec2:image"
    ssm = cloud.once("ssm", region)
    given: dict[str, Any] = {"Name": name, "Value": value, "Type": "String", "DataType": kind}
    there = _parameter(cloud, name, region)

    def stands() -> bool:
        found = _parameter(cloud, name, region)
        return found is not None and found["Value"] == value

    def came() -> bool:
        # Validated after the answer, so it shows late.
        for _ in range(PATIENCE):
            if stands():
                return True
            cloud.wait(5.0)
        return False

    with told(f"setting {name} in {region}"):
        if there is None:
            tags = {names.PROJECT: config.project.name, names.IMAGE: image}
            text = f"{config.project.name}: the {channel} version of {image}"
            try:
                new = {**given, "Description": text, "Tags": names.tags(tags)}
                settled(cloud, lambda: ssm.put_parameter(**new), came)
            except ClientError as error:
                # Made meanwhile, by ourselves where the answer was lost: then it is only read back.
                if code(error) != "ParameterAlreadyExists":
                    raise
                there = _parameter(cloud, name, region)
        if there is not None and there["Value"] != value:
            # Tags cannot be given with Overwrite; they stay.
            settled(cloud, lambda: ssm.put_parameter(**given, Overwrite=True), came)
    say(f"reading {name} back in {region}")

    def look() -> bool | None:
        return True if stands() else None

    try:
        until(cloud, look, f"{name} in {region} to be {value}", LOOKS)
    except KilnError as error:
        found = _parameter(cloud, name, region)
        raise KilnError(
            f"{name} in {region} does not become {value}: it is {found['Value'] if found else 'not there'}",
            f"SSM validates it after its answer: is {value} there and available? Then {AGAIN}",
        ) from error


def print_history(
    image: str, channel: str, *, as_json: bool, profile: str | None, config: Path | None
) -> int:
    """List what a channel named, since when and by whom, newest last (``kiln history``).

    Parameters
    ----------
    image, channel:
        Which.
    as_json:
        Print JSON.
    profile:
        Of the AWS configuration.
    config:
        Another kiln.toml.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    UsageError
        There is no such channel.
    """
    read_config = kiln_toml.load(config)
    checked(channel)
    regions = read_config.publication(image).regions
    cloud = Cloud(regions[0], names.run_id("history"), profile)
    records = Records(cloud, read_config)
    moves = past.of(records, image, channel)
    stands = {region: read(cloud, records, read_config, image, channel, region) for region in regions}
    if not moves and not any(stands.values()):
        known = ", ".join(channels(cloud, records, image, regions)) or "none yet"
        raise UsageError(f"{image} has no channel {channel}", f"channels of {image}: {known}")
    revoked = {move.after: records.revocation(image, move.after) for move in moves}
    if as_json:
        data = {
            "image": image,
            "channel": channel,
            "now": {region: _plain(stand) for region, stand in stands.items()},
            "history": [
                {**move.model_dump(mode="json", by_alias=True), "revoked": revoked[move.after] is not None}
                for move in moves
            ],
        }
        print(json.dumps(data, indent=1))
        return Exit.DONE
    console = Console(highlight=False)
    for move in moves:
        was = f", from {move.before}" if move.before else ""
        bad = " (revoked)" if revoked[move.after] else ""
        console.print(
            f"{move.when:%Y-%m-%d %H:%M:%S}  {move.after}{bad}{was}  {move.who}  {move.why}",
            markup=False,
            soft_wrap=True,
        )
    for region, stand in stands.items():
        console.print(f"now in {region}: {stand or 'nothing'}", markup=False, soft_wrap=True)
    return Exit.DONE


def _plain(stand: Standing | None) -> dict[str, Any] | None:
    if stand is None:
        return None
    return {"version": stand.version, "value": stand.value, "since": stand.since.isoformat()}
