"""Defects that only a boot shows, in containers with systemd over the real root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kiln import paths
from scripts import workspace
from tests.defects import boot_rows, boots, campaign
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
    return boots.refused([], campaign.sealed_root(), work / "sound", work.name)


def test_a_sound_root_boots(sound: dict[str, str]) -> None:
    asked = {check for row in boot_rows.DEFECTS for check in row.checks}
    assert asked.isdisjoint(sound), sound


@pytest.mark.parametrize("group", boot_rows.GROUPS, ids=lambda group: group[0].name)
def test_defects_are_refused_by_their_checks_alone(
    group: list[Defect], sound: dict[str, str], work: Path
) -> None:
    place = work / str(boot_rows.GROUPS.index(group))
    seen = boots.refused(group, campaign.sealed_root(), place, work.name)
    seen = {name: said for name, said in seen.items() if name not in sound}
    assert [said for row in group if (said := wrong(row, seen, group))] == []


@pytest.mark.parametrize("group", boot_rows.GROUPS, ids=lambda group: group[0].name)
def test_rows_that_share_a_container_share_no_check(group: list[Defect]) -> None:
    named = [check for row in group for check in row.checks]
    assert sorted(set(named)) == sorted(named)
