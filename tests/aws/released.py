"""Versions as ``kiln publish`` leaves them, without a disk: AMIs with tags in each region, and records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from kiln import manifest
from kiln.published import Published
from launch import names
from tests.aws.account import ACCOUNT, BUCKET, REGION, REGIONS, available, new_snapshot
from tests.unit import contract

Client = Callable[..., Any]

V1, V2, V3, V4 = (f"2026010{n}T030405Z-0123456{n}" for n in range(1, 5))


def ready(client: Client) -> None:
    """Make the bucket."""
    client("s3").create_bucket(Bucket=BUCKET)
    client("s3").put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})


def put(client: Client, key: str, body: bytes | str) -> None:
    """Put an object, whatever stands there."""
    client("s3").put_object(Bucket=BUCKET, Key=f"kiln/{key}", Body=body)


def documents(
    image: str = "monai-label",
    version: str = V1,
    *,
    checks: Iterable[manifest.Check] = (),
    verdict: str = "passed",
    digest: str | None = None,
    **facts: Any,
) -> tuple[bytes, bytes]:
    """A manifest and its proof; ``stable`` takes them unless facts or checks say otherwise."""
    made = contract.made(image, version)
    given = {"weights": "pinned", "settings_schemas": [1], **facts}
    made = made.model_copy(update={"facts": made.facts.model_copy(update=given)})
    body = made.model_dump_json(indent=1).encode()
    proof = manifest.Proof(
        contract=1,
        image=image,
        version=version,
        manifest_digest=digest or hashlib.sha256(body).hexdigest(),
        checks_digest=contract.DIGEST,
        started=datetime(2026, 1, 2, 3, 30, tzinfo=UTC),
        seconds=60.0,
        machine="2 cores, 8 GiB, tcg",
        verdict=verdict,  # type: ignore[arg-type]
        demand=None,
        boot=None,
        checks=[
            manifest.Check(id="static::test_a", stage="static", outcome="passed", seconds=0.1),
            *checks,
        ],
    )
    return body, proof.model_dump_json(indent=1).encode()


def publish(
    client: Client,
    version: str = V1,
    image: str = "monai-label",
    *,
    regions: Iterable[str] = REGIONS,
    share: Iterable[str] = (),
    sbom: bool = True,
    proof: bool = True,
    **said: Any,
) -> dict[str, str]:
    """Publish a version.

    Returns
    -------
    dict of str to str
        Region → id of its AMI.
    """
    body, proven = documents(image, version, **said)
    folder = f"images/{image}/{version}"
    put(client, f"{folder}/manifest.json", body)
    if proof:
        put(client, f"{folder}/proof.json", proven)
    if sbom:
        put(client, f"{folder}/sbom.cdx.json", b"{}")
    digest = hashlib.sha256(body).hexdigest()
    made = {}
    for region in regions:
        ami, snapshot = register(client, region, version, image, digest=digest, share=share)
        record = Published(
            contract=1,
            image=image,
            version=version,
            manifest_digest=digest,
            account=ACCOUNT,
            region=region,
            ami=ami,
            name=names.ami("kiln", image, version),
            snapshots=[snapshot],
            encrypted=False,
            kms_key=None,
            boot_mode="uefi",
            made_by="ebs-direct",
            copied_from=None,
            run="test",
            time=datetime.now(UTC),
        )
        put(client, f"{folder}/published/{ACCOUNT}-{region}.json", record.model_dump_json(indent=1))
        made[region] = ami
    return made


def register(
    client: Client,
    region: str = REGION,
    version: str = V1,
    image: str = "monai-label",
    *,
    digest: str = contract.DIGEST,
    share: Iterable[str] = (),
    name: str | None = None,
    tags: dict[str, str] | None = None,
) -> tuple[str, str]:
    """Register an AMI with our tags over a snapshot with the same.

    Returns
    -------
    tuple of str
        Ids of AMI and snapshot.
    """
    ec2 = client("ec2", region)
    given = tags if tags is not None else {
        names.PROJECT: "kiln", names.IMAGE: image, names.VERSION: version, names.MANIFEST_DIGEST: digest,
        names.RUN: "test",
    }  # fmt: skip
    pairs = names.tags(given)
    snapshot = new_snapshot(ec2, region, 8, pairs)
    ami = ec2.register_image(
        Name=name or names.ami("kiln", image, version),
        Architecture="x86_64",
        BootMode="uefi",
        EnaSupport=True,
        ImdsSupport="v2.0",
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3"}}
        ],
        **({"TagSpecifications": [{"ResourceType": "image", "Tags": pairs}]} if pairs else {}),
    )["ImageId"]
    available(ec2, ami)
    if share:
        users = [{"UserId": each} for each in share]
        ec2.modify_image_attribute(ImageId=ami, LaunchPermission={"Add": users})
    return ami, snapshot
