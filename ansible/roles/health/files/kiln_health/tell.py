"""Tells Auto Scaling that this instance is unhealthy: for what a new one would cure, after rounds that
agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kiln_instance.aws import Call
from kiln_instance.imds import Metadata, NobodyError
from kiln_instance.settings import Settings
from kiln_instance.systemd import say

from kiln_health.group import Finder
from kiln_health.judge import Verdict

RETRY = 30.0
"""Seconds after a call that failed."""

TARGET = "InService"
"""What Auto Scaling must want of an instance that is replaced: one in standby is somebody's patient, one
that ends ends."""


class Teller:
    """Counts rounds, and tells.

    Parameters
    ----------
    settings:
        Limits.
    finder:
        Where this instance is.
    metadata:
        What is wanted of it.
    """

    def __init__(
        self,
        settings: Settings,
        finder: Finder,
        metadata: Metadata,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.finder = finder
        self.metadata = metadata
        self.clock = clock
        self.rounds: dict[str, int] = {}
        self.told = 0
        self.last = ""
        self.withheld = ""
        self._next = float("-inf")

    def count(self, verdict: Verdict) -> None:
        """Take in a round."""
        self.rounds = {name: self.rounds.get(name, 0) + 1 for name in verdict.curable}

    def due(self) -> list[str]:
        """Findings that enough rounds agree on."""
        return [name for name, rounds in self.rounds.items() if rounds >= self.settings.findings]

    def act(self) -> None:
        """Tell, where that is due, allowed and possible."""
        due = self.due()
        if not due:
            self.withheld, self._next = "", float("-inf")
            return
        if self.clock() < self._next:
            return
        self._next = self.clock() + RETRY
        self.withheld = self._why_not()
        place = None if self.withheld else self.finder.find()
        if place is None or not place.group:
            self.withheld = self.withheld or self.finder.why
            return
        (answer,) = place.aws.make(
            Call(
                "autoscaling",
                "set_instance_health",
                {
                    "InstanceId": place.instance,
                    "HealthStatus": "Unhealthy",
                    "ShouldRespectGracePeriod": True,
                },
            )
        )
        if answer.ok:
            self._next = self.clock() + self.settings.again
            self.told += 1
            self.last = datetime.now(UTC).isoformat(timespec="seconds")
            say(f"Auto Scaling was told that {place.instance} is unhealthy: {', '.join(due)}", 4)
        else:
            self.withheld = f"the call failed: {answer.code}: {answer.message}"

    def _why_not(self) -> str:
        """Why Auto Scaling is not to be told, empty where it is."""
        try:
            target = self.metadata.target()
        except NobodyError as error:
            return f"not on EC2: {error}"
        if not target:
            return "in no Auto Scaling group"
        return "" if target == TARGET else f"Auto Scaling wants it {target}"

    def report(self) -> dict[str, Any]:
        """How it stands, for JSON."""
        return {
            "curable_rounds": self.rounds,
            "of": self.settings.findings,
            "told": self.told,
            "last_told": self.last,
            "withheld": self.withheld,
        }
