"""Reports of who else uses an image: CreateImageUsageReport and what reads it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.emulator import control, ec2
from tests.emulator.images import own

KEPT = timedelta(days=30)

INSTANCE, TEMPLATE = "ec2:Instance", "ec2:LaunchTemplate"


@dataclass
class Report:
    """A report; what it says is found out when it is asked for, as EC2 does."""

    id: str
    image: str
    account: str
    region: str
    types: list[dict[str, Any]]
    accounts: list[str]
    tags: dict[str, str]
    token: str
    made: datetime
    entries: list[tuple[str, str, int]]
    settling: ec2.Settling
    state: str = "pending"


REPORTS: dict[str, Report] = {}

control.RESETS.append(REPORTS.clear)


def _entries(
    region: str, owner: str, image: str, wanted: list[str], types: list[str]
) -> list[tuple[str, str, int]]:
    found = []
    for backend in ec2.accounts(region):
        account = backend.account_id
        if account == owner or (wanted and account not in wanted):
            continue
        instances = sum(
            1
            for each in backend.all_instances()
            if each.image_id == image and each.state not in ("terminated", "shutting-down")
        )
        templates = sum(
            1
            for each in backend.launch_templates.values()
            if any(version.image_id == image for version in each.versions)
        )
        counts = {INSTANCE: instances, TEMPLATE: templates}
        found += [(account, kind, counts[kind]) for kind in types if counts.get(kind)]
    return found


def create_image_usage_report(self: Any) -> dict[str, Any]:
    """CreateImageUsageReport; the same client token gives the same report."""
    image = own(self)
    token = self._get_param("ClientToken") or ""
    tags = ec2.asked_tags(self, "image-usage-report", ("image-usage-report",))
    types = list(self._get_param("ResourceTypes") or [])
    self.error_on_dryrun()
    for report in REPORTS.values():
        if token and (report.token, report.account, report.region) == (
            token,
            self.current_account,
            self.region,
        ):
            return {"ReportId": report.id}
    accounts = list(self._get_param("AccountIds") or [])
    kinds = [each["ResourceType"] for each in types]
    report = Report(
        id=f"amiur-{secrets.token_hex(8)}0",
        image=image.id,
        account=self.current_account,
        region=self.region,
        types=types,
        accounts=accounts,
        tags=tags,
        token=token,
        made=ec2.now(),
        entries=_entries(self.region, self.current_account, image.id, accounts, kinds),
        settling=ec2.Settling("available"),
    )
    REPORTS[report.id] = report
    return {"ReportId": report.id}


def _asked(self: Any) -> list[Report]:
    ids, images = self._get_param("ReportIds") or [], self._get_param("ImageIds") or []
    return [
        each
        for each in REPORTS.values()
        if (each.account, each.region) == (self.current_account, self.region)
        and (not ids or each.id in ids)
        and (not images or each.image in images)
    ]


def describe_image_usage_reports(self: Any) -> dict[str, Any]:
    """DescribeImageUsageReports: pending at first."""
    shown = []
    for each in _asked(self):
        state, each.state = each.settling.look(each.state)
        shown.append(
            {
                "ReportId": each.id,
                "ImageId": each.image,
                "ResourceTypes": each.types,
                "State": state,
                "CreationTime": each.made,
                "ExpirationTime": each.made + KEPT,
                "Tags": [{"Key": key, "Value": value} for key, value in each.tags.items()],
            }
        )
    return {"ImageUsageReports": shown}


def describe_image_usage_report_entries(self: Any) -> dict[str, Any]:
    """DescribeImageUsageReportEntries, of reports that are ready."""
    return {
        "ImageUsageReportEntries": [
            {
                "ReportId": each.id,
                "ImageId": each.image,
                "AccountId": account,
                "ResourceType": kind,
                "UsageCount": count,
                "ReportCreationTime": each.made,
            }
            for each in _asked(self)
            if each.state == "available"
            for account, kind, count in each.entries
        ]
    }


@control.action
def age_usage_reports(hours: float) -> int:
    """Make all reports older; returns how many there are."""
    for each in REPORTS.values():
        each.made -= timedelta(hours=hours)
        # Who asks again so much later does not ask with the same token.
        each.token = ""
    return len(REPORTS)


def install() -> None:
    """Put the operations into moto."""
    ec2.extend(create_image_usage_report, describe_image_usage_reports, describe_image_usage_report_entries)
