"""What a proof says of files, boots and a client's session.

The planted defects are in tests/defects/proof.py and client.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.defects import campaign, client, proof
from tests.defects.defect import Answer, Defect, wrong


def test_what_is_sound_passes(tmp_path: Path) -> None:
    assert proof.refused_files(None, tmp_path) == {}
    assert proof.refused_boots(None) == {}


def test_every_check_has_a_defect() -> None:
    assert {check for row in (*proof.FILES, *proof.BOOTS) for check in row.checks} == proof.CHECKS


@pytest.mark.parametrize("row", proof.FILES, ids=lambda row: row.name)
def test_defect_of_the_files_is_seen_by_its_check_alone(row: Defect, tmp_path: Path) -> None:
    assert wrong(row, proof.refused_files(row, tmp_path)) == ""


@pytest.mark.parametrize("row", proof.BOOTS, ids=lambda row: row.name)
def test_defect_of_the_boots_is_seen_by_its_check_alone(row: Answer) -> None:
    assert wrong(row, proof.refused_boots(row)) == ""


def test_a_sound_session_passes_and_every_check_of_it_has_a_defect(tmp_path: Path) -> None:
    assert client.refused(None, tmp_path) == {}
    assert {check for row in client.DEFECTS for check in row.checks} == {
        *campaign.written("client"),
        client.SESSION,
    }


@pytest.mark.parametrize("row", client.DEFECTS, ids=lambda row: row.name)
def test_defect_of_the_session_is_seen_by_its_check_alone(row: Defect, tmp_path: Path) -> None:
    assert wrong(row, client.refused(row, tmp_path)) == ""
