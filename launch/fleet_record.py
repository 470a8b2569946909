"""The records of a rollout to a fleet, around the steps that change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from kiln.config import Config
from launch import rollout
from launch.cloud import Cloud
from launch.plan import Plan, Say, Step
from launch.records import Records
from launch.rollout import Rollout, Side


def around(made: Plan, cloud: Cloud, config: Config, target: str, kind: Literal["apply", "rollback"]) -> Plan:
    """Let a plan record its start and its end where it changes the fleet's image.

    Parameters
    ----------
    made:
        The plan, with its facts ``image`` and ``version``; it is changed.
    cloud, config:
        The account, and kiln.toml.
    target:
        Name of the target.
    kind:
        The command.

    Returns
    -------
    Plan
        The same.
    """
    if made.refusals or "image" not in made.facts:
        return made
    records = Records(cloud, config)
    image, version = made.facts["image"], made.facts["version"]
    before = Side(version=version["before"], image=image["before"])
    after = Side(version=version["after"], image=image["after"])
    newest = rollout.newest(records, target)
    open_ = newest if newest is not None and newest.event == "started" and newest.after.same(after) else None
    changes = bool(made.steps) and not before.same(after)
    if not changes and open_ is None:
        return made

    def record(event: Literal["started", "ended"]) -> Callable[[Say], None]:
        def write(_say: Say) -> None:
            of: Rollout = rollout.record(
                cloud,
                target=target,
                name=config.aim(target).image,
                kind=open_.kind if open_ is not None else kind,
                event=event,
                before=open_.before if open_ is not None else before,
                after=after,
                outcome="done" if event == "ended" else None,
            )
            rollout.write(cloud, records, of)

        return write

    where = records.url(rollout.prefix(records, target))
    if changes and open_ is None:
        does = f"record the start of the {kind} under {where}"
        made.steps.insert(0, Step(does, records.writing, record("started"), "record"))
    made.add("recorded", f"record its end under {where}", records.writing, record("ended"))
    return made
