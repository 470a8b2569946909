"""What must hold in every region before an image goes there: the region, its key, encryption, quotas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from kiln.config import Publish
from launch import key as keys
from launch import pages
from launch.cloud import Cloud
from launch.plan import Refusal
from launch.trouble import code, told


@dataclass(frozen=True)
class Quota:
    """A limit of AWS on how many of something a region has.

    Parameters
    ----------
    service, code:
        As Service Quotas names it.
    name:
        For messages.
    count:
        Counts what is there.
    """

    service: str
    code: str
    name: str
    count: Callable[[Cloud, str], int]


def _amis(cloud: Cloud, region: str) -> int:
    return _count(cloud, region, "describe_images", "Images", Owners=["self"], IncludeDisabled=True)


def _snapshots(cloud: Cloud, region: str) -> int:
    return _count(cloud, region, "describe_snapshots", "Snapshots", OwnerIds=["self"])


def _count(cloud: Cloud, region: str, operation: str, key: str, **params: Any) -> int:
    large = {"PageSize": 1000}
    found = pages.every(cloud.client("ec2", region), operation, key, PaginationConfig=large, **params)
    return sum(1 for _ in found)


QUOTAS = (
    Quota("ec2", "L-B665C33B", "AMIs", _amis),
    Quota("ebs", "L-309BACF6", "snapshots", _snapshots),
)
"""What a publication adds one of (Service Quotas, default 50,000 AMIs and 100,000 snapshots in a region)."""


@dataclass(frozen=True)
class Ground:
    """What was found in a region.

    Parameters
    ----------
    region:
        Its name.
    key:
        What the snapshots are encrypted with there; None for AWS's own key, or where nothing is encrypted.
    refusals:
        Why nothing may be published there.
    """

    region: str
    key: keys.Key | None
    refusals: list[Refusal] = field(default_factory=list)


def not_enabled(cloud: Cloud, regions: list[str]) -> list[Refusal]:
    """Tell which regions the account does not have.

    Parameters
    ----------
    cloud:
        The account.
    regions:
        Of kiln.toml.

    Returns
    -------
    list of Refusal
        One a region that is not enabled, or that AWS does not have.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    with told("asking which regions are enabled"):
        answer = cloud.client("ec2").describe_regions(AllRegions=True)["Regions"]
    status = {each["RegionName"]: each.get("OptInStatus", "opt-in-not-required") for each in answer}
    enable = "enable it for this account (Account, AWS Regions), or take it out of regions"
    return [
        Refusal("region-enabled", f"{region} is not enabled for account {cloud.account}", enable)
        if region in status
        else Refusal("region-enabled", f"AWS has no region {region}", "correct regions in kiln.toml")
        for region in regions
        if status.get(region, "not-opted-in") == "not-opted-in"
    ]


def look(cloud: Cloud, region: str, publish: Publish, *, new: bool) -> Ground:
    """Look at a region before an image is published there.

    Parameters
    ----------
    cloud, region:
        Where.
    publish:
        Of kiln.toml.
    new:
        Whether an AMI and a snapshot will be made there: only then quotas matter.

    Returns
    -------
    Ground
        With every reason against it, not only the first.

    Raises
    ------
    KilnError
        Something could not be found out, which is no pass.
    """
    refusals: list[Refusal] = []
    key = None
    if publish.encrypt:
        key, found = _key(cloud, region, publish)
        refusals += found
    elif new:
        refusals += _unencrypted(cloud, region)
    if new:
        refusals += [each for quota in QUOTAS if (each := _full(cloud, region, quota)) is not None]
    return Ground(region, key, refusals)


def _key(cloud: Cloud, region: str, publish: Publish) -> tuple[keys.Key | None, list[Refusal]]:
    named = publish.kms_key if isinstance(publish.kms_key, str) else (publish.kms_key or {}).get(region)
    name = named or keys.default(cloud, region)
    if name is None:
        # AWS's own: everybody in the account may use it, Auto Scaling too.
        return None, []
    key, refusal = keys.find(cloud, region, name)
    if key is None:
        return None, [refusal] if refusal else []
    if key.customer:
        return key, keys.judge(cloud, key, [cloud.account, *publish.share_with])
    if publish.share_with:
        what = f"{name} in {region} is AWS's own key: what it encrypts cannot be shared"
        return None, [Refusal("key-shared", what, "name a customer key under kms_key")]
    return key, []


def _unencrypted(cloud: Cloud, region: str) -> list[Refusal]:
    with told(f"asking whether EBS encrypts by default in {region}"):
        by_default = cloud.client("ec2", region).get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    if not by_default:
        return []
    return [
        Refusal(
            "encryption-by-default",
            f"account {cloud.account} encrypts every snapshot in {region}, and encrypt = false is asked for",
            "make the AppStream image with kiln builder instead, or publish from an account without it",
        )
    ]


def _full(cloud: Cloud, region: str, quota: Quota) -> Refusal | None:
    limit = _limit(cloud, region, quota)
    with told(f"counting {quota.name} in {region}"):
        there = quota.count(cloud, region)
    if there + 1 <= limit:
        return None
    return Refusal(
        "quota",
        f"{region} has {there} {quota.name}, and the quota is {limit:.0f}",
        f"kiln prune, or ask for more: aws service-quotas request-service-quota-increase --region {region}"
        f" --service-code {quota.service} --quota-code {quota.code} --desired-value {there + 100}",
    )


def _limit(cloud: Cloud, region: str, quota: Quota) -> float:
    client = cloud.client("service-quotas", region)
    asked = {"ServiceCode": quota.service, "QuotaCode": quota.code}
    with told(f"asking for the quota of {quota.name} in {region}"):
        try:
            return float(client.get_service_quota(**asked)["Quota"]["Value"])
        except ClientError as error:
            if code(error) != "NoSuchResourceException":
                raise
        # Until an account asks for more there may be no quota of its own.
        return float(client.get_aws_default_service_quota(**asked)["Quota"]["Value"])
