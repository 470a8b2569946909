"""What a guest says of its health, as a load balancer asks it."""

from __future__ import annotations

import time
from typing import Any

from tests.image.live.asked.common import status, units

SECONDS = 60.0
"""For the first rounds after the server's start; one is due every 5 s, and the guest is emulated."""


def settled(path: str) -> list[Any]:
    """Status and text of an address of the gateway once that is a 200, else what it said last."""
    ends = time.monotonic() + SECONDS
    while (said := status(f"http://127.0.0.1{path}"))[0] != 200 and time.monotonic() < ends:
        time.sleep(1)
    return said


def answers() -> dict[str, Any]:
    """The answers, by name."""
    served = units().get("monai-label.service", {}).get("ActiveState") == "active"
    return {
        "healthz": settled("/healthz"),
        "readyz": settled("/readyz") if served else [0, "the server is not active"],
    }
