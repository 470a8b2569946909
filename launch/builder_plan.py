"""Plan of an AppStream image that is made on an image builder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kiln.appstream import Appstream, Builder
from kiln.config import Config
from kiln.errors import UsageError
from launch import (
    appstream_copy,
    appstream_image,
    builder_host,
    builder_inputs,
    builder_seed,
    builder_state,
    fleet_quota,
    names,
)
from launch.appstream import listed, tags
from launch.builder_job import (
    PROVISIONED,
    Job,
    Reach,
    become_image,
    delete,
    finish,
    provision,
    step,
    up,
)
from launch.cloud import Cloud
from launch.import_source import judge_role
from launch.plan import Plan, requests
from launch.records import Records


def described(config: Config, image: str) -> tuple[Appstream, Builder]:
    """Return what kiln.toml says of an image's builder; refused where it says nothing."""
    said = appstream_image.section(config, image)
    if said.builder is None:
        raise UsageError(
            f"kiln.toml describes no image builder for {image}",
            f"add [image.{image}.appstream.builder] with base, subnet, security_groups and secret",
        )
    return said, said.builder


def plan(
    cloud: Cloud, config: Config, image: str, *, keep: bool = False, reach: Reach = builder_host.reach
) -> Plan:
    """Plan what is missing of the image of the present inputs.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    image:
        Name in kiln.toml.
    keep:
        Whether the builder stays after a failure.
    reach:
        The way into the builder.

    Returns
    -------
    Plan
        Without steps where the image is there.

    Raises
    ------
    UsageError
        kiln.toml says not enough.
    KilnError
        What is there could not be found out.
    """
    said, builder = described(config, image)
    region = config.publication(image).regions[0]
    base = builder.base if builder.prepared else builder_seed.base_name(config, image, builder)
    inputs = builder_inputs.resolve(config.select(image), said, builder, base)
    digest = inputs.digest()
    made = Plan(
        f"kiln builder run {image}" + (" --keep" if keep else ""), f"AppStream image of {image} in {region}"
    )
    job = Job(
        cloud,
        config,
        image,
        said,
        builder,
        region,
        builder_state.name_of(config.project.name, image),
        base,
        digest,
        builder_inputs.version(digest),
        keep,
        reach,
        inputs,
    )
    there = builder_state.find(cloud, region, job.name)
    marks = tags(cloud, region, there["Arn"]) if there else {}
    if there and marks.get(names.IMAGE) != image:
        made.refuse(
            "builder-name",
            f"there is an image builder {job.name} in {region}, and its tags do not say that it is ours",
            "delete it, or rename the project or the image in kiln.toml",
        )
        return made
    ready = _made_of(job)
    if ready is None and there and marks.get(names.INPUT_DIGEST) == digest:
        job = replace(job, version=marks[names.VERSION])
    elif ready is not None:
        job = replace(job, version=ready["Name"].removeprefix(names.ami(config.project.name, image, "")))
    made.facts |= {
        "image": image,
        "region": region,
        "version": job.version,
        "appstream_image": job.result,
        "builder": job.name,
        "base": base,
        "input_digest": digest,
    }
    if ready is not None and ready["State"] != "FAILED":
        _ending(made, job, ready["State"], there)
        _everywhere(made, job)
        return made
    if ready is not None:
        made.notes.append(f"an earlier run did not end well: {appstream_image.explained(ready)[0]}")
        made.add(
            "clean up",
            f"delete AppStream image {ready['Name']}, which failed",
            requests("appstream", region, "DeleteImage"),
            lambda say: appstream_image.remove(cloud, region, ready["Name"], say),
        )
    preflight(made, job, there)
    if not made.refusals:
        _whole(made, job, there, marks)
        _everywhere(made, job)
    return made


def _everywhere(made: Plan, job: Job) -> None:
    regions = job.config.publication(job.image).regions
    appstream_copy.add(made, job.cloud, job.result, job.region, regions, job.tags)


def _made_of(job: Job) -> dict[str, Any] | None:
    """Return the newest image that was made of the same inputs."""
    images = listed(
        job.cloud, job.region, "listing our AppStream images", "describe_images", "Images", Type="PRIVATE"
    )
    prefix = names.ami(job.config.project.name, job.image, "")
    fitting = sorted(
        (
            image
            for image in images
            if image["Name"].startswith(prefix) and image["Name"].endswith(f"-{job.digest[:8]}")
        ),
        key=lambda image: str(image["Name"]),
    )
    return fitting[-1] if fitting else None


def _ending(made: Plan, job: Job, state: str, there: dict[str, Any] | None) -> None:
    """Plan what is left when the image is there, or is being made."""
    if state != "AVAILABLE":
        step(made, job, "image", f"wait for AppStream image {job.result}, which is {state}", (), finish)
    else:
        made.notes.append(f"AppStream image {job.result} is of these inputs")
    if there is not None:
        delete(made, job)


def preflight(made: Plan, job: Job, there: dict[str, Any] | None) -> None:
    """Refuse what AppStream or this machine would stumble over; parameters as of the plan."""
    cloud, region, builder = job.cloud, job.region, job.builder
    if (lack := builder_host.lacking(builder)) is not None:
        made.refuse("connection", *lack)
    base = appstream_image.find(cloud, region, job.base)
    if base is None and not builder.prepared:
        made.refuse(
            "base",
            f"{builder.base} has no account for Ansible, and there is no {job.base} yet, which has",
            f"make it, once: kiln builder seed {job.image}",
        )
    elif base is None:
        made.refuse(
            "base", f"there is no AppStream image {job.base} in {region}", "correct base in kiln.toml"
        )
    elif base["State"] != "AVAILABLE":
        made.refuse("base", f"AppStream image {job.base} is {base['State']}", "wait, or seed it again")
    if builder.role is not None:
        judge_role(made, cloud, builder.role)
    if there is None:
        fleet_quota.judge(made, cloud, region, builder.instance_type, "image builder", 1, "")


def _whole(made: Plan, job: Job, there: dict[str, Any] | None, marks: dict[str, str]) -> None:
    region, builder = job.region, job.builder
    stale = there and (
        there["State"] in ("FAILED", "DELETING") or marks.get(names.INPUT_DIGEST) != job.digest
    )
    if there and stale:
        why = there["State"] if there["State"] in ("FAILED", "DELETING") else "of other inputs"
        delete(made, job, f", which is {why}")
    if there is None or stale:
        does = f"make image builder {job.name} from {job.base} ({builder.instance_type}, {builder.subnet})"
        made.notes.append(
            f"a {builder.instance_type} is billed by the hour from then until the builder is deleted"
        )
    else:
        does = f"have image builder {job.name}, which is {there['State']}, run"
    starting = requests("appstream", region, "CreateImageBuilder", "StartImageBuilder")
    step(made, job, "builder", does, starting, up)
    if stale or marks.get(PROVISIONED) != job.digest:
        playbook = job.config.select(job.image).playbook
        does = f"provision it over {builder.connect} with {playbook.name}"
        step(
            made,
            job,
            "provision",
            does,
            (*starting, *requests("appstream", region, "TagResource")),
            provision,
        )
    count = len(job.said.applications)
    does = f"put {count} application{'s' * (count != 1)} into its catalogue, let it become {job.result}"
    writing = Records(job.cloud, job.config).writing
    step(made, job, "catalogue", f"check it, record it, {does}", (*starting, *writing), become_image)
    does = f"wait until AppStream image {job.result} is AVAILABLE, and read its tags back"
    step(made, job, "image", does, requests("appstream", region, "TagResource"), finish)
    delete(made, job)
