"""Plan of a fleet: its image, what may change live, what needs it stopped, and when it needs a new fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from kiln.config import Config, FleetTarget
from kiln.errors import KilnError, RefusedError
from launch import appstream_image, fleet, fleet_facts, fleet_move, fleet_quota, fleet_scaling, names
from launch.appstream import tags
from launch.cloud import Cloud
from launch.fleet_move import Family
from launch.fleet_settings import Change, differing, has
from launch.import_source import judge_role
from launch.plan import Plan, Say, requests
from launch.prices import Book
from launch.records import Records
from launch.trouble import code, told

STAGE = "fleet"


@dataclass(frozen=True)
class Wanted:
    """What a fleet is to run.

    Parameters
    ----------
    image:
        Name of the AppStream image.
    version:
        Of it; None for an image that is not one of ours.
    kind:
        CUSTOM or NATIVE; an image still to be imported is CUSTOM.
    platform:
        Its operating system; None where it is not known yet.
    still:
        Raises where it should not be rolled out any more.
    """

    image: str
    version: str | None
    kind: str
    platform: str | None
    still: Callable[[], None]


def plan(cloud: Cloud, config: Config, target_name: str, version: str | None, allow_stop: bool) -> Plan:
    """Plan what brings a fleet to what its channel names, or to a version.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    target_name:
        A target with a fleet.
    version:
        Instead of the channel's.
    allow_stop:
        Whether the fleet may be stopped, which ends its sessions.

    Returns
    -------
    Plan
        With refusals where something stands in the way.

    Raises
    ------
    KilnError
        What is there could not be found out.
    UsageError
        kiln.toml says not enough.
    """
    target = config.aim(target_name)
    if not isinstance(target, FleetTarget):
        raise KilnError(
            f"target {target_name} is a group, not a fleet", "a bug of kiln: tell its maintainers"
        )
    made = Plan(_command(target_name, version, allow_stop), f"fleet {target.fleet} in {target.region}")
    region = target.region
    family = fleet_move.family(made, cloud, target)
    if family is None:
        return made
    wanted = _wanted(made, cloud, config, target_name, target, version)
    if wanted is None:
        return made
    now = family.active
    before = fleet.image_of(now)
    made.facts |= {
        "target": target_name,
        "kind": "fleet",
        "region": region,
        "fleet": now["Name"],
        "state": now["State"],
        "instance_type": now["InstanceType"],
        "capacity": (now.get("ComputeCapacityStatus") or {}).get("Desired"),
        "image": {"before": before, "after": wanted.image},
        "version": {
            "before": appstream_image.version_of(config, target.image, before),
            "after": wanted.version,
        },
    }
    for what, hint in fleet.errors(now):
        made.notes.append(f"fleet {now['Name']} complains: {what}; {hint}")
    if now.get("FleetType") == "ELASTIC":
        made.refuse(
            "elastic-fleet",
            f"fleet {now['Name']} is ELASTIC: it runs no image, has no GPU and holds 1.5 GB of applications",
            "make an ALWAYS_ON or ON_DEMAND fleet, and name it in kiln.toml",
        )
        return made
    suited = _suited(made, _scaled(made, cloud, target, now["Name"]), wanted, family)
    if suited is None:
        return made
    _settings(made, cloud, suited, family)
    if made.refusals:
        return made
    if family.old is not None or not _runs(wanted, now["InstanceType"]):
        fleet_move.add(
            made, cloud, config, suited, wanted.image, wanted.kind, family, allow_stop, wanted.still
        )
    else:
        _change(made, cloud, suited, wanted, now, allow_stop)
        if not made.refusals:
            fleet_move.show(made, cloud, suited, family)
    if made.steps and not made.refusals:
        told_of = made.facts["version"]
        fleet_facts.tell_contents(
            made, Records(cloud, config), target.image, told_of["before"], told_of["after"]
        )
        instance_type = suited.instance_type or _type_after(wanted, family)
        fleet_facts.tell_cost(made, Book(cloud), target_name, suited, now, instance_type)
    return made


def _type_after(wanted: Wanted, family: Family) -> str:
    """Instance type of the fleet that will run the image: the active one's, else the kept one's."""
    members: list[dict[str, Any]] = [family.active, *family.members.values()]
    return str(next(each["InstanceType"] for each in members if _runs(wanted, each["InstanceType"])))


def _command(target: str, version: str | None, allow_stop: bool) -> str:
    options = (f" --version {version}" if version else "") + (" --allow-stop" if allow_stop else "")
    return f"kiln apply {target}{options}"


def _scaled(made: Plan, cloud: Cloud, target: FleetTarget, name: str) -> FleetTarget:
    """Return the target without its capacity where something scales the fleet: the two would fight."""
    if target.capacity is None:
        return target
    found = fleet_scaling.read(cloud, target.region, name)["targets"]
    if not found:
        return target
    made.notes.append(
        f"capacity = {target.capacity} is passed over: Application Auto Scaling keeps fleet {name} between "
        f"{found[0]['MinCapacity']} and {found[0]['MaxCapacity']}"
    )
    return target.model_copy(update={"capacity": None})


def _suited(made: Plan, target: FleetTarget, wanted: Wanted, family: Family) -> FleetTarget | None:
    """Return the target with an instance type that runs the image; None where the plan refuses.

    On the way back from an imported image to one of AWS's own kiln.toml still names the type of the other
    kind: the fleet that was kept has the right one.
    """
    instance_type = target.instance_type or family.active["InstanceType"]
    if _runs(wanted, instance_type):
        return target
    kept = next((each for each in family.members.values() if _runs(wanted, each["InstanceType"])), None)
    if kept is None:
        made.refuse(
            "instance-type",
            f"{wanted.image} is of type {wanted.kind} and does not run on {instance_type}",
            'name one that it runs on, as instance_type = "Accelerated.g4dn.xlarge" for an imported image, '
            "stream.* for one of a builder",
        )
        return None
    if target.instance_type:
        made.notes.append(
            f"{wanted.image} does not run on {target.instance_type}, which kiln.toml names: fleet "
            f"{kept['Name']} keeps its {kept['InstanceType']}"
        )
    return target.model_copy(update={"instance_type": None})


def _runs(wanted: Wanted, instance_type: str) -> bool:
    return appstream_image.suits({"ImageType": wanted.kind}, instance_type)


# ---- which image


def _wanted(
    made: Plan, cloud: Cloud, config: Config, name: str, target: FleetTarget, version: str | None
) -> Wanted | None:
    region, records = target.region, Records(cloud, config)
    by_channel = version is None
    if version is not None:
        image = appstream_image.name_of(config, target.image, version)
    else:
        found = in_channel(cloud, config, target)
        if found is None:
            made.refuse(
                "channel",
                f"the channel {target.channel} of {target.image} names nothing in {region}",
                f"kiln promote {target.image}@VERSION {target.channel}, or name a version by --version",
            )
            return None
        image = found
        version = appstream_image.version_of(config, target.image, image)
    if version is None:
        made.refuse(
            "channel",
            f"the channel {target.channel} names {image}, which is no version of {target.image}",
            f"kiln promote {target.image}@VERSION {target.channel}",
        )
        return None
    if (revoked := records.revocation(target.image, version)) is not None:
        made.refuse(
            "revoked",
            f"{target.image}@{version} was revoked by {revoked.who}: {revoked.why}",
            f"promote another version: kiln promote {target.image}@VERSION {target.channel}",
        )
        return None
    said = appstream_image.plan_import(made, cloud, config, target.image, version, region)
    there = appstream_image.find(cloud, region, said)
    if made.refusals:
        return None

    def still() -> None:
        _still(cloud, config, records, target, name, image, version or "", by_channel)

    return Wanted(
        image,
        version,
        appstream_image.kind(there) if there and there["State"] == "AVAILABLE" else "CUSTOM",
        there.get("Platform") if there else None,
        still,
    )


def in_channel(cloud: Cloud, config: Config, target: FleetTarget) -> str | None:
    """Return the AppStream image that the channel of a target names, None where it names nothing.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    parameter = names.channel(config.project.name, target.image, target.channel)
    with told(f"reading the channel {parameter} in {target.region}"):
        try:
            found = cloud.client("ssm", target.region).get_parameter(Name=parameter)
        except ClientError as error:
            if code(error) == "ParameterNotFound":
                return None
            raise
    return str(found["Parameter"]["Value"])


def _still(
    cloud: Cloud,
    config: Config,
    records: Records,
    target: FleetTarget,
    name: str,
    image: str,
    version: str,
    by_channel: bool,
) -> None:
    """Look again right before the fleet is changed: an import takes an hour, and much happens in an hour."""
    if (revoked := records.revocation(target.image, version)) is not None:
        raise RefusedError(
            f"{target.image}@{version} was revoked meanwhile by {revoked.who}: {revoked.why}",
            f"the fleet is as it was; promote another version, then: kiln apply {name}",
        )
    if by_channel and (now := in_channel(cloud, config, target)) != image:
        raise RefusedError(
            f"the channel {target.channel} names {now} by now, no longer {image}",
            f"the fleet is as it was; look at the new plan: kiln plan {name}",
        )


# ---- what the settings need


def _settings(made: Plan, cloud: Cloud, target: FleetTarget, family: Family) -> None:
    """Refuse settings that AppStream would not take, before anything is changed."""
    now, region = family.active, target.region
    instance_type = target.instance_type or now["InstanceType"]
    changed = {change.field for change in differing(target, now)}
    if target.role is not None and "role" in changed:
        judge_role(made, cloud, target.role)
    capacity = target.capacity
    if capacity is None:
        capacity = max((now.get("ComputeCapacityStatus") or {}).get("Desired") or 0, 1)
    if target.subnets is not None and "subnets" in changed:
        _subnets(made, cloud, region, target.subnets, capacity)
    if changed & {"capacity", "instance_type"}:
        # What is there already has its quota.
        fleet_quota.judge(made, cloud, region, instance_type, "fleet", capacity, now["Name"])


def _subnets(made: Plan, cloud: Cloud, region: str, subnets: list[str], capacity: int) -> None:
    with told(f"looking at {', '.join(subnets)}"):
        try:
            found = cloud.client("ec2", region).describe_subnets(SubnetIds=subnets)["Subnets"]
        except ClientError as error:
            if code(error) != "InvalidSubnetID.NotFound":
                raise
            made.refuse(
                "subnets", f"not all of {', '.join(subnets)} are in {region}", "correct subnets in kiln.toml"
            )
            return
    free = sum(subnet["AvailableIpAddressCount"] for subnet in found)
    if free < capacity:
        made.refuse(
            "subnets",
            f"{', '.join(subnets)} have {free} free addresses, and {capacity} instances need one each",
            fleet.ERRORS["SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES"],
        )
    if len({subnet["VpcId"] for subnet in found}) > 1:
        made.refuse(
            "subnets",
            f"{', '.join(subnets)} are not of one VPC",
            fleet.ERRORS["INVALID_SUBNET_CONFIGURATION"],
        )


# ---- the same fleet, changed


def _change(
    made: Plan, cloud: Cloud, target: FleetTarget, wanted: Wanted, now: dict[str, Any], allow_stop: bool
) -> None:
    region, name = target.region, now["Name"]
    changes = differing(target, now)
    if fleet.image_of(now) != wanted.image:
        live = _same_system(made, cloud, region, now, wanted)
        changes.insert(
            0, Change("image", live, fleet.image_of(now), wanted.image, {"ImageName": wanted.image})
        )
    made.facts["changes"] = [
        {"field": change.field, "before": change.before, "after": change.after, "live": change.live}
        for change in changes
    ]
    restart = fleet.RESTART in tags(cloud, region, now["Arn"])
    runs = now["State"] in ("RUNNING", "STARTING")
    needs_stop = [change for change in changes if not change.live]
    told_of = "; ".join(str(change) for change in changes)
    params = {key: value for change in changes for key, value in change.params.items()}
    there = has(target, wanted.image)
    if not changes:
        if restart and not runs:
            made.add(
                STAGE,
                f"start fleet {name} again, which an earlier run had stopped",
                requests("appstream", region, "StartFleet", "UntagResource"),
                lambda say: _again(cloud, region, now, say),
            )
        elif restart:
            made.add(
                STAGE,
                f"take the mark of an earlier run off fleet {name}",
                requests("appstream", region, "UntagResource"),
                lambda _: fleet.unmark(cloud, region, now["Arn"], [fleet.RESTART]),
            )
        return
    if needs_stop and runs:
        open_ = fleet.sessions(cloud, region, now)
        made.facts["sessions"] = open_
        fields = ", ".join(change.field.replace("_", " ") for change in needs_stop)
        if not allow_stop:
            made.refuse(
                "needs-stop",
                f"{fields} of fleet {name} may change only while it is stopped, which ends {open_} sessions",
                f"at a quiet hour: {made.command} --allow-stop",
            )
            return
        made.notes.append(f"{open_} sessions on fleet {name} end when it stops")
        made.add(
            STAGE,
            f"stop fleet {name}, change it ({told_of}), start it again",
            requests(
                "appstream", region, "TagResource", "StopFleet", "UpdateFleet", "StartFleet", "UntagResource"
            ),
            lambda say: _stopped(cloud, region, now, params, there, wanted, say),
        )
        return
    if runs and fleet.image_of(now) != wanted.image:
        made.notes.append(
            "sessions that are open keep the old image; new instances have the new one, idle ones are "
            "replaced over time, and no interface tells which instance has which"
        )
    made.add(
        STAGE,
        f"change fleet {name}, {'live' if runs else 'which is stopped'} ({told_of})",
        requests("appstream", region, "UpdateFleet"),
        lambda say: _live(cloud, region, name, params, there, wanted, say),
    )
    if restart and not runs:
        made.add(
            STAGE,
            f"start fleet {name} again, which an earlier run had stopped",
            requests("appstream", region, "StartFleet", "UntagResource"),
            lambda say: _again(cloud, region, now, say),
        )


def _same_system(made: Plan, cloud: Cloud, region: str, now: dict[str, Any], wanted: Wanted) -> bool:
    """Whether the new image has the operating system of the old one; another needs the fleet stopped."""
    old = appstream_image.find(cloud, region, fleet.image_of(now))
    platforms = {(old or {}).get("Platform"), wanted.platform}
    if None in platforms:
        made.notes.append(
            "whether the operating system stays the same is known after the import: if it does not, "
            "AppStream refuses the change while the fleet runs, and --allow-stop is needed"
        )
        return True
    return len(platforms) == 1


def _live(
    cloud: Cloud,
    region: str,
    name: str,
    params: dict[str, Any],
    there: Callable[[dict[str, Any]], bool],
    wanted: Wanted,
    say: Say,
) -> None:
    fleet.rest(cloud, region, name, say)
    wanted.still()
    fleet.update(cloud, region, name, params, there, say)
    now = fleet.get(cloud, region, name)
    for what, hint in fleet.errors(now):
        say(f"fleet {name} complains: {what}; {hint}")


def _again(cloud: Cloud, region: str, now: dict[str, Any], say: Say) -> None:
    fleet.start(cloud, region, now["Name"], say)
    fleet.unmark(cloud, region, now["Arn"], [fleet.RESTART])


def _stopped(
    cloud: Cloud,
    region: str,
    now: dict[str, Any],
    params: dict[str, Any],
    there: Callable[[dict[str, Any]], bool],
    wanted: Wanted,
    say: Say,
) -> None:
    """Stop, change, start: started again whatever comes between; a kill leaves a mark that says so."""
    name, arn = now["Name"], now["Arn"]
    wanted.still()
    fleet.mark(cloud, region, arn, {fleet.RESTART: cloud.run_id})
    try:
        fleet.stop(cloud, region, name, say)
        wanted.still()
        fleet.update(cloud, region, name, params, there, say)
    except BaseException:
        say(f"starting fleet {name} again, as it was")
        fleet.begin(cloud, region, name, say)
        fleet.unmark(cloud, region, arn, [fleet.RESTART])
        raise
    fleet.start(cloud, region, name, say)
    fleet.unmark(cloud, region, arn, [fleet.RESTART])
