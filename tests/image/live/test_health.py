"""Health and drain in a booted guest: both run, and a load balancer is told that all is well."""

from __future__ import annotations

from typing import Any

from tests.image.live.units import inactive
from tests.image.tree import shown

Guest = dict[str, Any]

SERVICES = ("kiln-health.service", "kiln-drain.service")


def test_health_and_drain_run(guest: Guest) -> None:
    wrong = inactive(guest, SERVICES)
    assert not wrong, f"nobody says how the instance is, or lets work end: {shown(wrong)}"


def test_instance_is_healthy(guest: Guest) -> None:
    status, said = guest["healthz"]
    assert status == 200, f"GET /healthz answers {status}: {said[:300]}"


def test_served_guest_is_ready(guest: Guest) -> None:
    status, said = guest["readyz"]
    assert status == 200, f"GET /readyz answers {status}: {said[:300]}"
