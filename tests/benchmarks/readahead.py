"""boot.readahead_over_plain: ready on a cold volume with the readahead ÷ the same without it.

``python -m tests.benchmarks.readahead [ROUNDS]``. The latest proven disk boots in QEMU, throttled to 5 MB/s
like a volume that is still being loaded, each time on a snapshot of its own; without means that the kernel's
command line masks the unit. QEMU starts the image's kernel itself, in both cases, since the boot menu on the
disk stays as it is. From the start of QEMU to a 200 of /readyz.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import sys
from pathlib import Path

from kiln import errors, figures, paths
from kiln.errors import KilnError
from kiln.progress import Progress
from scripts import facts, images, versions, workspace
from scripts.guest import Guest

IMAGE = "monai-label"
COMMAND = "make bench (tests/benchmarks/readahead.py)"
UNIT = "kiln-readahead.service"
BYTES_PER_SECOND = 5_000_000
ASK = f"systemctl show --property=LoadState,Result,ExecMainStartTimestampMonotonic {UNIT}"


def kernel(root: Path) -> tuple[Path, str]:
    """The kernel of a root, and the command line that its boot menu gives it.

    Raises
    ------
    KilnError
        The menu has no kernel.
    """
    menu = (root / "boot/grub/grub.cfg").read_text(encoding="utf-8")
    line = re.search(r"^\s*linux\s+\S+\s+(.+)$", menu, re.M)
    if line is None:
        raise KilnError("the boot menu of the root starts no kernel", "bake again")
    return root / f"boot/vmlinuz-{facts.kernel(root)}", line[1].strip()


def said(answer: str) -> dict[str, str]:
    """What systemd says of the unit: property → value."""
    return dict(re.findall(r"^(\w+)=(.*)$", answer, re.M))


def wrong(state: dict[str, str], masked: bool) -> bool:
    """Whether the unit did something else than it was to do in this boot."""
    if masked:
        return state["LoadState"] != "masked"
    ran = state["ExecMainStartTimestampMonotonic"] != "0"
    return (state["LoadState"], state["Result"], ran) != ("loaded", "success", True)


def boot(disk: Path, root: Path, work: Path, serial: Path, masked: bool, progress: Progress) -> float:
    """Seconds from the start of QEMU to a 200 of /readyz.

    Raises
    ------
    KilnError
        The server does not answer, or the unit did something else than it was to do.
    """
    image, line = kernel(root)
    line += f" systemd.mask={UNIT}" if masked else ""
    options = ["-kernel", str(image), "-append", line]
    with Guest(
        disk, work, serial, read_bps=BYTES_PER_SECOND, options=options, progress=progress.detail
    ) as guest:
        # Nothing of ours runs in the guest until it is ready.
        took = guest.wait_ready()
        guest.wait_ssh()
        if wrong(state := said(guest.run(ASK)), masked):
            raise KilnError(
                f"{UNIT} in a boot {'without' if masked else 'with'} it: {state}", f"read {serial}"
            )
    return took


def main(rounds: int) -> None:
    """Boot in turn, print, write the figure."""
    place = images.resolve(IMAGE)
    root, disk = place / "root", place / versions.read(place).disk.file
    # The links name files of the image's own root: as this machine sees them, they lead nowhere.
    if not any((wants / UNIT).is_symlink() for wants in (root / "etc/systemd/system").glob("*.wants")):
        raise KilnError(f"{place.name} has no enabled {UNIT}", "bake an image with it")
    folder = paths.build_dir() / "bench"
    with contextlib.ExitStack() as held:
        held.enter_context(workspace.claim(folder))
        workspace.sweep(folder)
        progress = held.enter_context(Progress("boot.readahead_over_plain"))
        work = held.enter_context(workspace.workspace(folder))
        ratios = []
        for _ in range(rounds):
            with progress.stage("with the readahead"):
                ours = boot(disk, root, work, folder / "readahead.log", False, progress)
            with progress.stage("without"):
                theirs = boot(disk, root, work, folder / "plain.log", True, progress)
            ratios.append(ours / theirs)
            progress.say(f"with {ours:.0f} s, without {theirs:.0f} s, ratio {ratios[-1]:.3f}")
        figures.write("boot.readahead_over_plain", round(statistics.median(ratios), 3), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(lambda: main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
