"""A fleet that takes over from another: an imported image and one of AWS's own never run on the same fleet.

The instance types of the two kinds are apart, so NATIVE to CUSTOM (and back) makes a new fleet with the old
one's settings, its scaling too, and lets the stacks show it. The old fleet is stopped and kept. While that is
going on the new fleet carries marks, from which a run that comes after a kill knows what is left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kiln.config import Config, FleetTarget
from launch import appstream_image, fleet, fleet_quota, fleet_scaling, names
from launch.appstream import tags
from launch.cloud import Cloud
from launch.fleet_settings import differing
from launch.plan import Plan, Say, requests

STAGE = "new fleet"
MOVE = "move"
OLD = "old fleet"

_MARKS = (fleet.REPLACES, fleet.STACK)


@dataclass(frozen=True)
class Family:
    """The fleet of a target, and those that took over from it.

    Parameters
    ----------
    active:
        The one that users have, or that is to take over, as DescribeFleets gives it.
    members:
        Name → each that there is.
    old:
        The one that is being taken over from; None where nothing is under way.
    stacks:
        Stacks that are to show the active one.
    """

    active: dict[str, Any]
    members: dict[str, dict[str, Any]]
    old: dict[str, Any] | None
    stacks: tuple[str, ...]


def family(made: Plan, cloud: Cloud, target: FleetTarget) -> Family | None:
    """Find out which fleet serves a target.

    Parameters
    ----------
    made:
        Gets the refusal where none does.
    cloud, target:
        The account, and what kiln.toml says.

    Returns
    -------
    Family or None
        None where the plan refuses.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    region, base = target.region, target.fleet
    candidates = [base, fleet.sibling(base, "CUSTOM"), fleet.sibling(base, "NATIVE")]
    members = {name: found for name in candidates if (found := fleet.find(cloud, region, name)) is not None}
    if not members:
        made.refuse(
            "fleet",
            f"there is no fleet {base} in {region} of account {cloud.account}",
            "make it first, with any image of AWS's, or correct fleet in kiln.toml",
        )
        return None
    if target.stack is not None and not fleet.stack_there(cloud, region, target.stack):
        made.refuse(
            "stack",
            f"there is no stack {target.stack} in {region} of account {cloud.account}",
            "make it first, or correct stack in kiln.toml",
        )
        return None
    for member in members.values():
        marks = tags(cloud, region, member["Arn"])
        if fleet.REPLACES in marks:
            stacks = {key.removeprefix(fleet.STACK) for key in marks if key.startswith(fleet.STACK)}
            return Family(member, members, members.get(marks[fleet.REPLACES]), _with(target, stacks))
    shown = {name: fleet.stacks(cloud, region, name) for name in members}
    if target.stack is not None:
        others = [name for name in fleet.shown_by(cloud, region, target.stack) if name not in members]
        if others:
            made.refuse(
                "stack",
                f"stack {target.stack} shows fleet {', '.join(others)}, not {base}",
                "correct fleet or stack in kiln.toml",
            )
            return None
    name = next((each for each in members if target.stack in shown[each]), None)
    name = name or next((each for each in members if shown[each]), None)
    name = name or next((each for each in members if members[each]["State"] == "RUNNING"), None)
    name = name or next(iter(members))
    return Family(members[name], members, None, _with(target, set(shown[name])))


def _with(target: FleetTarget, stacks: set[str]) -> tuple[str, ...]:
    return tuple(sorted(stacks | ({target.stack} if target.stack else set())))


def add(
    made: Plan,
    cloud: Cloud,
    config: Config,
    target: FleetTarget,
    image: str,
    kind: str,
    found: Family,
    allow_stop: bool,
    still: Callable[[], None],
) -> None:
    """Plan that another fleet takes over, or what is left of it.

    Parameters
    ----------
    made:
        Gets the steps.
    cloud, config, target:
        The account, and what kiln.toml says.
    image, kind:
        Name of the image, and CUSTOM or NATIVE.
    found:
        What there is.
    allow_stop:
        Whether the old fleet may be stopped, which ends its sessions.
    still:
        Raises where the image should not be rolled out any more.

    Raises
    ------
    KilnError
        What is there could not be found out.
    """
    region = target.region
    old, name = _roles(target, kind, found)
    there = found.members.get(name)
    instance_type = target.instance_type or (there or old)["InstanceType"]
    if there is None or there["State"] == "STOPPED":
        fleet_quota.judge(made, cloud, region, instance_type, "fleet", _capacity(old), name)
    open_ = fleet.sessions(cloud, region, old)
    made.facts["sessions"] = open_
    made.facts["new_fleet"] = name
    if there is not None and not appstream_image.suits({"ImageType": kind}, there["InstanceType"]):
        made.refuse(
            "fleet-name",
            f"the new fleet would be called {name}, and one of that name runs on {there['InstanceType']}",
            "delete it, or call the fleet of kiln.toml otherwise",
        )
    if not allow_stop:
        made.refuse(
            "needs-stop",
            f"{image} ({kind}) needs fleet {name} in place of {old['Name']}, whose {open_} sessions end",
            f"at a quiet hour: {made.command} --allow-stop",
        )
    if made.refusals:
        return
    made.notes.append(f"{open_} sessions on fleet {old['Name']} end when the stack has moved")
    made.notes.append(
        f"fleet {old['Name']} is stopped and kept, for the way back; when you need it no longer: "
        f"aws appstream delete-fleet --name {old['Name']} --region {region}"
    )
    marks = {fleet.REPLACES: old["Name"], **{f"{fleet.STACK}{each}": "moves" for each in found.stacks}}
    if there is None:
        params = fleet.like(old, name, image, instance_type)
        for change in differing(target, {**old, "InstanceType": instance_type}):
            params |= change.params
        params["Tags"] = {
            # A stack of CloudFormation marks what is its own by tags that nobody else may set.
            **{
                key: value
                for key, value in tags(cloud, region, old["Arn"]).items()
                if not key.startswith("aws:")
            },
            names.PROJECT: config.project.name,
            names.RUN: cloud.run_id,
            **marks,
        }
        params["Tags"].pop(fleet.RESTART, None)

        def make(say: Say) -> None:
            still()
            fleet.create(cloud, region, params, say)

        made.add(
            STAGE,
            f"make fleet {name} like {old['Name']}, with {image} on {instance_type}",
            requests("appstream", region, "CreateFleet"),
            make,
        )
    else:
        _reuse(made, cloud, target, image, there, old, marks, found, still)
    if fleet_scaling.read(cloud, region, old["Name"])["targets"]:
        made.add(
            STAGE,
            f"scale fleet {name} as {old['Name']}",
            fleet_scaling.announced(region),
            lambda say: fleet_scaling.copy(cloud, region, old["Name"], name, say),
        )
    made.add(
        STAGE,
        f"start fleet {name}",
        requests("appstream", region, "StartFleet"),
        lambda say: fleet.start(cloud, region, name, say),
    )
    for stack in found.stacks:
        made.add(
            MOVE,
            f"let stack {stack} show fleet {name} instead of {old['Name']}",
            requests("appstream", region, "DisassociateFleet", "AssociateFleet", "StopFleet"),
            partial(_move, cloud, region, stack, old["Name"], name),
        )
    made.add(
        OLD,
        f"stop fleet {old['Name']}, and keep it",
        requests("appstream", region, "StopFleet", "UntagResource"),
        lambda say: _finish(cloud, region, old["Name"], name, list(marks), say),
    )


def _roles(target: FleetTarget, kind: str, found: Family) -> tuple[dict[str, Any], str]:
    """Return the fleet that is taken over from, and the name of the one that takes over."""
    able = {
        name: member
        for name, member in found.members.items()
        if appstream_image.suits({"ImageType": kind}, member["InstanceType"])
    }
    if found.old is not None and found.active["Name"] in able:
        return found.old, found.active["Name"]
    # Back again while the way there was not finished: what was to take over is taken over from.
    old = found.active
    kept = next((name for name in able if name != old["Name"]), None)
    new = fleet.sibling(target.fleet, kind)
    return old, kept or (new if new not in found.members else target.fleet)


def show(made: Plan, cloud: Cloud, target: FleetTarget, found: Family) -> None:
    """Plan that the stack of a target shows its fleet, where it shows none.

    Parameters
    ----------
    made:
        Gets the step.
    cloud, target, found:
        The account, what kiln.toml says, and what there is.
    """
    stack, name, region = target.stack, found.active["Name"], target.region
    if stack is None or fleet.shown_by(cloud, region, stack):
        return
    made.add(
        MOVE,
        f"let stack {stack} show fleet {name}",
        requests("appstream", region, "AssociateFleet"),
        lambda say: fleet.move(cloud, region, stack, "", name, say),
    )


def _capacity(old: dict[str, Any]) -> int:
    return max((old.get("ComputeCapacityStatus") or {}).get("Desired") or 0, 1)


def _reuse(
    made: Plan,
    cloud: Cloud,
    target: FleetTarget,
    image: str,
    there: dict[str, Any],
    old: dict[str, Any],
    marks: dict[str, str],
    found: Family,
    still: Callable[[], None],
) -> None:
    """Plan that a fleet which is there takes over: one that was kept, or one that a killed run has made."""
    region, name = target.region, there["Name"]
    changes = {} if fleet.image_of(there) == image else {"ImageName": image}
    for change in differing(target, there):
        if change.live or there["State"] == "STOPPED":
            changes |= change.params
    if found.old is None or found.old["Name"] != old["Name"]:

        def mark(_: Say) -> None:
            # A run the other way round was killed: what it has marked is no longer so.
            wrong = [key for key in tags(cloud, region, old["Arn"]) if key.startswith(_MARKS)]
            fleet.unmark(cloud, region, old["Arn"], wrong)
            fleet.mark(cloud, region, there["Arn"], marks)

        made.add(
            STAGE,
            f"mark fleet {name} as the one that takes over",
            requests("appstream", region, "TagResource", "UntagResource"),
            mark,
        )
    if not changes:
        return

    def update(say: Say) -> None:
        still()
        fleet.rest(cloud, region, name, say)
        fleet.update(cloud, region, name, changes, lambda now: fleet.image_of(now) == image, say)

    made.add(
        STAGE,
        f"let fleet {name} use {image}" if "ImageName" in changes else f"change fleet {name} to kiln.toml",
        requests("appstream", region, "UpdateFleet"),
        update,
    )


def _move(cloud: Cloud, region: str, stack: str, old: str, new: str, say: Say) -> None:
    """Move a stack; sessions that hold the old fleet end with it, as the operator has allowed."""
    still_shown = old in fleet.shown_by(cloud, region, stack)
    if still_shown and fleet.sessions(cloud, region, fleet.get(cloud, region, old)):
        fleet.stop(cloud, region, old, say)
    fleet.move(cloud, region, stack, old, new, say)


def _finish(cloud: Cloud, region: str, old: str, new: str, marks: list[str], say: Say) -> None:
    if fleet.find(cloud, region, old) is not None:
        fleet.stop(cloud, region, old, say)
    fleet.unmark(cloud, region, fleet.get(cloud, region, new)["Arn"], marks)
