"""What a plan of a fleet tells beside its steps: what is in the images, and what it costs now and after."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from kiln.config import FleetTarget
from launch import contents
from launch.cost_lines import HOURS, Cost, Line
from launch.plan import Plan
from launch.prices import Book, Item
from launch.records import Records


def tell_contents(made: Plan, records: Records, image: str, before: str | None, after: str | None) -> None:
    """Add what differs between two versions, as far as their manifests tell.

    Parameters
    ----------
    made:
        Gets the fact and the notes.
    records:
        Where the manifests are.
    image, before, after:
        Which; None is an image that is none of ours.

    Raises
    ------
    KilnError
        A manifest is there and cannot be read.
    """
    if before == after:
        made.facts["contents"] = {}
        return
    old = records.manifest(image, before) if before else None
    new = records.manifest(image, after) if after else None
    if old is None or new is None:
        made.facts["contents"] = None
        lacking = "what ran before" if old is None else "what is to run"
        made.notes.append(f"contents: there is no manifest of {lacking}, so nothing can be compared")
        return
    differs = contents.compare(old, new)
    made.facts["contents"] = differs.as_json()
    made.notes += [f"contents: {line}" for line in differs.lines()]


def cost(book: Book, target: str, region: str, fleet: dict[str, Any], instance_type: str, count: int) -> Cost:
    """Reckon what a fleet costs.

    Parameters
    ----------
    book:
        Prices.
    target:
        Whose it is, for the lines.
    region:
        Where.
    fleet:
        As DescribeFleets gives it.
    instance_type, count:
        What it runs, and how many.

    Returns
    -------
    Cost
        By month what stands ready; by the hour what is streamed.
    """
    of, streaming = f"target {target}", Item("fleet", region, instance_type)
    if fleet.get("FleetType") == "ALWAYS_ON":
        return Cost([Line(of, f"{count} × {instance_type}", "month", count * HOURS, book.find(streaming))])
    waiting = Item("stopped", region, "any")
    return Cost(
        [
            Line(of, f"{count} × ready and not streamed", "month", count * HOURS, book.find(waiting)),
            Line(of, f"an hour streamed on {instance_type}", "use", Decimal(1), book.find(streaming)),
        ]
    )


def tell_cost(
    made: Plan, book: Book, name: str, target: FleetTarget, fleet: dict[str, Any], instance_type: str
) -> None:
    """Add what the fleet costs now and after.

    Parameters
    ----------
    made:
        Gets the fact and the note.
    book:
        Prices.
    name, target:
        The target, and what kiln.toml says of it.
    fleet:
        As it is.
    instance_type:
        That it is to run on.
    """
    ready = max((fleet.get("ComputeCapacityStatus") or {}).get("Desired") or 0, 1)
    wanted = ready if target.capacity is None else target.capacity
    now = cost(book, name, target.region, fleet, fleet["InstanceType"], ready)
    after = cost(book, name, target.region, fleet, instance_type, wanted)
    made.facts["cost"] = {"now": now.as_json(), "after": after.as_json()}
    sums = [f"${each.monthly:,.2f}" if each.monthly is not None else "unknown" for each in (now, after)]
    made.notes.append(f"cost a month without streaming: {sums[0]} now, {sums[1]} after")
