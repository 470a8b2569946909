"""A root folder becomes a bootable disk: GPT, UEFI, no loop device and no mount.

genimage writes the partition table and the EFI system partition. The root file system is then made by mke2fs
inside the finished disk, at its partition's offset: genimage would make it as a file of its own and copy
that, which for a root of 10 GB costs half a minute and 10 GB of room more.

The root partition is as large as the tree needs and the disk as large as kiln.toml says. The first boot
grows one to the other, which is what happens on every instance whose volume is larger than the image, so the
proof's boot sees it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError
from kiln.manifest import Disk, sha256_file
from scripts import proc, tree

ROOT_PARTUUID = "6b696c6e-0001-4000-8000-000000000001"
"""Partition that grub.cfg names to the kernel: ``root=PARTUUID=``. It starts with kiln in hexadecimal."""

ROOT_FS_UUID = "6b696c6e-0002-4000-8000-000000000002"
"""File system that the boot loader searches."""

DISK_UUID = "6b696c6e-0003-4000-8000-000000000003"
HASH_SEED = "6b696c6e-0004-4000-8000-000000000004"
ESP_PARTUUID = "6b696c6e-0005-4000-8000-000000000005"
ESP_SERIAL = "6b696c6e"

MIB = 1 << 20
GIB = 1 << 30
ESP_MIB = 64
ROOT_OFFSET_MIB = 1 + ESP_MIB

SLACK = 512 * MIB
"""Room left in the file system: a system whose disk could not grow still starts and can be looked at."""

INODE_RATIO = 16384
QCOW2_SHARE = 0.6
"""Most that a qcow2 takes of its content: the CUDA set compresses to 0.5."""

GRUB_MODULES = (
    *("normal", "configfile", "linux", "search", "search_fs_uuid", "search_label", "part_gpt", "fat", "ext2"),
    *("serial", "terminal", "minicmd", "echo", "test", "sleep", "reboot", "halt"),
)
"""All that /boot/grub/grub.cfg may use: no module is loaded from the disk."""

EARLY_CFG = f"""\
search --no-floppy --fs-uuid --set=root {ROOT_FS_UUID}
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
echo "kiln: no boot menu on file system {ROOT_FS_UUID}"
"""

GENIMAGE_CFG = """\
image esp.vfat {{
  vfat {{
    label = "ESP"
    extraargs = "-F 32 -i {esp_serial} --invariant"
    file EFI/BOOT/BOOTX64.EFI {{ image = "BOOTX64.EFI" }}
  }}
  size = {esp_mib}M
  temporary = true
}}
image disk.raw {{
  hdimage {{
    partition-table-type = "gpt"
    align = 1M
    disk-uuid = "{disk_uuid}"
  }}
  size = {disk_mib}M
  partition esp {{
    offset = 1M
    partition-type-uuid = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    partition-uuid = "{esp_partuuid}"
    image = "esp.vfat"
  }}
  partition root {{
    offset = {root_offset_mib}M
    size = {root_mib}M
    partition-type-uuid = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
    partition-uuid = "{root_partuuid}"
  }}
}}
"""

# The machine's own mke2fs.conf does not count. Without metadata_csum_seed and orphan_file, which GRUB 2.06
# and older kernels cannot read.
MKE2FS_CONF = f"""\
[defaults]
  base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
  default_mntopts = acl,user_xattr
  enable_periodic_fsck = 0
  blocksize = 4096
  inode_size = 256
  inode_ratio = {INODE_RATIO}
[fs_types]
  ext4 = {{
    features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
  }}
"""


@dataclass(frozen=True)
class Sizes:
    """Room that a tree takes, in bytes.

    Parameters
    ----------
    filesystem:
        Size of the root file system and of its partition, whole MiB.
    raw:
        Room that the raw disk takes while it is made; it is sparse.
    qcow2:
        Room that the finished disk takes at most.
    """

    filesystem: int
    raw: int
    qcow2: int


def sizes(root: Path) -> Sizes:
    """Work out from a root's entries how much room its disk takes.

    Parameters
    ----------
    root:
        Root folder.
    """
    data, seen, entries = 0, set(), 0
    for entry in tree.scan(root):
        entries += 1
        if entry.inode not in seen:
            seen.add(entry.inode)
            data += -(-entry.stat.st_size // 4096) * 4096
    # Inode tables, journal, block maps and root's reserve are 3 to 5 percent.
    wanted = max((data + SLACK) / 0.92, entries * 1.25 * INODE_RATIO)
    raw = int(data * 1.02) + 128 * MIB
    return Sizes(filesystem=-(-int(wanted) // MIB) * MIB, raw=raw, qcow2=int(raw * QCOW2_SHARE))


def make(
    root: Path,
    out: Path,
    work: Path,
    size_gb: int,
    log: Path,
    *,
    epoch: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Disk:
    """Make a disk of a root folder.

    Parameters
    ----------
    root:
        The sealed root, with fstab and ``/boot/grub/grub.cfg``. It is only read.
    out:
        The qcow2 to write; it is there when it is complete and not before.
    work:
        Folder for what is made on the way; nothing of it is left in there.
    size_gb:
        Size of the disk that a guest sees, in GiB.
    log:
        File to which the output of the tools is appended.
    epoch:
        Time written into the file systems, in seconds since 1970.
    progress:
        Told what is being done.

    Returns
    -------
    Disk
        For the manifest.

    Raises
    ------
    KilnError
        The root cannot boot, does not fit the disk, there is not enough room (before anything was written,
        with how much is needed and where, or on the way), or a tool failed. What was half-made is gone then.
    """
    _check_boot(root)
    need = sizes(root)
    _check_size(need, size_gb)
    _check_room(need, work, out.parent)
    folder, part = work / "disk", out.with_name(out.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)  # of a killed run
    try:
        folder.mkdir()
        env = _environment(folder, epoch)
        with _says_when_full(folder):
            progress("partition table and boot loader")
            raw = _partitions(folder, need, size_gb, log, env)
            progress("root file system")
            _filesystem(root, raw, need, log, env)
            progress("compressing to qcow2")
        with _says_when_full(out.parent):
            command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"]
            proc.run([*command, "-m", "4", "-W", raw, part], log, what="writing the qcow2")
            raw.unlink()
        progress("digest")
        found = Disk(
            file=out.name,
            format="qcow2",
            sha256=sha256_file(part),
            bytes=part.stat().st_size,
            virtual_bytes=size_gb * GIB,
            root_uuid=ROOT_PARTUUID,
        )
        part.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        part.unlink(missing_ok=True)
    return found


def _check_boot(root: Path) -> None:
    menu = root / "boot/grub/grub.cfg"
    if not menu.is_file():
        raise KilnError("the root has no /boot/grub/grub.cfg", "the role base writes it: set base_bootloader")
    if f"PARTUUID={ROOT_PARTUUID}" not in menu.read_text(encoding="utf-8"):
        raise KilnError(
            f"/boot/grub/grub.cfg does not boot PARTUUID={ROOT_PARTUUID}",
            "give the role base that as base_root_partuuid",
        )


def _check_size(need: Sizes, size_gb: int) -> None:
    least = -(-(need.filesystem + (ROOT_OFFSET_MIB + 1) * MIB) // GIB)
    if size_gb < least:
        raise KilnError(
            f"the root needs a disk of {least} GiB, root_gb is {size_gb}",
            f"set root_gb = {least} or more in kiln.toml",
        )


def _check_room(need: Sizes, work: Path, out: Path) -> None:
    shared = work.stat().st_dev == out.stat().st_dev
    for folder, wanted in ((work, need.raw + need.qcow2 * shared), (out, need.qcow2)):
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        if free < wanted:
            raise KilnError(
                f"making the disk takes {wanted / GIB:.1f} GiB in {folder}, {free / GIB:.1f} GiB are free",
                "free some room there, or set KILN_BUILD to a folder with more",
            )


@contextmanager
def _says_when_full(folder: Path) -> Iterator[None]:
    """Turn a failure for want of room into an error that says so, whichever tool met it first."""
    try:
        yield
    except (KilnError, OSError) as error:
        status = os.statvfs(folder)
        full = (
            status.f_bavail * status.f_frsize < 4 * MIB
            or "No space left on device" in str(error)
            or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))
        )
        if not full:
            raise
        raise KilnError(
            f"no room left in {folder} while the disk was made",
            "something filled it meanwhile: free some room there, or set KILN_BUILD to a folder with more",
        ) from error


def _environment(folder: Path, epoch: int) -> dict[str, str]:
    conf = folder / "mke2fs.conf"
    conf.write_text(MKE2FS_CONF, encoding="utf-8")
    return {
        **os.environ,
        "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
        "MKE2FS_CONFIG": str(conf),
        "SOURCE_DATE_EPOCH": str(epoch),
        "E2FSPROGS_FAKE_TIME": str(epoch),  # e2fsprogs before 1.47.1
    }


def _partitions(folder: Path, need: Sizes, size_gb: int, log: Path, env: dict[str, str]) -> Path:
    """Write the disk with its table and EFI system partition, the root partition still empty."""
    (folder / "early.cfg").write_text(EARLY_CFG, encoding="utf-8")
    loader: list[str | Path] = [
        "grub-mkimage",
        "-O",
        "x86_64-efi",
        "-p",
        "/boot/grub",
        "-c",
        folder / "early.cfg",
    ]
    proc.run(
        [*loader, "-o", folder / "BOOTX64.EFI", *GRUB_MODULES], log, what="making the boot loader", env=env
    )
    (folder / "genimage.cfg").write_text(
        GENIMAGE_CFG.format(
            esp_serial=ESP_SERIAL,
            esp_mib=ESP_MIB,
            esp_partuuid=ESP_PARTUUID,
            disk_uuid=DISK_UUID,
            disk_mib=size_gb * GIB // MIB,
            root_offset_mib=ROOT_OFFSET_MIB,
            root_mib=need.filesystem // MIB,
            root_partuuid=ROOT_PARTUUID,
        ),
        encoding="utf-8",
    )
    # genimage copies its root path when an image asks for it; none does, and this one is empty.
    (folder / "nothing").mkdir()
    options = {
        "config": folder / "genimage.cfg",
        "inputpath": folder,
        "outputpath": folder,
        "rootpath": folder / "nothing",
        "tmppath": folder / "tmp",
    }
    arguments = [word for name, path in options.items() for word in (f"--{name}", path)]
    proc.run(["genimage", *arguments], log, what="genimage", env=env)
    shutil.rmtree(folder / "tmp")
    return folder / "disk.raw"


def _filesystem(root: Path, raw: Path, need: Sizes, log: Path, env: dict[str, str]) -> None:
    """Fill the root partition, and have e2fsck find nothing wrong in it."""
    offset = ROOT_OFFSET_MIB * MIB
    # Not lazy: in a file, zeroes are holes and cost nothing; left to the kernel they cost the guest's first
    # minutes.
    extended = f"offset={offset},hash_seed={HASH_SEED},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    identity = ["-L", "root", "-U", ROOT_FS_UUID, "-m", "1"]
    blocks = f"{need.filesystem // 1024}k"
    proc.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", *identity, "-E", extended, "-d", root, raw, blocks],
        log,
        what="making the root file system",
        env=env,
    )
    proc.run(
        ["e2fsck", "-f", "-n", f"{raw}?offset={offset}"], log, what="checking the root file system", env=env
    )
