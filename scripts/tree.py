"""A root folder as one number: the digest over everything in it that a disk carries.

Modification times are left out. They differ between two bakes of the same inputs, and nothing in an image
may depend on them: the bytecode is compiled with unchecked hashes, and no program of the image compares
times that ``seal`` left. A digest with them in would name the minute of the bake and not what was baked.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError

WORKERS = 2
"""Files hashed at once: hashlib works without the interpreter's lock; beyond two the disk is the limit."""

_KINDS = {
    stat.S_IFREG: b"file",
    stat.S_IFDIR: b"directory",
    stat.S_IFLNK: b"symlink",
    stat.S_IFCHR: b"character",
    stat.S_IFBLK: b"block",
    stat.S_IFIFO: b"fifo",
    stat.S_IFSOCK: b"socket",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One path below the root, with what ``lstat`` says of it.

    Parameters
    ----------
    path:
        Relative to the root, empty for the root itself; bytes that are no text are surrogates.
    stat:
        Of the entry itself, never of what a symlink points to.
    """

    path: str
    stat: os.stat_result

    @property
    def is_file(self) -> bool:
        """Whether this is a regular file."""
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def inode(self) -> tuple[int, int]:
        """Equal for the hard links of one file."""
        return self.stat.st_dev, self.stat.st_ino


def scan(root: Path) -> list[Entry]:
    """Every entry below a root, sorted by path, the root itself first (with an empty path).

    Parameters
    ----------
    root:
        Folder to list. Symlinks in it are entries and are not followed.

    Returns
    -------
    list of Entry
        Sorted by the bytes of the path.

    Raises
    ------
    KilnError
        The root is not a folder, or something is mounted in it: what is mounted would not be on the disk as
        it is here, or not be meant for it at all.
    """
    if root.is_symlink() or not root.is_dir():
        raise KilnError(f"{root} is not a folder", "name the root folder of a bake")
    first = Entry("", root.lstat())
    entries = [first, *_walk(str(root), first.stat.st_dev)]
    return sorted(entries, key=lambda entry: os.fsencode(entry.path))


def _walk(root: str, device: int) -> Iterator[Entry]:
    skip = len(root) + 1
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as found:
            for item in found:
                status = item.stat(follow_symlinks=False)
                yield Entry(item.path[skip:], status)
                if stat.S_ISDIR(status.st_mode):
                    # An overlay may give files other device numbers; a folder's differs only under a mount.
                    if status.st_dev != device:
                        raise KilnError(
                            f"something is mounted at {item.path}",
                            f"run: umount {item.path}, then bake again",
                        )
                    pending.append(item.path)


def digest(root: Path) -> tuple[str, int, int]:
    """Digest of a tree: equal for equal trees, different when anything but a time differs.

    Covered are each entry's path, kind, mode, owner, group, size, symlink target, device number, extended
    attributes (file capabilities, ACLs), the sha256 of each regular file, and which paths are hard links of
    one file.

    Parameters
    ----------
    root:
        The folder. Nothing may write to it meanwhile.

    Returns
    -------
    tuple of (str, int, int)
        sha256 as hexadecimal, the number of entries (the root included), and the bytes of the regular files,
        each inode counted once.

    Raises
    ------
    KilnError
        The root is not a folder, something is mounted in it, or a file changed while it was read.
    """
    entries = scan(root)
    files: dict[tuple[int, int], Entry] = {}
    for entry in entries:
        if entry.is_file:
            files.setdefault(entry.inode, entry)
    with ThreadPoolExecutor(WORKERS) as pool:
        hashes = dict(zip(files, pool.map(lambda entry: _content(root, entry), files.values()), strict=True))

    total = hashlib.sha256()
    for entry in entries:
        # Each field ends with a NUL, which no field holds: two different trees cannot read alike.
        for field in _fields(root, entry, files, hashes):
            total.update(field + b"\0")
    return total.hexdigest(), len(entries), sum(entry.stat.st_size for entry in files.values())


def _content(root: Path, entry: Entry) -> bytes:
    path = root / entry.path
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest().encode()
        after = os.fstat(stream.fileno())
    before = entry.stat
    if (after.st_ino, after.st_size, after.st_mtime_ns) != (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    ):
        raise KilnError(
            f"{path} changed while it was read",
            "stop what writes to the root (a container that still runs?), then bake again",
        )
    return found


def _fields(
    root: Path, entry: Entry, files: dict[tuple[int, int], Entry], hashes: dict[tuple[int, int], bytes]
) -> list[bytes]:
    status = entry.stat
    path = root / entry.path
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    size = target = device = content = first = b""
    if kind == b"file":
        size, content, first = (
            str(status.st_size).encode(),
            hashes[entry.inode],
            os.fsencode(files[entry.inode].path),
        )
    elif kind == b"symlink":
        target = os.fsencode(path.readlink())
    elif kind in (b"character", b"block"):
        device = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}".encode()
    mode = f"{stat.S_IMODE(status.st_mode):04o}".encode()
    owner = f"{status.st_uid}:{status.st_gid}".encode()
    return [
        os.fsencode(entry.path),
        kind,
        mode,
        owner,
        size,
        target,
        device,
        content,
        first,
        _attributes(path),
    ]


def _attributes(path: Path) -> bytes:
    """Extended attributes as ``name=hex`` in the order of their names."""
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return b""  # a file system without them has none to carry over
    values = ((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    return ",".join(f"{name}={value.hex()}" for name, value in values).encode()
