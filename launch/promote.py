"""Let a channel name a version, in every region of the image (``kiln promote``)."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kiln import config as kiln_toml
from kiln.config import Config
from kiln.errors import KilnError
from launch import channel as channels
from launch import history, names, stable
from launch.channel import Standing
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.lock import Lock, of_image
from launch.plan import Plan
from launch.records import MANIFEST, Records
from launch.trouble import AGAIN

RECORD, SET = "history", "channel"


def run(
    image: str,
    version: str,
    channel: str,
    *,
    back: bool,
    only_plan: bool,
    as_json: bool,
    exit_code: bool,
    profile: str | None,
    config: Path | None,
) -> int:
    """Run ``kiln promote``.

    Parameters
    ----------
    image, version, channel:
        What is to be named by what.
    back:
        Also where a newer version stands.
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

    Raises
    ------
    KilnError
        A region could not be set; the message says which regions have the version and which have not.
    """
    read = kiln_toml.load(config)
    channels.checked(channel, version)
    cloud = Cloud(read.publication(image).regions[0], names.run_id("promote"), profile)

    def make() -> Plan:
        return plan(cloud, read, image, version, channel, back=back)

    try:
        return carry_out(
            make(),
            cloud,
            only_plan=only_plan,
            as_json=as_json,
            exit_code=exit_code,
            lock=Lock(cloud, read, of_image(image)),
            again=make,
        )
    except KilnError as error:
        if partial_state := _partly(cloud, read, image, version, channel):
            raise type(error)(f"{error.what}; {partial_state}", error.hint) from error
        raise


def plan(cloud: Cloud, config: Config, image: str, version: str, channel: str, *, back: bool) -> Plan:
    """Plan a promotion.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    image, version, channel, back:
        As of :func:`run`.

    Returns
    -------
    Plan
        A step per region that has another version, and one for the history.

    Raises
    ------
    KilnError
        What is there could not be found out.
    """
    name = f"{image}@{version}"
    made = Plan(
        command=f"kiln promote {name} {channel}" + (" --back" if back else ""),
        title=f"{channel} of {image} becomes {version}",
    )
    records = Records(cloud, config)
    regions = config.publication(image).regions
    if not records.exists(records.version_key(image, version, MANIFEST)):
        made.refuse("not-published", f"{name} was never published", f"kiln publish {name}")
        return made
    if (revoked := records.revocation(image, version)) is not None:
        made.refuse(
            "revoked",
            f"{name} was revoked on {revoked.when:%Y-%m-%d} by {revoked.who}: {revoked.why}",
            "promote another version; a revocation is for good",
        )
    if channel == stable.NAME:
        made.refusals += stable.judge(records, config, image, version, datetime.now(UTC).date())
    values = {}
    for region in regions:
        value, why = channels.value_of(cloud, records, config, image, version, region)
        if value is None:
            made.refuse("not-in-region", f"{name} cannot run in {region}: {why}", f"kiln publish {name}")
        else:
            values[region] = value
    stands = {region: channels.read(cloud, records, config, image, channel, region) for region in regions}
    made.facts["channel"] = {
        region: {"from": stand.version if stand else None, "to": version, "value": values.get(region)}
        for region, stand in stands.items()
    }
    if not back:
        _refuse_older(made, version, stands)
    if made.refusals:
        return made
    _steps(made, cloud, config, records, image, version, channel, values, stands)
    return made


def _refuse_older(made: Plan, version: str, stands: dict[str, Standing | None]) -> None:
    """Refuse what is older than what stands: versions begin with the time of their bake."""
    for region, stand in stands.items():
        if stand is None or stand.version == version:
            continue
        if stand.version is None:
            made.refuse(
                "unknown-standing",
                f"{region} names {stand.value}, which is no version of ours: whether {version} is older "
                "cannot be told",
                "if it is to be replaced all the same: --back",
            )
        elif version < stand.version:
            made.refuse(
                "older",
                f"{version} is older than {stand.version}, which stands in {region}",
                "to go back on purpose: --back",
            )


def _steps(
    made: Plan,
    cloud: Cloud,
    config: Config,
    records: Records,
    image: str,
    version: str,
    channel: str,
    values: dict[str, str],
    stands: dict[str, Standing | None],
) -> None:
    last = history.newest(records, image, channel)
    todo = [
        region
        for region, value in values.items()
        if (stand := stands[region]) is None or stand.value != value
    ]
    if last is None and not any(stands.values()):
        made.notes.append(f"the channel {channel} of {image} is new")
    done = [region for region in values if region not in todo]
    if todo and done:
        made.notes.append(f"{', '.join(done)} names {version} already; {', '.join(todo)} does not")
    if last is None or last.after != version:
        before = last.after if last else _common(stands)
        made.add(
            RECORD,
            f"write into the history that {channel} names {version} instead of {before or 'nothing'}",
            records.writing,
            lambda _: history.note(cloud, records, image, channel, before, version, "promote"),
        )
    for region in todo:
        stand = stands[region]
        made.add(
            SET,
            f"set {names.channel(config.project.name, image, channel)} in {region} to {values[region]} "
            f"({version}), from {stand or 'nothing'}",
            channels.setting(region),
            partial(channels.write, cloud, config, image, channel, region, values[region]),
            lane=region,
        )


def _common(stands: dict[str, Standing | None]) -> str | None:
    """Return the version that stands everywhere, None where there is no such one."""
    found = {stand.version if stand else None for stand in stands.values()}
    return found.pop() if len(found) == 1 else None


def _partly(cloud: Cloud, config: Config, image: str, version: str, channel: str) -> str:
    """Say which regions have the version and which have not; empty where no region has."""
    records = Records(cloud, config)
    stands: dict[str, str] = {}
    for region in config.publication(image).regions:
        try:
            stand = channels.read(cloud, records, config, image, channel, region)
            stands[region] = str(stand or "nothing")
        except KilnError:
            stands[region] = "unknown"
    if version not in stands.values() or set(stands.values()) == {version}:
        return ""
    now = ", ".join(f"{region} {stand}" for region, stand in stands.items())
    return f"the channel is now: {now}; {AGAIN}"
