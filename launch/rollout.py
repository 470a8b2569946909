"""What was rolled out to a target: one object in S3 when it starts, one when it ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from kiln.errors import KilnError
from kiln.manifest import Strict
from launch.cloud import Cloud
from launch.records import Records, now, stamp, written
from launch.trouble import AGAIN

Outcome = Literal["done", "rolled back", "failed"]


class Side(Strict):
    """What a target runs, before or after."""

    version: str | None = Field(description="version of ours, null for what is none")
    image: str | None = Field(description="AMI, or name of the AppStream image")
    template_version: int | None = Field(default=None, description="version of the launch template")
    settings: dict[str, Any] | None = Field(default=None, description="settings document, null without one")

    def same(self, other: Side) -> bool:
        """Tell whether it is the same image with the same settings, from whichever template version."""
        return (self.version, self.image, self.settings) == (other.version, other.image, other.settings)

    def __str__(self) -> str:
        at = f" (template version {self.template_version})" if self.template_version is not None else ""
        return f"{self.version or self.image or 'nothing'}{at}"


class Rollout(Strict):
    """``rollouts/<target>/<UTC time>-<event>.json``."""

    target: str = Field(description="name in kiln.toml")
    name: str = Field(description="name of the image in kiln.toml")
    kind: Literal["apply", "rollback"] = Field(description="the command")
    event: Literal["started", "ended"] = Field(
        description="a rollout has one of each; killed, the first alone"
    )
    before: Side = Field(description="what ran")
    after: Side = Field(description="what was to run")
    time: datetime = Field(description="UTC")
    who: str = Field(description="ARN of the operator")
    run: str = Field(description="id of the run")
    outcome: Outcome | None = Field(default=None, description="null for a start")
    reason: str | None = Field(default=None, description="why it did not come to be, null otherwise")

    def same(self, other: Rollout) -> bool:
        """Tell whether it is the same rollout: command, from, to."""
        return self.kind == other.kind and self.before.same(other.before) and self.after.same(other.after)


def prefix(records: Records, target: str) -> str:
    """Return what the keys of a target's rollouts begin with."""
    return records.key("rollouts", target) + "/"


def history(records: Records, target: str, last: int | None = None) -> list[Rollout]:
    """Read what was rolled out to a target, oldest first.

    Parameters
    ----------
    records:
        The bucket.
    target:
        Name in kiln.toml.
    last:
        Only so many of the newest; by default all.
    """
    keys = records.keys(prefix(records, target))
    found = [records.read(key, Rollout) for key in (keys if last is None else keys[-last:])]
    return [each for each in found if each is not None]


def newest(records: Records, target: str) -> Rollout | None:
    """Return the newest record of a target, None where there is none."""
    return next(iter(history(records, target, last=1)), None)


def last_apply(records: Records, target: str) -> Rollout | None:
    """Return the start of the newest apply, which is what a rollback takes back; None where there is none."""
    for key in reversed(records.keys(prefix(records, target))):
        found = records.read(key, Rollout)
        if found is not None and found.kind == "apply" and found.event == "started":
            return found
    return None


def write(
    cloud: Cloud,
    records: Records,
    of: Rollout,
) -> None:
    """Write a record, unless the newest one says the same; the request is ``PutObject``.

    A run that was killed and run again finds what it has written. A second that is taken already gives way
    to the next one, so that keys go on sorting by time.

    Parameters
    ----------
    cloud, records:
        The account and its bucket.
    of:
        What to write.
    """
    for _ in range(5):
        keys = records.keys(prefix(records, of.target))
        last = records.read(keys[-1], Rollout) if keys else None
        if last is not None and last.same(of) and (last.event, last.outcome) == (of.event, of.outcome):
            return
        time = max(of.time, last.time + timedelta(seconds=1)) if last is not None else of.time
        key = f"{prefix(records, of.target)}{stamp(time)}-{of.event}.json"
        if not records.exists(key):
            records.put_once(key, written(of.model_copy(update={"time": time})))
            return
        cloud.wait(1)
    raise KilnError(f"the record of {of.target} cannot be written: others write it at the same time", AGAIN)


def record(
    cloud: Cloud,
    *,
    target: str,
    name: str,
    kind: Literal["apply", "rollback"],
    event: Literal["started", "ended"],
    before: Side,
    after: Side,
    outcome: Outcome | None = None,
    reason: str | None = None,
) -> Rollout:
    """Make a record of now, of this operator and run; parameters as of :class:`Rollout`."""
    return Rollout(
        target=target,
        name=name,
        kind=kind,
        event=event,
        before=before,
        after=after,
        time=now(),
        who=cloud.identity["Arn"],
        run=cloud.run_id,
        outcome=outcome,
        reason=reason,
    )
