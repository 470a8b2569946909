"""A tiny root becomes a real disk; no room, a root that cannot boot and a missing tool are said so."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kiln.errors import KilnError
from kiln.manifest import sha256_file
from scripts import disk, tree

pytestmark = pytest.mark.root
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners and mounts are root's")

EPOCH = 1_700_000_000
OFFSET = disk.ROOT_OFFSET_MIB * disk.MIB


def sh(*command: str | Path) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def fill(folder: Path, leave_mib: int) -> None:
    """Take all room but a little, as another program would."""
    status = os.statvfs(folder)
    with (folder / "filler").open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, status.f_bavail * status.f_frsize - leave_mib * disk.MIB)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "boot/grub").mkdir(parents=True)
    (root / "boot/grub/grub.cfg").write_text(f"linux /boot/vmlinuz root=PARTUUID={disk.ROOT_PARTUUID} ro\n")
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(os.urandom(3 * disk.MIB))
    (root / "usr/bin/tool").chmod(0o4755)
    (root / "etc").mkdir()
    (root / "etc/shadow").touch(0o640)
    os.chown(root / "etc/shadow", 0, 42)
    (root / "srv").mkdir(0o2770)
    os.chown(root / "srv", 10001, 10001)
    os.chmod(root / "srv", 0o2770)
    return root


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    return work


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 320 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=320M", "tmpfs", folder)
    yield folder
    sh("umount", folder)


class Partition(NamedTuple):
    uuid: str
    first: int


def gpt(raw: Path) -> tuple[bytes, list[Partition]]:
    """Header and partitions of a disk's GUID partition table."""
    with raw.open("rb") as stream:
        stream.seek(512)
        header = stream.read(92)
        assert header[:8] == b"EFI PART"
        (where,) = struct.unpack("<Q", header[72:80])
        stream.seek(where * 512)
        entries = [stream.read(128) for _ in range(4)]
    used = [entry for entry in entries if any(entry[:16])]
    return header, [
        Partition(str(uuid.UUID(bytes_le=e[16:32])), struct.unpack("<Q", e[32:40])[0]) for e in used
    ]


def raw_of(image: Path, tmp_path: Path) -> Path:
    raw = tmp_path / f"{image.stem}.raw"
    sh("qemu-img", "convert", "-O", "raw", image, raw)
    return raw


@needs_root
def test_the_disk_holds_the_tree(root: Path, work: Path, tmp_path: Path) -> None:
    before = tree.digest(root)
    out, log = tmp_path / "image.qcow2", tmp_path / "disk.log"
    made = disk.make(root, out, work, 2, log, epoch=EPOCH)

    assert (made.file, made.bytes, made.sha256) == ("image.qcow2", out.stat().st_size, sha256_file(out))
    info = json.loads(sh("qemu-img", "info", "--output=json", out))
    assert info["virtual-size"] == made.virtual_bytes == 2 * disk.GIB
    assert info["format-specific"]["data"]["compression-type"] == "zstd"
    assert not any(work.iterdir())

    raw = raw_of(out, tmp_path)
    header, partitions = gpt(raw)
    assert str(uuid.UUID(bytes_le=header[56:72])) == disk.DISK_UUID
    assert [one.uuid for one in partitions] == [disk.ESP_PARTUUID, disk.ROOT_PARTUUID]
    assert partitions[1].first * 512 == OFFSET
    # The second table is at the disk's very end: nothing has to move it before the partition can grow.
    (backup,) = struct.unpack("<Q", header[32:40])
    assert backup == 2 * disk.GIB // 512 - 1
    with raw.open("rb") as stream:
        stream.seek(backup * 512)
        assert stream.read(8) == b"EFI PART"

    assert "BOOTX64" in sh("mdir", "-i", f"{raw}@@1M", "::EFI/BOOT")
    superblock = sh("dumpe2fs", "-h", f"{raw}?offset={OFFSET}")
    assert disk.ROOT_FS_UUID in superblock
    assert "metadata_csum_seed" not in superblock and "orphan_file" not in superblock

    content = tmp_path / "content"
    content.mkdir()
    sh("debugfs", "-R", f"rdump / {content}", f"{raw}?offset={OFFSET}")
    (content / "lost+found").rmdir()
    # rdump sets modes before owners, which drops these bits: look at them on the disk, then put them back.
    for name, mode in (("usr/bin/tool", "04755"), ("srv", "02770")):
        assert f"Mode:  {mode} " in sh("debugfs", "-R", f"stat /{name}", f"{raw}?offset={OFFSET}")
        (content / name).chmod(int(mode, 8))
    content.chmod(root.stat().st_mode)  # rdump leaves the top folder as it found it
    assert tree.digest(content) == before == tree.digest(root)


@needs_root
def test_capabilities_are_on_the_disk(root: Path, work: Path, tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(root / "usr/bin/tool", "security.capability", capability)
    out = tmp_path / "image.qcow2"
    disk.make(root, out, work, 1, tmp_path / "log", epoch=EPOCH)
    found = sh("debugfs", "-R", "ea_list /usr/bin/tool", f"{raw_of(out, tmp_path)}?offset={OFFSET}")
    assert f"security.capability (20) = {capability.hex(' ')}" in found


@needs_root
def test_the_same_root_makes_the_same_bytes(root: Path, work: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    # The first making reads the files, and with that changes when they were last read: part of a disk. Not of
    # those that were read after their last change.
    for path in (root, *root.rglob("*")):
        os.utime(path, (path.lstat().st_ctime + 60, path.lstat().st_mtime), follow_symlinks=False)
    for out in (one, two):
        disk.make(root, out, work, 1, tmp_path / "log", epoch=EPOCH)
    sh("qemu-img", "compare", one, two)


@needs_root
def test_what_a_killed_run_left_is_cleared(root: Path, work: Path, tmp_path: Path) -> None:
    (work / "disk/tmp/root").mkdir(parents=True)
    (work / "disk/disk.raw").write_text("half")
    disk.make(root, tmp_path / "image.qcow2", work, 1, tmp_path / "log", epoch=EPOCH)
    assert not any(work.iterdir())


@needs_root
def test_too_little_room_is_said_before_anything_is_written(root: Path, small: Path, tmp_path: Path) -> None:
    (root / "big").write_bytes(os.urandom(50 * disk.MIB))
    fill(small, leave_mib=100)
    seen: list[str] = []
    with pytest.raises(KilnError, match=rf"takes 0\.3 GiB in {small}, 0\.1 GiB are free") as caught:
        disk.make(root, small / "image.qcow2", small, 1, tmp_path / "log", epoch=EPOCH, progress=seen.append)
    assert "KILN_BUILD" in caught.value.hint
    assert not seen
    assert [path.name for path in small.iterdir()] == ["filler"]


@needs_root
@pytest.mark.parametrize("stage", ["root file system", "compressing to qcow2"])
def test_a_full_disk_on_the_way(root: Path, small: Path, tmp_path: Path, stage: str) -> None:
    (root / "big").write_bytes(os.urandom(40 * disk.MIB))

    def progress(text: str) -> None:
        if text == stage:
            fill(small, leave_mib=20)

    with pytest.raises(KilnError, match=f"no room left in {small}") as caught:
        # The log lies on the full file system too, as in a real bake.
        disk.make(root, small / "image.qcow2", small, 1, small / "log", epoch=EPOCH, progress=progress)
    assert "free some room" in caught.value.hint
    assert {path.name for path in small.iterdir()} == {"filler", "log"}


def test_a_root_without_a_boot_menu_is_refused(root: Path, work: Path, tmp_path: Path) -> None:
    (root / "boot/grub/grub.cfg").unlink()
    with pytest.raises(KilnError, match=r"no /boot/grub/grub\.cfg"):
        disk.make(root, tmp_path / "image.qcow2", work, 1, tmp_path / "log", epoch=EPOCH)


def test_a_boot_menu_for_another_disk_is_refused(root: Path, work: Path, tmp_path: Path) -> None:
    (root / "boot/grub/grub.cfg").write_text("linux /boot/vmlinuz root=/dev/sda1\n")
    with pytest.raises(KilnError, match=f"does not boot PARTUUID={disk.ROOT_PARTUUID}"):
        disk.make(root, tmp_path / "image.qcow2", work, 1, tmp_path / "log", epoch=EPOCH)


def test_a_disk_too_small_is_refused(root: Path, work: Path, tmp_path: Path) -> None:
    with (root / "big").open("wb") as stream:
        stream.truncate(2 * disk.GIB)
    with pytest.raises(KilnError, match="needs a disk of 3 GiB, root_gb is 2") as caught:
        disk.make(root, tmp_path / "image.qcow2", work, 2, tmp_path / "log", epoch=EPOCH)
    assert "root_gb = 3" in caught.value.hint


def test_a_missing_tool_is_named(
    root: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/grub-mkimage").symlink_to("/usr/bin/grub-mkimage")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(KilnError, match="genimage is not installed"):
        disk.make(root, tmp_path / "image.qcow2", work, 1, tmp_path / "log", epoch=EPOCH)
    assert not any(work.iterdir()) and not (tmp_path / "image.qcow2").exists()
