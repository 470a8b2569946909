"""Files that took minutes to make, kept with a checksum beside each: a damaged one is made again."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from kiln.manifest import sha256_file

KEPT = 3
"""Files of a kind that stay; what was used last is forgotten last."""


def ready(place: Path, what: str, say: Callable[[str], None]) -> bool:
    """Return whether a file can be taken from its place; a damaged one is removed.

    Parameters
    ----------
    place:
        Where it is kept.
    what:
        What a reader calls it.
    say:
        Told of a damaged one.
    """
    if place.exists() and not _sound(place):
        say(f"the cached {what} does not match its checksum: made again")
        place.unlink()
    if not place.exists():
        return False
    os.utime(place)
    return True


def _sound(place: Path) -> bool:
    note = place.with_suffix(".sha256")
    return note.exists() and note.read_text().strip() == sha256_file(place)


def keep(made: Path, place: Path) -> None:
    """Put a file into its place, whole or not at all, with its checksum beside it.

    Parameters
    ----------
    made:
        The file, in a folder of the run; it stays there.
    place:
        Where it is kept; files beside it of the same suffix are of its kind.
    """
    folder = place.parent
    folder.mkdir(parents=True, exist_ok=True)
    # Two bakes may make the same at once.
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for killed in folder.glob(".half-*"):
            killed.unlink()
        half = folder / f".half-{place.name}"
        shutil.copyfile(made, half)
        place.with_suffix(".sha256").write_text(sha256_file(made) + "\n")
        half.replace(place)
        for old in sorted(folder.glob(f"*{place.suffix}"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink()
            old.with_suffix(".sha256").unlink(missing_ok=True)
