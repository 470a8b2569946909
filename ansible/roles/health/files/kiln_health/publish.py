"""What CloudWatch is told each minute; a publication that fails is counted, and its labels come with the
next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kiln_inflight import Seen
from kiln_instance.aws import Call
from kiln_instance.settings import Settings

from kiln_health.group import Finder, Place
from kiln_health.judge import Verdict

Datum = tuple[str, float, str]
"""Name, value and unit of a metric, as CloudWatch has them."""


def mean(values: list[float]) -> float:
    """Mean of what is a number; NaN where nothing is."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def ratio(part: float, whole: float) -> float:
    """Percent, between 0 and 100."""
    return min(max(100 * part / whole, 0.0), 100.0) if whole > 0 else 0.0


def data(verdict: Verdict, busy: float, labels: int, seconds: float) -> list[Datum]:
    """Metrics of a verdict.

    Parameters
    ----------
    verdict:
        The newest one.
    busy:
        Seconds since the last publication during which there was a request.
    labels:
        Labels saved since then.
    seconds:
        How long ago that is.
    """
    look = verdict.look
    count = look.seen.count if look.seen else 0
    found: list[Datum] = [
        ("Healthy", float(verdict.healthy), "None"),
        ("Ready", float(verdict.ready), "None"),
        ("QueueDepth", float(max(look.waiting or 0, count)), "Count"),
        ("RequestsInFlight", float(count), "Count"),
        ("Trainings", float(look.trainings), "Count"),
        ("BusyRatio", ratio(busy, seconds), "Percent"),
        ("LabelsSaved", float(labels), "Count"),
        ("GPUUtilization", mean([use for use, _, _ in look.gpus]), "Percent"),
        ("GPUMemoryUtilization", mean([ratio(used, all_) for _, used, all_ in look.gpus]), "Percent"),
        ("DiskFree", float(look.disk_free[0]) if look.disk_free else math.nan, "Bytes"),
    ]
    return [datum for datum in found if not math.isnan(datum[1])]


def dimensions(place: Place) -> list[list[dict[str, str]]]:
    """Where each metric is filed: for scaling by the group, for a look at one instance by both."""
    instance = {"Name": "InstanceId", "Value": place.instance}
    if not place.group:
        return [[instance]]
    group = {"Name": "AutoScalingGroupName", "Value": place.group}
    return [[group], [group, instance]]


class Publisher:
    """Publishes.

    Parameters
    ----------
    settings:
        How often, and the namespace.
    finder:
        Where this instance is.
    """

    def __init__(
        self, settings: Settings, finder: Finder, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.finder = finder
        self.clock = clock
        self.published = 0
        self.failed = 0
        self.last_failure = ""
        self._base: Seen | None = None
        self._since = clock()
        self._next = clock() + settings.publish

    def _gained(self, seen: Seen | None) -> tuple[float, int]:
        """Busy seconds and labels since the last publication; those of a server that is gone went with it."""
        if seen is None:
            return 0.0, 0
        base = self._base
        if base is None or (base.pid, base.born) != (seen.pid, seen.born):
            return seen.busy, seen.labels
        return seen.busy - base.busy, seen.labels - base.labels

    def act(self, verdict: Verdict) -> None:
        """Publish a verdict, where that is due and possible."""
        now = self.clock()
        if now < self._next:
            return
        self._next = now + self.settings.publish
        place = self.finder.find()
        if place is None:
            return
        busy, labels = self._gained(verdict.look.seen)
        when = datetime.fromtimestamp(verdict.look.when, UTC).isoformat(timespec="seconds")
        metrics = [
            {
                "MetricName": name,
                "Value": value,
                "Unit": unit,
                "Dimensions": filed,
                "Timestamp": when,
            }
            for name, value, unit in data(verdict, busy, labels, now - self._since)
            for filed in dimensions(place)
        ]
        arguments = {"Namespace": self.settings.namespace, "MetricData": metrics}
        (answer,) = place.aws.make(Call("cloudwatch", "put_metric_data", arguments))
        if answer.ok:
            self.published += 1
            self._base, self._since = verdict.look.seen or self._base, now
        else:
            self.failed += 1
            self.last_failure = f"{answer.code}: {answer.message}"

    def report(self) -> dict[str, Any]:
        """How it stands, for JSON."""
        return {"published": self.published, "failed": self.failed, "last_failure": self.last_failure}
