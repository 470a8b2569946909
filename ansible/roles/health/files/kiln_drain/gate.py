"""The gate: a file that is there while no new work is taken, and that remembers the drain over a restart of
ours."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


def now() -> float:
    """Seconds since boot: the same for every process, and no clock that is set changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Gate:
    """A gate; it opens by itself when the folder goes, with the boot or with the service that owns it.

    Parameters
    ----------
    file:
        The file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.said: dict[str, Any] = {}
        try:
            found = json.loads(file.read_text())
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            found = {}
        # One that cannot be read is closed all the same.
        self.said = {"reason": "termination", "since": now(), "completed": False}
        self.said |= found if isinstance(found, dict) else {}

    @property
    def reason(self) -> str:
        """Why it is closed, empty while it is open."""
        return str(self.said.get("reason", ""))

    @property
    def waited(self) -> float:
        """Seconds since it was closed."""
        return now() - float(self.said["since"]) if self.said else 0.0

    @property
    def completed(self) -> bool:
        """Whether Auto Scaling was told to go on."""
        return bool(self.said.get("completed"))

    def note(self, **more: object) -> None:
        """Close it, or note more of the drain; whoever reads the file reads it whole."""
        if not self.said:
            self.said = {
                "since": now(),
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "completed": False,
            }
        self.said |= more
        half = self.file.with_suffix(".part")
        half.write_text(json.dumps(self.said) + "\n")
        half.chmod(0o644)
        half.replace(self.file)
