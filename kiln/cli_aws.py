"""The commands of AWS. Each loads its module of ``launch`` when it is asked, never before."""

from __future__ import annotations

from typing import Annotated

import typer

from kiln.arguments import ConfigOption, JsonOption, split
from kiln.errors import UsageError

PlanOption = Annotated[bool, typer.Option("--plan", help="Show what would be done, and end.")]
ExitCodeOption = Annotated[bool, typer.Option("--exit-code", help="End with 4 where there is nothing to do.")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Profile of ~/.aws/config.")]
VersionedArgument = Annotated[
    str, typer.Argument(help="Image, and a version of it, else the latest proven.", metavar="IMAGE[@VERSION]")
]
TargetArgument = Annotated[str, typer.Argument(help="Target in kiln.toml.", metavar="TARGET")]

builder = typer.Typer(name="builder", help="AppStream image builders.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of AWS to ``kiln``."""
    for command in (publish, promote, revoke, history, plan, apply, rollback, status, prune, sweep, cost):
        app.command()(command)
    builder.command("run")(builder_run)
    builder.command("seed")(builder_seed)
    app.add_typer(builder)


def publish(
    image: VersionedArgument,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    exit_code: ExitCodeOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Bring a proven version to AWS: an AMI in every region, private, shared as kiln.toml says."""
    from launch import publish as station

    name, version = split(image)
    return station.run(
        name, version, only_plan=only_plan, as_json=json, exit_code=exit_code, profile=profile, config=config
    )


def promote(
    image: Annotated[str, typer.Argument(help="Image and version.", metavar="IMAGE@VERSION")],
    channel: Annotated[str, typer.Argument(help="Channel, as in dev, stable.", metavar="CHANNEL")],
    back: Annotated[bool, typer.Option("--back", help="Also to an older version than stands there.")] = False,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    exit_code: ExitCodeOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Let a channel name a version, in every region of the image."""
    from launch import promote as station

    name, version = split(image)
    if version is None:
        raise UsageError("a channel is given a version by name", "write IMAGE@VERSION; see: kiln status")
    return station.run(
        name,
        version,
        channel,
        back=back,
        only_plan=only_plan,
        as_json=json,
        exit_code=exit_code,
        profile=profile,
        config=config,
    )


def revoke(
    image: Annotated[str, typer.Argument(help="Image and version.", metavar="IMAGE@VERSION")],
    why: Annotated[str, typer.Option("--why", help="The reason, for whoever reads the history.")],
    now: Annotated[bool, typer.Option("--now", help="Disable it though something needs it.")] = False,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    exit_code: ExitCodeOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Mark a version as bad, move its channels back, list who still runs it."""
    from launch import revoke as station

    name, version = split(image)
    if version is None:
        raise UsageError("a version is revoked by name", "write IMAGE@VERSION; see: kiln status")
    return station.run(
        name,
        version,
        why=why,
        now=now,
        only_plan=only_plan,
        as_json=json,
        exit_code=exit_code,
        profile=profile,
        config=config,
    )


def history(
    image: Annotated[str, typer.Argument(help="Image in kiln.toml.", metavar="IMAGE")],
    channel: Annotated[str, typer.Argument(help="Channel.", metavar="CHANNEL")],
    json: JsonOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """List what a channel named, since when, and by whom."""
    from launch import channel as station

    return station.print_history(image, channel, as_json=json, profile=profile, config=config)


def plan(
    target: TargetArgument,
    version: Annotated[
        str | None, typer.Option("--version", help="This version instead of the channel's.")
    ] = None,
    json: JsonOption = False,
    exit_code: ExitCodeOption = False,
    allow_stop: Annotated[
        bool, typer.Option("--allow-stop", help="A fleet may be stopped where a change needs it.")
    ] = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Show what apply would change: contents, steps, whether the image suits, cost."""
    from launch import apply as station

    return station.run(
        target,
        version,
        allow_stop=allow_stop,
        only_plan=True,
        as_json=json,
        exit_code=exit_code,
        profile=profile,
        config=config,
    )


def apply(
    target: TargetArgument,
    version: Annotated[
        str | None, typer.Option("--version", help="This version instead of the channel's.")
    ] = None,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    exit_code: ExitCodeOption = False,
    allow_stop: Annotated[
        bool, typer.Option("--allow-stop", help="A fleet may be stopped where a change needs it.")
    ] = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Bring a group or a fleet to what its channel names."""
    from launch import apply as station

    return station.run(
        target,
        version,
        allow_stop=allow_stop,
        only_plan=only_plan,
        as_json=json,
        exit_code=exit_code,
        profile=profile,
        config=config,
    )


def rollback(
    target: TargetArgument,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    allow_stop: Annotated[
        bool, typer.Option("--allow-stop", help="A fleet may be stopped where a change needs it.")
    ] = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Bring a target back to what it ran before, also in the middle of a rollout."""
    from launch import rollback as station

    return station.run(
        target, allow_stop=allow_stop, only_plan=only_plan, as_json=json, profile=profile, config=config
    )


def status(json: JsonOption = False, profile: ProfileOption = None, config: ConfigOption = None) -> int:
    """Show what runs where, what the channels name, and what differs from kiln.toml."""
    from launch import status as station

    return station.run(as_json=json, profile=profile, config=config)


def prune(
    image: Annotated[str, typer.Argument(help="Image in kiln.toml.", metavar="IMAGE")],
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="Another number of versions.")] = None,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    exit_code: ExitCodeOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Remove old versions that nothing needs."""
    from launch import prune as station

    return station.run(
        image,
        keep=keep,
        only_plan=only_plan,
        as_json=json,
        exit_code=exit_code,
        profile=profile,
        config=config,
    )


def sweep(
    hours: Annotated[int, typer.Option("--hours", min=1, help="Only what is older.")] = 24,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    exit_code: ExitCodeOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Remove what killed builds left: instances, keys, groups, snapshots, builders, by tag and age."""
    from launch import sweep as station

    return station.run(
        hours=hours, only_plan=only_plan, as_json=json, exit_code=exit_code, profile=profile, config=config
    )


def cost(
    json: JsonOption = False,
    profile: ProfileOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="The dated table, without asking AWS.")] = False,
    config: ConfigOption = None,
) -> int:
    """Reckon what kiln.toml costs, a line each, by month and hour."""
    from launch import cost as station

    return station.run(as_json=json, offline=offline, profile=profile, config=config)


def builder_run(
    image: Annotated[str, typer.Argument(help="Image in kiln.toml.", metavar="IMAGE")],
    keep: Annotated[bool, typer.Option("--keep", help="Leave the builder after a failure.")] = False,
    only_plan: PlanOption = False,
    json: JsonOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Make an AppStream image on an image builder, and delete the builder."""
    from launch import image_builder as station

    return station.run(image, keep=keep, only_plan=only_plan, as_json=json, profile=profile, config=config)


def builder_seed(
    image: Annotated[str, typer.Argument(help="Image in kiln.toml.", metavar="IMAGE")],
    only_plan: PlanOption = False,
    json: JsonOption = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
) -> int:
    """Make the base image with Ansible's account in it: guided, once per AWS base."""
    from launch import image_builder as station

    return station.seed(image, only_plan=only_plan, as_json=json, profile=profile, config=config)
