"""What a guest says of its settings."""

from __future__ import annotations

import json
from typing import Any

from tests.image.live.asked.common import read


def answers() -> dict[str, Any]:
    """The answers, by name."""
    return {"settings": json.loads(read("/run/kiln/settings.json") or "{}")}
