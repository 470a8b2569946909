"""The script by which Slicer installs the extension: what it refuses, in two lines, and what it reports."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.slicer import standin
from tests.slicer.home import Home, rendered, unpacked, variables, write


@pytest.fixture
def fresh(tmp_path: Path) -> tuple[Home, Path]:
    """A Slicer without its extension, and the extension's archive."""
    home, archive = unpacked(tmp_path)
    write(rendered("__slicer_files", variables(tmp_path)))
    return home, archive


def run(home: Home, **more: object) -> tuple[int, dict[str, Any], str]:
    """Have Slicer run the script; return its exit code, its report, and what it said."""
    arguments = rendered("__slicer_extension_arguments", variables(home.path.parent, **more))
    done = subprocess.run([home.path / "Slicer", *arguments], capture_output=True, text=True)
    return done.returncode, json.loads((home.path / "kiln/extension.json").read_text()), done.stderr


def test_extension_is_installed_and_found(fresh: tuple[Home, Path]) -> None:
    home, _ = fresh
    code, report, _ = run(home)
    assert (code, report["installed"]) == (0, True)
    assert report["archive"].startswith("34045-linux-amd64-MONAILabel-")
    assert (Path(report["path"]) / "MONAILabel.py").is_file()
    assert Path(report["path"]).is_relative_to(home.path)


def remade(archive: Path, change: Callable[[str], str | None]) -> None:
    """Write an archive again with other names in it; None leaves a member out."""
    with tarfile.open(archive) as tar:
        files = {
            member.name: tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar.getmembers()
            if member.isfile()
        }
    named = {new: body for name, body in files.items() if (new := change(name))}
    top = min(name.split("/")[0] for name in named)
    parts = {name.removeprefix(f"{top}/"): (body, 0o644) for name, body in named.items()}
    standin.packed(archive, top, parts)


REFUSED: dict[str, tuple[Callable[[str], str | None], str]] = {
    "another revision": (lambda name: name.replace("34045-", "33241-"), " is 33241-linux-amd64-"),
    "another system": (lambda name: name.replace("-linux-", "-win-"), " is 34045-win-amd64-"),
    "another architecture": (lambda name: name.replace("-amd64-", "-arm64-"), " is 34045-linux-arm64-"),
    "another extension": (lambda name: name.replace("-MONAILabel-", "-SlicerIGT-"), "-SlicerIGT-"),
    "another version": (lambda name: name.replace("Slicer-5.10", "Slicer-5.8"), "has no 34045"),
    "no description": (
        lambda name: None if name.endswith(".s4ext") else name,
        "Slicer does not take 34045-linux-amd64-MONAILabel",
    ),
    "no module": (
        lambda name: None if name.endswith("/MONAILabel.py") else name,
        "has no module MONAILabel",
    ),
}  # fmt: skip
"""What is done to the archive's names, and what is said of it."""


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_archive_is_refused_in_two_lines(fresh: tuple[Home, Path], case: str) -> None:
    home, archive = fresh
    change, words = REFUSED[case]
    remade(archive, change)
    code, report, said = run(home)
    assert (code, report["installed"]) == (1, False)
    assert words in report["problem"]
    assert report["problem"].splitlines()[1].startswith("  fix: ")
    assert f"error: {report['problem']}" in said


def test_what_is_no_archive_is_refused(fresh: tuple[Home, Path]) -> None:
    home, archive = fresh
    archive.write_text("<html>not found</html>")
    code, report, _ = run(home)
    assert code == 1
    assert "is no archive" in report["problem"]


def test_missing_archive_is_refused(fresh: tuple[Home, Path]) -> None:
    home, archive = fresh
    archive.unlink()
    code, report, _ = run(home)
    assert (code, report["installed"]) == (1, False)


@pytest.mark.parametrize("wrong", [{"slicer_revision": "1"}, {"slicer_version": "5.8.1"}])
def test_another_slicer_is_refused(fresh: tuple[Home, Path], wrong: dict[str, str]) -> None:
    home, archive = fresh
    archive.rename(archive.with_name(rendered("__slicer_downloads", wrong)[1]["file"]))
    code, report, _ = run(home, **wrong)
    assert code == 1
    assert "this is Slicer 5.10.0 of revision 34045" in report["problem"]


def test_files_that_the_module_asks_for_in_vain_are_reported(fresh: tuple[Home, Path]) -> None:
    home, archive = fresh
    remade(archive, lambda name: None if name.endswith("UI/MONAILabel.ui") else name)
    assert run(home)[1]["missing"] == ["UI/LoginDialog.ui", "UI/MONAILabel.ui"]


def test_manager_itself_takes_any_revision(fresh: tuple[Home, Path]) -> None:
    """Why the script looks: Slicer's manager notes a wrong archive as one for its own revision."""
    home, archive = fresh
    remade(archive, lambda name: name.replace("34045-", "33241-"))
    code = f"print(slicer.app.extensionsManagerModel().installExtension({str(archive)!r}, False, True))"
    done = subprocess.run(
        [home.path / "Slicer", "--no-main-window", "--exit-after-startup", "--python-code", code],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "True"
    noted = (home.path / "slicer.org/Extensions-34045/MONAILabel.s4ext").read_text()
    assert "slicer_revision 34045" in noted
