"""Health and drain in a booted guest: both run, and a load balancer is told that all is well."""

from __future__ import annotations

from typing import Any

from tests.image.tree import shown

Guest = dict[str, Any]

SERVICES = ("kiln-health.service", "kiln-drain.service")


def test_health_and_drain_run(guest: Guest) -> None:
    states = {name: guest["units"].get(name, {}).get("ActiveState", "missing") for name in SERVICES}
    wrong = [f"{name} is {state}" for name, state in states.items() if state != "active"]
    assert not wrong, f"nobody says how the instance is, or lets work end: {shown(wrong)}"


def test_instance_is_healthy(guest: Guest) -> None:
    status, said = guest["healthz"]
    assert status == 200, f"GET /healthz answers {status}: {said[:300]}"


def test_served_guest_is_ready(guest: Guest) -> None:
    status, said = guest["readyz"]
    assert status == 200, f"GET /readyz answers {status}: {said[:300]}"
