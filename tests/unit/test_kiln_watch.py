"""What a process has read: in processes of its own, since Python takes no audit hook off again."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import paths

FILES = paths.ROOT / "ansible/roles/monai_label/files"
MIB = 1 << 20

Rows = list[tuple[int, int, str]]


def watched(folder: Path, program: str, within: str) -> Rows:
    """Rows of the list after some statements, of files in a folder."""
    text = "\n".join(
        (
            "import sys, kiln_watch",
            "watch = kiln_watch.Watch()",
            program,
            f"sys.stdout.write(kiln_watch.lines(watch.ranges([{within!r}])))",
        )
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", text], cwd=folder, env={"PYTHONPATH": str(FILES)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = (line.split(" ", 2) for line in done.stdout.splitlines())
    return [(int(offset), int(length), path) for offset, length, path in rows]


def test_files_are_listed_in_the_order_of_first_use(tmp_path: Path) -> None:
    for name in ("a", "b c", "never"):
        (tmp_path / name).write_text("x" * 10)
    program = "open('b c').read(); open('a', 'rb').read(); open('b c').read()"
    assert watched(tmp_path, program, str(tmp_path)) == [
        (0, 10, f"{tmp_path}/b c"),
        (0, 10, f"{tmp_path}/a"),
    ]


@pytest.mark.parametrize(
    "program",
    [
        "open('a', 'w').write('y')",
        "open('a', 'a').write('y')",
        "open('a').read(); import os; os.unlink('a')",
        "open('empty').read()",
        "os = __import__('os'); os.close(os.open('.', os.O_RDONLY))",
        "open(sys.executable, 'rb').read(1)",
    ],
    ids=["written", "appended to", "gone", "empty", "a folder", "elsewhere"],
)
def test_what_a_start_need_not_read_is_not_listed(tmp_path: Path, program: str) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "empty").touch()
    assert watched(tmp_path, program, str(tmp_path)) == []


def test_of_a_mapped_file_the_touched_pages_are_listed(tmp_path: Path) -> None:
    (tmp_path / "library").write_bytes(bytes(8 * MIB))
    program = f"""
import mmap
file = open('library', 'rb')
seen = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
seen[0], seen[{6 * MIB}]
"""
    rows = watched(tmp_path, program, str(tmp_path))
    assert {path for *_, path in rows} == {f"{tmp_path}/library"}

    def listed(place: int) -> bool:
        return any(offset <= place < offset + length for offset, length, _ in rows)

    assert [listed(place) for place in (0, 3 * MIB, 6 * MIB, 6 * MIB + mmap.PAGESIZE - 1)] == [
        True,
        False,
        True,
        True,
    ]


def test_a_module_and_its_library_are_listed_where_they_were_imported(tmp_path: Path) -> None:
    (tmp_path / "after").write_text("x")
    paths_ = [path for *_, path in watched(tmp_path, "import _sqlite3; open('after').read()", "/")]
    (library,) = {path for path in paths_ if "libsqlite3" in path} or {""}
    (module,) = {path for path in paths_ if "/_sqlite3." in path} or {""}
    assert paths_.index(module) <= paths_.index(library) < paths_.index(f"{tmp_path}/after")


def test_modules_that_were_loaded_before_are_listed(tmp_path: Path) -> None:
    rows = watched(tmp_path, "", "/")
    assert any(path.endswith(".pyc") and "/encodings/__pycache__/utf_8." in path for *_, path in rows)


@pytest.mark.parametrize(
    ("ranges", "wanted"),
    [
        ([], []),
        ([(4, 6), (0, 2)], [(0, 6)]),
        ([(0, 2), (5, 6)], [(0, 2), (5, 6)]),
        ([(0, 9), (1, 2)], [(0, 9)]),
    ],
)
def test_ranges_close_together_are_one(ranges: list[tuple[int, int]], wanted: list[tuple[int, int]]) -> None:
    program = f"print(__import__('kiln_watch').joined({ranges!r}, gap=2))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(FILES)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(wanted)
