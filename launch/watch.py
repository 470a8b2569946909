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
from launch.group import Group, Instance
from launch.plan import Say
from launch.refresh import Refresh
from launch.trouble import told

_INSTANCE = re.compile(r"\bi-[0-9a-f]{8,17}\b")

ACTIVITIES = 50
"""Scaling activities that are read when a refresh has failed."""

LOOKS = 2
"""Looks at which only the old instances are healthy at the load balancer, until a refresh is taken back."""

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
    revoked:
        Whether we rolled it back, because the image was revoked in between.
    """

    refresh: Refresh
    group: Group
    why: str
    instances: dict[str, str]
    revoked: bool

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
        nothing is asked, and the refresh is not taken back.
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
        self._cause = ""
        self._revoked = False
        self._worse = 0

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
            if self._refresh.status in refreshes.FORWARD and not self._cause:
                self._take_back_if_bad(say)
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

    def _is_new(self, instance: Instance) -> bool:
        return instance.ref is not None and instance.ref.number == self._number

    def _look(self) -> None:
        """Remember what is wrong with new instances, as long as they are there to be asked."""
        new = {each.id for each in self._group.instances if self._is_new(each)}
        if self._refresh.status in refreshes.BACK or not new:
            return
        said = self._at_balancers()
        for each in self._group.instances:
            if each.id not in new:
                continue
            if each.health.lower() == "unhealthy":
                self._sick.setdefault(each.id, "Auto Scaling: Unhealthy")
            elif state := said.get(each.id, ""):
                self._sick[each.id] = f"load balancer: {state}"
            else:
                self._sick.pop(each.id, None)
        # Auto Scaling counts by its own health checks, EC2's: it does not see whether the image serves.
        good_old = [each for each in self._group.instances if each.id not in new and said.get(each.id) == ""]
        bad_new = all(said.get(each, "") for each in new)
        worse = bool(self._group.target_groups and self._refresh.percent and bad_new and good_old)
        self._worse = self._worse + 1 if worse else 0

    def _at_balancers(self) -> dict[str, str]:
        """Return instance → what its target groups say against it, empty for nothing."""
        found: dict[str, str] = {}
        client = self._cloud.client("elbv2", self._group.region)
        for arn in self._group.target_groups:
            with told(f"reading the health of {arn}"):
                answer = client.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
            for each in answer:
                health: dict[str, Any] = each["TargetHealth"]
                words = ": ".join(filter(None, (health.get("Reason"), health.get("Description"))))
                bad = (words or "unhealthy") if health["State"] == "unhealthy" else ""
                name = each["Target"]["Id"]
                found[name] = found.get(name) or bad
        return found

    def _take_back_if_bad(self, say: Say) -> None:
        """Take the refresh back where the image should not run, or where only what is old works."""
        trouble = self._trouble() if self._trouble is not None else None
        if trouble is not None:
            self._cause, self._revoked = f"the image was {trouble}", True
        elif self._trouble is not None and self._worse >= LOOKS:
            new = sum(map(self._is_new, self._group.instances))
            self._cause = f"the load balancer calls none of {new} new instances healthy, and the old ones are"
        else:
            return
        say(f"{self._cause}: taking the refresh back")
        refreshes.take_back(self._cloud, self._group, self._refresh.id)

    def _end(self) -> End:
        refresh = self._refresh
        why = ""
        if refresh.status != "Successful":
            why = refresh.rollback or refresh.reason or refresh.status
            self._read_activities()
        why = self._cause or why
        return End(refresh, self._group, why, self._sick, self._revoked)

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
