"""Every check has a planted defect; where one is only recorded, a document names it, and names no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.defects import guests, proof, tables
from tests.defects.defect import Defect, Running, wrong


def test_checks_without_a_planted_defect_are_those_that_are_listed() -> None:
    assert tables.CHECKS - tables.checks(tables.PLANTED) == tables.listed()


def test_a_listed_check_has_a_recorded_defect() -> None:
    assert tables.listed() <= tables.checks(tables.RECORDED)


def test_no_row_names_a_check_that_is_not_there() -> None:
    assert tables.checks([*tables.PLANTED, *tables.RECORDED]) <= tables.CHECKS


def test_no_two_rows_have_one_name() -> None:
    names = [row.name for row in [*tables.PLANTED, *tables.RECORDED]]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("rows", guests.ROUNDS, ids=lambda rows: rows[0].name)
def test_rows_of_a_round_share_no_check(rows: list[Running]) -> None:
    named = [check for row in rows for check in row.checks]
    assert sorted(set(named)) == sorted(named)


@pytest.mark.parametrize("row", proof.DISK, ids=lambda row: row.name)
def test_defect_of_the_disk_is_refused_by_its_check_alone(row: Defect, tmp_path: Path) -> None:
    assert wrong(row, proof.refused_disk(row, tmp_path / "version")) == ""
    assert proof.refused_disk(None, tmp_path / "sound") == {}
