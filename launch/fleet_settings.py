"""What kiln.toml may say of a fleet, how AppStream calls it, and whether it may change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kiln.config import FleetTarget

Fleet = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One key of ``[target.NAME]``.

    Parameters
    ----------
    field:
        The key.
    live:
        Whether it may change while the fleet is RUNNING (API reference, UpdateFleet).
    is_:
        Reads it off a fleet, in the unit of kiln.toml.
    asked:
        Parameters of UpdateFleet for a value; it is given the fleet too.
    """

    field: str
    live: bool
    is_: Callable[[Fleet], Any]
    asked: Callable[[Any, Fleet], dict[str, Any]]


def _seconds(field: str, key: str, unit: int, *, live: bool) -> Setting:
    return Setting(
        field,
        live,
        lambda fleet: None if fleet.get(key) is None else fleet[key] / unit,
        lambda value, _: {key: value * unit},
    )


def _plain(field: str, key: str, *, live: bool) -> Setting:
    return Setting(field, live, lambda fleet: fleet.get(key), lambda value, _: {key: value})


def _network(field: str, key: str) -> Setting:
    return Setting(
        field,
        False,
        lambda fleet: sorted((fleet.get("VpcConfig") or {}).get(key) or []),
        # UpdateFleet replaces the whole of VpcConfig.
        lambda value, fleet: {"VpcConfig": {**(fleet.get("VpcConfig") or {}), key: sorted(value)}},
    )


def _capacity_is(fleet: Fleet) -> int | None:
    status, several = fleet.get("ComputeCapacityStatus") or {}, fleet.get("MaxSessionsPerInstance")
    if several:
        sessions: int = status.get("DesiredUserSessions") or 0
        return -(-sessions // int(several))
    desired: int | None = status.get("Desired")
    return desired


def _capacity_asked(value: int, fleet: Fleet) -> dict[str, Any]:
    several = fleet.get("MaxSessionsPerInstance")
    return {
        "ComputeCapacity": {"DesiredSessions": value * several} if several else {"DesiredInstances": value}
    }


SETTINGS: tuple[Setting, ...] = (
    _plain("display_name", "DisplayName", live=True),
    Setting("capacity", True, _capacity_is, _capacity_asked),
    _seconds("idle_minutes", "IdleDisconnectTimeoutInSeconds", 60, live=True),
    _seconds("disconnect_minutes", "DisconnectTimeoutInSeconds", 60, live=True),
    _seconds("session_hours", "MaxUserDurationInSeconds", 3600, live=False),
    _plain("view", "StreamView", live=False),
    _plain("role", "IamRoleArn", live=False),
    _network("subnets", "SubnetIds"),
    _network("security_groups", "SecurityGroupIds"),
    _plain("instance_type", "InstanceType", live=False),
)


@dataclass(frozen=True)
class Change:
    """A setting that differs from kiln.toml.

    Parameters
    ----------
    field:
        Its key.
    live:
        Whether it may change while the fleet is RUNNING.
    before, after:
        What it is and what it should be, in the unit of kiln.toml.
    params:
        Of UpdateFleet.
    """

    field: str
    live: bool
    before: Any
    after: Any
    params: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.field.replace('_', ' ')} {_told(self.before)} → {_told(self.after)}"


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(value) if isinstance(value, list) else str(value)


def wanted(target: FleetTarget) -> dict[str, Any]:
    """What kiln.toml says of a fleet: keys of :data:`SETTINGS` that are given."""
    found = {setting.field: getattr(target, setting.field) for setting in SETTINGS}
    return {
        field: sorted(value) if isinstance(value, list) else value
        for field, value in found.items()
        if value is not None
    }


def differing(target: FleetTarget, fleet: Fleet) -> list[Change]:
    """Return what of a fleet differs from kiln.toml.

    Parameters
    ----------
    target:
        What kiln.toml says.
    fleet:
        As DescribeFleets gives it.
    """
    said = wanted(target)
    found = []
    merged = dict(fleet)
    for setting in SETTINGS:
        if setting.field not in said or setting.is_(fleet) == said[setting.field]:
            continue
        params = setting.asked(said[setting.field], merged)
        # Subnets and security groups are one parameter: the second change carries the first.
        merged.update({key: value for key, value in params.items() if key == "VpcConfig"})
        found.append(Change(setting.field, setting.live, setting.is_(fleet), said[setting.field], params))
    return found


def has(target: FleetTarget, image: str | None) -> Callable[[Fleet], bool]:
    """Return whether a fleet is as kiln.toml says, and uses an image where one is given."""

    def judge(fleet: Fleet) -> bool:
        return not differing(target, fleet) and (image is None or fleet.get("ImageName") == image)

    return judge
