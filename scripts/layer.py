"""A copy-on-write layer over a root, seen by one command alone.

``python -m scripts.layer LOWER UPPER WORK MERGED -- COMMAND …``, under ``unshare --mount``: the mounts live
in a mount namespace of the command's own, so they are gone with it, however it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def command(lower: Path, place: Path, inner: Sequence[str | Path]) -> list[str]:
    """Return the command line that runs another one over a layer.

    Parameters
    ----------
    lower:
        The root, which stays as it is.
    place:
        A folder for the layer; the merged root is seen at :func:`merged` of it.
    inner:
        The command to run.
    """
    folders = [place / name for name in ("upper", "work")]
    for folder in (*folders, merged(place)):
        folder.mkdir(parents=True, exist_ok=True)
    return [
        "unshare", "--mount", "--propagation", "private", sys.executable, "-m", "scripts.layer",
        *(str(p) for p in (lower, *folders, merged(place))), "--", *(str(part) for part in inner),
    ]  # fmt: skip


def merged(place: Path) -> Path:
    """Return where the merged root of a layer is seen."""
    return place / "merged"


@contextmanager
def mounted(lower: Path, place: Path) -> Iterator[Path]:
    """Mount a layer in our own mount namespace, without the kernel's file systems.

    Parameters
    ----------
    lower, place:
        As for :func:`command`.

    Yields
    ------
    Path
        The merged root.
    """
    upper, work, root = (place / name for name in ("upper", "work", "merged"))
    for folder in (upper, work, root):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", root, "-o", options], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", root], check=True)


def main(arguments: list[str]) -> None:
    """Mount the layer, the kernel's file systems and a /tmp on it, then become the command."""
    lower, upper, work, root = arguments[:4]
    mounts = (
        ("overlay", "overlay", root, f"lowerdir={lower},upperdir={upper},workdir={work}"),
        ("proc", "proc", f"{root}/proc", ""),
        ("sysfs", "sys", f"{root}/sys", "ro"),
        ("tmpfs", "run", f"{root}/run", "mode=755"),
    )
    for kind, source, target, options in mounts:
        extra = ["-o", options] if options else []
        subprocess.run(["mount", "-t", kind, *extra, source, target], check=True)
    inner = arguments[arguments.index("--") + 1 :]
    os.execvp(inner[0], inner)


if __name__ == "__main__":
    main(sys.argv[1:])
