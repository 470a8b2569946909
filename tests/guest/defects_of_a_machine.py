"""Defects that only a machine has, planted in the guest that the other tests use; it is left sound."""

from __future__ import annotations

import pytest

from scripts.guest import Guest
from tests.defects import campaign, guests
from tests.defects.defect import Running

pytestmark = [pytest.mark.slow, pytest.mark.root]

Seen = tuple[dict[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def seen(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What refuses the restored guest, and row → what is not as it has it."""
    root = campaign.sealed_root()
    sound, rows = guests.campaign(guest, campaign.roles(root), root, tmp_path_factory.mktemp("another"))
    return sound, {row.name: said for row, said in rows}


@pytest.mark.parametrize("row", guests.DEFECTS, ids=lambda row: row.name)
def test_defect_is_refused_by_its_checks_alone(seen: Seen, row: Running) -> None:
    assert seen[1][row.name] == ""


def test_the_guest_is_left_sound(seen: Seen) -> None:
    assert {name: said for name, said in seen[0].items() if name not in guests.ONLINE} == {}
