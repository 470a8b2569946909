"""Versions of an image: which has a digest, which is latest, which keep their root."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiln.errors import KilnError
from scripts import versions
from tests.unit import contract


def _version(folder: Path, day: int, digest: str = contract.DIGEST) -> Path:
    name = f"202601{day:02d}T000000Z-{digest[:8]}"
    place = folder / name
    (place / "root").mkdir(parents=True)
    made = contract.made(version=name).model_copy(update={"input_digest": digest})
    (place / "manifest.json").write_text(made.model_dump_json())
    return place


def test_the_newest_of_a_digest_is_found(tmp_path: Path) -> None:
    _version(tmp_path, 1)
    newest = _version(tmp_path, 2)
    _version(tmp_path, 3, "f" * 64)
    assert versions.of_digest(tmp_path, contract.DIGEST) == newest


def test_eight_digits_in_common_are_not_a_digest(tmp_path: Path) -> None:
    _version(tmp_path, 1)
    assert versions.of_digest(tmp_path, contract.DIGEST[:8] + "0" * 56) is None


def test_latest_moves_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for day in (1, 2):
        versions.set_latest(tmp_path, _version(tmp_path, day).name)
    assert (tmp_path / "latest").readlink().name.startswith("20260102")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_roots_of_old_versions_go_and_their_files_stay(tmp_path: Path) -> None:
    places = [_version(tmp_path, day) for day in range(1, 6)]
    versions.set_latest(tmp_path, places[1].name)
    assert versions.shed_roots(tmp_path) == [places[0].name, places[2].name]
    assert [(p / "root").exists() for p in places] == [False, True, False, True, True]
    assert all((p / "manifest.json").exists() for p in places)


def test_a_root_that_is_elsewhere_stays_there(tmp_path: Path) -> None:
    places = [_version(tmp_path, day) for day in range(1, 4)]
    elsewhere = tmp_path / "elsewhere"
    (places[0] / "root").rename(elsewhere)
    (places[0] / "root").symlink_to(elsewhere)
    assert versions.shed_roots(tmp_path) == []
    assert elsewhere.is_dir()


def test_a_broken_manifest_is_told_by_its_place(tmp_path: Path) -> None:
    place = _version(tmp_path, 1)
    (place / "manifest.json").write_text('{"contract": 2}')
    with pytest.raises(KilnError, match="contract"):
        versions.read(place)
