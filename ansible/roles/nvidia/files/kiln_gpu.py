"""Load NVIDIA's driver and make the device files of every GPU, before a program without root asks for one.

``kiln_gpu.py [ROOT]``. Neither the kernel nor udev makes these files: NVIDIA's programs call nvidia-modprobe
for them, which does nothing for a user where it is not set-uid root. A GPU that is on the PCI bus and cannot
be used at the end is an error; where there is none, there is nothing to do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GPU = re.compile(r"pci:v000010DE\w*bc03sc0[02]")
"""Vendor NVIDIA, class display: VGA or 3D. Its bridges and sound devices have no device file of this kind."""

MINOR = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.MULTILINE)

CONTROL = 255
"""The minor by which nvidia-modprobe knows nvidiactl."""

UVM = ("nvidia-uvm", "nvidia-uvm-tools")


def gpus(root: Path) -> list[str]:
    """PCI addresses of NVIDIA's GPUs."""
    devices = sorted((root / "sys/bus/pci/devices").glob("*"))
    return [path.name for path in devices if GPU.match((path / "modalias").read_text())]


def minors(root: Path) -> dict[str, int]:
    """PCI address of each GPU that the driver has taken → its minor, which need not be its place there."""
    found = {}
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        if minor := MINOR.search(path.read_text()):
            found[path.parent.name] = int(minor[1])
    return found


def called(root: Path, program: str, *arguments: str) -> Iterator[str]:
    """Call a program; what is wrong with it, if something is."""
    done = subprocess.run(
        [root / program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        said = " ".join(done.stdout.split()) or "nothing"
        yield f"{' '.join((program, *arguments))} ended with {done.returncode}, and said: {said}"


def absent(root: Path, *names: str) -> Iterator[str]:
    """Device files that are not there."""
    for name in names:
        if not (root / "dev" / name).is_char_device():
            yield f"there is no /dev/{name}"


def make(root: Path, wanted: list[str]) -> Iterator[str]:
    """Load the driver and make the files; what went wrong, one thing after the other."""
    # Not by nvidia-modprobe alone: it takes a module for loaded that udev has only begun to load.
    for module in ("nvidia", "nvidia-uvm"):
        yield from called(root, "sbin/modprobe", module)
    taken = minors(root)
    for address in wanted:
        if address not in taken:
            yield f"the driver has not taken the GPU {address}; the kernel's log says why"
    # A call for each: nvidia-modprobe has room for 64 in one. With -u, its -c is about nvidia-uvm alone.
    for minor in (CONTROL, *taken.values()):
        yield from called(root, "usr/bin/nvidia-modprobe", "-c", str(minor))
    yield from called(root, "usr/bin/nvidia-modprobe", "-u", "-c", "0")
    yield from absent(root, "nvidiactl", *(f"nvidia{minor}" for minor in taken.values()), *UVM)


def main(root: Path) -> int:
    """Run as a program."""
    wanted = gpus(root)
    if not wanted:
        print("no GPU of NVIDIA's on the PCI bus")
        return 0
    wrong = list(make(root, wanted))
    for what in wrong:
        print(what, file=sys.stderr)
    print(
        f"{len(wanted)} GPU on the PCI bus: {'NOT usable, see above' if wrong else 'device files are there'}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "/")))
