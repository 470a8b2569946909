"""kiln rollback: bring a target back to what it ran before the last apply, also in the middle of one.

Run again it goes on, or finds that it is done; it never goes further back, nor forward again. Further back
goes ``kiln apply --version``.
"""

from __future__ import annotations

from pathlib import Path

from kiln import config as config_file
from kiln.config import Config, FleetTarget, GroupTarget
from kiln.errors import KilnError, RefusedError
from launch import apply as applying
from launch import fleet_plan, fleet_record, group_steps, rollout, settings
from launch import refresh as refreshes
from launch import release as releases
from launch import template as templates
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.group_plan import Rolling
from launch.group_steps import Work
from launch.lock import Lock
from launch.plan import Plan
from launch.records import Records
from launch.refresh import Refresh
from launch.rollout import Rollout, Side
from launch.settings import Document


def run(
    target: str,
    *,
    allow_stop: bool = False,
    only_plan: bool = False,
    as_json: bool = False,
    profile: str | None = None,
    config: Path | None = None,
) -> int:
    """Show how a target goes back, and let it unless only the plan is asked for.

    Parameters
    ----------
    target, allow_stop, only_plan, as_json, profile, config:
        As of :func:`launch.apply.run`.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    KilnError
        Nothing is known of what ran before, or a step failed; the same command goes on.
    """
    loaded = config_file.load(config)
    cloud = applying.enter(loaded, target, profile)

    def make() -> Plan:
        return planned(cloud, loaded, target, allow_stop)

    return carry_out(
        make(),
        cloud,
        only_plan=only_plan,
        as_json=as_json,
        lock=Lock(cloud, loaded, target),
        again=make,
    )


def planned(cloud: Cloud, config: Config, name: str, allow_stop: bool) -> Plan:
    """Plan for a group or a fleet; parameters as of :func:`run`."""
    target = config.aim(name)
    command = f"kiln rollback {name}{' --allow-stop' if allow_stop else ''}"
    if isinstance(target, FleetTarget):
        return _fleet(cloud, config, name, target, allow_stop, command)
    return _group(Rolling(cloud, config, name, target, "rollback", command), target)


def _last(records: Records, name: str) -> Rollout:
    found = rollout.last_apply(records, name)
    if found is None:
        raise KilnError(
            f"nothing is known of what {name} ran before: there is no record of an apply",
            f"name a version: kiln apply {name} --version VERSION; kiln status lists them",
        )
    return found


# ---- a group


def _group(rolling: Rolling, target: GroupTarget) -> Plan:
    plan, running = rolling.plan, rolling.running
    if rolling.base is None:
        return plan
    if running is not None and not _is_ours(rolling, running):
        return _in_the_middle(rolling, running)
    last = _last(rolling.records, rolling.name)
    present = rolling.present
    if last.before.version is None:
        return _to_what_was_not_ours(rolling, last)
    only_settings = last.before.version == last.after.version
    if present.version not in (last.before.version, last.after.version):
        plan.refuse(
            "drift",
            f"{target.group} runs {present}, which the last apply neither brought nor replaced "
            f"({last.before} → {last.after})",
            f"name a version: kiln apply {rolling.name} --version VERSION",
        )
        return plan
    try:
        release = releases.of_version(
            rolling.cloud,
            rolling.records,
            rolling.config,
            target.image,
            last.before.version,
            target.region,
        )
        document = _recorded(last.before) if only_settings else _downgraded(rolling, release)
    except RefusedError as error:
        plan.refuse("version", error.what, error.hint)
        return plan
    former = last.before.template_version
    return rolling.to(release, document, (former,) if former is not None else ())


def _is_ours(rolling: Rolling, running: Refresh) -> bool:
    """Whether the refresh is one of a rollback, which a killed run began: it is gone on with."""
    newest = rollout.newest(rolling.records, rolling.name)
    return (
        newest is not None
        and (newest.kind, newest.event) == ("rollback", "started")
        and running.goes_to(rolling.group, newest.after.template_version)
    )


def _in_the_middle(rolling: Rolling, running: Refresh) -> Plan:
    """Plan to roll back the refresh that works now, whoever began it."""
    plan, base, group = rolling.plan, rolling.base, rolling.group
    assert base is not None
    if running.status not in (*refreshes.FORWARD, *refreshes.BACK):
        plan.refuse(
            "refresh-running",
            f"a refresh of {group.name} is being cancelled: {running.id} ({running.percent} %)",
            "wait until it has ended, then run the same command again",
        )
        return plan
    if group.ref is None or group.ref.number is None or base.ami.startswith(templates.RESOLVED):
        plan.refuse(
            "irreversible",
            f"AWS cannot roll the refresh {running.id} back: {group.name} names version "
            f"{group.ref.version if group.ref else 'none'} of its template, and {base.ami or 'no AMI'} there",
            f"end it: aws autoscaling cancel-instance-refresh --auto-scaling-group-name {group.name}",
        )
        return plan
    present = rolling.present
    label = str(rolling.runs) if rolling.runs is not None else f"{base.ami} (version {base.number})"
    plan.title = f"{plan.title}: back to {label} in the middle of a refresh"
    plan.facts["refresh"] = {"id": running.id, "status": running.status, "percent": running.percent}
    work = Work(
        rolling.cloud,
        rolling.records,
        rolling.name,
        rolling.target,
        "rollback",
        group,
        _coming(rolling, running),
        present,
        label,
        base.number,
    )
    group_steps.start(plan, work)
    group_steps.take_back(plan, work, running)
    group_steps.end(plan, work)
    return plan


def _coming(rolling: Rolling, running: Refresh) -> Side:
    """Return what a refresh would have brought."""
    newest = rollout.newest(rolling.records, rolling.name)
    if newest is not None and newest.kind == "apply" and newest.after.template_version == running.number:
        return newest.after
    if newest is not None and newest.kind == "rollback" and newest.event == "started":
        return newest.before
    return Side(version=None, image=None, template_version=running.number)


def _to_what_was_not_ours(rolling: Rolling, last: Rollout) -> Plan:
    """Plan the way back to the template version from before the first apply."""
    former = last.before.template_version
    present = rolling.present
    if present.template_version != former and present.version != last.after.version:
        rolling.plan.refuse(
            "drift",
            f"{rolling.target.group} runs {present}, which the last apply neither brought nor replaced "
            f"({last.before} → {last.after})",
            f"name a version: kiln apply {rolling.name} --version VERSION",
        )
        return rolling.plan
    if former is None:
        raise KilnError(
            f"the record of the last apply to {rolling.name} names no template version to go back to",
            f"name a version: kiln apply {rolling.name} --version VERSION",
        )
    return rolling.to_number(former)


def _recorded(side: Side) -> Document | None:
    """Return the settings document that a record has."""
    if side.settings is None:
        return None
    data = dict(side.settings)
    return Document(int(data.pop("schema")), data)


def _downgraded(rolling: Rolling, release: releases.Release) -> Document | None:
    """Return the document that is in force, in a schema that the earlier image reads.

    What was set since stays set: a rollback of the image is none of the settings.
    """
    assert rolling.base is not None
    found = settings.found(rolling.base.user_data)
    if found is None:
        return None
    return settings.downgraded(found, release.manifest.facts.settings_schemas, str(release))


# ---- a fleet


def _fleet(
    cloud: Cloud, config: Config, name: str, target: FleetTarget, allow_stop: bool, command: str
) -> Plan:
    last = _last(Records(cloud, config), name)
    if last.before.version is None:
        raise KilnError(
            f"{name} ran {last.before} before, which is no version of {target.image}",
            f"name a version: kiln apply {name} --version VERSION",
        )
    made = fleet_plan.plan(cloud, config, name, last.before.version, allow_stop)
    made.command = command
    now = made.facts.get("image", {}).get("before")
    if now is not None and now not in (last.before.image, last.after.image):
        made.steps.clear()
        made.refuse(
            "drift",
            f"the fleet of {name} runs {now}, which the last apply neither brought nor replaced "
            f"({last.before} → {last.after})",
            f"name a version: kiln apply {name} --version VERSION",
        )
    return fleet_record.around(made, cloud, config, name, "rollback")
