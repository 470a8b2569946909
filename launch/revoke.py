"""Mark a version as bad for good, move its channels back, disable what nothing needs (``kiln revoke``)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from kiln import config as kiln_toml
from kiln.config import Config
from kiln.errors import KilnError, UsageError
from launch import ami as amis
from launch import appstream, names, needs, release, usage, way_back
from launch import channel as channels
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.lock import Lock, of_image
from launch.needs import Need, Place
from launch.plan import Plan, Say, requests
from launch.records import REVOKED, Records, Revocation, now, written
from launch.trouble import AGAIN, code, told
from launch.until import until

RECORD, MARK, USAGE, DISABLE = "record", "mark", "usage", "disable"

_TAG_LENGTH = 255
"""Characters that the value of a tag has at most, 256, less one for a mark that it was cut."""

_LOOKS = 40


def run(
    image: str,
    version: str,
    *,
    why: str,
    now: bool,
    only_plan: bool,
    as_json: bool,
    exit_code: bool,
    profile: str | None,
    config: Path | None,
) -> int:
    """Run ``kiln revoke``.

    Parameters
    ----------
    image, version:
        Which.
    why:
        The reason, a line.
    now:
        Disable it though something needs it.
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
    channels.checked("any", version)
    reason = " ".join(why.split())
    if not reason:
        raise UsageError("a revocation needs a reason", 'write --why "what is wrong with it"')
    cloud = Cloud(read.publication(image).regions[0], names.run_id("revoke"), profile)

    def make() -> Plan:
        return plan(cloud, read, image, version, why=reason, at_once=now)

    return carry_out(
        make(),
        cloud,
        only_plan=only_plan,
        as_json=as_json,
        exit_code=exit_code,
        lock=Lock(cloud, read, of_image(image)),
        again=make,
    )


def plan(cloud: Cloud, config: Config, image: str, version: str, *, why: str, at_once: bool) -> Plan:
    """Plan a revocation.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    image, version, why:
        As of :func:`run`.
    at_once:
        ``--now``.

    Returns
    -------
    Plan
        With a note for everything that still runs the version.

    Raises
    ------
    UsageError
        There is no such version.
    KilnError
        What is there could not be found out.
    """
    name = f"{image}@{version}"
    made = Plan(f'kiln revoke {name} --why "{why}"' + (" --now" if at_once else ""), f"revoke {name}")
    records = Records(cloud, config)
    regions = needs.regions_of(records, config, image, cloud.account)
    there = needs.places(cloud, config, image, regions)
    if not records.keys(records.version_key(image, version) + "/") and not any(
        version in place.versions for place in there.values()
    ):
        known = ", ".join(sorted(records.versions(image), reverse=True)[:3]) or "none"
        raise UsageError(f"there is no {name} on AWS", f"newest versions of {image} there: {known}")
    before = records.revocation(image, version)
    if before is None:
        body = Revocation(image=image, version=version, who=cloud.identity["Arn"], when=now(), why=why)
        made.add(
            RECORD,
            f"record in {records.url(records.version_key(image, version, REVOKED))} that {name} is revoked",
            records.writing,
            partial(_record, records, body),
        )
    else:
        made.notes.append(f"revoked since {before.when:%Y-%m-%d} by {before.who}: {before.why}")
    way_back.plan(made, cloud, config, records, image, version, why)
    for region, place in there.items():
        if version in place.versions:
            _mark(made, cloud, region, place, version, why)
    users = needs.find(cloud, records, config, image, there, [version])[version]
    users = [each for each in users if each.kind not in needs.CHANNEL]
    made.facts["runs"] = [vars(each) for each in users]
    made.notes += [f"still needs it: {each}" for each in users]
    _disable(made, cloud, config, records, image, version, there, users, at_once=at_once)
    return made


def _record(records: Records, body: Revocation, _: Say) -> None:
    if records.revocation(body.image, body.version) is None:
        records.put_once(records.version_key(body.image, body.version, REVOKED), written(body))


# ---- marks


def _mark(made: Plan, cloud: Cloud, region: str, place: Place, version: str, why: str) -> None:
    """Tag what there is, so that whoever sees only the image sees that it is bad."""
    tag = {names.REVOKED: why if len(why) <= _TAG_LENGTH else why[:_TAG_LENGTH] + "…"}
    machine = place.amis.get(version)
    if machine is not None and names.REVOKED not in names.read(machine.get("Tags")):
        made.add(
            MARK,
            f"tag {machine['ImageId']} as revoked",
            requests("ec2", region, "CreateTags"),
            partial(_tag_ami, cloud, region, machine["ImageId"], tag),
            lane=region,
        )
    stream = place.streams.get(version)
    if stream is not None and names.REVOKED not in appstream.tags(cloud, region, stream["Arn"]):
        made.add(
            MARK,
            f"tag AppStream image {stream['Name']} as revoked",
            requests("appstream", region, "TagResource"),
            partial(_tag_stream, cloud, region, stream, _plain(tag)),
            lane=region,
        )


def _plain(tag: dict[str, str]) -> dict[str, str]:
    """AppStream takes letters, digits, blanks and _ . : / = + - @ in tags, and no more."""
    return {
        key: "".join(each if each.isalnum() or each in " _.:/=+-@" else "-" for each in value)
        for key, value in tag.items()
    }


def _tag_ami(cloud: Cloud, region: str, ami: str, tag: dict[str, str], _: Say) -> None:
    cloud.client("ec2", region).create_tags(Resources=[ami], Tags=names.tags(tag))

    def look() -> bool | None:
        found = release.machine(cloud, region, ami)
        return True if found is None or names.REVOKED in found.tags else None

    until(cloud, look, f"the tag of {ami} in {region}", _LOOKS)


def _tag_stream(cloud: Cloud, region: str, stream: dict[str, Any], tag: dict[str, str], _: Say) -> None:
    doing = f"tagging {stream['Name']}"
    appstream.ask(cloud, region, doing, "tag_resource", ResourceArn=stream["Arn"], Tags=tag)


# ---- disabling


def _disable(
    made: Plan,
    cloud: Cloud,
    config: Config,
    records: Records,
    image: str,
    version: str,
    there: dict[str, Place],
    users: list[Need],
    *,
    at_once: bool,
) -> None:
    """Plan to disable its AMIs, in the regions where nothing needs them, or everywhere with ``--now``."""
    for region, place in there.items():
        machine = place.amis.get(version)
        if machine is None or machine["State"] != "available":
            continue
        ami = machine["ImageId"]
        here = [each for each in users if each.region == region]
        unseen = bool(here) and all(each.kind == needs.UNSEEN for each in here)
        if here and not at_once and not unseen:
            made.notes.append(f"{ami} in {region} stays usable, since it is needed; --now disables it anyway")
            continue
        if at_once and here:
            made.notes.append(
                f"--now breaks in {region}: what is listed above can start no further instance from {ami}; "
                "a group on it replaces nothing, and every share of it is lost"
            )
        if unseen and not at_once:
            made.add(
                USAGE,
                f"ask EC2 which other accounts use {ami}",
                usage.asking(region),
                partial(usage.ask, cloud, region, config.project.name, ami),
                lane=region,
            )
        condition = "" if at_once or not unseen else ", if the report says that nobody uses it"
        made.add(
            DISABLE,
            f"disable {ami} in {region}{condition}",
            requests("ec2", region, "DisableImage"),
            partial(_disable_one, cloud, config, records, image, version, place, at_once),
            lane=region,
        )


def _disable_one(
    cloud: Cloud,
    config: Config,
    records: Records,
    image: str,
    version: str,
    place: Place,
    at_once: bool,
    say: Say,
) -> None:
    """Look once more who needs it, then disable it: nothing starts from it any more, all shares are gone."""
    region, ami = place.region, place.amis[version]["ImageId"]
    if not at_once:
        found = needs.in_region(cloud, records, config, image, place, [version])[version]
        if left := [each for each in found if each.kind not in needs.CHANNEL]:
            say(f"{ami} stays usable: {left[0]}")
            return
    with told(f"disabling {ami} in {region}"):
        try:
            cloud.client("ec2", region).disable_image(ImageId=ami)
        except Exception as error:
            # Gone meanwhile, or disabled already where the answer was lost: either is as good.
            seen = amis.describe(cloud, region, ami)
            if not code(error) or (seen is not None and seen["State"] != "disabled"):
                raise

    def look() -> bool | None:
        seen = amis.describe(cloud, region, ami)
        return True if seen is None or seen["State"] == "disabled" else None

    try:
        until(cloud, look, f"{ami} in {region} to be disabled", _LOOKS)
    except KilnError as error:
        raise KilnError(f"{ami} in {region} is not disabled: it was asked for", AGAIN) from error
