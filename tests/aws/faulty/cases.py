"""Which calls meet which faults: made from what an undisturbed run was seen to send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

FAULTS: dict[str, dict[str, Any]] = {
    "throttled twice": {"fault": "throttle", "times": 2},
    "500 twice": {"fault": "5xx", "times": 2},
    "timeout": {"fault": "timeout", "seconds": 20},
    "answer lost": {"fault": "lost"},
    "killed": {"fault": "hook", "when": "after"},
}
"""Name → rule of :mod:`tests.emulator.faults`, but for the call that it is about."""

MOST = 3
"""So many calls of a kind and region meet faults: the blocks of a disk differ in nothing but their data."""


@dataclass(frozen=True)
class Case:
    """A fault in a call.

    Parameters
    ----------
    scenario:
        Name of it.
    service, operation, region:
        Of the call.
    after:
        How many calls of that kind pass before.
    fault:
        Name of :data:`FAULTS`.
    """

    scenario: str
    service: str
    operation: str
    region: str
    after: int
    fault: str

    def __str__(self) -> str:
        number = f" no. {self.after + 1}" if self.after else ""
        return f"{self.scenario}: {self.service}:{self.operation}{number} in {self.region}, {self.fault}"

    def rule(self) -> dict[str, Any]:
        """Return the emulator's rule."""
        return {
            "service": self.service,
            "operation": self.operation,
            "region": self.region,
            "after": self.after,
            **FAULTS[self.fault],
        }


def cases(scenario: str, requests: Iterable[dict[str, Any]]) -> Iterator[Case]:
    """Return the cases of a command.

    Parameters
    ----------
    scenario:
        Name.
    requests:
        What an undisturbed run sent, as the emulator's record has it. Each call that changes something is
        one, :data:`MOST` of a kind and region; of those that only read, the first of a kind and region.

    Yields
    ------
    Case
        Each call with each fault.
    """
    sent: Counter[tuple[str, str, str]] = Counter()
    for request in requests:
        kind = (request["service"], request["operation"], request["region"])
        number = sent[kind]
        sent[kind] += 1
        if number < (MOST if request["mutating"] else 1):
            for fault in FAULTS:
                yield Case(scenario, *kind, number, fault)
