"""Plan of the base image with Ansible's account."""

from __future__ import annotations

from dataclasses import replace

from kiln.appstream import Appstream
from kiln.config import Config
from launch import appstream_image, builder_host, builder_seed, builder_state, names
from launch.appstream import tags
from launch.builder_job import Job, Reach, become, delete, inside, step, up
from launch.builder_plan import described, preflight
from launch.cloud import Cloud
from launch.plan import Plan, Say, requests


def plan(cloud: Cloud, config: Config, image: str, reach: Reach = builder_host.reach) -> Plan:
    """Plan what is missing of the base image with Ansible's account.

    Parameters
    ----------
    cloud, config, image, reach:
        As of :func:`plan`.

    Returns
    -------
    Plan
        Without steps where the base image is there.

    Raises
    ------
    UsageError
        kiln.toml says not enough.
    KilnError
        What is there could not be found out.
    """
    said, builder = described(config, image)
    region = config.publication(image).regions[0]
    base = builder_seed.base_name(config, image, builder)
    made = Plan(f"kiln builder seed {image}", f"base image {base} in {region}, from {builder.base}")
    name = builder_state.name_of(config.project.name, image, "seed")
    job = Job(
        cloud, config, image, said, builder, region, name, builder.base, base, base, keep=False, reach=reach
    )
    made.facts |= {"image": image, "region": region, "base": base, "from": builder.base, "builder": name}
    if builder.prepared:
        made.notes.append(
            f"kiln.toml says that {builder.base} has Ansible's account: there is nothing to seed"
        )
        return made
    there = builder_state.find(cloud, region, name)
    if there and tags(cloud, region, there["Arn"]).get(names.IMAGE) != image:
        made.refuse("builder-name", f"there is an image builder {name}, which is not ours", "delete it")
        return made
    ready = appstream_image.find(cloud, region, base)
    if ready is not None and ready["State"] == "AVAILABLE":
        if there is not None:
            delete(made, job)
        return made
    if ready is not None and ready["State"] == "FAILED":
        made.notes.append(appstream_image.explained(ready)[0])
        made.add(
            "clean up",
            f"delete AppStream image {base}, which failed",
            requests("appstream", region, "DeleteImage"),
            lambda say: appstream_image.remove(cloud, region, base, say),
        )
    elif ready is not None:
        step(
            made,
            job,
            "image",
            f"wait for AppStream image {base}, which is {ready['State']}",
            (),
            lambda _, say: _seeded(job, base, say),
        )
        delete(made, job)
        return made
    preflight(made, replace(job, builder=builder.model_copy(update={"prepared": True})), there)
    if made.refusals:
        return made
    if there and there["State"] in ("FAILED", "DELETING"):
        delete(made, job, f", which is {there['State']}")
    starting = requests("appstream", region, "CreateImageBuilder", "StartImageBuilder")
    made.notes.append(
        "you will be given an address and a script: have a browser at hand; it takes ten minutes of yours"
    )
    step(made, job, "builder", f"make image builder {name} from {builder.base}, or start it", starting, up)
    step(
        made,
        job,
        "by hand",
        "show its streaming address and the script that makes Ansible's account, and wait until it has run",
        (*starting, *requests("appstream", region, "CreateImageBuilderStreamingURL")),
        lambda _, say: _by_hand(job, base, said, say),
    )
    step(
        made,
        job,
        "image",
        f"wait until AppStream image {base} is AVAILABLE",
        requests("appstream", region, "TagResource"),
        lambda _, say: _seeded(job, base, say),
    )
    delete(made, job)
    return made


def _by_hand(job: Job, base: str, said: Appstream, say: Say) -> None:
    with inside(job, say) as host:
        builder_seed.guide(job.cloud, job.region, job.name, job.builder, host, base, say)
        plain = said.model_copy(update={"display_name": None, "description": None, "applications": []})
        become(job.cloud, job.region, job.name, host, base, plain, _marks(job), say)


def _seeded(job: Job, base: str, say: Say) -> None:
    appstream_image.available(job.cloud, job.region, base, say)


def _marks(job: Job) -> dict[str, str]:
    return {key: value for key, value in job.tags.items() if key in (names.PROJECT, names.IMAGE, names.RUN)}
