"""Units of systemd in a booted guest, as it told them."""

from __future__ import annotations

from typing import Any


def state(guest: dict[str, Any], unit: str) -> str:
    """Return whether a unit is active, in systemd's word; ``missing`` where the guest told nothing of it.

    Parameters
    ----------
    guest:
        What the guest says of itself.
    unit:
        Name of the unit.
    """
    told: str = guest["units"].get(unit, {}).get("ActiveState", "missing")
    return told


def inactive(guest: dict[str, Any], units: tuple[str, ...]) -> list[str]:
    """Return a line for each of these units that is not active."""
    states = {unit: state(guest, unit) for unit in units}
    return [f"{unit} is {now}" for unit, now in states.items() if now != "active"]
