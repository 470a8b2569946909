"""make clean removes what was made, and nothing of a bake that is at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiln import paths
from kiln.errors import KilnError
from scripts import clean, workspace
from tests.unit import contract


@pytest.fixture
def made(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / ".ruff_cache").mkdir()
    (tmp_path / "kiln.toml").touch()
    return contract.put(build, verdict="passed")


def test_what_was_made_is_gone_and_downloads_stay(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean.run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "kiln.toml"]
    assert "with 1 version(s)" in capsys.readouterr().out
    clean.run()


def test_a_bake_at_work_keeps_everything(made: Path, tmp_path: Path) -> None:
    with workspace.claim(made.parent), pytest.raises(KilnError, match="being worked on"):
        clean.run()
    assert (made / "manifest.json").exists()
    assert (tmp_path / ".ruff_cache").exists()
