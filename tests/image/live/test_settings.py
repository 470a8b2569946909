"""Settings in a booted guest: what user data said was judged, and counts."""

from __future__ import annotations

from typing import Any

from tests.image.live.units import state

Guest = dict[str, Any]


def test_settings_were_judged_and_count(guest: Guest) -> None:
    found = state(guest, "kiln-settings.service")
    said = guest["settings"]
    problems = "; ".join(problem["what"] for problem in said.get("problems", []))
    assert found == "active", f"kiln-settings.service is {found}: {problems or 'it says nothing'}"
    # A container has no document; the guest of a proof has one, by which the client logs in.
    assert said.get("state") in ("applied", "defaults"), f"settings are {said.get('state', 'not judged')}"
