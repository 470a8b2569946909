"""A published version in a region: its AMI, and the manifest that the AMI's tags are bound to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from kiln.config import Config
from kiln.errors import KilnError, RefusedError
from kiln.manifest import Manifest
from launch import names
from launch.cloud import Cloud
from launch.records import MANIFEST, Records
from launch.trouble import code, told

_GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed")


@dataclass(frozen=True)
class Machine:
    """An AMI as EC2 describes it.

    Parameters
    ----------
    id, name, owner, state:
        As EC2 has them; ``available`` is the state in which it can be launched.
    tags:
        Ours of it; another account's tags are not seen.
    root_device:
        Name of the root device.
    snapshots:
        Device → snapshot.
    encrypted:
        Whether a snapshot of it is encrypted.
    architecture:
        As EC2 calls it.
    deprecated:
        When EC2 calls it deprecated, None for never.
    root_gb:
        Size of the root volume, GiB; 0 where EC2 does not tell.
    """

    id: str
    name: str
    owner: str
    state: str
    tags: dict[str, str]
    root_device: str
    snapshots: dict[str, str]
    encrypted: bool
    architecture: str
    deprecated: datetime | None
    root_gb: int

    @property
    def image(self) -> str | None:
        """Image of ours that it is a version of, by its tag."""
        return self.tags.get(names.IMAGE)

    @property
    def version(self) -> str | None:
        """Version of ours, by its tag."""
        return self.tags.get(names.VERSION)

    @property
    def trouble(self) -> str | None:
        """Why nobody should run it, None where nothing is known against it."""
        if names.REVOKED in self.tags:
            return f"revoked: {self.tags[names.REVOKED]}"
        return None if self.state == "available" else f"in state {self.state}"


@dataclass(frozen=True)
class Release:
    """A version that can run in a region.

    Parameters
    ----------
    image, version:
        Which.
    machine:
        Its AMI there.
    manifest:
        What is in it.
    manifest_digest:
        sha256 of the manifest, which the AMI's tag names too.
    project:
        Whose it is.
    """

    image: str
    version: str
    machine: Machine
    manifest: Manifest
    manifest_digest: str
    project: str

    @property
    def ami(self) -> str:
        """Id of its AMI."""
        return self.machine.id

    @property
    def root_device(self) -> str:
        """Name of its root device."""
        return self.machine.root_device

    @property
    def labels(self) -> dict[str, str]:
        """Tags by which what runs it is known."""
        return {
            names.PROJECT: self.project,
            names.IMAGE: self.image,
            names.VERSION: self.version,
            names.MANIFEST_DIGEST: self.manifest_digest,
        }

    def __str__(self) -> str:
        return f"{self.image}@{self.version}"


def _machine(data: dict[str, Any]) -> Machine:
    volumes = [each for each in data.get("BlockDeviceMappings", []) if "Ebs" in each]
    deprecated = data.get("DeprecationTime")
    root = data.get("RootDeviceName") or "/dev/xvda"
    return Machine(
        id=data["ImageId"],
        name=data.get("Name", ""),
        owner=data.get("OwnerId", ""),
        state=data.get("State", ""),
        tags=names.read(data.get("Tags")),
        root_device=root,
        snapshots={
            each["DeviceName"]: each["Ebs"]["SnapshotId"] for each in volumes if each["Ebs"].get("SnapshotId")
        },
        encrypted=any(each["Ebs"].get("Encrypted") for each in volumes),
        architecture=data.get("Architecture", ""),
        deprecated=datetime.fromisoformat(deprecated.replace("Z", "+00:00")) if deprecated else None,
        root_gb=sum(each["Ebs"].get("VolumeSize") or 0 for each in volumes if each["DeviceName"] == root),
    )


def machine(cloud: Cloud, region: str, ami: str) -> Machine | None:
    """Describe an AMI.

    Parameters
    ----------
    cloud, region:
        Where.
    ami:
        Its id.

    Returns
    -------
    Machine or None
        None where this account sees no such AMI.

    Raises
    ------
    KilnError
        EC2 did not tell.
    """
    with told(f"reading {ami} in {region}"):
        try:
            # A disabled image is not listed unless it is asked for.
            found = cloud.client("ec2", region).describe_images(
                ImageIds=[ami], IncludeDeprecated=True, IncludeDisabled=True
            )["Images"]
        except ClientError as error:
            if code(error) in _GONE:
                return None
            raise
    return _machine(found[0]) if found else None


def named(cloud: Cloud, region: str, name: str) -> list[Machine]:
    """Describe the AMIs of this account with a name; EC2 allows one, and a copy in the making is a second."""
    with told(f"looking for the AMI {name} in {region}"):
        found = cloud.client("ec2", region).describe_images(
            Owners=["self"],
            Filters=[{"Name": "name", "Values": [name]}],
            IncludeDeprecated=True,
            IncludeDisabled=True,
        )["Images"]
    return [_machine(each) for each in found]


def in_channel(cloud: Cloud, config: Config, image: str, channel: str, region: str) -> Machine:
    """Return the AMI that a channel names in a region.

    Raises
    ------
    RefusedError
        The channel names nothing there, or what this account cannot run.
    """
    parameter = names.channel(config.project.name, image, channel)
    ssm = cloud.client("ssm", region)
    with told(f"reading the channel {parameter} in {region}"):
        try:
            ami: str = ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
        except ClientError as error:
            if code(error) != "ParameterNotFound":
                raise
            raise RefusedError(
                f"the channel {channel} of {image} names nothing in {region}",
                f"kiln promote {image}@VERSION {channel}, or name a version by --version",
            ) from None
    found = machine(cloud, region, ami)
    if found is None:
        raise RefusedError(
            f"the channel {channel} of {image} names {ami}, which account {cloud.account} does not see in "
            f"{region}",
            f"kiln promote {image}@VERSION {channel}: a published version of this account",
        )
    return found


def of_version(
    cloud: Cloud, records: Records, config: Config, image: str, version: str, region: str
) -> Release:
    """Return a version by its name.

    Parameters
    ----------
    cloud, records, config:
        The account, its records, kiln.toml.
    image, version, region:
        What, and where.

    Raises
    ------
    RefusedError
        It is not published there.
    KilnError
        Two AMIs have its name, or it could not be found out.
    """
    name = names.ami(config.project.name, image, version)
    found = named(cloud, region, name)
    if not found:
        raise RefusedError(
            f"{image}@{version} is not published in {region} of account {cloud.account}",
            f"kiln publish {image}@{version} with {region} among the regions of [image.{image}.publish]",
        )
    if len(found) > 1:
        raise KilnError(
            f"{len(found)} AMIs in {region} are called {name}: {', '.join(each.id for each in found)}",
            "deregister those that nothing names; kiln status shows what runs where",
        )
    return of_machine(cloud, records, config, found[0], region, image)


def of_machine(
    cloud: Cloud, records: Records, config: Config, machine: Machine, region: str, image: str
) -> Release:
    """Return the version that an AMI is, held against its manifest.

    Parameters
    ----------
    cloud, records, config, region:
        As of :func:`of_version`.
    machine:
        The AMI.
    image:
        Name of the image that it must be of.

    Raises
    ------
    RefusedError
        It is another account's, none of ours, or its tags and its manifest do not fit.
    """
    if machine.owner != cloud.account:
        raise RefusedError(
            f"{machine.id} in {region} belongs to account {machine.owner}, not to {cloud.account}",
            f"run an image of this account: kiln publish {image}",
        )
    version = machine.version
    if version is None or machine.image != image:
        raise RefusedError(
            f"{machine.id} ({machine.name}) in {region} is no version of {image}: its tags say "
            f"{machine.image or 'nothing'}",
            "nothing is guessed from names: publish it with kiln, which tags it",
        )
    key = records.version_key(image, version, MANIFEST)
    body = records.get(key)
    if body is None:
        raise RefusedError(
            f"{machine.id} is tagged {image}@{version}, and there is no {records.url(key)}",
            f"kiln publish {image}@{version} writes it",
        )
    digest = hashlib.sha256(body).hexdigest()
    if machine.tags.get(names.MANIFEST_DIGEST) != digest:
        raise RefusedError(
            f"{machine.id} is tagged with another manifest than {records.url(key)} has",
            "one of the two was changed by hand: publish the version again under a new bake",
        )
    return Release(image, version, machine, records.parsed(key, body, Manifest), digest, config.project.name)


def known(
    cloud: Cloud, records: Records, config: Config, machine: Machine, region: str, image: str
) -> Release | None:
    """Return the version that an AMI is, None where it is none of ours; what runs need not be ours.

    Parameters
    ----------
    cloud, records, config, machine, region, image:
        As of :func:`of_machine`.
    """
    try:
        return of_machine(cloud, records, config, machine, region, image)
    except RefusedError:
        return None
