"""What a guest says of the MONAI Label server."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from typing import Any

from tests.image.live.asked.common import read, units

STUDIES = "/var/lib/monai-label/studies"


def get(url: str) -> list[Any]:
    """Status and document of an address, or 0 and what went wrong."""
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return [answer.status, json.load(answer)]
    except Exception as error:
        return [getattr(error, "code", 0), repr(error)]


def answers() -> dict[str, Any]:
    """The answers, by name."""
    pid = units().get("monai-label.service", {}).get("MainPID", "0")
    return {
        "listening": read("/proc/net/tcp") + read("/proc/net/tcp6"),
        "process": dict(re.findall(r"^(\w+):\s*(.*)$", read(f"/proc/{pid}/status"), re.MULTILINE)),
        "mounts": read(f"/proc/{pid}/mountinfo"),
        "studies": [os.stat(STUDIES)[i] for i in (0, 4, 5)] if os.path.exists(STUDIES) else [],
        "readahead": json.loads(read("/run/kiln-readahead/done.json") or "{}"),
        "info": get("http://127.0.0.1:8000/info/") if pid != "0" else [0, "not running"],
    }
