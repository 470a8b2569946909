"""kiln plan and kiln apply: bring a group or a fleet to what its channel names, or to a version."""

from __future__ import annotations

from pathlib import Path

from kiln import config as settings
from kiln.config import Config, FleetTarget, GroupTarget
from kiln.errors import KilnError
from launch import fleet_plan, fleet_record, group_plan, names, preflight
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.lock import Lock
from launch.plan import Plan


def run(
    target: str,
    version: str | None = None,
    *,
    allow_stop: bool = False,
    only_plan: bool = False,
    as_json: bool = False,
    exit_code: bool = False,
    profile: str | None = None,
    config: Path | None = None,
) -> int:
    """Show what a target would become, and make it so unless only the plan is asked for.

    Parameters
    ----------
    target:
        Name in kiln.toml.
    version:
        This one instead of the channel's.
    allow_stop:
        Whether a fleet may be stopped where a change needs it.
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

    Raises
    ------
    KilnError
        It could not be found out, or a step failed. What was done stays, and the same command goes on.
    """
    loaded = settings.load(config)
    cloud = enter(loaded, target, profile)

    def make() -> Plan:
        return planned(cloud, loaded, target, version, allow_stop)

    return carry_out(
        make(),
        cloud,
        only_plan=only_plan,
        as_json=as_json,
        exit_code=exit_code,
        lock=Lock(cloud, loaded, target),
        again=make,
    )


def enter(config: Config, target: str, profile: str | None) -> Cloud:
    """Return the account, after a look whether the target's region is enabled in it.

    Parameters
    ----------
    config:
        kiln.toml.
    target:
        Name in it.
    profile:
        Of the AWS configuration.

    Raises
    ------
    UsageError
        There is no such target, or kiln.toml names no bucket.
    KilnError
        The region is not enabled, or it could not be found out.
    """
    aim = config.aim(target)
    config.records()
    cloud = Cloud(home(config, aim), names.run_id("apply"), profile)
    if refused := preflight.not_enabled(cloud, [aim.region]):
        raise KilnError(refused[0].what, f"enable it (Account, AWS Regions), or correct region of {target}")
    return cloud


def home(config: Config, target: GroupTarget | FleetTarget) -> str:
    """Return the region that is asked for what is not a region's: the image's first, else the target's."""
    publish = config.select(target.image).publish
    return publish.regions[0] if publish is not None else target.region


def planned(cloud: Cloud, config: Config, target: str, version: str | None, allow_stop: bool) -> Plan:
    """Plan for a group or a fleet; parameters as of :func:`run`."""
    if isinstance(config.aim(target), FleetTarget):
        made = fleet_plan.plan(cloud, config, target, version, allow_stop)
        return fleet_record.around(made, cloud, config, target, "apply")
    option = f" --version {version}" if version else ""
    return group_plan.plan(cloud, config, target, version, command=f"kiln apply {target}{option}")
