"""Snapshots as EBS has them: pending for a while, owned, encrypted by the account's default, shared."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot
from moto.ec2.utils import random_snapshot_id

from tests.emulator import control, ec2, keys

NOWHERE = "vol-ffffffff"
"""Volume id that AWS shows for a snapshot that was copied or uploaded."""


LENT: dict[str, Any] = {}
"""Snapshots of an image that is being launched: who may launch it need not see them."""


class Origin:
    """What stands where moto expects the volume of a snapshot."""

    def __init__(self, size: int, volume_id: str = NOWHERE, snapshot_id: str | None = None) -> None:
        self.id = volume_id
        self.size = size
        self.snapshot_id = snapshot_id


def make(
    backend: Any,
    *,
    size: int,
    description: str = "",
    encrypted: bool = False,
    key: str | None = None,
    tags: dict[str, str] | None = None,
    volume_id: str = NOWHERE,
    origin: str = "",
) -> Any:
    """Add a snapshot that is pending.

    Parameters
    ----------
    backend:
        Of EC2, of the account and region.
    size:
        Of the volume, GiB.
    description, encrypted, key, tags, volume_id:
        As answers show them.
    origin:
        Snapshot whose content it has; an uploaded one is its own.
    """
    snapshot = Snapshot(
        backend,
        random_snapshot_id(),
        Origin(size, volume_id),
        description,
        encrypted,
        key,
        backend.account_id,
    )
    snapshot.status = "pending"
    snapshot.settling = ec2.Settling("completed")  # type: ignore[attr-defined]
    snapshot.origin = origin or snapshot.id  # type: ignore[attr-defined]
    backend.snapshots[snapshot.id] = snapshot
    snapshot.add_tags(tags or {})
    return snapshot


def origin(snapshot: Any) -> str:
    """The snapshot whose content one has."""
    return str(getattr(snapshot, "origin", snapshot.id))


def find(account: str, region: str, snapshot_id: str) -> Any:
    """A snapshot that an account may use in a region.

    Raises
    ------
    EC2ClientError
        There is none.
    """
    for backend in ec2.accounts(region):
        snapshot = backend.snapshots.get(snapshot_id)
        if snapshot and visible(snapshot, account):
            return snapshot
    raise ec2.refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")


def visible(snapshot: Any, account: str) -> bool:
    """Whether an account may use a snapshot."""
    return bool(
        snapshot.owner_id == account
        or account in snapshot.create_volume_permission_userids
        or "all" in snapshot.create_volume_permission_groups
    )


def view(snapshot: Any) -> dict[str, Any]:
    """A snapshot as answers show it."""
    return {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume.id,
        "VolumeSize": snapshot.volume.size,
        "State": snapshot.status,
        "StateMessage": getattr(snapshot, "message", None),
        "Progress": "100%" if snapshot.status == "completed" else "42%",
        "StartTime": snapshot.start_time,
        "OwnerId": snapshot.owner_id,
        "Description": snapshot.description or "",
        "Encrypted": snapshot.encrypted,
        "KmsKeyId": snapshot.kms_key_id if snapshot.encrypted else None,
        "StorageTier": snapshot.storage_tier,
        "Tags": ec2.tag_list(snapshot.ec2_backend, snapshot.id) or None,
    }


def _facts(snapshot: Any) -> dict[str, Any]:
    return {
        "snapshot-id": snapshot.id,
        "volume-id": snapshot.volume.id,
        "volume-size": snapshot.volume.size,
        "status": snapshot.status,
        "owner-id": snapshot.owner_id,
        "description": snapshot.description or "",
        "encrypted": bool(snapshot.encrypted),
        "start-time": ec2.text_of(snapshot.start_time),
        "progress": "100%" if snapshot.status == "completed" else "42%",
        "storage-tier": snapshot.storage_tier,
        "owner-alias": None,
        "tags": ec2.tags_of(snapshot.ec2_backend, snapshot.id),
    }


def look(snapshot: Any) -> None:
    """Let a snapshot that waits to complete come nearer to it."""
    settling = getattr(snapshot, "settling", None)
    if settling:
        _, snapshot.status = settling.look(snapshot.status)


def describe_snapshots(self: Any) -> dict[str, Any]:
    """DescribeSnapshots: own, shared and public ones, unless ids or owners are named."""
    self.error_on_dryrun()
    account, wanted = self.current_account, self._get_param("SnapshotIds", []) or []
    owners = [account if owner == "self" else owner for owner in self._get_param("OwnerIds", []) or []]
    restorable = [
        account if user == "self" else user for user in self._get_param("RestorableByUserIds", []) or []
    ]
    found = [
        each
        for backend in ec2.accounts(self.region)
        for each in backend.snapshots.values()
        if visible(each, account)
    ]
    for missing in sorted(set(wanted) - {each.id for each in found}):
        raise ec2.refuse("InvalidSnapshot.NotFound", f"The snapshot '{missing}' does not exist.")
    found = [each for each in found if not wanted or each.id in wanted]
    found = [each for each in found if not owners or each.owner_id in owners]
    found = [each for each in found if not restorable or any(visible(each, user) for user in restorable)]
    found = ec2.filtered(self, found, _facts)
    answer = paged(self, [view(each) for each in found], "Snapshots")
    for each in found:
        look(each)
    return answer


def paged(self: Any, items: list[Any], member: str) -> dict[str, Any]:
    """A page of an answer, by ``MaxResults`` and ``NextToken``."""
    start, size = int(self._get_param("NextToken") or 0), int(self._get_param("MaxResults") or 1000)
    following = str(start + size) if len(items) > start + size else None
    return {member: items[start : start + size], "NextToken": following}


def create_snapshot(self: Any) -> dict[str, Any]:
    """CreateSnapshot: of a volume, encrypted as it is."""
    volume = self.ec2_backend.get_volume(self._get_param("VolumeId"))
    tags = ec2.asked_tags(self, "snapshot", ("snapshot",))
    self.error_on_dryrun()
    snapshot = of_volume(self.ec2_backend, volume, self._get_param("Description") or "", tags)
    return view(snapshot)


def of_volume(backend: Any, volume: Any, description: str, tags: dict[str, str]) -> Any:
    """A snapshot of a volume."""
    return make(
        backend,
        size=volume.size,
        description=description,
        encrypted=volume.encrypted,
        key=volume.kms_key_id,
        tags=tags,
        volume_id=volume.id,
    )


def copy_snapshot(self: Any) -> dict[str, Any]:
    """CopySnapshot: keys are looked at after the answer, as on AWS."""
    tags = ec2.asked_tags(self, "snapshot", ("snapshot",))
    source = find(self.current_account, self._get_param("SourceRegion"), self._get_param("SourceSnapshotId"))
    if source.status != "completed":
        raise ec2.refuse("IncorrectState", f"snapshot {source.id} is {source.status}")
    self.error_on_dryrun()
    encrypted = bool(self._get_param("Encrypted")) or source.encrypted
    copied = copy(
        self.ec2_backend, source, encrypted, self._get_param("KmsKeyId"), self._get_param("Description"), tags
    )
    return {"SnapshotId": copied.id, "Tags": ec2.tag_list(self.ec2_backend, copied.id)}


def copy(
    backend: Any, source: Any, encrypted: bool, key: str | None, description: str | None, tags: dict[str, str]
) -> Any:
    """A copy of a snapshot; it fails by itself where a key may not be used."""
    is_encrypted, arn = keys.encryption(backend, encrypted, key)
    copied = make(
        backend,
        size=source.volume.size,
        description=description or "",
        encrypted=is_encrypted,
        key=arn,
        tags=tags,
        origin=origin(source),
    )
    who = keys.root(backend.account_id)
    readable = not source.encrypted or keys.may_use(who, _key(source), keys.TO_READ)
    writable = not is_encrypted or keys.may_use(who, _key(copied), keys.TO_WRITE)
    if not (readable and writable):
        copied.settling = ec2.Settling("error")
        copied.message = "Given key ID is not accessible"
    return copied


def _key(snapshot: Any) -> Any:
    region = snapshot.ec2_backend.region_name
    return keys.find(snapshot.owner_id, region, snapshot.kms_key_id) if snapshot.kms_key_id else None


def delete_snapshot(self: Any) -> dict[str, Any]:
    """DeleteSnapshot: not one that an image stands on."""
    backend, wanted = self.ec2_backend, self._get_param("SnapshotId")
    snapshot = backend.snapshots.get(wanted)
    if snapshot is None:
        raise ec2.refuse("InvalidSnapshot.NotFound", f"The snapshot '{wanted}' does not exist.")
    if user := user_of(backend, wanted):
        raise ec2.refuse("InvalidSnapshot.InUse", f"The snapshot {wanted} is currently in use by {user}")
    self.error_on_dryrun()
    remove(backend, wanted)
    return {}


def remove(backend: Any, snapshot_id: str) -> None:
    """Delete a snapshot and its tags."""
    backend.snapshots.pop(snapshot_id, None)
    backend.tags.pop(snapshot_id, None)


def user_of(backend: Any, snapshot_id: str, but: str = "") -> str | None:
    """Id of an image of ours that stands on a snapshot; None where none does."""
    for image in backend.amis.values():
        used = [(mapping.get("Ebs") or {}).get("SnapshotId") for mapping in image.block_device_mappings]
        if image.owner_id == backend.account_id and image.id != but and snapshot_id in used:
            return str(image.id)
    return None


def modify_snapshot_attribute(self: Any) -> dict[str, Any]:
    """ModifySnapshotAttribute: no sharing with AWS's own key, nor of what is encrypted with all."""
    backend, snapshot_id = self.ec2_backend, self._get_param("SnapshotId")
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise ec2.refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    permission = self._get_param("CreateVolumePermission") or {}
    operation = self._get_param("OperationType")
    changes = {"add": list(permission.get("Add", [])), "remove": list(permission.get("Remove", []))}
    if operation:
        changes[operation] += [{"UserId": user} for user in self._get_param("UserIds", []) or []]
        changes[operation] += [{"Group": group} for group in self._get_param("GroupNames", []) or []]
    if changes["add"] and snapshot.encrypted:
        if keys.managed(snapshot.kms_key_id):
            raise ec2.refuse(
                "InvalidParameterValue", "Encrypted snapshots with EBS default key cannot be shared"
            )
        if any("Group" in each for each in changes["add"]):
            raise ec2.refuse("OperationNotPermitted", f"Encrypted snapshot {snapshot_id} cannot be public")
    self.error_on_dryrun()
    for each in changes["add"]:
        snapshot.create_volume_permission_userids |= {each["UserId"]} if "UserId" in each else set()
        snapshot.create_volume_permission_groups |= {each["Group"]} if "Group" in each else set()
    for each in changes["remove"]:
        snapshot.create_volume_permission_userids -= {each.get("UserId")}
        snapshot.create_volume_permission_groups -= {each.get("Group")}
    return {}


def get_ebs_default_kms_key_id(self: Any) -> dict[str, Any]:
    """GetEbsDefaultKmsKeyId: AWS's own unless another was set, by the name of its alias."""
    self.error_on_dryrun()
    return {"KmsKeyId": self.ec2_backend.default_kms_key_id or "alias/aws/ebs"}


def reset_ebs_default_kms_key_id(self: Any) -> dict[str, Any]:
    """ResetEbsDefaultKmsKeyId."""
    self.error_on_dryrun()
    self.ec2_backend.default_kms_key_id = ""
    return {"KmsKeyId": "alias/aws/ebs"}


@control.state("snapshots")
def states() -> dict[str, Any]:
    """Every snapshot, by what it holds."""
    from tests.emulator import state

    return state.of_ec2("snapshots", _state)


def _state(backend: Any, snapshot: Any) -> tuple[str, dict[str, Any]] | None:
    if snapshot.owner_id != backend.account_id:
        return None
    return snapshot.description or snapshot.id, shown(backend, snapshot)


def shown(backend: Any, snapshot: Any) -> dict[str, Any]:
    """What is compared of a snapshot."""
    from tests.emulator import blocks

    return {
        "size": snapshot.volume.size,
        "state": snapshot.status,
        "key": snapshot.kms_key_id if snapshot.encrypted else None,
        "tags": ec2.tags_of(backend, snapshot.id),
        "shared": sorted(snapshot.create_volume_permission_userids),
        "content": blocks.digest(snapshot),
    }


def install() -> None:
    """Extend moto."""
    ec2.extend(
        describe_snapshots,
        create_snapshot,
        copy_snapshot,
        delete_snapshot,
        modify_snapshot_attribute,
        get_ebs_default_kms_key_id,
        reset_ebs_default_kms_key_id,
    )
    original = EBSBackend.create_volume

    def create_volume(self: Any, size: int, zone_name: str, *given: Any, **more: Any) -> Any:
        # The account's default, and the encryption of the snapshot, which moto takes without its key.
        names = ("snapshot_id", "encrypted", "kms_key_id", "volume_type", "iops", "throughput")
        kwargs = {**dict(zip(names, given, strict=False)), **more}
        source = None
        if kwargs.get("snapshot_id"):
            wanted = kwargs.pop("snapshot_id")
            source = LENT.get(wanted) or find(self.account_id, self.region_name, wanted)
            if source.status != "completed":
                raise ec2.refuse("IncorrectState", f"snapshot {source.id} is {source.status}")
        encrypted, key = keys.encryption(self, kwargs.get("encrypted"), kwargs.get("kms_key_id"))
        if source is not None and source.encrypted and not kwargs.get("kms_key_id"):
            encrypted, key = True, source.kms_key_id
        kwargs |= {"encrypted": encrypted, "kms_key_id": key}
        volume = original(self, size or (source.volume.size if source else None), zone_name, **kwargs)
        volume.snapshot_id = source.id if source else None
        return volume

    EBSBackend.create_volume = create_volume  # type: ignore[method-assign]
