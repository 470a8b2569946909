"""What commands of both sides take on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiln.errors import UsageError

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Another kiln.toml; also by the variable KILN_CONFIG.", metavar="FILE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def split(image: str) -> tuple[str, str | None]:
    """Take IMAGE[@VERSION] apart.

    Parameters
    ----------
    image:
        As it was written.

    Returns
    -------
    tuple
        Name of the image, and its version or None.

    Raises
    ------
    UsageError
        One of them is empty.
    """
    name, at, version = image.partition("@")
    if not name or (at and not version):
        hint = "write IMAGE or IMAGE@VERSION; see: kiln images"
        raise UsageError(f"{image!r} names no image and version", hint)
    return name, version or None
