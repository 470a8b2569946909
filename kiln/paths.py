"""Where things lie: the checkout, the build folder, the cache."""

from __future__ import annotations

import os
from pathlib import Path

from kiln.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: kiln is always run from one, since its inputs are files of it."""


def build_dir() -> Path:
    """Folder of the versions, ``build/<image>/<version>/``; ``KILN_BUILD`` moves it.

    Returns
    -------
    Path
        Absolute; it need not be there.
    """
    return Path(os.environ.get("KILN_BUILD", ROOT / "build")).resolve()


def cache_dir() -> Path:
    """Folder of everything that can be made or fetched again; ``KILN_CACHE`` moves it.

    Returns
    -------
    Path
        Absolute; it need not be there.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("KILN_CACHE", base / "kiln")).resolve()


def make(folder: Path, variable: str) -> Path:
    """Make a folder of ours, with those above it.

    Parameters
    ----------
    folder:
        The folder.
    variable:
        Name of the variable that moves it.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UsageError
        It cannot be made there. A full disk stays an OSError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError, PermissionError) as error:
        raise UsageError(
            f"no folder can be made at {folder}: {error.strerror}",
            f"set {variable} to a folder that you may write to, or unset it",
        ) from None
    return folder
