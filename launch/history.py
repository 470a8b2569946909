"""The history of a channel in S3: an object a change, who and when, written before parameters are set."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import ConfigDict, Field

from kiln.manifest import Strict
from launch.cloud import Cloud
from launch.records import Records, now, stamp, written


class Move(Strict):
    """``channels/<image>/<channel>/<time>-<version>.json``: a channel was given another version."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    image: str = Field(description="name of the image in kiln.toml")
    channel: str = Field(description="name of the channel")
    before: str | None = Field(
        alias="from", description="version that it named, null for the first or what is none of ours"
    )
    after: str = Field(alias="to", description="version that it names from then on")
    when: datetime = Field(description="UTC")
    who: str = Field(description="ARN of the operator")
    why: str = Field(description="promote, or why the version before was revoked")


def _folder(records: Records, image: str, channel: str) -> str:
    return records.key("channels", image, channel) + "/"


def of(records: Records, image: str, channel: str) -> list[Move]:
    """Read the history of a channel, oldest first.

    Parameters
    ----------
    records:
        The bucket.
    image, channel:
        Which.
    """
    found = [records.read(key, Move) for key in records.keys(_folder(records, image, channel))]
    return [each for each in found if each is not None]


def newest(records: Records, image: str, channel: str) -> Move | None:
    """Return the newest change of a channel, None where there was none."""
    keys = records.keys(_folder(records, image, channel))
    return records.read(keys[-1], Move) if keys else None


def note(
    cloud: Cloud, records: Records, image: str, channel: str, before: str | None, after: str, why: str
) -> None:
    """Write a change into the history, unless the newest entry says it already.

    Parameters
    ----------
    cloud, records:
        The account and its bucket.
    image, channel:
        Which.
    before, after:
        Versions.
    why:
        The reason, a line.
    """
    last = newest(records, image, channel)
    if last is not None and last.after == after:
        return
    # A second that is taken gives way to the next one, so that keys go on sorting by time.
    when = now() if last is None else max(now(), last.when + timedelta(seconds=1))
    move = Move(
        image=image,
        channel=channel,
        before=before,
        after=after,
        when=when,
        who=cloud.identity["Arn"],
        why=why,
    )
    records.put_once(f"{_folder(records, image, channel)}{stamp(when)}-{after}.json", written(move))


def last_good(moves: list[Move], good: Callable[[str], bool]) -> str | None:
    """Return what a channel goes back to: the latest version of its history before the last that is good.

    Parameters
    ----------
    moves:
        Its history, oldest first.
    good:
        Whether a version may be run.
    """
    if not moves:
        return None
    seen = {moves[-1].after}
    for move in reversed(moves):
        for version in (move.after, move.before):
            if version is None or version in seen:
                continue
            seen.add(version)
            if good(version):
                return version
    return None
