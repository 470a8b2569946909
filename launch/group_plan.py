"""The plan that brings an Auto Scaling group to a version: contents, checks, cost, and the steps."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from kiln.config import Config, GroupTarget
from kiln.errors import RefusedError
from launch import contents, group_checks, group_steps, pages, prices, rollout, settings
from launch import cost as costs
from launch import group as groups
from launch import refresh as refreshes
from launch import release as releases
from launch import template as templates
from launch.cloud import Cloud
from launch.group import Group, Ref
from launch.group_steps import Work
from launch.plan import Plan
from launch.records import Records
from launch.refresh import Refresh
from launch.release import Release
from launch.rollout import Side
from launch.settings import Document
from launch.template import Version
from launch.trouble import told


class Rolling:
    """What is known of a group before anything is planned for it.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    name, target:
        The target.
    kind:
        The command.
    command:
        The command line, as a user types it.

    Raises
    ------
    KilnError
        There is no such group, or AWS did not tell.
    """

    def __init__(
        self,
        cloud: Cloud,
        config: Config,
        name: str,
        target: GroupTarget,
        kind: Literal["apply", "rollback"],
        command: str,
    ) -> None:
        self.cloud, self.config, self.name, self.target, self.kind = cloud, config, name, target, kind
        self.records = Records(cloud, config)
        self.group: Group = groups.read(cloud, target.region, target.group)
        self.plan = Plan(command, f"{name}: the group {target.group} in {target.region}")
        self.plan.facts |= {"target": name, "group": target.group, "region": target.region}
        self.base: Version | None = None
        self.runs: Release | None = None
        self.machine: releases.Machine | None = None
        self.running: Refresh | None = None
        if self.group.ref is None:
            self.plan.refuse(
                "launch-configuration",
                f"{target.group} has a launch configuration, which AWS makes no new versions of",
                "give the group a launch template (EC2 user guide, Migrate to launch templates)",
            )
            return
        self.base = templates.read(cloud, target.region, self.group.ref)
        if self.base.ami and not self.base.ami.startswith(templates.RESOLVED):
            self.machine = releases.machine(cloud, target.region, self.base.ami)
        if self.machine is not None:
            self.runs = releases.known(
                self.cloud, self.records, config, self.machine, target.region, target.image
            )
        self.running = refreshes.running(cloud, target.region, target.group)

    @property
    def present(self) -> Side:
        """What the group names now."""
        assert self.base is not None
        return group_steps.side(self.base, self.runs)

    # ---- the plan

    def to(self, release: Release, document: Document | None, candidates: tuple[int, ...] = ()) -> Plan:
        """Plan to bring the group to a version of ours.

        Parameters
        ----------
        release:
            The version.
        document:
            The settings document of its instances.
        candidates:
            Versions of the template that may say just that already.
        """
        assert self.base is not None
        try:
            wanted = self.wanted(release, document)
        except RefusedError as error:
            self.plan.refuse("settings", error.what, error.hint)
            return self.plan
        description = templates.describe(release, self.base, wanted)
        after = Side(
            version=release.version,
            image=release.ami,
            settings=document.as_data() if document is not None else None,
        )
        self._tell(release, document)
        work = self._work(after, str(release))
        work.number = self._made(wanted, description, candidates)
        self._steps(work, wanted, description, release)
        return self.plan

    def wanted(self, release: Release, document: Document | None) -> dict[str, Any]:
        """Return what the template must say for a version.

        Parameters
        ----------
        release, document:
            As of :meth:`to`.

        Raises
        ------
        RefusedError
            The settings cannot be put into its user data.
        """
        assert self.base is not None
        return templates.changes(
            self.base,
            release,
            self.name,
            settings.merged(self.base.user_data, document),
            self.target.volume_initialization_mibps,
            self.machine.root_device if self.machine else None,
        )

    def to_number(self, number: int) -> Plan:
        """Plan to bring the group back to a version of its template whose image is none of ours."""
        assert self.base is not None and self.group.ref is not None
        ref = Ref(self.group.ref.template, self.group.ref.name, str(number))
        there = templates.read(self.cloud, self.target.region, ref)
        found = releases.machine(self.cloud, self.target.region, there.ami)
        if found is None or found.trouble:
            self.plan.refuse(
                "image-state",
                f"{there.ami or 'no AMI'} of version {number} is {found.trouble if found else 'gone'}",
                f"kiln apply {self.name} --version with a version of {self.target.image}",
            )
        self.plan.notes.append("what ran before is no version of ours: nothing is known of its contents")
        work = self._work(group_steps.side(there, None), f"version {number} of {there.name} ({there.ami})")
        work.number = number
        self._steps(work, {}, "", None)
        return self.plan

    def _work(self, after: Side, label: str) -> Work:
        return Work(
            self.cloud,
            self.records,
            self.name,
            self.target,
            self.kind,
            self.group,
            self.present,
            after,
            label,
        )

    def _made(self, wanted: dict[str, Any], description: str, candidates: tuple[int, ...]) -> int | None:
        """Return the version of the template that says what is wanted, None where there is none yet."""
        assert self.base is not None and self.group.ref is not None
        if templates.says(self.base, wanted):
            return self.base.number
        numbers = [*candidates]
        if self.running is not None and self.running.number is not None:
            numbers.append(self.running.number)
        for number in numbers:
            ref = Ref(self.group.ref.template, self.group.ref.name, str(number))
            found = templates.find_number(self.cloud, self.target.region, ref)
            if found is not None and templates.same(found, self.base, wanted):
                return number
        made = templates.find(self.cloud, self.target.region, self.base.template, description)
        return made.number if made is not None and templates.says(made, wanted) else None

    def _steps(self, work: Work, wanted: dict[str, Any], description: str, release: Release | None) -> None:
        assert self.base is not None and self.group.ref is not None
        plan, back = self.plan, self.kind == "rollback"
        attached = self._attached(work)
        if plan.refusals:
            return
        left = group_steps.stale(self.group, work.number)
        moves = work.number != self.base.number or bool(left)
        if self.group.ref.number is None or self.base.ami.startswith(templates.RESOLVED):
            group_steps.pin(plan, work, self.base, self._pinned_ami())
        if attached is None and moves:
            self._check(release, wanted, description, make=work.number is None)
        if plan.refusals:
            plan.steps.clear()
            return
        if work.number is None:
            group_steps.version(plan, work, self.base, wanted, description)
        if moves or attached is not None:
            group_steps.start(plan, work)
            group_steps.refresh(plan, work, attached)
            group_steps.end(plan, work)
            self._rollout_notes(back)
            return
        newest = rollout.newest(self.records, self.name)
        if newest is not None and newest.event == "started" and newest.after.same(work.after):
            work.before, work.kind = newest.before, newest.kind
            group_steps.end(plan, work)

    def _attached(self, work: Work) -> Refresh | None:
        """Return the refresh that goes there already; refuse where another is in the way."""
        running = self.running
        if running is None:
            return None
        if running.goes_to(self.group, work.number):
            return running
        if running.status in refreshes.FORWARD:
            what, hint = "another refresh works on", f"let it end, or take it back: kiln rollback {self.name}"
        else:
            what, hint = "a refresh is being taken back on", "wait until it has ended: kiln status"
        where = f", to version {running.number} of the template" if running.number is not None else ""
        self.plan.refuse(
            "refresh-running",
            f"{what} {self.group.name}: {running.id} ({running.status}, {running.percent} %{where})",
            f"{hint}; then run the same command again",
        )
        return None

    def _pinned_ami(self) -> str | None:
        """Return the AMI that all instances run, where the template names it by a parameter."""
        assert self.base is not None
        if not self.base.ami.startswith(templates.RESOLVED):
            return None
        with told(f"reading the instances of {self.group.name}"):
            ec2 = self.cloud.client("ec2", self.target.region)
            ids = [each.id for each in self.group.instances]
            images = {
                each["ImageId"]
                for each in pages.held(
                    pages.every(ec2, "describe_instances", "Reservations", InstanceIds=ids)
                )
            }
        if len(images) != 1 or not self.group.instances:
            self.plan.refuse(
                "resolved-image",
                f"{self.base.name} names its AMI by {self.base.ami}, and the instances run {len(images)}:"
                " there is nothing to roll back to",
                "make a template version with one AMI id, and let the group name it by number",
            )
            return None
        return str(images.pop())

    def _check(
        self, release: Release | None, wanted: dict[str, Any], description: str, *, make: bool
    ) -> None:
        assert self.base is not None
        plan = self.plan
        group_checks.shape(self.group, self.base, plan)
        types = group_checks.types(self.group, self.base, plan)
        if release is not None:
            group_checks.image(self.records, release, plan)
            group_checks.goes_together(self.config, self.target, release, types, plan)
            group_checks.key(self.cloud, self.group, release, plan)
            group_checks.may_launch(self.cloud, self.target.region, self.base, release, types, plan)
            if make:
                group_checks.may_make(self.cloud, self.target.region, self.base, wanted, description, plan)
        if self.kind == "apply":
            group_checks.alarms(self.cloud, self.target, plan)
        group_checks.quota(self.cloud, self.group, self.target, types, plan)
        self._cost(release, types)

    # ---- what is told

    def _tell(self, release: Release, document: Document | None) -> None:
        """Tell versions, contents and settings."""
        assert self.base is not None
        plan, runs, base = self.plan, self.runs, self.base
        before = str(runs) if runs is not None else f"{base.ami or 'no AMI'}, none of ours"
        plan.title = f"{plan.title}: {before} → {release}"
        plan.facts["version"] = {"before": runs.version if runs else None, "after": release.version}
        plan.facts["ami"] = {"before": base.ami or None, "after": release.ami}
        if runs is None:
            plan.notes.append("contents: what runs now is no version of ours, so nothing can be compared")
            plan.facts["contents"] = None
        elif runs.version != release.version:
            differs = contents.compare(runs.manifest, release.manifest)
            plan.notes += [f"contents: {line}" for line in differs.lines()]
            plan.facts["contents"] = differs.as_json()
        else:
            plan.facts["contents"] = {}
        old = settings.found(base.user_data)
        plan.facts["settings"] = {
            "before": old.as_data() if old else None,
            "after": document.as_data() if document else None,
        }
        if old != document:
            plan.notes += [f"settings: {line}" for line in _changed(old, document)]
        plan.notes += [f"settings: {line}" for line in (document.lost if document else ())]

    def _rollout_notes(self, back: bool) -> None:
        plan, target = self.plan, self.target
        plan.facts["refresh"] = refreshes.preferences(target, back)
        if not back and (failed := self._failed_before()):
            plan.notes.append(f"the last refresh of this group ended so: {failed}")

    def _failed_before(self) -> str:
        found = refreshes.latest(self.cloud, self.target.region, self.group.name, 1)
        if not found or found[0].status in ("Successful", *refreshes.LIVE):
            return ""
        return f"{found[0].status}: {found[0].rollback or found[0].reason}"

    def _cost(self, release: Release | None, types: list[str]) -> None:
        """Tell what the group costs now, afterwards, and while both versions run."""
        target, plan = self.target, self.plan
        counts = Counter(each.type for each in self.group.instances)
        if not counts and types:
            counts = Counter({types[0]: self.group.desired})
        stopped = sum(each.lifecycle == "Warmed:Stopped" for each in self.group.warm)
        book = prices.Book(self.cloud)
        now_gb = self._root_gb(self.machine)
        after_gb = self._root_gb(release.machine if release is not None else None) or now_gb
        more = Counter(
            {kind: max(0, -(-count * target.max_healthy // 100) - count) for kind, count in counts.items()}
        )
        now, after, extra = (
            costs.group_cost(book, target.region, each, gb, of=f"target {self.name}", stopped=cold)
            for each, gb, cold in (
                (counts, now_gb, stopped),
                (counts, after_gb, stopped),
                (more, after_gb, 0),
            )
        )
        plan.facts["cost"] = {
            "now": now.as_json(), "after": after.as_json(), "more_while_it_runs": extra.as_json()
        }  # fmt: skip
        told_of = [_dollars(now.monthly), _dollars(after.monthly), _dollars(extra.hourly)]
        plan.notes.append(
            f"cost a month: {told_of[0]} now, {told_of[1]} after; {told_of[2]} an hour more while both run"
        )

    def _root_gb(self, machine: releases.Machine | None) -> int:
        assert self.base is not None
        for each in self.base.data.get("BlockDeviceMappings", []):
            if size := each.get("Ebs", {}).get("VolumeSize"):
                return int(size)
        return machine.root_gb if machine is not None else 0


def _dollars(amount: float | None) -> str:
    return "unknown" if amount is None else f"${amount:,.2f}"


def _changed(old: Document | None, new: Document | None) -> list[str]:
    """Name the keys of two documents that differ; values are the operator's own business and stay out."""
    before, after = (old.as_data() if old else {}), (new.as_data() if new else {})
    words = {
        "new": sorted(after.keys() - before.keys()),
        "gone": sorted(before.keys() - after.keys()),
        "changed": sorted(key for key in before.keys() & after.keys() if before[key] != after[key]),
    }
    return [f"{', '.join(keys)} {word}" for word, keys in words.items() if keys]


def plan(
    cloud: Cloud, config: Config, name: str, version: str | None = None, *, command: str | None = None
) -> Plan:
    """Plan to bring a group to what its channel names, or to a version.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    name:
        The target in kiln.toml; it must be a group.
    version:
        This one instead of the channel's.
    command:
        The command line, as a user types it.

    Returns
    -------
    Plan
        Without steps where all is as kiln.toml says.

    Raises
    ------
    KilnError
        There is no such group, or AWS did not tell.
    """
    target = config.aim(name)
    assert isinstance(target, GroupTarget)
    rolling = Rolling(cloud, config, name, target, "apply", command or f"kiln apply {name}")
    if rolling.base is None:
        return rolling.plan
    try:
        if version is None:
            found = releases.in_channel(cloud, config, target.image, target.channel, target.region)
            release = releases.of_machine(cloud, rolling.records, config, found, target.region, target.image)
        else:
            release = releases.of_version(
                cloud, rolling.records, config, target.image, version, target.region
            )
    except RefusedError as error:
        rolling.plan.refuse("version", error.what, error.hint)
        return rolling.plan
    try:
        reads = release.manifest.facts.settings_schemas
        document = settings.document(target.settings, reads, str(release))
    except RefusedError as error:
        rolling.plan.refuse("settings", error.what, error.hint)
        return rolling.plan
    return rolling.to(release, document)
