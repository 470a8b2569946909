"""A lock as a script installs it: all but monailabel by uv, monailabel by pip."""

from __future__ import annotations

import re
from pathlib import Path

from kiln import paths

BY_PIP = re.compile(r"(?m)^monailabel==.*\n(?:[ ].*\n)*")
"""The one wheel that uv installs incompletely."""


def write(lock: Path, folder: Path) -> None:
    """Write rest.txt and monailabel.txt, the parts of a lock, and uv.txt, the lock of uv itself.

    Parameters
    ----------
    lock:
        With hashes.
    folder:
        Existing folder.
    """
    text = lock.read_text()
    (folder / "rest.txt").write_text(BY_PIP.sub("", text))
    (folder / "monailabel.txt").write_text("".join(BY_PIP.findall(text)))
    (folder / "uv.txt").write_text((paths.ROOT / "requirements/uv.lock").read_text())
