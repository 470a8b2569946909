"""Who else runs an AMI: EC2's usage reports, the one way to see into the accounts that it is shared with.

Source: EC2 user guide, "View your AMI usage". A report counts instances and launch templates by account; it
is made on demand, in minutes, and kept for 30 days. It does not see who copied the snapshots; a copy does not
need the original.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from kiln.errors import KilnError
from launch import names, pages
from launch.cloud import Cloud
from launch.plan import Request, Say, requests
from launch.trouble import AGAIN, told
from launch.until import until

RECENT = timedelta(hours=24)
"""How old a report may be to be believed."""

DEPTH = "10000"
"""How many versions of each launch template a report looks through: all that a template can have."""

TYPES: list[dict[str, Any]] = [
    {"ResourceType": "ec2:Instance"},
    {
        "ResourceType": "ec2:LaunchTemplate",
        "ResourceTypeOptions": [{"OptionName": "version-depth", "OptionValues": [DEPTH]}],
    },
    {"ResourceType": "imagebuilder:ImageRecipe"},
    {"ResourceType": "imagebuilder:ContainerRecipe"},
]

LOOKS = 120
"""Half an hour."""


def known(cloud: Cloud, region: str, amis: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read what recent reports say.

    Parameters
    ----------
    cloud, region:
        Where.
    amis:
        Ids.

    Returns
    -------
    dict
        AMI → account → what it runs of it, in words. An AMI without a recent report is not in it: nothing is
        known of it, which is not the same as that nobody uses it.
    """
    wanted = sorted(amis)
    if not wanted:
        return {}
    ec2 = cloud.client("ec2", region)
    with told(f"reading who else uses the AMIs in {region}"):
        reports = pages.every(ec2, "describe_image_usage_reports", "ImageUsageReports", ImageIds=wanted)
        newest: dict[str, dict[str, Any]] = {}
        for each in reports:
            if each["State"] == "available" and _recent(each["CreationTime"]):
                other = newest.get(each["ImageId"])
                if other is None or each["CreationTime"] > other["CreationTime"]:
                    newest[each["ImageId"]] = each
        found: dict[str, dict[str, str]] = {ami: {} for ami in newest}
        for ami, report in newest.items():
            counts: dict[str, list[str]] = defaultdict(list)
            for entry in pages.every(
                ec2,
                "describe_image_usage_report_entries",
                "ImageUsageReportEntries",
                ReportIds=[report["ReportId"]],
            ):
                if entry["UsageCount"]:
                    counts[entry["AccountId"]].append(f"{entry['UsageCount']} {entry['ResourceType']}")
            found[ami] = {account: ", ".join(sorted(parts)) for account, parts in counts.items()}
    return found


def _recent(made: datetime) -> bool:
    return datetime.now(UTC) - made <= RECENT


def asking(region: str) -> tuple[Request, ...]:
    """Return the requests of :func:`ask`."""
    return requests("ec2", region, "CreateImageUsageReport")


def ask(cloud: Cloud, region: str, project: str, ami: str, say: Say) -> None:
    """Let EC2 find out which accounts use an AMI, and wait for its report.

    Parameters
    ----------
    cloud, region:
        Where.
    project:
        Goes into the report's tags.
    ami:
        Id of an AMI of ours.
    say:
        Is told what is waited for.

    Raises
    ------
    KilnError
        EC2 could not find out.
    """
    if ami in known(cloud, region, [ami]):
        return
    ec2 = cloud.client("ec2", region)
    # One report an hour: a request whose answer was lost finds the report that it has begun.
    token = names.token("usage", region, ami, datetime.now(UTC).strftime("%Y%m%dT%H"))
    tags = {names.PROJECT: project, names.RUN: cloud.run_id}
    report = ec2.create_image_usage_report(
        ImageId=ami,
        ResourceTypes=TYPES,
        ClientToken=token[:64],
        TagSpecifications=[{"ResourceType": "image-usage-report", "Tags": names.tags(tags)}],
    )["ReportId"]
    say(f"waiting for EC2's report of who uses {ami} in {region}")

    def look() -> bool | None:
        answer = ec2.describe_image_usage_reports(ReportIds=[report])["ImageUsageReports"]
        state = answer[0]["State"] if answer else "pending"
        if state == "error":
            reason = answer[0].get("StateReason") or "EC2 gives no reason"
            raise KilnError(f"the report of who uses {ami} failed: {reason}", AGAIN)
        return True if state == "available" else None

    until(cloud, look, f"the report of who uses {ami} in {region}", LOOKS)
