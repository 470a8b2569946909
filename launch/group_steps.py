"""The steps of a rollout to a group: pin, make a template version, record, refresh, take back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from kiln.config import GroupTarget
from kiln.errors import KilnError
from launch import group as groups
from launch import refresh as refreshes
from launch import release as releases
from launch import rollout, settings
from launch import template as templates
from launch.cloud import Cloud
from launch.group import Group
from launch.plan import Plan, Say, requests
from launch.records import Records
from launch.refresh import Refresh
from launch.rollout import Outcome, Side
from launch.template import Version
from launch.trouble import AGAIN
from launch.watch import End, Watch

PATIENCE_MINUTES = 120
"""How much longer a refresh may take than its warm-ups, pauses and bake time add up to: an hour of waiting
for protected instances is among it."""


@dataclass
class Work:
    """What the steps of one rollout share.

    Parameters
    ----------
    cloud, records:
        The account and its bucket.
    name, target:
        The target in kiln.toml.
    kind:
        The command.
    group:
        As it was read for the plan.
    before, after:
        What runs, and what is to run; the template version of ``after`` is filled in when it is made.
    number:
        Version of the template to go to, None until it is made.
    label:
        What is to run, for messages.
    """

    cloud: Cloud
    records: Records
    name: str
    target: GroupTarget
    kind: Literal["apply", "rollback"]
    group: Group
    before: Side
    after: Side
    label: str
    number: int | None = None
    command: str = field(default="")

    @property
    def region(self) -> str:
        """Region of the group."""
        return self.target.region

    def minutes(self) -> float:
        """How long the refresh may take altogether, rolled back included."""
        target = self.target
        each = math.ceil(max(1, len(self.group.instances)) * max(1, target.max_healthy - 100) / 100)
        batches = math.ceil(max(1, len(self.group.instances)) / max(1, each)) + len(self.group.warm)
        pauses = target.checkpoint_minutes * len(target.checkpoints)
        return 2 * (batches * (target.warmup_minutes + 5)) + pauses + target.bake_minutes + PATIENCE_MINUTES

    def write(
        self, event: Literal["started", "ended"], outcome: Outcome | None = None, why: str = ""
    ) -> None:
        """Write a record of the rollout, if it changes image or settings: only such a one is taken back."""
        if self.before.same(self.after):
            return
        record = rollout.record(
            self.cloud,
            target=self.name,
            name=self.target.image,
            kind=self.kind,
            event=event,
            before=self.before,
            after=self.after.model_copy(update={"template_version": self.number}),
            outcome=outcome,
            reason=why or None,
        )
        rollout.write(self.cloud, self.records, record)


def pin(plan: Plan, work: Work, base: Version, ami: str | None) -> None:
    """Plan to let the group name its present version by number, and its AMI by id.

    Parameters
    ----------
    plan, work:
        What is added to, and what is shared.
    base:
        The version that the group runs from.
    ami:
        The AMI that its instances run, where the template names one by a parameter; else None.
    """
    group = work.group
    assert group.ref is not None

    def run(_say: Say) -> None:
        number = base.number
        if ami is not None:
            wanted = {"ImageId": ami}
            number = templates.make(
                work.cloud, work.region, base, wanted, f"{ami} pinned from {base.number}"
            ).number
        groups.pinned(work.cloud, group, number)

    allowed = requests("autoscaling", work.region, "UpdateAutoScalingGroup")
    what = f"let {group.name} name version {base.number} of {base.name}, not {group.ref.version}"
    if ami is not None:
        allowed += requests("ec2", work.region, "CreateLaunchTemplateVersion")
        what = f"let {group.name} name {ami}, which it runs, in a version of {base.name}, not {base.ami}"
    plan.add("template", f"{what}: AWS rolls back to nothing else", allowed, run)


def version(plan: Plan, work: Work, base: Version, wanted: dict[str, Any], description: str) -> None:
    """Plan a new version of the template; ``work.number`` has its number afterwards."""

    def run(_say: Say) -> None:
        work.number = templates.make(work.cloud, work.region, base, wanted, description).number

    plan.add(
        "template",
        f"make a version of {base.name} from version {base.number}: {', '.join(_words(base, wanted))}",
        requests("ec2", work.region, "CreateLaunchTemplateVersion"),
        run,
    )


def _words(base: Version, wanted: dict[str, Any]) -> list[str]:
    words = {
        "ImageId": f"AMI {wanted['ImageId']}",
        "MetadataOptions": "IMDSv2 only",
        "TagSpecifications": "tags",
        "UserData": "settings",
        "BlockDeviceMappings": "root volume",
    }
    return [words.get(key, key) for key in templates.differing(base, wanted)]


def start(plan: Plan, work: Work) -> None:
    """Plan the record that a rollout starts, where it changes image or settings."""
    if work.before.same(work.after):
        return
    where = work.records.url(rollout.prefix(work.records, work.name))
    plan.add(
        "record",
        f"record the start of the {work.kind} under {where}",
        work.records.writing,
        lambda _say: work.write("started"),
    )


def end(plan: Plan, work: Work) -> None:
    """Plan the record that a rollout has ended well; how one failed its refresh records."""
    if work.before.same(work.after):
        return
    where = work.records.url(rollout.prefix(work.records, work.name))
    plan.add(
        "recorded",
        f"record the end of the {work.kind} under {where}",
        work.records.writing,
        lambda _say: work.write("ended", "done"),
    )


def refresh(plan: Plan, work: Work, attached: Refresh | None) -> None:
    """Plan the refresh, and what is watched meanwhile.

    Parameters
    ----------
    plan, work:
        What is added to, and what is shared.
    attached:
        The refresh that goes there already, which is watched and not begun again.
    """
    group, back = work.group, work.kind == "rollback"
    ours = None if back else _guard(work)

    def run(say: Say) -> None:
        assert work.number is not None
        now = groups.read(work.cloud, work.region, group.name)
        with _going_on(work, say):
            # One that has ended since is looked at too, and not begun anew.
            begun = attached or refreshes.start(work.cloud, now, work.number, work.target, back)
            ended = Watch(work.cloud, now, begun, work.number, ours, work.minutes()).follow(say)
        _finish(work, ended)

    operations = ["RollbackInstanceRefresh"]
    if attached is not None:
        what = f"attach to the refresh {attached.id} of {group.name}, which goes to {work.label}"
    else:
        operations.append("StartInstanceRefresh")
        what = f"refresh {len(group.instances)} instances of {group.name} to {work.label}{_how(work)}"
    plan.add(
        "refresh",
        what,
        requests("autoscaling", work.region, *operations) + work.records.writing,
        run,
    )


def _how(work: Work) -> str:
    asked = refreshes.preferences(work.target, work.kind == "rollback")
    parts = [f"{asked['MinHealthyPercentage']} to {asked['MaxHealthyPercentage']} % healthy"]
    if pauses := asked.get("CheckpointPercentages"):
        parts.append(f"pauses of {work.target.checkpoint_minutes} min at {', '.join(map(str, pauses))} %")
    if "AlarmSpecification" in asked:
        parts.append(f"alarms {', '.join(work.target.alarms)}")
    if asked["BakeTime"]:
        parts.append(f"watched {work.target.bake_minutes} min after the last")
    if asked["AutoRollback"]:
        parts.append("rolled back on failure")
    return f" ({'; '.join(parts)})"


def _guard(work: Work) -> Callable[[], str | None]:
    ami = work.after.image or ""

    def trouble() -> str | None:
        found = releases.machine(work.cloud, work.region, ami)
        return "deregistered" if found is None else found.trouble

    return trouble


class _going_on:  # noqa: N801 a context manager, named as it reads
    """Says, on Ctrl-C, that AWS goes on without us."""

    def __init__(self, work: Work, say: Say) -> None:
        self._work, self._say = work, say

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            name = self._work.name
            self._say(f"AWS goes on with the refresh; kiln rollback {name} takes it back")


def _finish(work: Work, ended: End) -> None:
    """Make sure that a refresh got there; else record how it ended, and raise.

    Raises
    ------
    KilnError
        It did not.
    """
    status = ended.refresh.status
    if status == "Successful":
        _reached(work)
        return
    back = status == "RollbackSuccessful"
    sick = ended.troubled()
    why = f"{ended.why.rstrip('.')}{f'; not healthy: {sick}' if sick else ''}"
    work.write("ended", "rolled back" if back else "failed", why)
    serving = sum(each.serves for each in ended.group.instances)
    what = f"{work.group.name} did not come to {work.label}: {why}"
    if back:
        hint = f"it was rolled back, {serving} instances of {work.before} serve; no channel was changed: " + (
            "kiln promote another version" if ended.revoked else f"kiln revoke {work.label} --why ..."
        )
        raise KilnError(what, hint)
    raise KilnError(
        f"{what} ({status}; {_mixed(ended.group)})",
        f"look at the instances, then kiln rollback {work.name}, or run the same command again to go on",
    )


def _mixed(group: Group) -> str:
    counts = sorted(group.by_version().items(), key=lambda each: each[0] or 0)
    return (
        ", ".join(f"{count} on version {number or 'of others'}" for number, count in counts) or "no instances"
    )


def _reached(work: Work) -> None:
    """Read back that the group names the version and that every instance runs it."""
    left: list[str] = []
    for _ in range(20):
        now = groups.read(work.cloud, work.region, work.group.name)
        left = stale(now, work.number)
        if now.ref is not None and now.ref.number == work.number and not left:
            return
        work.cloud.wait(3)
    raise KilnError(
        f"the refresh of {work.group.name} was successful, and "
        + (f"{', '.join(left)} run something else" if left else "the group names another template version"),
        f"look whether somebody else changed the group, then {AGAIN}",
    )


def stale(group: Group, number: int | None) -> list[str]:
    """List the instances that run another version than a number, those that end left out."""
    mine = group.ref.template if group.ref else None
    return [
        each.id
        for each in group.instances
        if not each.lifecycle.startswith("Terminat")
        and (each.ref is None or each.ref.template != mine or each.ref.number != number)
    ]


def take_back(plan: Plan, work: Work, running: Refresh) -> None:
    """Plan to roll a refresh back in the middle, or to watch one that rolls back already.

    Parameters
    ----------
    plan, work:
        What is added to, and what is shared; ``work.number`` is the version that the group goes back to.
    running:
        The refresh.
    """
    group = work.group
    already = running.status in refreshes.BACK

    def run(say: Say) -> None:
        assert work.number is not None
        if not already:
            refreshes.take_back(work.cloud, group, running.id)
        with _going_on(work, say):
            ended = Watch(work.cloud, group, running, work.number, None, work.minutes()).follow(say)
        if ended.refresh.status != "RollbackSuccessful":
            why = ended.refresh.reason or ended.refresh.status
            work.write("ended", "failed", why)
            raise KilnError(
                f"{group.name} was not rolled back: {why} ({ended.refresh.status}; {_mixed(ended.group)})",
                f"run kiln rollback {work.name} again: it goes back by a new refresh",
            )
        _reached(work)

    plan.add(
        "refresh",
        f"{'watch the rollback of' if already else 'roll back'} the refresh {running.id} of {group.name}, "
        f"to {work.label}",
        requests("autoscaling", work.region, "RollbackInstanceRefresh") + work.records.writing,
        run,
    )


def side(base: Version, release: releases.Release | None) -> Side:
    """Return what a version of the template runs."""
    document = settings.found(base.user_data)
    return Side(
        version=release.version if release is not None else None,
        image=base.ami or None,
        template_version=base.number,
        settings=document.as_data() if document is not None else None,
    )
