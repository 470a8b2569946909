"""The folder in which a version is made; it is gone when the run is, however the run ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kiln import paths
from kiln.errors import KilnError
from scripts import engine, stragglers

WORK = ".work"


def _mounts_under(folder: Path) -> list[str]:
    prefix = str(folder) + "/"
    table = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    points = [line.split()[1].encode().decode("unicode_escape").encode("latin-1").decode() for line in table]
    return sorted((p for p in points if p.startswith(prefix)), reverse=True)


def remove_tree(folder: Path) -> None:
    """Remove a folder after everything mounted in it was unmounted.

    Raises
    ------
    KilnError
        Something under it stays mounted; nothing is removed then, since that would reach into the mount.
    """
    for point in _mounts_under(folder):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    if left := _mounts_under(folder):
        raise KilnError(f"{left[0]} is still mounted", f"run: umount {left[0]}, then try again")
    if folder.exists():
        shutil.rmtree(folder)


def _try_lock(path: Path) -> int | None:
    """Lock a file without waiting; the kernel frees the lock however its holder ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def scratch(run_id: str) -> Path:
    """Return a run's folder for sockets, whose paths may have no more than 107 characters."""
    return Path(tempfile.gettempdir()) / f"kiln-{run_id}"


def _clear(folder: Path) -> None:
    engine.remove_containers(folder.name)
    # After a kill -9 Packer and Ansible still tidy up, and would write into what is removed.
    stragglers.end(folder.name)
    remove_tree(scratch(folder.name))
    remove_tree(folder)


def sweep(image_dir: Path) -> list[str]:
    """Clear what killed runs left: their containers, mounts and folders.

    Parameters
    ----------
    image_dir:
        ``build/<image>``.

    Returns
    -------
    list of str
        Ids of the runs that were cleared. A run that still holds its lock is left alone.
    """
    cleared = []
    for folder in sorted((image_dir / WORK).glob("*")):
        try:
            handle = _try_lock(folder / "lock")
        except (FileNotFoundError, NotADirectoryError):
            continue  # it went while we looked
        if handle is None:
            continue
        try:
            _clear(folder)
            cleared.append(folder.name)
        finally:
            os.close(handle)
    return cleared


@contextmanager
def claim(image_dir: Path) -> Iterator[None]:
    """Hold the image: one bake or proof of it at a time on this machine.

    Raises
    ------
    KilnError
        Another run holds it.
    UsageError
        The folder cannot be made.
    """
    paths.make(image_dir, "KILN_BUILD")
    handle = _try_lock(image_dir / ".lock")
    if handle is None:
        holder = (image_dir / ".lock").read_text().strip() or "another process"
        raise KilnError(f"{image_dir.name} is being worked on by process {holder}", "wait for it, or stop it")
    try:
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def workspace(image_dir: Path) -> Iterator[Path]:
    """Make a work folder, named by the run's id, and remove it at the end.

    Parameters
    ----------
    image_dir:
        ``build/<image>``; the folder is on the same file system, so a finished version is moved by rename.
    """
    handle = None
    while handle is None:  # a sweep may take a folder in the moment between its making and its lock
        folder = image_dir / WORK / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
        with contextlib.suppress(FileNotFoundError):
            handle = _try_lock(folder / "lock")
    try:
        yield folder
    finally:
        _clear(folder)
        os.close(handle)
        try:
            folder.parent.rmdir()
        except OSError:
            pass  # another run works beside this one
