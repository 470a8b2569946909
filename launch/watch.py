"""Watching an instance refresh to its end: what is shown meanwhile, what ends it early, what to say of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kiln.errors import KilnError
from kiln.progress import clock
from launch import group as groups
from launch import refresh as refreshes
from launch.cloud import Cloud
from launch.group import Group
from launch.plan import Say
from launch.refresh import Refresh
from launch.trouble import told

_INSTANCE = re.compile(r"\bi-[0-9a-f]{8,17}\b")

ACTIVITIES = 50
"""Scaling activities that are read when a refresh has failed."""

NAMED = 5
"""Instances that a message names before it counts the others."""


@dataclass(frozen=True)
class End:
    """How a refresh ended.

    Parameters
    ----------
    refresh:
        As it was read last.
    group:
        The group afterwards.
    why:
        Why it did not get there, empty where it did.
    instances:
        Instance → what was wrong with it.
    ended_by_us:
        Whether we rolled it back, because the image was revoked in between.
    """

    refresh: Refresh
    group: Group
    why: str
    instances: dict[str, str]
    ended_by_us: bool

    def troubled(self) -> str:
        """Name the instances that were not healthy and what was wrong, for a message; empty for none."""
        told_of = [
            f"{name} ({what})" if what else name for name, what in list(self.instances.items())[:NAMED]
        ]
        rest = len(self.instances) - len(told_of)
        return ", ".join(told_of) + (f" and {rest} more" if rest else "")


class Watch:
    """Follows a refresh.

    Parameters
    ----------
    cloud:
        The account.
    group:
        As it was read before.
    refresh:
        The one to follow.
    number:
        Version of the template that counts as new; of another, instances are old.
    trouble:
        Says why the image that comes should not, None as long as it may; asked at every look. Without it
        nothing is asked.
    minutes:
        How long it may take altogether.
    """

    def __init__(
        self,
        cloud: Cloud,
        group: Group,
        refresh: Refresh,
        number: int,
        trouble: Callable[[], str | None] | None,
        minutes: float,
    ) -> None:
        self._cloud = cloud
        self._group = group
        self._refresh = refresh
        self._number = number
        self._trouble = trouble
        self._minutes = minutes
        self._sick: dict[str, str] = {}
        self._revoked = ""

    def follow(self, say: Say) -> End:
        """Look at it until it has ended.

        Parameters
        ----------
        say:
            Is told how it stands.

        Raises
        ------
        KilnError
            It takes too long, or AWS did not tell.
        """
        start = time.monotonic()
        last = ""
        while True:
            self._refresh = refreshes.read(
                self._cloud, self._group.region, self._group.name, self._refresh.id
            )
            self._group = groups.read(self._cloud, self._group.region, self._group.name)
            if not self._refresh.lives:
                return self._end()
            self._look()
            line = self._line()
            if line != last:
                say(f"{line} · {clock(time.monotonic() - start)}")
                last = line
            if self._refresh.status in refreshes.FORWARD and not self._revoked:
                self._take_back_if_revoked(say)
            if time.monotonic() - start > self._minutes * 60:
                raise KilnError(
                    f"the refresh {self._refresh.id} of {self._group.name} works for more than "
                    f"{self._minutes / 60:.0f} hours ({self._refresh.status}, {self._refresh.percent} %)",
                    "AWS goes on with it: run the same command to watch again, or kiln rollback",
                )
            self._cloud.wait()

    def _line(self) -> str:
        """How it stands, short enough for one line: percent, instances by version, checkpoint, alarms."""
        refresh = self._refresh
        counts = self._group.by_version()
        serving = sum(
            each.serves and each.ref is not None and each.ref.number == self._number
            for each in self._group.instances
        )
        parts = [
            f"{refresh.status} {refresh.percent} %",
            f"v{self._number}: {serving}/{counts[self._number]}",
        ]
        parts += [
            f"v{number}: {count}" if number is not None else f"others: {count}"
            for number, count in sorted(counts.items(), key=lambda each: each[0] or 0)
            if number != self._number
        ]
        if coming := [each for each in refresh.checkpoints if each >= refresh.percent and each < 100]:
            at = "at" if coming[0] == refresh.percent else "next"
            parts.append(f"checkpoint {at} {coming[0]} %")
        if refresh.alarms:
            parts.append(f"alarms {self._alarms()}")
        if self._sick:
            parts.append(f"unhealthy {len(self._sick)}")
        return " · ".join(parts)

    def _alarms(self) -> str:
        with told("reading the alarms"):
            found = self._cloud.client("cloudwatch", self._group.region).describe_alarms(
                AlarmNames=list(self._refresh.alarms), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
        alarms = [*found.get("MetricAlarms", []), *found.get("CompositeAlarms", [])]
        return ", ".join(each["AlarmName"] for each in alarms if each["StateValue"] == "ALARM") or "ok"

    def _look(self) -> None:
        """Remember what is wrong with new instances, as long as they are there to be asked."""
        fresh = {
            each.id: each
            for each in self._group.instances
            if each.ref is not None and each.ref.number == self._number and not each.serves
        }
        if self._refresh.status in refreshes.BACK or not fresh:
            return
        for each in fresh.values():
            if each.health.lower() == "unhealthy":
                self._sick.setdefault(each.id, "Auto Scaling: Unhealthy")
        for arn in self._group.target_groups:
            self._ask_balancer(arn, fresh)

    def _ask_balancer(self, arn: str, fresh: dict[str, groups.Instance]) -> None:
        with told(f"reading the health of {arn}"):
            found = self._cloud.client("elbv2", self._group.region).describe_target_health(TargetGroupArn=arn)
        for each in found["TargetHealthDescriptions"]:
            health: dict[str, Any] = each["TargetHealth"]
            if each["Target"]["Id"] in fresh and health["State"] == "unhealthy":
                words = (health.get("Reason"), health.get("Description"))
                said = ": ".join(word for word in words if word)
                self._sick[each["Target"]["Id"]] = f"load balancer: {said or 'unhealthy'}"

    def _take_back_if_revoked(self, say: Say) -> None:
        trouble = self._trouble() if self._trouble is not None else None
        if trouble is not None:
            say(f"the image is {trouble}: taking the refresh back")
            self._revoked = trouble
            refreshes.take_back(self._cloud, self._group, self._refresh.id)

    def _end(self) -> End:
        refresh = self._refresh
        why = ""
        if refresh.status != "Successful":
            why = refresh.rollback or refresh.reason or refresh.status
            self._read_activities()
        if self._revoked:
            why = f"the image was {self._revoked}"
        return End(refresh, self._group, why, self._sick, bool(self._revoked))

    def _read_activities(self) -> None:
        """Add what Auto Scaling did with instances of the refresh, and why launches failed."""
        with told(f"reading what {self._group.name} did"):
            found = self._cloud.client("autoscaling", self._group.region).describe_scaling_activities(
                AutoScalingGroupName=self._group.name, MaxRecords=ACTIVITIES
            )["Activities"]
        for each in found:
            began = self._refresh.started
            if began is not None and each["StartTime"] < began:
                continue
            text = f"{each.get('Description', '')} {each.get('Cause', '')}"
            if each["StatusCode"] in ("Failed", "Cancelled"):
                what = " ".join((each.get("StatusMessage") or "it failed").split())
                name = next(iter(_INSTANCE.findall(text)), "a launch")
                self._sick.setdefault(name, what)
            elif "health check" in text and (cause := _INSTANCE.findall(each.get("Description", ""))):
                words = text.rpartition("in response to ")[2].rstrip(". ")
                self._sick.setdefault(cause[0], words)
