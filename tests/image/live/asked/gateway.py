"""What a guest says of who gets in to its server."""

from __future__ import annotations

from typing import Any

from tests.image.live.asked.common import status


def answers() -> dict[str, Any]:
    """The answers, by name."""
    return {"anonymous": status("http://127.0.0.1/info/")}
