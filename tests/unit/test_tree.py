"""The digest of a root sees every kind of change, and none where nothing changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kiln.errors import KilnError
from scripts import tree

CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
"""What ``setcap cap_net_raw+ep`` writes."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and mounts are root's")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hostname").write_text("kiln\n")
    (root / "etc/empty").touch()
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"\x7fELF" * 1000)
    os.link(root / "usr/bin/tool", root / "usr/bin/tool2")
    (root / os.fsdecode(b"usr/\xff")).write_text("a name that is not text")
    return root


def append(path: Path) -> None:
    path.write_text(path.read_text() + "x")


def swap(path: Path) -> None:
    """Same size, same time, other content."""
    before = path.stat()
    path.write_text(path.read_text()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("usr/sbin")


def unshare(path: Path) -> None:
    data, mode = path.read_bytes(), path.stat().st_mode
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "content, longer": lambda r: append(r / "etc/hostname"),
    "content, same size and time": lambda r: swap(r / "etc/hostname"),
    "new file": lambda r: (r / "etc/new").touch(),
    "new folder": lambda r: (r / "etc/new.d").mkdir(),
    "removed file": lambda r: (r / "etc/empty").unlink(),
    "renamed file": lambda r: (r / "etc/empty").rename(r / "etc/empty2"),
    "mode": lambda r: (r / "etc/hostname").chmod(0o666),
    "setuid": lambda r: (r / "usr/bin/tool").chmod(0o4755),
    "mode of a folder": lambda r: (r / "etc").chmod(0o777),
    "mode of the root": lambda r: r.chmod(0o700),
    "symlink target": lambda r: relink(r / "bin"),
    "file became a folder": lambda r: replace_by_folder(r / "etc/empty"),
    "hard link became a copy": lambda r: unshare(r / "usr/bin/tool2"),
    "fifo": lambda r: os.mkfifo(r / "etc/fifo"),
    "user attribute": lambda r: os.setxattr(r / "etc/hostname", "user.kiln", b"1"),
}
CHANGES_AS_ROOT: dict[str, Callable[[Path], object]] = {
    "owner": lambda r: os.chown(r / "etc/hostname", 10001, 0),
    "group": lambda r: os.chown(r / "etc/hostname", 0, 10001),
    "owner of a symlink": lambda r: os.lchown(r / "bin", 10001, 0),
    "capability": lambda r: os.setxattr(r / "usr/bin/tool", "security.capability", CAP_NET_RAW),
    "device": lambda r: os.mknod(r / "null", 0o20666, os.makedev(1, 3)),
}


def test_digest_is_the_same_for_a_copy(root: Path, tmp_path: Path) -> None:
    before = tree.digest(root)
    subprocess.run(["cp", "-a", root, tmp_path / "copy"], check=True)
    assert tree.digest(tmp_path / "copy") == before


def test_digest_counts_entries_and_bytes(root: Path) -> None:
    _, entries, size = tree.digest(root)
    found = [*root.rglob("*")]
    assert entries == len(found) + 1
    # The two names of tool are one file on the disk.
    assert size == sum(p.stat().st_size for p in found if p.is_file() and not p.is_symlink()) - 4000


def test_digest_leaves_times_out(root: Path) -> None:
    before = tree.digest(root)
    for path in (root / "etc/hostname", root / "etc", root):
        os.utime(path, (1, 1))
    assert tree.digest(root) == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_digest_sees(root: Path, change: Callable[[Path], object]) -> None:
    before, _, _ = tree.digest(root)
    change(root)
    assert tree.digest(root)[0] != before


@needs_root
@pytest.mark.parametrize("change", CHANGES_AS_ROOT.values(), ids=CHANGES_AS_ROOT)
def test_digest_sees_as_root(root: Path, change: Callable[[Path], object]) -> None:
    before, _, _ = tree.digest(root)
    change(root)
    assert tree.digest(root)[0] != before


@needs_root
def test_digest_tells_devices_apart(root: Path) -> None:
    digests = set()
    for kind, minor in ((0o20666, 3), (0o20666, 5), (0o60666, 3)):
        os.mknod(root / "device", kind, os.makedev(1, minor))
        digests.add(tree.digest(root)[0])
        (root / "device").unlink()
    assert len(digests) == 3


def test_digest_does_not_follow_links_out_of_the_root(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "etc/outside").symlink_to(outside)
    (root / "etc/loop").symlink_to("..")
    before = tree.digest(root)
    (outside / "file").write_text("not in the image")
    assert tree.digest(root) == before
    shutil.rmtree(outside)
    assert tree.digest(root) == before


@needs_root
def test_a_mount_in_the_root_is_refused(root: Path) -> None:
    (root / "proc").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "proc"], check=True)
    try:
        with pytest.raises(KilnError, match=r"something is mounted at .*/proc"):
            tree.digest(root)
    finally:
        subprocess.run(["umount", root / "proc"], check=True)


def test_a_file_that_changes_meanwhile_is_refused(root: Path) -> None:
    entries = {entry.path: entry for entry in tree.scan(root)}
    append(root / "etc/hostname")
    with pytest.raises(KilnError, match="hostname changed while it was read"):
        tree._content(root, entries["etc/hostname"])


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="is not a folder"):
        tree.digest(tmp_path / "nothing")
