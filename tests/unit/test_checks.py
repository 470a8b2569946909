"""Checks of an image: what could not run has failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiln.manifest import Check
from scripts import checks

GOOD = "def test_good():\n    pass\n"
CASES = {
    "assertion": ("def test_bad():\n    assert not 1, 'a key is left'\n", "a key is left"),
    "skipped": (
        "import pytest\n@pytest.mark.skip(reason='x')\ndef test_bad(): ...\n",
        "could not run",
    ),
    "broken fixture": ("def test_bad(nowhere): ...\n", "could not run"),
    "broken file": ("import nowhere\n", "could not run"),
    "no test at all": ("x = 1\n", "could not run"),
}


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> list[Check]:
    monkeypatch.setattr(checks, "CHECKS", folder)
    (folder / "static").mkdir()
    (folder / "static/test_base.py").write_text(text)
    return checks.run("static", ["base", "other"], folder / "junit.xml", folder / "log")


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_seen_to_pass_has_failed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, named = CASES[name]
    found = _run(tmp_path, monkeypatch, text)
    assert [named in check.message for check in found if check.outcome == "failed"] == [True]


def test_a_passed_check_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _run(tmp_path, monkeypatch, GOOD)
    assert [(check.outcome, check.id.rpartition("::")[2]) for check in found] == [("passed", "test_good")]


def test_a_changed_check_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", tmp_path)
    (tmp_path / "test_base.py").write_text("a")
    before = checks.digest()
    (tmp_path / "test_base.py").write_text("b")
    assert checks.digest() != before
