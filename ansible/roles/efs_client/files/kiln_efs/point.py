"""The mount point: bare, nobody writes there; mounted, the server has its folder."""

from __future__ import annotations

import array
import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from kiln_efs.settings import Image, Settings, TroubleError

GET_FLAGS = 0x80086601
SET_FLAGS = 0x40086602
IMMUTABLE = 0x10
"""From linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL."""

UNIQUE_ID = Path("/sys/module/nfs/parameters/nfs4_unique_id")

KINDS = ("nfs4", "efs")


def mounted(path: str, table: Path = Path("/proc/1/mountinfo")) -> str:
    """Type of the file system that is mounted at a path, empty where none is; never asks the mount itself."""
    kind = ""
    for line in table.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == path:
            kind = after.split()[0]
    return kind


def _flags(handle: int, change: int | None = None) -> int:
    """Flags of an open file or folder, as they are after a change."""
    word = array.array("L", [change or 0])
    if change is not None:
        fcntl.ioctl(handle, SET_FLAGS, word)
    fcntl.ioctl(handle, GET_FLAGS, word)
    return word[0]


def seal(path: Path) -> None:
    """Make the bare mount point root's, mode 0000 and immutable: not even root writes below it.

    Raises
    ------
    TroubleError
        The file system of the disk does not take the flag, or something lies below it.
    """
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        flags = _flags(handle)
        # A boot sets the flag whatever lies there.
        if found := sorted(path.iterdir()):
            raise TroubleError(
                f"{path} holds {found[0].name} without a mount",
                f"chattr -i {path}, then move it elsewhere: the mount would hide it",
            )
        status = os.fstat(handle)
        if (status.st_uid, status.st_gid, status.st_mode & 0o7777) != (0, 0, 0):
            if flags & IMMUTABLE:
                flags = _flags(handle, flags & ~IMMUTABLE)
            os.fchown(handle, 0, 0)
            os.fchmod(handle, 0)
        if not flags & IMMUTABLE and not _flags(handle, flags | IMMUTABLE) & IMMUTABLE:
            raise TroubleError(f"{path} did not stay immutable", "the disk must be ext4 or xfs")
    except OSError as error:
        raise TroubleError(
            f"{path} cannot be made immutable: {error.strerror}",
            "the disk must be ext4 or xfs, and this no container",
        ) from None
    finally:
        os.close(handle)


def identify() -> None:
    """Name this machine as NFS client: two of the same host name would take each other's locks.

    Raises
    ------
    TroubleError
        The kernel has no NFS client.
    """
    done = subprocess.run(["modprobe", "nfs"], capture_output=True, text=True)
    if not UNIQUE_ID.exists():
        raise TroubleError(
            f"the kernel has no NFS client: {done.stderr.strip()}", "boot the image's own kernel"
        )
    machine = Path("/etc/machine-id").read_text().strip()
    # Not the machine-id itself: that is nobody else's business.
    UNIQUE_ID.write_text(hashlib.sha256(f"kiln-efs {machine}".encode()).hexdigest()[:32])


def folder(settings: Settings, image: Image) -> None:
    """See that the studies are mounted and hold the server's folder, which is made if missing.

    Raises
    ------
    TroubleError
        They are not, or the folder cannot be made.
    """
    if mounted(image.mount_point) not in KINDS:
        raise TroubleError(f"{image.mount_point} is not mounted", "systemctl status kiln-efs says why")
    path = Path(image.mount_point) / settings.folder
    try:
        missing = [each for each in (path, *path.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir()
            os.chown(each, image.id, image.id)
            each.chmod(0o2770)
        status = path.stat()
        above = {each: each.stat() for each in path.parents if each.is_relative_to(image.mount_point)}
    except OSError as error:
        raise TroubleError(
            f"{path} cannot be made: {error.strerror}",
            f"where root may write: mkdir -m 2770, then chown {image.id}:{image.id}",
        ) from None
    for each, its in above.items():
        if not its.st_mode & 0o001 and (its.st_gid != image.id or not its.st_mode & 0o010):
            print(f"<4>{each} has mode {its.st_mode & 0o7777:o}: the server cannot pass through it to {path}")
    if status.st_gid != image.id or status.st_mode & 0o2070 != 0o2070:
        print(
            f"<4>{path} has mode {status.st_mode & 0o7777:o} and group {status.st_gid}: the server shares by"
            f" 2770 and group {image.id}"
        )
