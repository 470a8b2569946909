"""AppStream fleets: what there is of one, and what can be done to it; doing it twice does no harm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from kiln.errors import KilnError
from launch import names
from launch.appstream import ABSENT, IN_USE, ask, listed, until
from launch.cloud import Cloud, service_model
from launch.plan import Say
from launch.trouble import AGAIN

MINUTES = 30.0
"""How long a fleet may take to start or stop; boto3's own waiters give up after 20."""

NAME_LENGTH = 101

ERRORS: dict[str, str] = {
    "IMAGE_NOT_FOUND": "its image was deleted: let it run another (kiln apply)",
    "SUBNET_HAS_INSUFFICIENT_IP_ADDRESSES": "name a larger subnet, or lower the capacity",
    "SUBNET_NOT_FOUND": "name a subnet that exists under subnets in kiln.toml",
    "INVALID_SUBNET_CONFIGURATION": "name subnets of one VPC in zones that AppStream has",
    "SECURITY_GROUPS_NOT_FOUND": "name security groups of the subnets' VPC in kiln.toml",
    "IGW_NOT_ATTACHED": "attach an internet gateway to the VPC, or take the fleet's internet access away",
    "NETWORK_INTERFACE_LIMIT_EXCEEDED": "ask for more network interfaces under Service Quotas, Amazon VPC",
    "MACHINE_ROLE_IS_MISSING": "make the role that the fleet names, trusted by appstream.amazonaws.com",
    "IAM_SERVICE_ROLE_IS_MISSING": "open the AppStream console once: it makes AmazonAppStreamServiceAccess",
    "STS_DISABLED_IN_REGION": "enable STS for the region (IAM, Account settings)",
    "FLEET_STOPPED": "start the fleet",
    "FLEET_INSTANCE_PROVISIONING_FAILURE": "AWS has no such instance free, or the quota of the type is too "
    "low: look at Service Quotas, Amazon AppStream 2.0, and try another size",
    "INTERNAL_SERVICE_ERROR": f"the fault is AppStream's own: {AGAIN}; if it comes back, ask AWS Support",
}
"""What to do about an entry of FleetErrors, by its code."""

FAMILIES: dict[str, str] = {
    "IAM_SERVICE_ROLE_MISSING": "give AmazonAppStreamServiceAccess its managed policy back",
    "DOMAIN_JOIN": "look at the directory's service account and at its limits",
}
"""The same for groups of codes, by their beginning."""


def hint_for(error: str) -> str:
    """Return what to do about a code of FleetErrors."""
    family = next((hint for start, hint in FAMILIES.items() if error.startswith(start)), None)
    return ERRORS.get(error) or family or "look at the fleet's notifications in AppStream"


def errors(fleet: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a fleet complains about, each as what is wrong and what to do."""
    return [
        (
            f"{each.get('ErrorCode')}: {' '.join(str(each.get('ErrorMessage', '')).split())}".rstrip(": "),
            hint_for(str(each.get("ErrorCode"))),
        )
        for each in fleet.get("FleetErrors") or []
    ]


# ---- what there is


def find(cloud: Cloud, region: str, name: str) -> dict[str, Any] | None:
    """Return a fleet as DescribeFleets gives it, None where there is none.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    found = listed(cloud, region, f"looking for fleet {name}", "describe_fleets", "Fleets", Names=[name])
    return next((fleet for fleet in found if fleet["Name"] == name), None)


def get(cloud: Cloud, region: str, name: str) -> dict[str, Any]:
    """Return a fleet that must be there.

    Raises
    ------
    KilnError
        It is not, or it could not be found out.
    """
    fleet = find(cloud, region, name)
    if fleet is None:
        raise KilnError(f"there is no fleet {name} in {region}", "correct its name in kiln.toml, or make it")
    return fleet


def image_of(fleet: dict[str, Any]) -> str:
    """Name of the image that new instances of a fleet get."""
    return str(fleet.get("ImageName") or fleet.get("ImageArn", "").rpartition("/")[2])


def stacks(cloud: Cloud, region: str, name: str) -> list[str]:
    """Names of the stacks that show a fleet, sorted."""
    return sorted(
        listed(
            cloud,
            region,
            f"asking which stacks show fleet {name}",
            "list_associated_stacks",
            "Names",
            FleetName=name,
        )
    )


def shown_by(cloud: Cloud, region: str, stack: str) -> list[str]:
    """Names of the fleets that a stack shows: one at most, says AppStream."""
    return sorted(
        listed(
            cloud,
            region,
            f"asking which fleet stack {stack} shows",
            "list_associated_fleets",
            "Names",
            StackName=stack,
        )
    )


def stack_there(cloud: Cloud, region: str, stack: str) -> bool:
    """Whether there is a stack of a name."""
    return bool(
        listed(cloud, region, f"looking for stack {stack}", "describe_stacks", "Stacks", Names=[stack])
    )


def sessions(cloud: Cloud, region: str, fleet: dict[str, Any]) -> int:
    """Count the sessions that would end if a fleet stopped.

    Parameters
    ----------
    cloud, region:
        Where.
    fleet:
        As DescribeFleets gives it.

    Returns
    -------
    int
        The most that any source tells: a list without a user's name may leave out some kinds of log-in.
    """
    name, status = fleet["Name"], fleet.get("ComputeCapacityStatus") or {}
    open_ = 0
    for stack in stacks(cloud, region, name):
        found = listed(
            cloud,
            region,
            f"counting the sessions of fleet {name}",
            "describe_sessions",
            "Sessions",
            StackName=stack,
            FleetName=name,
        )
        open_ += sum(session["State"] != "EXPIRED" for session in found)
    return max(open_, status.get("InUse") or 0, status.get("ActiveUserSessions") or 0)


def sibling(base: str, kind: str) -> str:
    """Name of the fleet that takes over from another when the kind of the image changes.

    Parameters
    ----------
    base:
        Name of the fleet in kiln.toml.
    kind:
        ``CUSTOM`` or ``NATIVE``.
    """
    name = f"{base}-{kind.lower()}"
    if len(name) <= NAME_LENGTH:
        return name
    end = f"-{hashlib.sha256(base.encode()).hexdigest()[:8]}-{kind.lower()}"
    return base[: NAME_LENGTH - len(end)] + end


# ---- what can be done


def rest(cloud: Cloud, region: str, name: str, say: Say) -> dict[str, Any]:
    """Wait until a fleet neither starts nor stops, and return it."""

    def look() -> dict[str, Any] | None:
        fleet = get(cloud, region, name)
        say(f"fleet {name}: {fleet['State']}")
        return fleet if fleet["State"] in ("RUNNING", "STOPPED") else None

    return until(cloud, f"fleet {name}", MINUTES, look)


def stop(cloud: Cloud, region: str, name: str, say: Say) -> None:
    """Stop a fleet and wait; its sessions end. StopFleet must have been announced."""
    if rest(cloud, region, name, say)["State"] == "RUNNING":
        ask(
            cloud,
            region,
            f"stopping fleet {name}",
            "stop_fleet",
            settled=lambda: get(cloud, region, name)["State"] in ("STOPPING", "STOPPED"),
            Name=name,
        )

    def look() -> bool | None:
        state = get(cloud, region, name)["State"]
        say(f"fleet {name}: {state}")
        return True if state == "STOPPED" else None

    until(cloud, f"stopping fleet {name}", MINUTES, look)


def begin(cloud: Cloud, region: str, name: str, say: Say) -> None:
    """Let a fleet start, without waiting for it. StartFleet must have been announced."""
    if rest(cloud, region, name, say)["State"] == "STOPPED":
        ask(
            cloud,
            region,
            f"starting fleet {name}",
            "start_fleet",
            settled=lambda: get(cloud, region, name)["State"] in ("STARTING", "RUNNING"),
            Name=name,
        )


def start(cloud: Cloud, region: str, name: str, say: Say) -> None:
    """Start a fleet and wait until it has its instances.

    Parameters
    ----------
    cloud, region, name:
        Which. StartFleet must have been announced.
    say:
        Is told the state.

    Raises
    ------
    KilnError
        It does not start, or lacks instances: what it complains about, explained.
    """
    begin(cloud, region, name, say)

    def look() -> bool | None:
        fleet = get(cloud, region, name)
        status = fleet.get("ComputeCapacityStatus") or {}
        running, desired = status.get("Running") or 0, status.get("Desired") or 0
        say(f"fleet {name}: {fleet['State']}, {running} of {desired} instances")
        if fleet["State"] == "RUNNING" and running >= desired:
            return True
        found = errors(fleet)
        if found and fleet["State"] != "STARTING":
            raise KilnError(f"fleet {name}: " + "; ".join(what for what, _ in found), found[0][1])
        return None

    until(cloud, f"starting fleet {name}", MINUTES, look)


def update(
    cloud: Cloud,
    region: str,
    name: str,
    changes: dict[str, Any],
    there: Callable[[dict[str, Any]], bool],
    say: Say,
) -> None:
    """Change a fleet, and read back that it is changed.

    Parameters
    ----------
    cloud, region, name:
        Which. UpdateFleet must have been announced.
    changes:
        Parameters of UpdateFleet.
    there:
        Whether a fleet as it is described has them.
    say:
        Is told.

    Raises
    ------
    KilnError
        AppStream refuses, or does not show the change within five minutes.
    """
    say(f"changing {', '.join(sorted(changes))} of fleet {name}")
    ask(
        cloud,
        region,
        f"changing {', '.join(sorted(changes))} of fleet {name}",
        "update_fleet",
        settled=lambda: there(get(cloud, region, name)),
        hints={
            "OperationNotPermittedException": "what differs may change only while the fleet is stopped: "
            "the same command with --allow-stop",
        },
        Name=name,
        **changes,
    )
    until(
        cloud,
        f"the change of fleet {name}",
        5,
        lambda: True if there(get(cloud, region, name)) else None,
    )


NOT_COPIED = frozenset(
    {"Name", "ImageName", "ImageArn", "InstanceType", "ComputeCapacity", "Platform", "Tags"}
)
"""Of CreateFleet: what the new fleet has of its own. A platform is told only of Elastic fleets."""


def like(fleet: dict[str, Any], name: str, image: str, instance_type: str) -> dict[str, Any]:
    """Return the parameters of CreateFleet for a fleet with another's settings.

    Parameters
    ----------
    fleet:
        The other one, as DescribeFleets gives it.
    name, image, instance_type:
        Of the new one.
    """
    members = service_model("appstream").operation_model("CreateFleet").input_shape.members
    copied = {
        key: fleet[key] for key in members if key not in NOT_COPIED and fleet.get(key) not in (None, [], {})
    }
    status = fleet.get("ComputeCapacityStatus") or {}
    several = fleet.get("MaxSessionsPerInstance")
    capacity = (
        {"DesiredSessions": status.get("DesiredUserSessions") or several}
        if several
        else {"DesiredInstances": max(status.get("Desired") or 0, 1)}
    )
    return {
        **copied,
        "Name": name,
        "ImageName": image,
        "InstanceType": instance_type,
        "ComputeCapacity": capacity,
    }


def create(cloud: Cloud, region: str, params: dict[str, Any], say: Say) -> None:
    """Make a fleet, and wait until it can be seen. CreateFleet must have been announced.

    Parameters
    ----------
    cloud, region:
        Where.
    params:
        Of CreateFleet.
    say:
        Is told.
    """
    name = params["Name"]
    say(f"making fleet {name}")
    ask(
        cloud,
        region,
        f"making fleet {name}",
        "create_fleet",
        settled=lambda: _same(find(cloud, region, name), params),
        **params,
    )
    until(cloud, f"making fleet {name}", 5, lambda: find(cloud, region, name))


def _same(fleet: dict[str, Any] | None, params: dict[str, Any]) -> bool:
    """Whether a fleet of the name is what was asked for, not another one."""
    return (
        fleet is not None
        and image_of(fleet) == params["ImageName"]
        and fleet["InstanceType"] == params["InstanceType"]
    )


def move(cloud: Cloud, region: str, stack: str, old: str, new: str, say: Say) -> None:
    """Let a stack show another fleet; between the two requests it shows none, for a second.

    Parameters
    ----------
    cloud, region:
        Where. DisassociateFleet and AssociateFleet must have been announced.
    stack:
        It holds one fleet, so the old one goes first.
    old, new:
        Names of the fleets.
    say:
        Is told.

    Raises
    ------
    KilnError
        Sessions hold the old one, or AppStream refuses.
    """
    if old in shown_by(cloud, region, stack):
        say(f"taking fleet {old} from stack {stack}")
        ask(
            cloud,
            region,
            f"taking fleet {old} from stack {stack}",
            "disassociate_fleet",
            settled=lambda: old not in shown_by(cloud, region, stack),
            hints={
                IN_USE: "sessions are open on it: wait until they have ended, or the same command with "
                "--allow-stop, which ends them",
                ABSENT: f"the stack or the fleet is gone: look at both in AppStream, then {AGAIN}",
            },
            FleetName=old,
            StackName=stack,
        )
    if new not in shown_by(cloud, region, stack):
        say(f"giving fleet {new} to stack {stack}")
        ask(
            cloud,
            region,
            f"giving fleet {new} to stack {stack}",
            "associate_fleet",
            settled=lambda: new in shown_by(cloud, region, stack),
            FleetName=new,
            StackName=stack,
        )
    until(
        cloud,
        f"stack {stack}",
        5,
        lambda: True if new in shown_by(cloud, region, stack) else None,
    )


# ---- marks that a killed run leaves for the next

RESTART = f"{names.PREFIX}restart"
"""On a fleet that we stopped and that is to run again."""

REPLACES = f"{names.PREFIX}replaces"
"""On a new fleet while it takes over: name of the old one."""

STACK = f"{names.PREFIX}stack:"
"""On a new fleet while it takes over: a key for each stack that is to show it."""


def mark(cloud: Cloud, region: str, arn: str, marks: dict[str, str]) -> None:
    """Set tags on a fleet. TagResource must have been announced."""
    ask(cloud, region, f"marking {arn}", "tag_resource", ResourceArn=arn, Tags=marks)


def unmark(cloud: Cloud, region: str, arn: str, keys: list[str]) -> None:
    """Take tags off a fleet. UntagResource must have been announced."""
    if keys:
        ask(cloud, region, f"unmarking {arn}", "untag_resource", ResourceArn=arn, TagKeys=keys)
