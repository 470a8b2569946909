"""Scaling activities: what a group did, when, why, and how that ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from moto.moto_api._internal import mock_random

from tests.emulator.clock import CLOCK


@dataclass
class Activity:
    """One launch or one termination, as DescribeScalingActivities tells it.

    Parameters
    ----------
    group:
        Its group, of moto.
    description, cause:
        As AWS words them; the cause is cut at 1,023 characters, which the model allows.
    start, end:
        On the emulator's clock.
    status:
        A ``ScalingActivityStatusCode``.
    message:
        Why it failed; cut at 255 characters, which the model allows.
    """

    group: Any
    description: str
    cause: str
    start: float
    details: dict[str, str]
    status: str = "InProgress"
    message: str = ""
    end: float | None = None
    progress: int = 30
    identity: str = ""

    def close(self, now: float, status: str = "Successful", message: str = "") -> None:
        """Note how it ended."""
        self.end, self.status, self.message, self.progress = now, status, message, 100

    def view(self) -> dict[str, Any]:
        """As the service answers."""
        found = {
            "ActivityId": self.identity,
            "AutoScalingGroupName": self.group.name,
            "AutoScalingGroupARN": self.group.arn,
            "Description": self.description,
            "Cause": self.cause[:1023],
            "StartTime": CLOCK.date(self.start),
            "EndTime": None if self.end is None else CLOCK.date(self.end),
            "StatusCode": self.status,
            "StatusMessage": self.message[:255] or None,
            "Progress": self.progress,
            "Details": json.dumps(self.details),
        }
        return {name: value for name, value in found.items() if value is not None}


def of(backend: Any) -> list[Activity]:
    """All activities of a region, the newest first."""
    if "kiln_activities" not in backend.__dict__:
        backend.kiln_activities = []
    found: list[Activity] = backend.kiln_activities
    return found


def begin(group: Any, description: str, cause: str, now: float, **details: str) -> Activity:
    """Note that something began."""
    identity = str(mock_random.uuid4())
    told = f"At {CLOCK.date(now):%Y-%m-%dT%H:%M:%SZ} {cause}"
    activity = Activity(group, description, told, now, details, identity=identity)
    of(group.autoscaling_backend).insert(0, activity)
    return activity
