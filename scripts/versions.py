"""The versions of an image on this machine, and which of them is ``latest``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import ValidationError

from kiln import manifest
from kiln.version_files import LATEST
from kiln.version_files import read_manifest as read
from scripts import workspace

__all__ = ["LATEST", "every", "of_digest", "read", "read_proof", "set_latest", "shed_roots"]


def read_proof(version: Path) -> manifest.Proof | None:
    """Return the proof of a version folder, or None where there is none that can be read."""
    try:
        return manifest.Proof.model_validate_json((version / "proof.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def every(folder: Path) -> list[Path]:
    """Return the version folders of an image, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.match(manifest.VERSION_PATTERN, path.name))


def of_digest(folder: Path, digest: str) -> Path | None:
    """Return the newest version of an image that was made from the given inputs.

    Parameters
    ----------
    folder:
        ``build/<image>``.
    digest:
        The input digest.
    """
    found = [path for path in every(folder) if path.name.endswith(f"-{digest[:8]}")]
    return next((path for path in reversed(found) if read(path).input_digest == digest), None)


def shed_roots(folder: Path) -> list[str]:
    """Remove the root folders of old versions, 10 GB each: only a proof reads them.

    Parameters
    ----------
    folder:
        ``build/<image>``.

    Returns
    -------
    list of str
        The versions that keep no root: all but the two newest and ``latest``.
    """
    kept = {path.name for path in every(folder)[-2:]} | {(folder / LATEST).resolve().name}
    roots = [path / "root" for path in every(folder) if path.name not in kept]
    old = [root.parent for root in roots if root.is_dir() and not root.is_symlink()]
    for path in old:
        workspace.remove_tree(path / "root")
    return [path.name for path in old]


def set_latest(folder: Path, version: str) -> None:
    """Let ``latest`` name a version, in one step that cannot be seen half done."""
    new = folder / f".{LATEST}.{os.getpid()}"
    new.unlink(missing_ok=True)
    new.symlink_to(version)
    new.replace(folder / LATEST)
