"""Who needs a version: nothing that stands here may be disabled or removed.

What could not be found out counts as needed. A version is ours by the tags of its AMI and the derived name
together; anything else is foreign, and never touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kiln.config import Config
from launch import ami as amis
from launch import appstream, appstream_image, history, names, pages, references, rollout, sharing, usage
from launch import channel as channels
from launch.cloud import Cloud
from launch.execute import LANES
from launch.records import Records
from launch.trouble import told

UNSEEN = "account"
"""Kind of the need of an account whose use is not known; a usage report would tell."""

CHANNEL = ("channel", "way-back")
"""Kinds of needs that a revocation itself takes away."""

_PROTECTED = "protected"

_CHUNK = 200
"""Values that a filter of EC2 takes."""


@dataclass(frozen=True)
class Need:
    """A reason why a version stays.

    Parameters
    ----------
    kind:
        ``instance``, ``template``, ``group``, ``refresh``, ``fleet``, ``builder``, ``import``, ``channel``,
        ``way-back``, ``account``, ``shared``, ``protected``.
    what:
        In words, with the names of the resources.
    region:
        Where.
    """

    kind: str
    what: str
    region: str

    def __str__(self) -> str:
        return f"{self.what} ({self.region})"


@dataclass(frozen=True)
class Place:
    """What there is of an image in a region.

    Parameters
    ----------
    region:
        Where.
    amis:
        Version → its AMI as EC2 describes it.
    streams:
        Version → its AppStream image as AppStream describes it.
    """

    region: str
    amis: dict[str, dict[str, Any]]
    streams: dict[str, dict[str, Any]]

    @property
    def versions(self) -> set[str]:
        """What there is anything of."""
        return set(self.amis) | set(self.streams)


def regions_of(records: Records, config: Config, image: str, account: str) -> list[str]:
    """List where an image is or may be: kiln.toml's regions first, then those of the records.

    Parameters
    ----------
    records, config:
        The bucket, and kiln.toml.
    image:
        Which.
    account:
        Ours.
    """
    found = list(config.publication(image).regions)
    prefix = records.key("images", image) + "/"
    for key in records.keys(prefix):
        folder, _, name = key.removeprefix(prefix).partition("/")
        if folder and name.startswith(f"published/{account}-"):
            found.append(name.removeprefix(f"published/{account}-").removesuffix(".json"))
    return list(dict.fromkeys(found))


def places(cloud: Cloud, config: Config, image: str, regions: Iterable[str]) -> dict[str, Place]:
    """Look what there is of an image, region by region side by side.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    image:
        Which.
    regions:
        Where.

    Returns
    -------
    dict of str to Place
        By region.

    Raises
    ------
    KilnError
        A region did not tell.
    """
    return _side_by_side(regions, lambda region: place(cloud, config, image, region))


def place(cloud: Cloud, config: Config, image: str, region: str) -> Place:
    """Look what there is of an image in one region; parameters as of :func:`places`."""
    filters = [
        {"Name": f"tag:{names.PROJECT}", "Values": [config.project.name]},
        {"Name": f"tag:{names.IMAGE}", "Values": [image]},
    ]
    found: dict[str, dict[str, Any]] = {}
    with told(f"listing the AMIs of {image} in {region}"):
        for each in _own_amis(cloud, region, filters):
            version = names.read(each.get("Tags")).get(names.VERSION)
            if version and each.get("Name") == names.ami(config.project.name, image, version):
                found[version] = each
    streams = {}
    if channels.of_appstream(config, image):
        doing = f"listing the AppStream images in {region}"
        for each in appstream.listed(cloud, region, doing, "describe_images", "Images", Type="PRIVATE"):
            version = appstream_image.version_of(config, image, each["Name"])
            if version and _is_ours(cloud, config, image, region, each):
                streams[version] = each
    return Place(region, found, streams)


def _is_ours(cloud: Cloud, config: Config, image: str, region: str, stream: dict[str, Any]) -> bool:
    tags = appstream.tags(cloud, region, stream["Arn"]) if "Arn" in stream else {}
    return tags.get(names.PROJECT) == config.project.name and tags.get(names.IMAGE) == image


def find(
    cloud: Cloud,
    records: Records,
    config: Config,
    image: str,
    there: dict[str, Place],
    versions: Iterable[str],
) -> dict[str, list[Need]]:
    """Find who needs versions, in every region side by side.

    Parameters
    ----------
    cloud, records, config:
        The account, its bucket, kiln.toml.
    image:
        Which.
    there:
        What there is of it; see :func:`places`.
    versions:
        Of which to tell.

    Returns
    -------
    dict
        Version → needs; empty for one that nothing needs.

    Raises
    ------
    KilnError
        Something could not be found out.
    """
    wanted = list(versions)
    found: dict[str, list[Need]] = {version: [] for version in wanted}
    by_region = _side_by_side(
        there, lambda region: in_region(cloud, records, config, image, there[region], wanted)
    )
    for needs in by_region.values():
        for version, each in needs.items():
            found[version] += each
    return found


def in_region(
    cloud: Cloud,
    records: Records,
    config: Config,
    image: str,
    place: Place,
    versions: Iterable[str],
) -> dict[str, list[Need]]:
    """Find who needs versions in one region; parameters as of :func:`find`."""
    wanted = set(versions)
    region = place.region
    machines = {version: each for version, each in place.amis.items() if version in wanted}
    by_ami = {each["ImageId"]: version for version, each in machines.items()}
    streams = {version: each for version, each in place.streams.items() if version in wanted}
    found: dict[str, list[Need]] = defaultdict(list)

    def add(version: str | None, kind: str, what: str) -> None:
        need = Need(kind, what, region)
        if version in wanted and need not in found[version]:
            found[version].append(need)

    if by_ami:
        for each in references.find(cloud, region, sorted(by_ami)):
            add(by_ami[each.ami], each.kind, each.what)
        _accounts(cloud, region, machines, add)
    _protection(machines, add)
    if channels.of_appstream(config, image):
        _appstream(cloud, region, streams, machines, add)
    _channels(cloud, records, config, image, place, by_ami, add)
    _targets(records, config, image, region, by_ami, add)
    return found


Add = Callable[[str | None, str, str], None]


def _accounts(cloud: Cloud, region: str, machines: dict[str, dict[str, Any]], add: Add) -> None:
    """Other accounts: who uses it, says a recent report; without one, everybody it is shared with."""
    with told(f"reading whom the AMIs in {region} are shared with"):
        shared = {
            version: (each["ImageId"], sharing.of_image(cloud, region, each["ImageId"]))
            for version, each in machines.items()
        }
    open_ones = {
        version: ami for version, (ami, who) in shared.items() if who.accounts or who.others or who.public
    }
    reports = usage.known(cloud, region, open_ones.values())
    for version, ami in open_ones.items():
        who = shared[version][1]
        if ami in reports:
            for account, what in sorted(reports[ami].items()):
                add(version, "shared", f"account {account} runs {ami}: {what}")
            continue
        whom = [*sorted(who.accounts), *sorted(who.others), *(["everybody"] if who.public else [])]
        add(version, UNSEEN, f"{ami} is shared with {', '.join(whom)}, and who runs it is not known")


def _protection(machines: dict[str, dict[str, Any]], add: Add) -> None:
    for version, each in machines.items():
        if names.PROTECTED in names.read(each.get("Tags")):
            add(version, _PROTECTED, f"{each['ImageId']} has the tag {names.PROTECTED}")
        if str(each.get("DeregistrationProtection") or "disabled") != "disabled":
            add(version, _PROTECTED, f"{each['ImageId']} is protected from deregistration")


def _appstream(
    cloud: Cloud,
    region: str,
    streams: dict[str, dict[str, Any]],
    machines: dict[str, dict[str, Any]],
    add: Add,
) -> None:
    """Fleets, builders and accounts that use an AppStream image, and imports that still read the AMI."""
    by_name = {each["Name"]: version for version, each in streams.items()}

    def version_of(name: str | None, arn: str | None) -> str | None:
        return by_name.get(name or (arn or "").rpartition("/")[2])

    doing = f"looking for what uses the AppStream images in {region}"
    for fleet in appstream.listed(cloud, region, doing, "describe_fleets", "Fleets"):
        version = version_of(fleet.get("ImageName"), fleet.get("ImageArn"))
        add(version, "fleet", f"AppStream fleet {fleet['Name']}, {fleet['State']}")
    for builder in appstream.listed(cloud, region, doing, "describe_image_builders", "ImageBuilders"):
        version = version_of(None, builder.get("ImageArn"))
        add(version, "builder", f"image builder {builder['Name']}, {builder['State']}")
    for version, each in streams.items():
        if version in machines and each["State"] not in ("AVAILABLE", "FAILED", "DELETING"):
            ami = machines[version]["ImageId"]
            add(version, "import", f"AppStream image {each['Name']} is {each['State']} and reads {ami}")
        for one in appstream.listed(
            cloud,
            region,
            doing,
            "describe_image_permissions",
            "SharedImagePermissionsList",
            Name=each["Name"],
        ):
            add(version, "shared", f"{each['Name']} is shared with account {one['sharedAccountId']}")


def _channels(
    cloud: Cloud,
    records: Records,
    config: Config,
    image: str,
    place: Place,
    by_ami: dict[str, str],
    add: Add,
) -> None:
    """Channels that name it, and what each of them goes back to when that is revoked."""
    region = place.region
    by_value = {
        **by_ami,
        **{each["Name"]: version for version, each in place.streams.items()},
        # An AppStream image is made from its AMI when it is rolled out; until then the channel needs the AMI.
        **{each["Name"]: version for version, each in place.amis.items()},
    }
    stands = channels.standings(cloud, config.project.name, image, region)
    for channel, value in stands.items():
        add(by_value.get(value), "channel", f"channel {channel} names {value}")

    def good(version: str) -> bool:
        return version in place.versions and records.revocation(image, version) is None

    for channel in {*stands, *records.folders(records.key("channels", image) + "/")}:
        back = history.last_good(history.of(records, image, channel), good)
        add(back, "way-back", f"channel {channel} goes back to it")


def _targets(
    records: Records, config: Config, image: str, region: str, by_ami: dict[str, str], add: Add
) -> None:
    """What a rollback of a target goes back to, and what a rollout that was killed goes towards."""
    for name, target in config.target.items():
        if (target.image, target.region) != (image, region):
            continue
        last = rollout.last_apply(records, name)
        if last is not None:
            for side, words in ((last.before, "goes back to it"), (last.after, "was brought to it last")):
                version = by_ami.get(side.image or "") or side.version
                add(version, "way-back", f"target {name} {words}")


def _side_by_side(regions: Iterable[str], work: Callable[[str], Any]) -> dict[str, Any]:
    wanted = list(regions)
    if not wanted:
        return {}
    with ThreadPoolExecutor(max_workers=min(LANES, len(wanted))) as pool:
        return dict(zip(wanted, pool.map(work, wanted), strict=True))


def snapshots_of(place: Place) -> set[str]:
    """Return the snapshots of all AMIs of a place."""
    return {snapshot for each in place.amis.values() for snapshot in amis.snapshots(each)}


def unused_snapshots(cloud: Cloud, region: str, snapshots: Iterable[str]) -> list[str]:
    """Return those of some snapshots that no AMI of this account is made of, ours or not.

    Parameters
    ----------
    cloud, region:
        Where.
    snapshots:
        Ids.
    """
    wanted = sorted(snapshots)
    used: set[str] = set()
    with told(f"looking which AMIs use snapshots in {region}"):
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK]
            filters = [{"Name": "block-device-mapping.snapshot-id", "Values": some}]
            used |= {one for each in _own_amis(cloud, region, filters) for one in amis.snapshots(each)}
    return [each for each in wanted if each not in used]


def _own_amis(cloud: Cloud, region: str, filters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """AMIs of the account, those too that are deprecated or disabled."""
    return pages.every(
        cloud.client("ec2", region),
        "describe_images",
        "Images",
        Owners=["self"],
        Filters=filters,
        IncludeDeprecated=True,
        IncludeDisabled=True,
    )
