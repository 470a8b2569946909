"""The live checks as functions of what a guest answers, without pytest and without a guest."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts import checks
from tests.defects import rows
from tests.defects.defect import Answer

CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    f"live::{path.stem}::{name}": check
    for path in sorted((checks.CHECKS / "live").glob("test_*.py"))
    for name, check in inspect.getmembers(
        importlib.import_module(f"tests.image.live.{path.stem}"), inspect.isfunction
    )
    if name.startswith("test_")
}
"""Id → check."""


@contextmanager
def image(root: Path, version: str) -> Iterator[None]:
    """Have the checks take a root and a version for those of the guest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILN_ROOT", str(root))
        patch.setenv("KILN_VERSION", version)
        yield


def refusals(said: dict[str, Any]) -> dict[str, str]:
    """Checks that refuse a guest by its answers, and what they say."""
    found = {}
    for name, check in CHECKS.items():
        try:
            check(copy.deepcopy(said))
        except AssertionError as refusal:
            found[name] = str(refusal)
        except Exception as error:
            found[name] = f"could not run: {error!r}"
    return found


def refused(row: Answer) -> dict[str, str]:
    """Checks that refuse a guest that is sound but for a row."""
    said = rows.sound()
    place = said
    for key in row.where[:-1]:
        place = place[key]
    assert place.get(row.where[-1]) != row.says, "the sound guest says that, too"
    place[row.where[-1]] = row.says
    return refusals(said)
