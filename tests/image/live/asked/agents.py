"""What a guest says of its logs: they are rotated for it, once."""

from __future__ import annotations

import glob
from typing import Any

from tests.image.live.asked.common import run


def answers() -> dict[str, Any]:
    """The answers, by name."""
    state = "--state=/run/kiln-logrotate.status"
    return {
        "rotation": run("logrotate", "--force", state, "/etc/logrotate.d/kiln").strip(),
        "rotated": sorted(glob.glob("/var/log/cloud-init*.log.1.gz")),
        "rotation_timer": run("systemctl", "is-active", "logrotate.timer").strip(),
    }
