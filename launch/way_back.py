"""Move channels away from a version that was revoked: back to the last good one in their history."""

from __future__ import annotations

from functools import partial

from kiln.config import Config
from launch import channel as channels
from launch import history, names
from launch.cloud import Cloud
from launch.plan import Plan, Say
from launch.records import Records

STAGE = "channel"


def plan(
    made: Plan, cloud: Cloud, config: Config, records: Records, image: str, version: str, why: str
) -> None:
    """Plan what moves the channels of an image away from a version.

    Parameters
    ----------
    made:
        Gets the steps, and a note for a channel that has nothing to go back to.
    cloud, config, records:
        The account, kiln.toml, the bucket.
    image, version:
        What is revoked.
    why:
        The reason, for the history.
    """
    regions = config.publication(image).regions
    for channel in channels.channels(cloud, records, image, regions):
        _one(made, cloud, config, records, image, version, channel, why)


def _one(
    made: Plan,
    cloud: Cloud,
    config: Config,
    records: Records,
    image: str,
    version: str,
    channel: str,
    why: str,
) -> None:
    moves = history.of(records, image, channel)
    stands = {
        region: stand
        for region in config.publication(image).regions
        if (stand := channels.read(cloud, records, config, image, channel, region)) is not None
    }
    naming = {region: stand for region, stand in stands.items() if stand.version == version}
    newest = moves[-1].after if moves else None
    if not naming and newest != version:
        return

    def good(candidate: str) -> bool:
        """Whether a version may be run, in every region that has the channel."""
        return (
            candidate != version
            and records.revocation(image, candidate) is None
            and all(
                channels.value_of(cloud, records, config, image, candidate, region)[0] for region in stands
            )
        )

    # The newest of the history is good where a run was killed between the history and the regions.
    back = newest if newest is not None and good(newest) else history.last_good(moves, good)
    if back is None:
        made.notes.append(
            f"the channel {channel} has no good version to go back to and still names {version}: "
            "kiln apply refuses it; promote another"
        )
        return
    if newest != back:
        made.add(
            STAGE,
            f"write into the history that {channel} goes back to {back}",
            records.writing,
            partial(_note, cloud, records, image, channel, version, back, why),
            lane=channel,
        )
    for region, stand in naming.items():
        value, _ = channels.value_of(cloud, records, config, image, back, region)
        if value is not None:
            made.add(
                STAGE,
                f"set {names.channel(config.project.name, image, channel)} in {region} to {value} ({back}), "
                f"from {stand}",
                channels.setting(region),
                partial(channels.write, cloud, config, image, channel, region, value),
                lane=channel,
            )


def _note(
    cloud: Cloud, records: Records, image: str, channel: str, version: str, back: str, why: str, _: Say
) -> None:
    history.note(cloud, records, image, channel, version, back, f"{version} was revoked: {why}")
