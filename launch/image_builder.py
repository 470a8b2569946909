"""kiln builder: an AppStream image by an image builder, and the base image that it starts from.

Every part is found again by a run that comes after a kill: the builder by its name, which version it is for
and what was done to it by its tags, the image by the version's name. Whatever ends a run but a kill takes the
builder down, unless it is to be kept: it is billed by the hour.
"""

from __future__ import annotations

from pathlib import Path

from kiln import config as configuration
from kiln.config import Config
from launch import builder_plan, names, seed_plan
from launch.cloud import Cloud
from launch.execute import carry_out
from launch.lock import Lock, of_image


def run(
    image: str,
    *,
    keep: bool = False,
    only_plan: bool = False,
    as_json: bool = False,
    profile: str | None = None,
    config: Path | None = None,
) -> int:
    """Make an AppStream image on an image builder, and delete the builder.

    Parameters
    ----------
    image:
        Name in kiln.toml.
    keep:
        Leave the builder after a failure, to look at; it is billed.
    only_plan, as_json:
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
        It could not be found out, or a step failed.
    """
    loaded = configuration.load(config)
    cloud = _enter(loaded, image, profile)

    return carry_out(
        builder_plan.plan(cloud, loaded, image, keep=keep),
        cloud,
        only_plan=only_plan,
        as_json=as_json,
        lock=Lock(cloud, loaded, of_image(image)),
    )


def seed(
    image: str,
    *,
    only_plan: bool = False,
    as_json: bool = False,
    profile: str | None = None,
    config: Path | None = None,
) -> int:
    """Make the base image that Ansible can log in to: guided, once for each of AWS's base images.

    Parameters
    ----------
    image, only_plan, as_json, profile, config:
        As of :func:`run`.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    KilnError
        It could not be found out, or a step failed.
    """
    loaded = configuration.load(config)
    cloud = _enter(loaded, image, profile)
    return carry_out(
        seed_plan.plan(cloud, loaded, image),
        cloud,
        only_plan=only_plan,
        as_json=as_json,
        lock=Lock(cloud, loaded, of_image(image)),
    )


def _enter(config: Config, image: str, profile: str | None) -> Cloud:
    config.records()
    return Cloud(config.publication(image).regions[0], names.run_id("builder"), profile)
