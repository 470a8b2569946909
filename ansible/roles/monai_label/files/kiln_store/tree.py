"""One look at a folder of a share and what is below it, by names that cannot lead out of it.

A folder is opened once in a look and kept open. On NFS that is what makes a look fresh: opening a folder asks
the server whether it has changed (close-to-open), and then its names are looked up anew. A path that is
looked up without opening its folder may be answered from memory for a minute: the old file of a name that
was replaced, or none for one that is new. What a look has seen stays as old as the look; take another under
the lock.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from .errors import RefusedError

OWN = ".kiln-store"
"""Folder for what is ours, in the studies folder, where a stock server looks for nothing."""

PART = ".kiln-"
"""Beginning of the name of a file that is being written."""

STALE_TRIES = 5
"""Attempts on what NFS answers with ESTALE: the file was replaced between its look-up and its use."""

Answer = TypeVar("Answer")


def again(work: Callable[[], Answer], between: Callable[[], None] = lambda: None) -> Answer:
    """Return what a function returns, called anew where a file handle has gone stale.

    Parameters
    ----------
    work:
        Opens what it uses by name, so that it finds the new file the next time.
    between:
        Called before it is called anew.

    Raises
    ------
    OSError
        It failed otherwise, or was stale five times.
    """
    for attempt in range(STALE_TRIES):
        try:
            return work()
        except OSError as error:
            if error.errno != errno.ESTALE or attempt == STALE_TRIES - 1:
                raise
        between()
        time.sleep(0.01 * 2**attempt)
    raise AssertionError("unreachable")


def at_once(*work: Callable[[], object]) -> None:
    """Do several things beside each other: a disk makes two files durable in the time of one.

    Parameters
    ----------
    work:
        What is to be done. All of it has ended when this returns, whatever failed.

    Raises
    ------
    BaseException
        What the first of them that failed has raised.
    """
    failed: list[BaseException] = []

    def attempt(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:
            failed.append(error)

    # Threads that end with it, and no pool: a pool does not survive a fork.
    threads = [threading.Thread(target=attempt, args=(one,)) for one in work[1:]]
    for thread in threads:
        thread.start()
    for one in work[:1]:
        attempt(one)
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


class Tree:
    """A look at a folder. Use it in a with statement: it holds folders open.

    Parameters
    ----------
    root:
        The folder. It may be reached over a symbolic link; no folder below it may be one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, int] = {}

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()

    def forget(self) -> None:
        """Look anew from here on."""
        while self._open:
            os.close(self._open.popitem()[1])

    def folder(self, path: str, *, make: bool = False) -> int:
        """Return the descriptor of a folder, which stays the look's own.

        Parameters
        ----------
        path:
            Relative to the root, the root itself where it is empty.
        make:
            Whether it is made where it is not there.

        Raises
        ------
        RefusedError
            It is a symbolic link: what is behind one is not of the studies folder.
        FileNotFoundError
            It is not there.
        """
        if path in self._open:
            return self._open[path]
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        made = False
        if not path:
            found = again(lambda: os.open(self.root, flags))
        else:
            above, _, name = path.rpartition("/")
            self._below(name, path)
            parent = self.folder(above, make=make)
            if make:
                try:
                    os.mkdir(name, 0o777, dir_fd=parent)
                    os.fsync(parent)
                    made = True
                except FileExistsError:
                    pass
            try:
                found = again(lambda: os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent))
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise RefusedError(
                    f"{self.root / path} is no folder, or a symbolic link to one",
                    "put the folder itself into the studies folder, or mount it there",
                ) from error
        self._open[path] = found
        if made:
            self._give(found)
        return found

    def _give(self, file: int) -> None:
        """What root makes is the studies' owner's: a lock that a server cannot open stops all its saves."""
        if os.geteuid() == 0:
            owner = os.fstat(self.folder(""))
            os.fchown(file, owner.st_uid, owner.st_gid)

    def _at(self, path: str, *, make: bool = False) -> tuple[str, int]:
        """Name of a file and the descriptor of its folder."""
        folder, _, name = path.rpartition("/")
        self._below(name, path)
        return name, self.folder(folder, make=make)

    def _below(self, name: str, path: str) -> None:
        """Whoever asked, no path leads out of the root."""
        if name in ("", ".", "..") or "\0" in name:
            raise RefusedError(
                f"{path!r} is no path below {self.root}", "use a name without dots and slashes"
            )

    def names(self, path: str) -> set[str]:
        """Return the names in a folder, none where it is not there."""
        try:
            return set(os.listdir(self.folder(path)))  # noqa: PTH208 - of a descriptor
        except FileNotFoundError:
            return set()

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, without those that are hidden."""
        try:
            with os.scandir(self.folder(path)) as found:
                return sorted(e.name for e in found if e.is_dir() and not e.name.startswith("."))
        except FileNotFoundError:
            return []

    def exists(self, path: str) -> bool:
        """Whether a file is there."""
        try:
            name, folder = self._at(path)
            os.lstat(name, dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def age(self, path: str, now: float) -> float:
        """Return the seconds since a file was written; below zero where it has gone."""
        try:
            name, folder = self._at(path)
            return now - os.lstat(name, dir_fd=folder).st_mtime
        except FileNotFoundError:
            return -1.0

    def open(self, path: str, flags: int = os.O_RDONLY, *, make: bool = False) -> int:
        """Open a file; the last component may not be a symbolic link.

        Parameters
        ----------
        path:
            Relative to the root.
        flags:
            As os.open takes them.
        make:
            Whether its folder is made where it is not there.

        Raises
        ------
        RefusedError
            It is a symbolic link.
        """
        name, folder = self._at(path, make=make)
        try:
            file = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666, dir_fd=folder)
            if flags & os.O_CREAT:
                self._give(file)
            return file
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise RefusedError(
                f"{self.root / path} is a symbolic link", "put the file itself into the studies folder"
            ) from error

    def read(self, path: str) -> bytes | None:
        """Return what a file holds now, None where there is none.

        Raises
        ------
        OSError
            It cannot be read, or has gone stale again and again.
        """

        def work() -> bytes | None:
            try:
                file = self.open(path)
            except FileNotFoundError:
                return None
            with os.fdopen(file, "rb") as stream:
                return stream.read()

        # The folder's own answer may be what was stale.
        return again(work, self.forget)

    @contextmanager
    def part(self, folder: str, beside: Callable[[str], object] | None = None) -> Iterator[tuple[str, int]]:
        """Make a file in a folder that nobody takes for one of the store's, to be moved once it is whole.

        Parameters
        ----------
        folder:
            Relative to the root; made where it is not there.
        beside:
            Done while the file is made durable, with its path.

        Yields
        ------
        tuple of str and int
            Its path, and a descriptor to write to. It is durable when the block ends, and gone if that fails.
        """
        path = f"{folder}/{PART}{uuid.uuid4().hex}.part".lstrip("/")
        file = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, make=True)
        try:
            yield path, file
            waits = (lambda: beside(path),) if beside else ()
            at_once(lambda: os.fsync(file), *waits)
        except BaseException:
            os.close(file)
            self.unlink(path)
            raise
        os.close(file)

    def write(self, folder: str, data: bytes, beside: Callable[[str], object] | None = None) -> str:
        """Write a whole file that nobody takes for one of the store's, durably; return its path."""
        with self.part(folder, beside) as (path, file):
            put(file, data)
        return path

    def move(self, source: str, target: str) -> None:
        """Move a file over another at once, or unlink it where the target is empty.

        What has been moved already is left alone, so that a list of moves can be done again.
        """
        name, folder = self._at(source)
        try:
            if target:
                there, into = self._at(target, make=True)
                os.rename(name, there, src_dir_fd=folder, dst_dir_fd=into)
            else:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, or a copy where its file system has no such thing.

        Raises
        ------
        FileNotFoundError
            It is not there.
        """
        name, folder = self._at(source)
        there, into = self._at(target, make=True)
        try:
            os.link(name, there, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV):
                raise
            kept = self.part(target.rpartition("/")[0])
            with os.fdopen(self.open(source), "rb") as stream, kept as (path, file):
                while piece := stream.read(1 << 20):
                    put(file, piece)
            self.move(path, target)

    def unlink(self, path: str) -> None:
        """Remove a file, if it is there."""
        self.move(path, "")

    def sync(self, *folders: str) -> None:
        """Make the names in some folders durable, each once."""
        found = [self.folder(folder) for folder in dict.fromkeys(folders)]
        at_once(*(lambda file=file: os.fsync(file) for file in found))


def put(file: int, data: bytes) -> None:
    """Write all of some bytes to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
