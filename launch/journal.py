"""Which blocks of a snapshot AWS has taken: a file beside the version, since AWS lists none of a pending one.

A line a block, written when its put was answered. A run that was killed leaves it behind, and the next goes
on from it; a line too few costs a second put, which is harmless, and a line too many is found by the checksum
over all blocks, which AWS holds against its own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

DIGEST = 32
"""Bytes of a sha256."""

_LINE = re.compile(rb"([0-9a-f]{8}) ([0-9a-f]{64})\n")

_WHOLE = 74
"""Bytes of a line with its end."""


def _path(folder: Path, snapshot: str) -> Path:
    return folder / f"upload-{snapshot}.blocks"


def remove(folder: Path, snapshot: str) -> None:
    """Remove the journal of a snapshot that takes no more; parameters as of :class:`Journal`."""
    _path(folder, snapshot).unlink(missing_ok=True)


class Journal:
    """The blocks of one snapshot; safe to add to from several threads.

    Parameters
    ----------
    folder:
        Of the version. A snapshot's journal is named by its id, so one of another is never read.
    snapshot:
        Id of the snapshot.
    blocks:
        How many blocks the disk has.
    """

    def __init__(self, folder: Path, snapshot: str, blocks: int) -> None:
        self.path = _path(folder, snapshot)
        self._lock = threading.Lock()
        # Flat: 33 bytes a block, also of the blocks that are zeros.
        self._digests = bytearray(blocks * DIGEST)
        self._taken = bytearray(blocks)
        whole = 0
        for index, digest in self._read():
            if index >= blocks:
                break
            self._note(index, digest)
            whole += _WHOLE
        self._stream = self.path.open("ab")
        # What follows the last whole line was being written when the run was killed.
        self._stream.truncate(whole)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __contains__(self, index: int) -> bool:
        return bool(self._taken[index])

    def __len__(self) -> int:
        return self._taken.count(1)

    def _read(self) -> Iterator[tuple[int, bytes]]:
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            while match := _LINE.fullmatch(stream.read(_WHOLE)):
                yield int(match[1], 16), bytes.fromhex(match[2].decode())

    def _note(self, index: int, digest: bytes) -> None:
        self._digests[index * DIGEST : (index + 1) * DIGEST] = digest
        self._taken[index] = 1

    def add(self, index: int, digest: bytes) -> None:
        """Note that AWS has taken a block.

        Parameters
        ----------
        index:
            Its number.
        digest:
            Its sha256, 32 bytes.
        """
        with self._lock:
            self._note(index, digest)
            self._stream.write(b"%08x %s\n" % (index, digest.hex().encode()))
            # To the kernel, not to the disk: it outlives us, and a line that a power cut takes is put again.
            self._stream.flush()

    def digests(self) -> Iterator[bytes]:
        """Yield the sha256 of each block that was taken, in their order on the disk."""
        for index, taken in enumerate(self._taken):
            if taken:
                yield bytes(self._digests[index * DIGEST : (index + 1) * DIGEST])

    def forget(self) -> None:
        """Start over: nothing counts as taken."""
        self._stream.truncate(0)
        self._taken = bytearray(len(self._taken))
