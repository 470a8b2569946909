"""Plants rows of the table: ``python -m tests.defects.plant ROOT NAME …``.

``python -m tests.defects.plant --touched LOWER PLACE NAME …`` plants each in a layer of its own over LOWER,
and prints, as JSON, which paths it touched; it mounts, so run it under ``unshare --mount``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from scripts import layer
from tests.defects import rows

DEFECTS = {row.name: row for row in rows.STATIC}


def plant(root: Path, names: Iterable[str]) -> None:
    """Plant some defects in a root."""
    for name in names:
        DEFECTS[name].plant(root)


def leaves(upper: Path) -> list[str]:
    """What a layer holds, without the folders that are there for what is in them."""
    found = []
    for folder, folders, files in os.walk(upper):
        here = Path(folder).relative_to(upper)
        found += [str(here / name) for name in files]
        if not folders and not files and folder != str(upper):
            found.append(str(here))
    return sorted(found)


def touched(lower: Path, place: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Defect → paths that it touches."""
    found = {}
    for name in names:
        with layer.mounted(lower, place) as merged:
            DEFECTS[name].plant(merged)
        found[name] = leaves(place / "upper")
        shutil.rmtree(place)
    return found


def main(arguments: list[str]) -> None:
    """Run as a program."""
    if arguments[0] == "--touched":
        lower, place = map(Path, arguments[1:3])
        print(json.dumps(touched(lower, place, arguments[3:])))
    else:
        plant(Path(arguments[0]), arguments[1:])
        os.sync()


if __name__ == "__main__":
    main(sys.argv[1:])
