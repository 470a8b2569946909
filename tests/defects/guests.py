"""Defects that only a machine has, planted in a guest that runs, and taken away again.

Its kernel and its modules, its disk, its mounts and its clock are no container's. The rows of a round do not
touch each other; each round is planted, asked once, and restored.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts import verdicts
from scripts.guest import Guest
from tests.defects import live
from tests.defects.defect import Running, wrong
from tests.defects.defect import live as seen_live
from tests.defects.proof import SOUND_BOOTS
from tests.image.live.asked.program import program

ASK_SECONDS = 600.0
SHUTDOWN_SECONDS = 10.0
MODULES = "/lib/modules/$(uname -r)"
DRIVER = f"{MODULES}/updates/nvidia/nvidia-current.ko"
ONLINE = seen_live(
    "test_base::test_instance_metadata_is_refused_by_version_1",
    "test_base::test_instance_metadata_answers_by_version_2",
)
"""What refuses a sound guest of a long session: no metadata service of ours answers there."""

LOADS = seen_live("test_nvidia::test_modprobe_says_no_such_device")
SHUTDOWN = "boot::shutdown"
KERNEL = "live::test_base::test_kernel_is_the_images"
OTHER_KERNEL = "5.10.0-1-cloud-amd64"


def replaced(path: str, old: str, new: str, to: str) -> str:
    """Command that writes a module with other bytes in place of some that must be there, and unsigned."""
    program = (
        "import sys; path, old, new, to = sys.argv[1:]; data = open(path, 'rb').read();"
        " old, new = (text.encode().decode('unicode_escape').encode('latin-1') for text in (old, new));"
        " assert old in data and len(old) == len(new); data = data.replace(old, new);"
        " open(to, 'wb').write(data.removesuffix(b'~Module signature appended~' + bytes([10])))"
    )
    words = (program, old, new, to)
    code, *rest = map(shlex.quote, words)
    return f'python3 -c {code} "{path}" {" ".join(rest)}'


def driver(old: str, new: str) -> str:
    """Command that has other bytes in the driver's module; the copy in /run is the one that is restored."""
    patched = replaced(DRIVER, old, new, "/run/kiln-patched.ko")
    return f'{patched}; mount --bind /run/kiln-patched.ko "{DRIVER}"'


ORIGINAL = f'umount "{DRIVER}"; rm /run/kiln-patched.ko'
NOUVEAU = replaced(f"{MODULES}/kernel/lib/crc7.ko", r"\0crc7\0\0\0\0", r"\0nouveau\0", "/run/kiln-nouveau.ko")

ROUNDS: list[list[Running]] = [
    [
        Running(
            # The kernel that has versions of its symbols takes another number, and no other build.
            "a driver for a kernel of one processor",
            driver("-cloud-amd64 SMP ", "-cloud-amd64 UP  "),
            ORIGINAL,
            LOADS,
            ("without a GPU: ", "Exec format error"),
        ),
        Running(
            "a kernel that shows its pointers",
            "sysctl -q kernel.kptr_restrict=0",
            "sysctl -q kernel.kptr_restrict=1",
            seen_live("test_hardening::test_kernel_runs_as_set"),
            ("kernel.kptr_restrict is 0",),
        ),
        Running(
            "a file system's module that nobody needs",
            f'insmod "{MODULES}/kernel/fs/sysv/sysv.ko"',
            "rmmod sysv",
            seen_live("test_hardening::test_no_needless_module_is_loaded"),
            ("loaded: sysv",),
        ),
        Running(
            "set-uid programs in /tmp",
            "mount -o remount,suid /tmp",
            "mount -o remount,nosuid /tmp",
            seen_live("test_hardening::test_temporary_files_hold_no_device_and_no_suid_program"),
            ("suid programs in /tmp",),
        ),
        Running(
            "a module with nouveau's name",
            f"{NOUVEAU}; insmod /run/kiln-nouveau.ko",
            "rmmod nouveau; rm /run/kiln-nouveau.ko",
            seen_live("test_nvidia::test_nouveau_is_not_loaded"),
            ("nouveau is loaded",),
        ),
        Running(
            "a full disk",
            "fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - (1 << 30))) /var/kiln-full",
            "rm /var/kiln-full",
            seen_live("test_base::test_space_is_left"),
            ("GiB left",),
        ),
        Running(
            "a clock that nobody sets",
            "systemctl stop chrony",
            "systemctl start chrony",
            seen_live("test_base::test_time_is_synchronised_by_a_service"),
            ("chrony.service is",),
        ),
        Running(
            "a mount point that is open",
            "chattr -i /mnt/studies; chmod 755 /mnt/studies",
            "chattr -i /mnt/studies; chmod 0 /mnt/studies; chattr +i /mnt/studies",
            seen_live(
                "test_efs_client::test_bare_mount_point_takes_nothing",
                "test_efs_client::test_bare_mount_point_is_sealed_by_the_boot",
            ),
            ("the bare mount point is 755", "is not immutable"),
        ),
    ],
    [
        Running(
            "a driver that asks the kernel for a function it has not",
            driver(r"\0__register_chrdev\0", r"\0__register_chrdew\0"),
            ORIGINAL,
            LOADS,
            ("without a GPU: ", "Unknown symbol"),
        ),
        Running(
            "no programs in /dev/shm",
            "mount -o remount,noexec /dev/shm",
            "mount -o remount,exec /dev/shm",
            seen_live("test_hardening::test_temporary_files_hold_no_device_and_no_suid_program"),
            ("no programs in /dev/shm",),
        ),
        Running(
            "a client that takes a dead file system for a mounted one",
            "mount --bind /bin/true /usr/local/sbin/kiln-efs",
            "umount /usr/local/sbin/kiln-efs",
            seen_live(
                "test_efs_client::test_dead_file_system_is_a_clear_error",
                "test_efs_client::test_attempts_are_bounded",
            ),
            ("ended in 0", "was tried for"),
        ),
    ],
]
"""Rows that are planted together; no two of a round make the same check fail."""

STAYS = Running(
    "a guest that does not shut down",
    "systemctl mask --runtime --quiet poweroff.target",
    "systemctl unmask --runtime --quiet poweroff.target",
    frozenset({SHUTDOWN}),
    ("was ended",),
)

ANOTHER_IMAGES = Running(
    "a guest whose kernel is not the image's",
    "true",  # the guest is as it is, and held against an image with another kernel
    "true",
    frozenset({KERNEL}),
    (f"the image has {OTHER_KERNEL}",),
)

DEFECTS = [*(row for rows in ROUNDS for row in rows), STAYS, ANOTHER_IMAGES]


@contextmanager
def planted(guest: Guest, rows: Sequence[Running]) -> Iterator[None]:
    """Have some rows planted in a guest; it is restored also where a plant fails."""
    plants, restores = ("\n".join(getattr(row, kind) for row in rows) for kind in ("plant", "restore"))
    try:
        guest.run(f"sudo sh -ec {shlex.quote(plants)}", ASK_SECONDS)
        yield
    finally:
        # Without -e: what was not planted cannot be taken away.
        guest.run(f"sudo sh -c {shlex.quote(restores)} || true", ASK_SECONDS)


@contextmanager
def point_as_found(guest: Guest) -> Iterator[None]:
    """Leave the bare mount point of EFS as the boot did: each question of ours seals it."""
    flags = guest.run("sudo lsattr -d /mnt/studies").split()[0]
    seal = "+i" if "i" in flags else "-i"
    try:
        yield
    finally:
        guest.run(f"sudo chattr {seal} /mnt/studies")


def ask(guest: Guest, roles: Sequence[str]) -> dict[str, Any]:
    """What a guest answers."""
    said: dict[str, Any] = json.loads(
        guest.run(f"sudo python3 -c {shlex.quote(program(roles))}", ASK_SECONDS)
    )
    return said


def refusals(said: dict[str, Any], root: Path, version: str) -> dict[str, str]:
    """Checks that refuse a guest's answers, as those of a guest of a root, and what they say."""
    with live.image(root, version):
        return live.refusals(said)


def shutdown(guest: Guest) -> dict[str, str]:
    """Shut a guest down as a proof does, but for its end: one that stays can be used on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guest, "kill", lambda: None)
        ended = guest.stop(SHUTDOWN_SECONDS)
    said = verdicts.BOOTS["shutdown"](replace(SOUND_BOOTS, ended=ended))
    return {SHUTDOWN: said} if said else {}


def campaign(
    guest: Guest, roles: Sequence[str], root: Path, folder: Path
) -> tuple[dict[str, str], list[tuple[Running, str]]]:
    """Plant every row in a guest, and leave it sound.

    Parameters
    ----------
    guest:
        As it runs.
    roles:
        Of its image.
    root:
        The root of its image.
    folder:
        An empty folder.

    Returns
    -------
    tuple
        What refuses the restored guest, and of each row what is not as it has it; empty where all is.
    """
    version = root.parent.name
    seen = []
    with point_as_found(guest):
        for rows in ROUNDS:
            with planted(guest, rows):
                seen.append(refusals(ask(guest, roles), root, version))
        with planted(guest, [STAYS]):
            stayed = shutdown(guest)
        said = ask(guest, roles)
    sound = refusals(said, root, version)

    (folder / "etc/ssh").mkdir(parents=True)
    (folder / "usr/lib/modules" / OTHER_KERNEL).mkdir(parents=True)
    other = refusals(said, folder, version)

    def judged(row: Running, refused: dict[str, str], beside: Sequence[Running] = ()) -> tuple[Running, str]:
        apart = {name: words for name, words in refused.items() if name in row.checks or name not in sound}
        return row, wrong(row, apart, beside)

    together = [judged(row, said, rows) for rows, said in zip(ROUNDS, seen, strict=True) for row in rows]
    return sound, [*together, judged(STAYS, stayed), judged(ANOTHER_IMAGES, other)]
