"""kiln status: what runs where, what the channels name, who works on it, and what differs from kiln.toml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kiln import config as config_file
from kiln.config import Config, FleetTarget, GroupTarget
from kiln.errors import Exit, KilnError, RefusedError
from launch import appstream_image, fleet_plan, lock, names, rollout, settings
from launch import channel as channels
from launch import release as releases
from launch import template as templates
from launch.cloud import Cloud
from launch.group_plan import Rolling
from launch.plan import Plan
from launch.records import Records


@dataclass
class State:
    """What was found.

    Parameters
    ----------
    channels:
        Image, channel → region → what it names there.
    targets:
        Name → what runs there, and what differs.
    locks:
        Who works on what now.
    errors:
        What could not be found out: the command fails for it.
    """

    channels: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "channels": self.channels,
            "targets": self.targets,
            "locks": self.locks,
            "errors": [{"what": what, "hint": hint} for what, hint in self.errors],
        }


def run(*, as_json: bool = False, profile: str | None = None, config: Path | None = None) -> int:
    """Print how everything stands; nothing is changed.

    Parameters
    ----------
    as_json:
        For programs.
    profile, config:
        As of :func:`launch.apply.run`.

    Returns
    -------
    int
        FAILED where something could not be found out, else DONE: drift is no failure.

    Raises
    ------
    UsageError
        kiln.toml names no bucket.
    KilnError
        AWS does not know who we are.
    """
    loaded = config_file.load(config)
    loaded.records()
    cloud = Cloud(_region(loaded), names.run_id("status"), profile)
    state = look(cloud, loaded)
    console = Console(highlight=False)
    if as_json:
        console.print_json(data=state.as_json())
    else:
        show(state, console)
    return Exit.FAILED if state.errors else Exit.DONE


def _region(config: Config) -> str:
    published = [image.publish.regions[0] for image in config.image.values() if image.publish is not None]
    return next(iter([*published, *(target.region for target in config.target.values())]), "us-east-1")


def look(cloud: Cloud, config: Config) -> State:
    """Find out how everything stands.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.

    Raises
    ------
    KilnError
        AWS does not know who we are.
    """
    state = State()
    _ = cloud.account
    for image, described in config.image.items():
        for region in described.publish.regions if described.publish else ():
            _try(state, partial(_channels, state, cloud, config, image, region))
    for name, target in config.target.items():
        reader = _fleet if isinstance(target, FleetTarget) else _group
        _try(state, partial(_target, state, reader, cloud, config, name))
    _try(state, lambda: state.locks.extend(each.describe() for each in lock.held(Records(cloud, config))))
    return state


def _target(
    state: State,
    read: Callable[[Cloud, Config, str], dict[str, Any]],
    cloud: Cloud,
    config: Config,
    name: str,
) -> None:
    state.targets.append(read(cloud, config, name))


def _try(state: State, look_at: Callable[[], object]) -> None:
    """Look at one thing; what could not be found out does not hide the rest."""
    try:
        look_at()
    except KilnError as error:
        state.errors.append((error.what, error.hint))


# ---- channels


def _channels(state: State, cloud: Cloud, config: Config, image: str, region: str) -> None:
    found = channels.standings(cloud, config.project.name, image, region)
    for channel, value in found.items():
        row = next(
            (each for each in state.channels if (each["image"], each["channel"]) == (image, channel)), None
        )
        if row is None:
            row = {"image": image, "channel": channel, "regions": {}, "drift": []}
            state.channels.append(row)
        version, trouble = _version(cloud, config, image, region, value)
        row["regions"][region] = {"value": value, "version": version}
        if trouble:
            row["drift"].append(f"{region}: {trouble}")
    for row in state.channels:
        if row["image"] == image:
            _partial(row, config)


def _partial(row: dict[str, Any], config: Config) -> None:
    """Tell where a channel does not name the same version in every region of its image."""
    publish = config.publication(row["image"])
    versions = {each["version"] for each in row["regions"].values()}
    missing = [region for region in publish.regions if region not in row["regions"]]
    row["partial"] = len(versions) > 1 or bool(missing)


def _version(
    cloud: Cloud, config: Config, image: str, region: str, value: str
) -> tuple[str | None, str | None]:
    """Return the version that a channel's value is, and what is wrong with it."""
    if not value.startswith("ami-"):
        found = appstream_image.version_of(config, image, value)
        return found, None if found is not None else f"{value} is no version of {image}"
    machine = releases.machine(cloud, region, value)
    if machine is None:
        return None, f"{value} is not there"
    if machine.image != image:
        return None, f"{value} is no version of {image}"
    return machine.version, f"{value} is {machine.trouble}" if machine.trouble else None


# ---- groups


def _group(cloud: Cloud, config: Config, name: str) -> dict[str, Any]:
    target = config.aim(name)
    assert isinstance(target, GroupTarget)
    rolling = Rolling(cloud, config, name, target, "apply", f"kiln apply {name}")
    group, base = rolling.group, rolling.base
    serving = sum(each.serves for each in group.instances)
    found: dict[str, Any] = {
        "target": name,
        "kind": "group",
        "name": group.name,
        "region": target.region,
        "image": target.image,
        "version": rolling.runs.version if rolling.runs is not None else None,
        "ami": base.ami if base is not None else None,
        "template_version": base.number if base is not None else None,
        "desired": group.desired,
        "serving": serving,
        "warm": len(group.warm),
        "instances": {
            each.id: {
                "template_version": each.ref.number if each.ref is not None else None,
                "lifecycle": each.lifecycle,
                "health": each.health,
            }
            for each in group.instances
        },
        "refresh": None,
        "channel": {"name": target.channel, "version": None},
        "drift": [],
        "last": _last(rolling.records, name),
    }
    if base is None:
        found["drift"] += [each.what for each in rolling.plan.refusals]
        return found
    if rolling.running is not None:
        now = rolling.running
        found["refresh"] = {"id": now.id, "status": now.status, "percent": now.percent, "to": now.number}
    found["drift"] += _group_drift(rolling, found)
    return found


def _group_drift(rolling: Rolling, found: dict[str, Any]) -> list[str]:
    group, base, target, runs = rolling.group, rolling.base, rolling.target, rolling.runs
    assert base is not None and group.ref is not None
    drift = []
    if group.ref.number is None:
        drift.append(f"the group names {group.ref.version} of {base.name}: any new version would run at once")
    if runs is None:
        drift.append(
            f"template version {base.number} runs {base.ami or 'no AMI'}, which is no version of ours"
        )
    elif runs.machine.trouble:
        drift.append(f"{runs} is {runs.machine.trouble}")
    counts = group.by_version()
    if counts[None]:
        drift.append(f"{counts[None]} instances were not launched from {base.name}")
    others = {number: count for number, count in counts.items() if number not in (None, base.number)}
    if others and found["refresh"] is None:
        told_of = ", ".join(
            f"{count} on version {number}" for number, count in sorted(others.items()) if number
        )
        drift.append(f"instances run other versions of {base.name} than {base.number}: {told_of}")
    if found["serving"] < group.desired:
        drift.append(f"{found['serving']} of {group.desired} instances serve")
    drift += _against_channel(rolling, found)
    if runs is not None:
        drift += _against_kiln_toml(rolling, runs)
    return drift if target else []


def _against_channel(rolling: Rolling, found: dict[str, Any]) -> list[str]:
    target = rolling.target
    try:
        named = releases.in_channel(
            rolling.cloud, rolling.config, target.image, target.channel, target.region
        )
    except RefusedError as error:
        return [error.what]
    found["channel"]["version"] = named.version
    if rolling.base is not None and named.id != rolling.base.ami:
        return [f"the channel {target.channel} names {named.version or named.id}: kiln apply {rolling.name}"]
    return []


def _against_kiln_toml(rolling: Rolling, runs: releases.Release) -> list[str]:
    """Tell what of the template kiln.toml would have otherwise, with the version that it runs."""
    base = rolling.base
    assert base is not None
    try:
        document = settings.document(rolling.target.settings, runs.manifest.facts.settings_schemas, str(runs))
        wanted = rolling.wanted(runs, document)
    except RefusedError as error:
        return [error.what]
    words = {
        "UserData": "the settings differ from kiln.toml's",
        "MetadataOptions": "IMDSv2 is not required",
        "TagSpecifications": "instances would not be tagged as ours",
        "BlockDeviceMappings": "the root volume differs from kiln.toml's",
    }
    return [words.get(key, f"{key} differs") for key in templates.differing(base, wanted)]


# ---- fleets


def _fleet(cloud: Cloud, config: Config, name: str) -> dict[str, Any]:
    target = config.aim(name)
    assert isinstance(target, FleetTarget)
    plan: Plan = fleet_plan.plan(cloud, config, name, None, False)
    facts = plan.facts
    return {
        "target": name,
        "kind": "fleet",
        "name": facts.get("fleet", target.fleet),
        "region": target.region,
        "image": target.image,
        "version": (facts.get("version") or {}).get("before"),
        "appstream_image": (facts.get("image") or {}).get("before"),
        "state": facts.get("state"),
        "capacity": facts.get("capacity"),
        "channel": {"name": target.channel, "version": (facts.get("version") or {}).get("after")},
        "drift": [
            *(
                f"{each['field'].replace('_', ' ')}: {each['before']}, to be {each['after']}"
                for each in facts.get("changes", [])
            ),
            *(each.what for each in plan.refusals),
            *(note for note in plan.notes if "complains" in note),
        ],
        "last": _last(Records(cloud, config), name),
    }


def _last(records: Records, name: str) -> dict[str, Any] | None:
    newest = rollout.newest(records, name)
    return None if newest is None else newest.model_dump(mode="json")


# ---- for people


def show(state: State, console: Console) -> None:
    """Print it for people.

    Parameters
    ----------
    state:
        What was found.
    console:
        Where to.
    """
    if state.targets:
        table = Table("target", "runs", "channel", "instances", "last", box=None, pad_edge=False)
        for each in state.targets:
            channel = each["channel"]
            table.add_row(
                f"{each['target']} ({each['kind']} {each['name']}, {each['region']})",
                f"{each['image']}@{each['version'] or 'none of ours'}",
                f"{channel['name']}: {channel['version'] or 'none'}",
                _size(each),
                _told(each["last"]),
            )
        console.print(table)
    if state.channels:
        table = Table("image", "channel", "version", "regions", box=None, pad_edge=False)
        for row in state.channels:
            for version, regions in _by_version(row).items():
                table.add_row(row["image"], row["channel"], version, ", ".join(regions))
        console.print(table)
    for each in state.targets:
        if each.get("refresh"):
            now = each["refresh"]
            console.print(
                f"{each['target']}: refresh {now['id']} {now['status']} {now['percent']} %", soft_wrap=True
            )
        for line in each["drift"]:
            console.print(f"[yellow]drift[/yellow] {escape(each['target'])}: {escape(line)}", soft_wrap=True)
    for row in state.channels:
        name = f"{row['image']} {row['channel']}"
        if row["partial"]:
            console.print(f"[yellow]partial[/yellow] {name}: not the same in every region", soft_wrap=True)
        for line in row["drift"]:
            console.print(f"[yellow]drift[/yellow] {name}: {escape(line)}", soft_wrap=True)
    for line in state.locks:
        console.print(f"locked: {escape(line)}", soft_wrap=True)
    for what, hint in state.errors:
        console.print(f"[red]not found out[/red] {escape(what)}\n  fix: {escape(hint)}", soft_wrap=True)


def _by_version(row: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for region, each in row["regions"].items():
        found.setdefault(each["version"] or each["value"], []).append(region)
    return found


def _size(each: dict[str, Any]) -> str:
    if each["kind"] == "fleet":
        return f"{each['state'] or 'unknown'}, {each['capacity'] or 0}"
    return f"{each['serving']} of {each['desired']} serve"


def _told(last: dict[str, Any] | None) -> str:
    if last is None:
        return "never by kiln"
    who = last["who"].rpartition("/")[2]
    return f"{last['kind']} {last['outcome'] or 'started'} {last['time'][:16]} by {who}"
