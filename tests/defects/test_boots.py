"""Defects that only a boot shows, in a container with systemd over the real root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kiln import paths
from scripts import workspace
from tests.defects import boots, campaign
from tests.defects.defect import Defect, wrong


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    folder = paths.build_dir() / "boots"
    with workspace.claim(folder):
        workspace.sweep(folder)  # what a killed run has left
        with workspace.workspace(folder) as work:
            yield work


@pytest.fixture(scope="module")
def sound(work: Path) -> dict[str, str]:
    """What a container fails for being one."""
    return boots.refused(None, campaign.sealed_root(), work / "sound", work.name)


def test_a_sound_root_boots(sound: dict[str, str]) -> None:
    asked = {check for row in boots.DEFECTS for check in row.checks}
    assert asked.isdisjoint(sound), sound


@pytest.mark.parametrize("row", boots.DEFECTS, ids=lambda row: row.name)
def test_defect_is_refused_by_its_checks_alone(row: Defect, sound: dict[str, str], work: Path) -> None:
    place = work / str(boots.DEFECTS.index(row))
    refused = boots.refused(row, campaign.sealed_root(), place, work.name)
    assert wrong(row, {name: said for name, said in refused.items() if name not in sound}) == ""
