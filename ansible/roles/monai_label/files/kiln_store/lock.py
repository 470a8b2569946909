"""The lock of a studies folder, and what its holder notes in it.

It is flock(2) on a file of our own. Over NFSv4.1 Linux turns that into a lock of the server's: it excludes
every machine, ends with the process however that ends, and with a machine that vanishes once its lease has
run out (90 s by default). So nobody ever breaks a lock, and a lock file that lies about means nothing.

The file carries the record of the last change, written under the lock before anything of it is moved. That
does three things. What a killed holder has begun, the next one ends. The kernel drops what it holds in memory
of a file when it gets the lock on it, so the record is never stale, and who reads an index that it does not
name knows to look again. And a holder whose lease ran out, so that another may have the lock, learns it
here: Linux answers a write to that file with EIO, before anything is changed.

A stock server locks ``.lock``, and rewrites the index from its own memory without reading it first. No lock
of ours could make that safe: a stock server may read the studies of a running Kiln server, and may take them
over when none runs, but one that saves beside ours loses entries of both.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import StoreError
from .tree import OWN, Tree, again, put

FILE = f"{OWN}/lock"

WAIT = 120.0
"""Seconds to wait for the lock: longer than a lease, so that a machine that vanished delays a save and does
not fail it."""

PAGE = 4096
"""Bytes of a page, which is what is written of a file at least."""

PAUSES = (0.001, 0.025)
"""Shortest and longest pause between two attempts in seconds. Waiting in the kernel would be no quicker: the
NFS client polls as well, with pauses that grow to seconds."""


def check_mount(root: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse a share whose locks would be this machine's own: each server would believe that it is alone.

    Parameters
    ----------
    root:
        The studies folder.
    mounts:
        What is mounted, as the kernel lists it.

    Raises
    ------
    StoreError
        It is an NFS mount with such an option.
    """
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return
    device = os.stat(root).st_dev  # noqa: PTH116 - opens no folder
    number = f"{os.major(device)}:{os.minor(device)}"
    for row in rows:
        kind, _, options = row[row.index("-") + 1 :][:3]
        alone = {"nolock", "local_lock=all", "local_lock=flock"} & set(options.split(","))
        if row[2] == number and kind.startswith("nfs") and alone:
            raise StoreError(
                f"{root} is mounted with {', '.join(sorted(alone))}: its locks exclude nobody else",
                "mount it by NFS 4.1 without these options, as mount -t efs does",
            )


@dataclass(frozen=True)
class Record:
    """The last change.

    Parameters
    ----------
    before, after:
        Digests of the index, empty where there was none.
    moves:
        Files that take the place of others, in this order, as pairs of paths relative to the studies folder;
        an empty target means that the file goes. The index is the last: when it is there, all of it is.
    """

    before: str
    after: str
    moves: list[list[str]]

    def dump(self) -> bytes:
        """Return a line that says of itself whether it is whole."""
        text = json.dumps(asdict(self)).encode()
        return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Record | None:
        """Return the record of a line, None where it is torn or empty: then nothing was begun."""
        digest, _, text = line.rstrip(b"\n").partition(b" ")
        if not text or hashlib.sha256(text).hexdigest().encode() != digest:
            return None
        return cls(**json.loads(text))


class Held:
    """The lock, as long as it is held.

    Parameters
    ----------
    file:
        Descriptor of the lock file.
    """

    def __init__(self, file: int) -> None:
        self._file = file

    def read(self) -> Record | None:
        """Return what the last holder noted."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return Record.parse(data.partition(b"\n")[0])

    def write(self, record: Record) -> None:
        """Note what is about to be moved, durably.

        Raises
        ------
        StoreError
            The lock has been lost to a lease that ran out. Nothing was moved.
        """
        line = record.dump()
        # Of one length as a rule: then the file's own entry does not change, and only its page is written.
        data = line.ljust(-(-len(line) // PAGE) * PAGE)
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
            put(self._file, data)
            if os.fstat(self._file).st_size != len(data):
                os.ftruncate(self._file, len(data))
            os.fdatasync(self._file)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EBADF, errno.ENOLCK):
                raise
            raise StoreError(
                f"the lock of the studies folder was lost: {error.strerror}",
                "save again; the connection to the file server was interrupted for longer than its lease",
            ) from error

    def drop(self) -> None:
        """Note that nothing was begun, if that can be noted: nobody then waits for what will not come."""
        try:
            os.ftruncate(self._file, 0)
        except OSError:
            pass


class Lock:
    """The lock of a studies folder, for the threads of a process as for other processes and machines.

    Parameters
    ----------
    root:
        The studies folder.
    wait:
        Seconds after which waiting ends.
    """

    def __init__(self, root: Path, wait: float = WAIT) -> None:
        self.root = root
        self.wait = wait
        # Threads wait here for each other, and only one of them asks the file server.
        self._threads = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[Held]:
        """Hold the lock.

        Raises
        ------
        StoreError
            Others held it for all of the time.
        """
        deadline = time.monotonic() + self.wait
        if not self._threads.acquire(timeout=self.wait):
            raise self._late()
        try:
            file = self._acquire(deadline)
            try:
                yield Held(file)
            finally:
                os.close(file)
        finally:
            self._threads.release()

    def _late(self) -> StoreError:
        return StoreError(
            f"{self.root / FILE} was held by others for {self.wait:g} s",
            "save again; if it stays so, look for a server on this folder that hangs: lslocks",
        )

    def _acquire(self, deadline: float) -> int:
        while True:
            file = again(self._open)
            try:
                self._flock(file, deadline)
                # Somebody may have removed the folder while we waited: then this locks nothing.
                if self._current(file):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _open(self) -> int:
        with Tree(self.root) as tree:
            return tree.open(FILE, os.O_RDWR | os.O_CREAT, make=True)

    def _flock(self, file: int, deadline: float) -> None:
        pause = PAUSES[0]
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                    raise
            if time.monotonic() > deadline:
                raise self._late()
            # Not in step with the others that wait.
            time.sleep(random.uniform(PAUSES[0], pause))
            pause = min(pause * 2, PAUSES[1])

    def _current(self, file: int) -> bool:
        mine = os.fstat(file)
        try:
            with Tree(self.root) as tree:
                there = os.stat("lock", dir_fd=tree.folder(OWN), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
