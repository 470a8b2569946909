"""What is done on an image builder, step by step; after a failure none is left running."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kiln import paths
from kiln.appstream import Appstream, Builder
from kiln.config import Config
from kiln.manifest import Inputs
from launch import (
    appstream_image,
    assistant,
    builder_host,
    builder_inputs,
    builder_record,
    builder_state,
    names,
    secret,
)
from launch.appstream import ask, tags
from launch.assistant import UnreachedError
from launch.builder_host import Host
from launch.cloud import Cloud
from launch.plan import Plan, Request, Say
from launch.records import Records

PROVISIONED = f"{names.PREFIX}provisioned"
"""On a builder: digest of the inputs that it was provisioned with."""

Reach = Callable[[Builder, str, str, Path], Host]
"""Makes the way into a builder: of what kiln.toml says, its address, the secret, a folder for a while."""


@dataclass(frozen=True)
class Job:
    """One image that is to be made.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    image, said, builder:
        Name, and what kiln.toml says of it.
    region:
        Where.
    name:
        Of the builder.
    base:
        Of the AppStream image that it starts from.
    digest:
        Of the inputs.
    version:
        Of the image.
    keep:
        Whether the builder stays after a failure.
    reach:
        The way in.
    inputs:
        What the image is made of; None for a base image, which nobody provisions.
    """

    cloud: Cloud
    config: Config
    image: str
    said: Appstream
    builder: Builder
    region: str
    name: str
    base: str
    digest: str
    version: str
    keep: bool
    reach: Reach
    inputs: Inputs | None = None

    @property
    def result(self) -> str:
        """Name of the AppStream image."""
        return appstream_image.name_of(self.config, self.image, self.version)

    @property
    def tags(self) -> dict[str, str]:
        """Of the builder and of the image."""
        common = appstream_image.tagged(self.config, self.image, self.version, self.cloud)
        return {**common, names.INPUT_DIGEST: self.digest}


def step(
    made: Plan,
    job: Job,
    stage: str,
    does: str,
    allowed: tuple[Request, ...],
    work: Callable[[Job, Say], None],
) -> None:
    """Add a step after whose failure no builder is left, unless it is to be kept."""
    made.add(stage, does, (*allowed, *builder_state.announced(job.region)), partial(_guarded, job, work))


def _guarded(job: Job, work: Callable[[Job, Say], None], say: Say) -> None:
    with taken_down(job.cloud, job.region, job.name, job.keep, say):
        work(job, say)


@contextmanager
def taken_down(cloud: Cloud, region: str, name: str, keep: bool, say: Say) -> Iterator[None]:
    """Delete a builder when what is done inside ends with an error or Ctrl-C; that error goes on.

    Parameters
    ----------
    cloud, region, name:
        The builder.
    keep:
        Leave it.
    say:
        Is told.
    """
    try:
        yield
    except BaseException as error:
        if keep:
            say(f"image builder {name} is kept, and billed, until the same command runs again")
            raise
        say(f"taking image builder {name} down, after: {error or type(error).__name__}")
        try:
            builder_state.remove(cloud, region, name, say)
        except BaseException as second:
            say(f"image builder {name} is still there, and billed ({second}): kiln sweep removes it")
        raise


def delete(made: Plan, job: Job, why: str = "") -> None:
    """Add the step that deletes the builder; ``why`` is told with it."""
    made.add(
        "clean up",
        f"delete image builder {job.name}{why}",
        builder_state.announced(job.region),
        lambda say: builder_state.remove(job.cloud, job.region, job.name, say),
    )


def asked(job: Job, name: str, base: str) -> dict[str, Any]:
    """Return the parameters of CreateImageBuilder."""
    builder = job.builder
    return {
        "Name": name,
        "ImageName": base,
        "InstanceType": builder.instance_type,
        "VpcConfig": {"SubnetIds": [builder.subnet], "SecurityGroupIds": builder.security_groups},
        "EnableDefaultInternetAccess": builder.internet,
        "DisableIMDSV1": True,
        "Tags": job.tags,
        **({"IamRoleArn": builder.role} if builder.role else {}),
    }


def became(job: Job) -> bool:
    """Whether the image is there, or being made: the builder has done its part, and starts no more for it."""
    return appstream_image.find(job.cloud, job.region, job.result) is not None


def up(job: Job, say: Say) -> None:
    """Make the builder, or start it, and wait until it runs; not where it has become the image already."""
    if became(job):
        return
    builder_state.create(job.cloud, job.region, asked(job, job.name, job.base), say)
    builder_state.running(job.cloud, job.region, job.name, say)


@contextmanager
def inside(job: Job, say: Say) -> Iterator[Host]:
    """The way into the builder, which runs; a secret on disk is there only while it is used."""
    address = builder_state.running(job.cloud, job.region, job.name, say)
    word = secret.read(job.cloud, job.region, job.builder.secret)
    with tempfile.TemporaryDirectory(prefix="kiln-builder-") as folder:
        yield job.reach(job.builder, address, word, Path(folder))


def provision(job: Job, say: Say) -> None:
    """Run the playbook of the image on the builder, and mark that it was run."""
    if became(job):
        return
    log = paths.cache_dir() / "builder" / f"{job.result}.log"
    image = job.config.select(job.image)
    known = {
        "kiln_project": job.config.project.name,
        "kiln_image": job.image,
        "kiln_version": job.version,
        "kiln_input_digest": job.digest,
        **builder_inputs.variables(image, job.said, job.builder),
    }
    with inside(job, say) as host:
        builder_host.provision(host, image.playbook, known, log, say)
    there = builder_state.find(job.cloud, job.region, job.name)
    if there is not None:
        ask(
            job.cloud,
            job.region,
            f"marking image builder {job.name}",
            "tag_resource",
            ResourceArn=there["Arn"],
            Tags={PROVISIONED: job.digest},
        )


def become_image(job: Job, say: Say) -> None:
    """Fill the catalogue, and let the builder become the image; nothing where the image is there."""
    if became(job):
        return
    with inside(job, say) as host:
        assistant.catalogue(host, job.said.applications, say)
        assistant.default_profile(host)
        _record(job, host, say)
        if not job.builder.prepared:
            assistant.leave(host)
        become(job.cloud, job.region, job.name, host, job.result, job.said, job.tags, say)


def _record(job: Job, host: Host, say: Say) -> None:
    """Check the builder and write the contract's files, before there is an image that has none."""
    assert job.inputs is not None, "a plan of an image has its inputs"
    playbook = job.config.select(job.image).playbook
    store = Records(job.cloud, job.config)
    builder_record.keep(store, host, job.image, job.version, job.inputs, builder_inputs.roles(playbook), say)


def become(
    cloud: Cloud,
    region: str,
    name: str,
    host: Host,
    image: str,
    said: Appstream,
    marks: dict[str, str],
    say: Say,
) -> None:
    """Let a builder become an image; where its answer is lost, look whether it does.

    Parameters
    ----------
    cloud, region, name, host:
        The builder, and the way into it.
    image, said, marks:
        Name, settings and tags of the image.
    say:
        Is told.

    Raises
    ------
    KilnError
        It does not become one.
    """
    try:
        assistant.create_image(host, image, said, marks, say)
    except UnreachedError:
        # The builder shuts down for its snapshot, and may take the answer with it.
        state = (builder_state.find(cloud, region, name) or {}).get("State")
        if state != "SNAPSHOTTING" and appstream_image.find(cloud, region, image) is None:
            raise


def finish(job: Job, say: Say) -> None:
    """Wait for the image, and see to it that it has its tags."""
    image = appstream_image.available(job.cloud, job.region, job.result, say)
    found = tags(job.cloud, job.region, image["Arn"])
    missing = {key: value for key, value in job.tags.items() if key not in found}
    if missing:
        doing = f"tagging AppStream image {job.result}"
        ask(job.cloud, job.region, doing, "tag_resource", ResourceArn=image["Arn"], Tags=missing)
