"""Versions of a launch template: what one says, what ours must say, and a new one by ``SourceVersion``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

from kiln.errors import KilnError
from launch import names, pages, settings
from launch.cloud import Cloud, service_model
from launch.group import Ref, only_known
from launch.release import Release
from launch.trouble import AGAIN, code, told

RESOLVED = "resolve:ssm:"
"""How a template names an AMI by a parameter; AWS cannot roll back to one."""

TAGGED = ("instance", "volume")

MOST_VERSIONS = 200
"""Versions that are looked through for one of ours; EC2 keeps 10,000."""


@dataclass(frozen=True)
class Version:
    """A version of a launch template.

    Parameters
    ----------
    template, name:
        Id and name of the template.
    number:
        Its number.
    description:
        As it was made with; empty where it has none.
    data:
        What it says, as a request would say it.
    """

    template: str
    name: str
    number: int
    description: str
    data: dict[str, Any]

    @property
    def ami(self) -> str:
        """The AMI as it is named there, empty where none is."""
        return str(self.data.get("ImageId") or "")

    @property
    def user_data(self) -> str | None:
        """User data as text, None where it is none."""
        return settings.decoded(self.data.get("UserData"))


def _version(data: dict[str, Any]) -> Version:
    return Version(
        template=data["LaunchTemplateId"],
        name=data.get("LaunchTemplateName", ""),
        number=data["VersionNumber"],
        description=data.get("VersionDescription") or "",
        data=only_known(data["LaunchTemplateData"], _shape()),
    )


@cache
def _shape() -> Any:
    # Botocore reads EC2's ten megabytes of model anew each time.
    return (
        service_model("ec2")
        .operation_model("CreateLaunchTemplateVersion")
        .input_shape.members["LaunchTemplateData"]
    )


def read(cloud: Cloud, region: str, ref: Ref) -> Version:
    """Read the version that a group names.

    Parameters
    ----------
    cloud, region:
        Where.
    ref:
        Template and version; ``$Latest`` and ``$Default`` are resolved.

    Raises
    ------
    KilnError
        There is no such version, or AWS did not tell.
    """
    with told(f"reading version {ref.version} of the launch template {ref.name or ref.template}"):
        answer = cloud.client("ec2", region).describe_launch_template_versions(
            LaunchTemplateId=ref.template, Versions=[ref.version]
        )["LaunchTemplateVersions"]
    if not answer:
        raise KilnError(
            f"the launch template {ref.name or ref.template} has no version {ref.version}",
            "let the group name a version that there is (aws autoscaling update-auto-scaling-group)",
        )
    return _version(answer[0])


def find_number(cloud: Cloud, region: str, ref: Ref) -> Version | None:
    """Read a version that may be gone; parameters as of :func:`read`."""
    with told(f"looking for version {ref.version} of the launch template {ref.name or ref.template}"):
        try:
            answer = cloud.client("ec2", region).describe_launch_template_versions(
                LaunchTemplateId=ref.template, Versions=[ref.version]
            )["LaunchTemplateVersions"]
        except ClientError as error:
            if code(error) in _NO_VERSION:
                return None
            raise
    return _version(answer[0]) if answer else None


_NO_VERSION = ("InvalidLaunchTemplateId.VersionNotFound", "InvalidLaunchTemplateId.NotFound")


def find(cloud: Cloud, region: str, template: str, description: str) -> Version | None:
    """Find a version by the description that is derived from what it says; the newest where there are two."""
    with told(f"looking through the versions of {template}"):
        every = pages.every(
            cloud.client("ec2", region),
            "describe_launch_template_versions",
            "LaunchTemplateVersions",
            LaunchTemplateId=template,
            PaginationConfig={"MaxItems": MOST_VERSIONS, "PageSize": MOST_VERSIONS},
        )
        found = [_version(each) for each in every if each.get("VersionDescription") == description]
    return max(found, key=lambda each: each.number, default=None)


def changes(
    base: Version,
    release: Release,
    target: str,
    user_data: str,
    rate: int | None,
    former_root: str | None = None,
) -> dict[str, Any]:
    """Return what a version must say for a release, where the base says otherwise or not.

    Parameters
    ----------
    base:
        What the group runs from; all that is not named here stays as it is there.
    release:
        The image.
    target:
        Name of the target in kiln.toml, for the tags.
    user_data:
        As text.
    rate:
        MiB/s at which EBS fills the root volume; None leaves it to EBS.
    former_root:
        Root device of the AMI that the base names, where that is known.

    Returns
    -------
    dict
        Whole values of keys of ``LaunchTemplateData``: EC2 puts each in place of the source's.
    """
    metadata = {**base.data.get("MetadataOptions", {}), "HttpTokens": "required", "HttpEndpoint": "enabled"}
    wanted: dict[str, Any] = {
        "ImageId": release.ami,
        "MetadataOptions": metadata,
        "TagSpecifications": _tags(base, release.labels | {names.TARGET: target}),
    }
    if user_data or base.data.get("UserData"):
        wanted["UserData"] = settings.encoded(user_data)
    devices = _devices(base, {release.root_device, former_root}, release.root_device, rate)
    if devices or base.data.get("BlockDeviceMappings"):
        wanted["BlockDeviceMappings"] = devices
    return wanted


def _tags(base: Version, ours: dict[str, str]) -> list[dict[str, Any]]:
    """Return the base's tags with ours on instances and volumes."""
    given = {
        each["ResourceType"]: names.read(each["Tags"]) for each in base.data.get("TagSpecifications", [])
    }
    for kind in TAGGED:
        kept = {key: value for key, value in given.get(kind, {}).items() if not key.startswith(names.PREFIX)}
        given[kind] = kept | ours
    return [{"ResourceType": kind, "Tags": names.tags(tags)} for kind, tags in sorted(given.items())]


def _devices(base: Version, former: set[str | None], root: str, rate: int | None) -> list[dict[str, Any]]:
    """Return the base's volumes; the root one is the release's, at the rate.

    A snapshot that the base names for the root would be booted in place of the release's: it goes. So does
    the mapping of an earlier root by another name, which would be a second disk.
    """
    given = base.data.get("BlockDeviceMappings", [])
    others = [each for each in given if each.get("DeviceName") not in former]
    mine = next((each for each in given if each.get("DeviceName") in former), None)
    ebs = dict((mine or {}).get("Ebs", {}))
    for key in ("SnapshotId", "VolumeInitializationRate"):
        ebs.pop(key, None)
    if rate is not None:
        ebs["VolumeInitializationRate"] = rate
    if mine is None and not ebs:
        return others
    return [*others, {"DeviceName": root, "Ebs": ebs or {"DeleteOnTermination": True}}]


def says(version: Version, wanted: dict[str, Any]) -> bool:
    """Tell whether a version says what it must; the order of tags and volumes does not count."""
    return all(_plain(version.data.get(key)) == _plain(value) for key, value in wanted.items())


def same(version: Version, base: Version, wanted: dict[str, Any]) -> bool:
    """Tell whether a version is what one made from a base would be: what must be, and the base's rest."""
    keys = (version.data.keys() | base.data.keys()) - wanted.keys()
    rest = all(_plain(version.data.get(key)) == _plain(base.data.get(key)) for key in keys)
    return rest and says(version, wanted)


def differing(version: Version, wanted: dict[str, Any]) -> list[str]:
    """List the keys of a version that do not say what they must."""
    return [key for key, value in wanted.items() if _plain(version.data.get(key)) != _plain(value)]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner not in (None, [], {})}
    if isinstance(value, list):
        return sorted((_plain(inner) for inner in value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value


def describe(release: Release, base: Version, wanted: dict[str, Any]) -> str:
    """Derive the description by which a version is found again.

    Returns
    -------
    str
        Image, version, the number of the source, and a digest of both.
    """
    body = json.dumps([base.template, base.number, _plain(wanted)], sort_keys=True)
    digest = hashlib.sha256(body.encode()).hexdigest()[:12]
    return f"{release.image}@{release.version} from {base.number} {digest}"


def _request(base: Version, wanted: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "LaunchTemplateId": base.template,
        "SourceVersion": str(base.number),
        "VersionDescription": description,
        "LaunchTemplateData": wanted,
        "ClientToken": names.token(base.template, description),
    }


def may_make(cloud: Cloud, region: str, base: Version, wanted: dict[str, Any], description: str) -> str:
    """Ask EC2 by DryRun whether it would make a version.

    Returns
    -------
    str
        Empty where it would, else its reason.
    """
    call = cloud.client("ec2", region).create_launch_template_version
    with told(f"asking whether a version of {base.name} may be made"):
        return dry_run(call, **_request(base, wanted, description))


def dry_run(call: Any, **arguments: Any) -> str:
    """Send a request with DryRun.

    Returns
    -------
    str
        Empty where it would have succeeded, else EC2's reason.

    Raises
    ------
    ClientError
        The answer says neither, as when EC2 throttles: nothing is known then.
    """
    try:
        call(DryRun=True, **arguments)
    except ClientError as error:
        name = code(error)
        if name == "DryRunOperation":
            return ""
        if name in _UNKNOWN or int(error.response["ResponseMetadata"]["HTTPStatusCode"]) >= 500:
            raise
        return f"{name}: {' '.join(error.response['Error'].get('Message', '').split())}"
    return ""


_UNKNOWN = ("RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestExpired", "ExpiredToken")


def make(cloud: Cloud, region: str, base: Version, wanted: dict[str, Any], description: str) -> Version:
    """Make a version, or return the one that an earlier run made; it is read back.

    The request is ``CreateLaunchTemplateVersion``.

    Parameters
    ----------
    cloud, region:
        Where.
    base:
        The source: all that is not in ``wanted`` is as there.
    wanted:
        From :func:`changes`.
    description:
        From :func:`describe`.

    Raises
    ------
    KilnError
        What was made does not say what it must.
    """
    if (there := find(cloud, region, base.template, description)) is not None and says(there, wanted):
        return there
    answer = cloud.client("ec2", region).create_launch_template_version(**_request(base, wanted, description))
    number = answer["LaunchTemplateVersion"]["VersionNumber"]
    for _ in range(20):
        made = find(cloud, region, base.template, description)
        if made is not None and made.number == number:
            break
        cloud.wait(2)
    else:
        raise KilnError(f"version {number} of {base.name} was made and cannot be read", AGAIN)
    missing = differing(made, wanted) or [
        key for key in base.data if key not in wanted and _plain(made.data.get(key)) != _plain(base.data[key])
    ]
    if missing:
        raise KilnError(
            f"version {number} of {base.name} was made and does not say what it must: {', '.join(missing)}",
            "nothing runs from it; delete it, and report this",
        )
    return made
