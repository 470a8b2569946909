"""Defects of an image, and how each is planted: ``python -m tests.defects.plant NAME ROOT``.

A table of data: a defect's name, what is done to the root, the checks that must refuse it (those and no
others), and the words by which the refusal names it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SITE = "opt/monai-label/venv/lib/python3.11/site-packages"


@dataclass(frozen=True)
class Defect:
    """A defect.

    Parameters
    ----------
    plant:
        Does it to a root.
    checks:
        Names of the checks that must fail.
    named:
        Words that the message must hold.
    """

    plant: Callable[[Path], object]
    checks: frozenset[str]
    named: str


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _disable(root: Path) -> None:
    for link in root.glob("etc/systemd/system/*.wants/monai-label.service"):
        link.unlink()


DEFECTS: dict[str, Defect] = {}


def main(name: str, root: Path) -> None:
    """Plant one defect."""
    DEFECTS[name].plant(root)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    os.sync()
