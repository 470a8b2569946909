"""The documents say what is so: nothing in them waits to be filled in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kiln import figures, paths

DOCUMENTS = sorted([*paths.ROOT.glob("*.md"), *(paths.ROOT / "docs").glob("*.md")])


def placeholders(text: str) -> list[str]:
    """What stands for a figure that was not put in, as a line each."""
    return [
        f"{number}: {found}"
        for number, line in enumerate(text.splitlines(), 1)
        for found in re.findall(r"@@\w*(?:@@)?", line)
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_waits_to_be_filled_in(path: Path) -> None:
    assert placeholders(path.read_text()) == []


def test_a_planted_placeholder_is_seen() -> None:
    assert placeholders("one\n| `make bake` | @@BAKE_COLD@@ |\n") == ["2: @@BAKE_COLD@@"]
    assert placeholders("a line @ a time, kiln@version, a@@") == ["1: @@"]
    assert placeholders("monai-label@20260102T030405Z-89abcdef") == []


README = paths.ROOT / "README.md"
TIMES = {
    f"`make {target}`, {state}"
    for target, states in {
        "bake": ("all caches empty", "caches filled", "nothing changed"),
        "test": ("all caches empty", "caches filled"),
    }.items()
    for state in states
}


def first_cells(text: str) -> list[str]:
    """The first cell of each line of the tables of a document."""
    return re.findall(r"^\| (.+?) \|", text, re.MULTILINE)


def test_the_readme_gives_the_five_times_and_every_figure() -> None:
    cells = first_cells(README.read_text())
    assert TIMES - set(cells) == set()
    promised = [f"`{name}`" for name in figures.promises()]
    assert [cell for cell in cells if cell in promised] == promised
    assert first_cells("| `make bake` | 3 s |\n| --- | --- |\nno | table |\n") == ["`make bake`", "---"]


def test_it_looks_at_what_is_there() -> None:
    assert {path.name for path in DOCUMENTS} >= {
        "README.md",
        "CONTRIBUTING.md",
        "operations.md",
        "executed.md",
    }
