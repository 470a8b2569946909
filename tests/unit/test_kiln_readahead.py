"""The program that reads ahead, on files of a disk: run as the unit runs it, by the system's Python."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from kiln import paths

FILE = paths.ROOT / "ansible/roles/monai_label/files/kiln_readahead.py"
SIZE = 1_000_000


def memory(path: Path) -> list[bool]:
    """Which pages of a file are in memory, by mincore: asking by a read that may not wait starts a read."""
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        found = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(mapped)
        said = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), found
        )
        del start  # it holds the mapping
    assert said == 0, os.strerror(ctypes.get_errno())
    return [bool(page & 1) for page in found]


def cold(path: Path, size: int = SIZE) -> Path:
    """A file that is on the disk alone."""
    path.write_bytes(os.urandom(size))
    deadline = time.monotonic() + 60
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        while True:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if not any(memory(path)):
                return path
            # The kernel passes over a page that a processor still has on a list of its own.
            assert time.monotonic() < deadline, f"the kernel keeps {path} in memory"
            time.sleep(0.05)


def read_ahead(folder: Path, lines: list[str]) -> dict[str, Any]:
    """What the program says it did."""
    (folder / "list").write_text("".join(f"{line}\n" for line in lines))
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", FILE, folder / "list"],
        env={"RUNTIME_DIRECTORY": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads((folder / "done.json").read_text())
    assert done.stdout.startswith(f"read ahead {said['bytes']} bytes")
    return said


def test_what_is_listed_is_in_memory_afterwards(tmp_path: Path) -> None:
    files = [cold(tmp_path / f"a {number}") for number in range(40)]
    said = read_ahead(tmp_path, [f"0 {SIZE} {path}" for path in files])
    assert (said["bytes"], said["failed"], said["whole"]) == (40 * SIZE, 0, True)
    assert all(all(memory(path)) for path in files)


def test_of_a_library_only_the_ranges_are_read(tmp_path: Path) -> None:
    path = cold(tmp_path / "library", 32 * SIZE)
    said = read_ahead(tmp_path, [f"4096 8192 {path}", f"{16 * SIZE} 300000 {path}"])
    assert said["bytes"] == 308192
    there = memory(path)
    assert all(there[place // mmap.PAGESIZE] for place in (4096, 16 * SIZE, 16 * SIZE + 299999))
    assert not there[8 * SIZE // mmap.PAGESIZE]


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    there = cold(tmp_path / "there")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    said = read_ahead(
        tmp_path,
        [
            f"0 10 {tmp_path}/gone",
            f"0 10 {tmp_path}/pipe",
            f"0 10 {tmp_path}/folder/none",
            f"{SIZE} 10 {there}",
            f"{1 << 70} 10 {there}",
            "0 10 a\0b",
            "",
            "what is this",
            f"0 {SIZE} {there}",
        ],
    )
    assert (said["bytes"], said["failed"], said["whole"]) == (SIZE, 6, True)


def test_a_file_that_has_shrunk_is_read_to_its_end(tmp_path: Path) -> None:
    path = cold(tmp_path / "a", 1000)
    assert read_ahead(tmp_path, [f"0 5000 {path}"])["bytes"] == 1000


def test_memory_is_left_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, Any] = {"__name__": "kiln_readahead"}
    exec(compile(FILE.read_text(), str(FILE), "exec"), scope)
    path = cold(tmp_path / "a")
    scope["available"] = lambda: 2 * scope["PIECE"]
    (tmp_path / "list").write_text(f"0 {SIZE} {path}\n" * 50)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    scope["main"](str(tmp_path / "list"))
    said = json.loads((tmp_path / "done.json").read_text())
    # Readers that had begun finish their piece.
    assert scope["PIECE"] <= said["bytes"] <= (scope["READERS"] + 1) * scope["PIECE"]
    assert not said["whole"]


def test_kernel_says_what_memory_is_available() -> None:
    scope: dict[str, Any] = {"__name__": "kiln_readahead"}
    exec(compile(FILE.read_text(), str(FILE), "exec"), scope)
    assert 0 < scope["available"]() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
