"""Remove what killed runs left, by tag and age (``kiln sweep``): nothing younger, and nothing foreign."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from kiln import config as kiln_toml
from kiln.config import Config
from kiln.errors import UsageError
from launch import leftovers, names
from launch.cloud import Cloud
from launch.execute import LANES, carry_out
from launch.leftovers import Left
from launch.lock import Holding
from launch.plan import Plan, Request, Say, requests
from launch.records import Records

REMOVE, SEEN, LOCKS = "remove", "seen", "locks"


def run(
    *,
    hours: int,
    only_plan: bool,
    as_json: bool,
    exit_code: bool,
    profile: str | None,
    config: Path | None,
) -> int:
    """Run ``kiln sweep``.

    Parameters
    ----------
    hours:
        Only what is older goes.
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
    """
    read = kiln_toml.load(config)
    regions = regions_of(read)
    cloud = Cloud(regions[0], names.run_id("sweep"), profile)
    return carry_out(
        plan(cloud, read, hours=hours), cloud, only_plan=only_plan, as_json=as_json, exit_code=exit_code
    )


def regions_of(config: Config) -> list[str]:
    """List every region that kiln.toml names.

    Parameters
    ----------
    config:
        kiln.toml.

    Raises
    ------
    UsageError
        It names none.
    """
    found = [region for image in config.image.values() if image.publish for region in image.publish.regions]
    found += [target.region for target in config.target.values()]
    if not found:
        raise UsageError(
            "kiln.toml names no region of AWS", "add [image.NAME.publish] with regions, or a target"
        )
    return list(dict.fromkeys(found))


def plan(cloud: Cloud, config: Config, *, hours: int) -> Plan:
    """Plan what to remove.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    hours:
        As of :func:`run`.

    Returns
    -------
    Plan
        With a note for what is ours and stays, since it is younger.

    Raises
    ------
    KilnError
        A region did not tell what there is.
    """
    made = Plan(f"kiln sweep --hours {hours}", f"sweep what runs left more than {hours} hours ago")
    regions = regions_of(config)
    before = datetime.now(UTC) - timedelta(hours=hours)
    with ThreadPoolExecutor(max_workers=min(LANES, len(regions))) as pool:
        found = [
            left
            for part in pool.map(lambda region: leftovers.find(cloud, config, region), regions)
            for left in part
        ]
    young = 0
    for left in found:
        if left.made is None:
            made.add(
                SEEN,
                f"note that {left.what} of run {left.run} was seen today: its age is not known, and a sweep "
                f"{hours} hours from now removes it",
                requests("ec2", left.region, "CreateTags"),
                partial(leftovers.note_seen, cloud, left),
                lane=left.region,
            )
        elif left.made > before:
            young += 1
        else:
            made.add(
                REMOVE,
                f"remove {left.what}, of run {left.run}",
                _requests(left),
                left.remove,
                lane=left.region,
            )
    if young:
        made.notes.append(f"{young} of younger runs {'stay' if young > 1 else 'stays'}")
    made.facts["left"] = [
        {"kind": left.kind, "id": left.id, "region": left.region, "run": left.run, "made": str(left.made)}
        for left in found
    ]
    made.steps.sort(key=lambda step: (REMOVE, SEEN).index(step.stage))
    _locks(made, cloud, config, before)
    return made


def _requests(left: Left) -> list[Request]:
    pairs = (each.split(":") for each in left.operations)
    return [Request(service, operation, left.region) for service, operation in pairs]


def _locks(made: Plan, cloud: Cloud, config: Config, before: datetime) -> None:
    """Locks that expired so long ago; one that somebody takes over meanwhile has another ETag, and stays."""
    records = Records(cloud, config)
    for key in records.keys(records.key("locks") + "/"):
        found = records.find(key)
        if found is None:
            continue
        holding = records.parsed(key, found.body, Holding)
        if holding.until <= before:
            made.add(
                LOCKS,
                f"remove the lock {holding.name} of {holding.describe()}",
                records.locking,
                partial(_unlock, records, key, found.etag),
            )


def _unlock(records: Records, key: str, etag: str, _: Say) -> None:
    records.remove(key, etag)
