"""Who may launch an AMI and use its snapshots: the accounts of kiln.toml, and never everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launch.cloud import Cloud
from launch.plan import Request, requests


@dataclass(frozen=True)
class Shared:
    """Who may use something.

    Parameters
    ----------
    accounts:
        By their numbers.
    public:
        Whether everybody may.
    others:
        Organisations and their units, by ARN; kiln gives nothing to them.
    """

    accounts: frozenset[str]
    public: bool = False
    others: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Change:
    """What has to change for just some accounts to have it."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    unpublish: bool = False

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.unpublish)

    def __str__(self) -> str:
        parts = [f"share it with {', '.join(self.add)}"] if self.add else []
        parts += [f"no longer share it with {', '.join(self.remove)}"] if self.remove else []
        parts += ["make it private: everybody may use it"] if self.unpublish else []
        return "; ".join(parts)


def change(there: Shared, wanted: frozenset[str], *, keep_others: bool) -> Change:
    """Compare who may with who should.

    Parameters
    ----------
    there:
        Who may.
    wanted:
        Accounts of kiln.toml.
    keep_others:
        Leave accounts that kiln.toml does not name: AppStream adds one of its own while it imports.
    """
    extra = () if keep_others else tuple(sorted(there.accounts - wanted))
    return Change(tuple(sorted(wanted - there.accounts)), extra, there.public)


def of_image(cloud: Cloud, region: str, ami: str) -> Shared:
    """Read who may launch an AMI.

    Parameters
    ----------
    cloud, region:
        Where.
    ami:
        Its id.
    """
    answer = cloud.client("ec2", region).describe_image_attribute(ImageId=ami, Attribute="launchPermission")
    return _read(answer.get("LaunchPermissions", []))


def of_snapshot(cloud: Cloud, region: str, snapshot: str) -> Shared:
    """Read who may make volumes of a snapshot; parameters as of :func:`of_image`."""
    answer = cloud.client("ec2", region).describe_snapshot_attribute(
        SnapshotId=snapshot, Attribute="createVolumePermission"
    )
    return _read(answer.get("CreateVolumePermissions", []))


def _read(permissions: list[dict[str, Any]]) -> Shared:
    arns = ("OrganizationArn", "OrganizationalUnitArn")
    return Shared(
        accounts=frozenset(each["UserId"] for each in permissions if each.get("UserId")),
        public=any(each.get("Group") == "all" for each in permissions),
        others=frozenset(each[arn] for each in permissions for arn in arns if each.get(arn)),
    )


def _written(what: Change) -> dict[str, list[dict[str, str]]]:
    everybody = [{"Group": "all"}] if what.unpublish else []
    both = {
        "Add": [{"UserId": each} for each in what.add],
        "Remove": [*everybody, *({"UserId": each} for each in what.remove)],
    }
    return {name: entries for name, entries in both.items() if entries}


def changing(region: str) -> tuple[Request, ...]:
    """Return the requests of :func:`share_image` and :func:`share_snapshot`."""
    return requests("ec2", region, "ModifyImageAttribute", "ModifySnapshotAttribute")


def share_image(cloud: Cloud, region: str, ami: str, what: Change) -> None:
    """Let other accounts launch an AMI, or no longer.

    Parameters
    ----------
    cloud, region:
        Where.
    ami:
        Its id.
    what:
        Adding what is there and removing what is not are no errors: the request may be sent twice.
    """
    if what:
        cloud.client("ec2", region).modify_image_attribute(ImageId=ami, LaunchPermission=_written(what))


def share_snapshot(cloud: Cloud, region: str, snapshot: str, what: Change) -> None:
    """Let other accounts use a snapshot, or no longer; parameters as of :func:`share_image`.

    One who may launch an AMI but not read its snapshots cannot copy it.
    """
    if what:
        cloud.client("ec2", region).modify_snapshot_attribute(
            SnapshotId=snapshot, Attribute="createVolumePermission", CreateVolumePermission=_written(what)
        )
