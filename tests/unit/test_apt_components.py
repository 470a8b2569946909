"""The module that adds components to the distribution's own apt sources, in both their forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_seal_tree import load

apt_components = load("apt_components")

WANTED = ["contrib", "non-free", "non-free-firmware"]
ADDED = "main contrib non-free non-free-firmware"

ONE_LINE = """\
# deb http://archive.example/debian bookworm main
deb http://archive.example/debian bookworm main
deb [signed-by=/a.gpg arch=amd64] http://archive.example/debian bookworm-updates main contrib
deb-src http://archive.example/security bookworm-security main # sources
deb http://other.example/apt bookworm-pgdg main
deb http://vendor.example/apt bookworm stable
"""

DEB822 = """\
Types: deb deb-src
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://other.example/apt
Suites: bookworm-pgdg
Components: main
"""


def edit(folder: Path) -> tuple[list[str], int]:
    changed, sources = apt_components.edit(folder, "bookworm", WANTED)
    return [Path(path).name for path in changed], sources


def test_lines_of_the_distribution_get_them_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    assert edit(tmp_path) == (["sources.list"], 3)
    assert (tmp_path / "sources.list").read_text().splitlines() == [
        "# deb http://archive.example/debian bookworm main",
        f"deb http://archive.example/debian bookworm {ADDED}",
        f"deb [signed-by=/a.gpg arch=amd64] http://archive.example/debian bookworm-updates {ADDED}",
        f"deb-src http://archive.example/security bookworm-security {ADDED} # sources",
        "deb http://other.example/apt bookworm-pgdg main",
        "deb http://vendor.example/apt bookworm stable",
    ]


def test_stanzas_of_the_distribution_get_them_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text(DEB822)
    assert edit(tmp_path) == (["debian.sources"], 1)
    assert (folder / "debian.sources").read_text() == DEB822.replace(
        "Components: main", f"Components: {ADDED}", 1
    )


def test_second_time_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    edit(tmp_path)
    assert edit(tmp_path) == ([], 3)


@pytest.mark.parametrize("text", ["", "deb http://archive.example/debian trixie main\n"])
def test_no_source_of_the_distribution_is_noticed(tmp_path: Path, text: str) -> None:
    (tmp_path / "sources.list").write_text(text)
    assert edit(tmp_path) == ([], 0)
    assert (tmp_path / "sources.list").read_text() == text


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    changed, sources = apt_components.edit(tmp_path, "bookworm", WANTED, write=False)
    assert (len(changed), sources) == (1, 3)
    assert (tmp_path / "sources.list").read_text() == ONE_LINE
