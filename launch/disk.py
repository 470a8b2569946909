"""A disk image as EBS takes it: blocks of 512 KiB, those without a byte that is not zero left out.

Nothing is unpacked to the size of the disk: qemu-img tells where data is, qemu-nbd reads it from whatever
format the image has, and each block is in memory only while it is sent.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kiln.errors import KilnError
from launch.nbd import Connection

BLOCK = 512 * 1024
"""Bytes of a block of EBS (EBS User Guide, "EBS direct APIs": the block size is 512 KiB)."""

GIB = 2**30

ZERO = bytes(BLOCK)

_START_SECONDS = 30.0


class Disk:
    """A disk image that is being read.

    Parameters
    ----------
    path:
        The image.
    socket:
        Where qemu-nbd serves it.
    size:
        Bytes of the disk as a guest sees it.
    """

    def __init__(self, path: Path, socket: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._socket = socket

    @property
    def gib(self) -> int:
        """Size of the volume that holds it, GiB."""
        return -(-self.size // GIB)

    @property
    def blocks(self) -> int:
        """How many blocks it has, the last perhaps not whole, those of zeros too."""
        return -(-self.size // BLOCK)

    def connect(self) -> Reader:
        """Return a reader for one thread."""
        return Reader(Connection(self._socket), self.size)

    def candidates(self) -> bytearray:
        """Find the blocks that may hold a byte that is not zero.

        Returns
        -------
        bytearray
            1 for each such block, 0 for one that the image knows to be zeros.

        Raises
        ------
        KilnError
            The image cannot be read.
        """
        flags = bytearray(self.blocks)
        for start, length in _extents(self.path):
            first, last = start // BLOCK, (start + length - 1) // BLOCK
            flags[first : last + 1] = b"\1" * (last + 1 - first)
        return flags


class Reader:
    """Reads blocks over a connection of its own; for one thread.

    Parameters
    ----------
    connection:
        To qemu-nbd; closed with the reader.
    size:
        Bytes of the disk.
    """

    def __init__(self, connection: Connection, size: int) -> None:
        self._connection = connection
        self._size = size
        self._buffer = bytearray(BLOCK)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.__exit__(None, None, None)

    def block(self, index: int) -> bytearray:
        """Read a block.

        Parameters
        ----------
        index:
            Its number, from 0.

        Returns
        -------
        bytearray
            The same at every call; what the disk does not reach is zeros.

        Raises
        ------
        KilnError
            The disk cannot be read there.
        """
        start = index * BLOCK
        there = min(BLOCK, self._size - start)
        self._connection.read(start, memoryview(self._buffer)[:there])
        if there < BLOCK:
            self._buffer[there:] = bytes(BLOCK - there)
        return self._buffer


def _extents(path: Path) -> Iterator[tuple[int, int]]:
    """Yield start and length of what an image holds as data, line by line: the list may be long."""
    command = ["qemu-img", "map", "--output=json", "-f", "qcow2", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stdout:
            text = line.strip().strip("[],")
            if not text:
                continue
            extent = json.loads(text)
            if extent["data"] and not extent["zero"]:
                yield extent["start"], extent["length"]
        said = child.stderr.read()
    if child.returncode:
        raise KilnError(f"{path} cannot be read: {' '.join(said.split())}", "check it: qemu-img check")


@contextmanager
def opened(path: Path) -> Iterator[Disk]:
    """Serve a qcow2 image for reading.

    Parameters
    ----------
    path:
        The image.

    Yields
    ------
    Disk
        While it is served. Its qemu-nbd ends with us, however we end.

    Raises
    ------
    KilnError
        qemu-utils is not installed, or the image cannot be read.
    """
    for program in ("qemu-img", "qemu-nbd", "setpriv"):
        if shutil.which(program) is None:
            raise KilnError(f"{program} is not installed", "apt-get install qemu-utils util-linux")
    # A Unix socket's path has 107 characters at most: the version's folder may be deeper.
    with tempfile.TemporaryDirectory(prefix="kiln-nbd-") as folder:
        socket = Path(folder) / "nbd"
        log = Path(folder) / "log"
        # --read-only also takes no lock that a running guest has. --shared=0: as many readers as like.
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-nbd", "--read-only", "--persistent", "--shared=0"]
        command += ["--format=qcow2", f"--socket={socket}", str(path)]
        with log.open("wb") as stream:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        try:
            size = _first_size(child, socket, log, path)
            yield Disk(path, socket, size)
        finally:
            child.kill()
            child.wait()


def _first_size(child: subprocess.Popen[bytes], socket: Path, log: Path, path: Path) -> int:
    """Wait until it answers, and return the size of the disk."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        try:
            with Connection(socket) as connection:
                return connection.size
        except OSError:
            if child.poll() is not None:
                break
            time.sleep(0.01)  # a process of this machine, not AWS: nothing to be counted
    said = " ".join(log.read_text(errors="replace").split())
    raise KilnError(
        f"{path} cannot be read: {said or 'qemu-nbd does not answer'}", "check it: qemu-img check"
    )
