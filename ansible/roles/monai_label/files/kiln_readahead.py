"""Ask the kernel to read what the server's start will read, before it does.

``kiln_readahead.py LIST``, where each line has offset, length and path. On a volume that is filled from a
snapshot every first read takes long, and a start makes thousands of them one after the other. What cannot
be read is counted and passed over: a start finds out for itself what it misses.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

PIECE = 128 * 1024
"""Bytes of one read: the kernel may cut a request to what it reads ahead by default, which is this."""

READERS = 32
"""Reads in flight: a cold volume answers each slowly, and many at once as fast as one. A read of the server's
own waits for 4 MiB at most."""

SHARE = 0.5
"""Of the memory that is available: what would push other pages out is better not read."""

Piece = tuple[str, int, int]
"""Path, offset and length in bytes."""


def pieces(text: Iterable[str]) -> Iterator[Piece]:
    """Pieces of the files that a list names, in its order; a line that makes no sense is passed over."""
    for line in text:
        words = line.rstrip("\n").split(" ", 2)
        if len(words) == 3 and words[0].isdecimal() and words[1].isdecimal():
            offset, length = int(words[0]), int(words[1])
            for start in range(offset, offset + length, PIECE):
                yield words[2], start, min(PIECE, offset + length - start)


def available() -> int:
    """Bytes of memory that are free or could be, 0 where the kernel does not say."""
    try:
        rows = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("MemAvailable:"))


def ask(path: str, offset: int, length: int) -> int:
    """Have a piece read and wait for its last byte; return how many bytes of it there are.

    Raises
    ------
    OSError
        The file cannot be opened, or is no file.
    """
    # A path may have become a pipe, which would never open.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        length = min(length, os.fstat(file).st_size - offset)
        if length <= 0:
            return 0
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)
        os.pread(file, 1, offset + length - 1)
        return length
    finally:
        os.close(file)


class Readers:
    """Threads that read pieces, in their order.

    Parameters
    ----------
    work:
        The pieces.
    budget:
        Bytes after which they stop.
    """

    def __init__(self, work: Iterator[Piece], budget: float) -> None:
        self.work = work
        self.budget = budget
        self.lock = threading.Lock()
        self.read = 0
        self.failed = 0

    def take(self) -> Piece | None:
        """The next piece; None when there is none or the budget is spent."""
        with self.lock:
            return next(self.work, None) if self.read < self.budget else None

    def run(self) -> None:
        """Read until nothing is left."""
        while taken := self.take():
            try:
                done = ask(*taken)
            except (OSError, ValueError):
                done = 0
            with self.lock:
                self.read += done
                self.failed += not done


def main(path: str) -> None:
    """Read what a list names, then say on standard output and in the runtime directory what was done."""
    begin = time.monotonic()
    with Path(path).open(encoding="utf-8", errors="surrogateescape") as text:
        readers = Readers(pieces(text), available() * SHARE)
        threads = [threading.Thread(target=readers.run) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = {
            "bytes": readers.read,
            "failed": readers.failed,
            "whole": next(readers.work, None) is None,
            "seconds": round(time.monotonic() - begin, 3),
        }
    print(
        f"read ahead {done['bytes']} bytes in {done['seconds']} s; {done['failed']} pieces could not be read"
    )
    if folder := os.environ.get("RUNTIME_DIRECTORY"):
        Path(folder, "done.json").write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
