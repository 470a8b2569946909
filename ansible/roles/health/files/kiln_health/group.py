"""This instance's Auto Scaling group, found by the metadata service and one call, and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kiln_instance.aws import Aws, Call
from kiln_instance.imds import Metadata, NobodyError
from kiln_instance.settings import Settings

AGAIN = 600.0
"""Seconds after which an instance without a group is asked for again: it may be attached later."""


@dataclass(frozen=True)
class Place:
    """Where this instance is.

    Parameters
    ----------
    instance:
        Its id.
    group:
        Its Auto Scaling group, empty without.
    aws:
        Makes calls in its region.
    """

    instance: str
    group: str
    aws: Aws


class Finder:
    """Finds the place; says why there is none.

    Parameters
    ----------
    settings:
        Limits and addresses.
    metadata:
        Client of the metadata service.
    """

    def __init__(
        self, settings: Settings, metadata: Metadata, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.metadata = metadata
        self.clock = clock
        self.why = "not asked yet"
        self.aws: Aws | None = None
        self._instance = ""
        self._group = ""
        self._next = 0.0

    def find(self) -> Place | None:
        """The place, None where this is no EC2 instance."""
        try:
            instance, region = self.metadata.instance()
        except NobodyError as error:
            self.why = f"not on EC2: {error}"
            return None
        if self.aws is None or instance != self._instance:
            known = self.settings
            self.aws = Aws(known.python, region, known.aws, known.endpoint, known.metadata)
            self._instance, self._group, self._next = instance, "", 0.0
        if not self._group and self.clock() >= self._next:
            self._next = self.clock() + AGAIN
            (answer,) = self.aws.make(
                Call("autoscaling", "describe_auto_scaling_instances", {"InstanceIds": [instance]})
            )
            found = answer.body.get("AutoScalingInstances", [])
            self._group = found[0]["AutoScalingGroupName"] if found else ""
            if not answer.ok:
                self._next = self.clock() + 60.0
        self.why = "" if self._group else "in no Auto Scaling group, or it cannot be asked"
        return Place(instance, self._group, self.aws)
