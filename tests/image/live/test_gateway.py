"""The gateway in a booted guest: it runs, and nobody gets in without a log-in."""

from __future__ import annotations

from typing import Any

from tests.image.live.units import inactive
from tests.image.tree import shown

Guest = dict[str, Any]

SERVICES = ("nginx.service", "kiln-auth.service")


def test_gateway_runs(guest: Guest) -> None:
    wrong = inactive(guest, SERVICES)
    assert not wrong, f"the gateway does not run: {shown(wrong)}"


def test_nobody_gets_in_without_a_log_in(guest: Guest) -> None:
    status, said = guest["anonymous"]
    assert status == 401, f"without a token GET /info/ answers {status}: {said[:200]}"
