"""What this process reads of files: those that it opens, and of those that it maps the pages it has touched.

The kernel's page cache is not asked. At a bake it holds what was just written, and after a cold start also
what the kernel read along, which may be more than was needed.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")

GAP = 128 * 1024
"""Bytes between two ranges that are read along: what the kernel itself reads ahead by default."""

PRESENT = 3 << 62
"""Of an entry of /proc/self/pagemap: the page is in memory or in swap (admin-guide/mm/pagemap of Linux)."""

Range = tuple[str, int, int]
"""Path, offset and length in bytes."""


def joined(ranges: Iterable[tuple[int, int]], gap: int = GAP) -> list[tuple[int, int]]:
    """Ranges sorted, those that overlap or lie close together as one.

    Parameters
    ----------
    ranges:
        Start and end of each, in bytes.
    gap:
        Bytes between two of them up to which they become one.
    """
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1] + gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def touched(words: bytes) -> Iterator[tuple[int, int]]:
    """First page and the one after the last of each run of touched pages, of some entries of the pagemap."""
    import numpy as np

    present = (np.frombuffer(words, dtype=np.uint64) & np.uint64(PRESENT)) != 0
    edges = np.flatnonzero(np.diff(present.astype(np.int8), prepend=0, append=0))
    yield from ((int(first), int(last)) for first, last in edges.reshape(-1, 2))


def mapped() -> dict[str, list[tuple[int, int]]]:
    """Files that are mapped, those at high addresses first, with start and end of what was touched, in bytes.

    Raises
    ------
    OSError
        The kernel has no pagemap.
    """
    found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        # Read at once: looking at it maps memory of its own.
        for line in reversed(Path("/proc/self/maps").read_text().splitlines()):
            fields = line.split(maxsplit=5)
            if len(fields) < 6 or not fields[5].startswith("/"):
                continue
            start, end = (int(word, 16) for word in fields[0].split("-"))
            words = os.pread(pagemap.fileno(), (end - start) // PAGE * 8, start // PAGE * 8)
            offset = int(fields[2], 16)
            found[fields[5]] += [(offset + a * PAGE, offset + b * PAGE) for a, b in touched(words)]
    return found


class Watch:
    """Notes from now on which files are opened for reading, in the order of first use.

    Modules that were loaded before count as well.
    """

    def __init__(self) -> None:
        loaded = [getattr(module, "__cached__", None) for module in list(sys.modules.values())]
        self.opened: dict[str, None] = {path: None for path in loaded if path}
        self.over = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event; Python has no way to take a hook off again."""
        if self.over:
            return
        path: Any = None
        if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        if event in ("open", "ctypes.dlopen"):
            path = arguments[0]
        elif event == "import":
            path = arguments[1]  # of an extension module
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if isinstance(path, str):
            self.opened.setdefault(str(Path(path).absolute()))

    def ranges(self, folders: Iterable[str]) -> list[Range]:
        """What was read until now, in the order of first use.

        Parameters
        ----------
        folders:
            Files elsewhere are left out.
        """
        self.over = True
        rank = {path: number for number, path in enumerate(self.opened)}
        parts: dict[str, list[tuple[int, int]]] = {path: [(0, sys.maxsize)] for path in rank}
        # A library is mapped below the one that asked for it, which an event has named.
        last = 0
        for path, pages in mapped().items():
            last = rank.setdefault(path, last)
            parts[path] = pages
        within = tuple(f"{folder.rstrip('/')}/" for folder in folders)
        found: list[Range] = []
        for path in sorted(parts, key=lambda path: rank[path]):
            if path.startswith(within) and "\n" not in path and Path(path).is_file():
                size = Path(path).stat().st_size
                found += [
                    (path, start, min(end, size) - start)
                    for start, end in joined(parts[path])
                    if start < size
                ]
        return found


def lines(ranges: Iterable[Range]) -> str:
    """The list as ``kiln_readahead.py`` takes it: offset, length and path, a range on each line."""
    return "".join(f"{offset} {length} {path}\n" for path, offset, length in ranges)
