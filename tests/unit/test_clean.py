"""make clean removes what was made, and nothing of a bake that is at work."""

from __future__ import annotations

import subprocess
import sys
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


def test_a_running_guest_keeps_everything(made: Path, tmp_path: Path) -> None:
    # kiln boot holds its work folder and not the image.
    with workspace.workspace(made.parent) as work:
        with pytest.raises(KilnError, match=f"a guest of {made.parent.name} is still running") as caught:
            clean.run()
        assert str(work) in caught.value.what
        assert (work / "lock").exists()
    assert (made / "manifest.json").exists()
    assert (tmp_path / ".ruff_cache").exists()


def test_what_a_killed_guest_left_is_no_running_one(made: Path, build: Path) -> None:
    left = made.parent / workspace.WORK / "0123456789ab"
    left.mkdir(parents=True)
    (left / "lock").touch()
    clean.run()
    assert not build.exists()


def test_a_refusal_is_two_lines_and_its_exit_code(made: Path) -> None:
    with workspace.claim(made.parent):
        done = subprocess.run(
            [sys.executable, "-m", "scripts.clean"], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert [line[:7] for line in done.stderr.splitlines()] == ["error: ", "  fix: "]
