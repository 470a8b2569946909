"""Whether this machine's KVM really runs a guest.

``/dev/kvm`` that opens proves nothing: under some hypervisors it does and the firmware dies on its first
instructions ("KVM internal error"). So the firmware is booted once, and what it says decides.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Literal

from kiln import paths
from kiln.errors import KilnError
from scripts.qemu import Qemu, machine, quoted

Accelerator = Literal["kvm", "tcg"]

DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROBE_SECONDS = 20.0
"""The firmware speaks after 1 to 2 s under KVM; one that is silent for so long is of no use."""

ALIVE = b"BdsDxe"
"""First thing that the firmware writes to the serial line by itself."""

DEAD = (b"KVM internal error", b"emulation failure", b"failed to initialize kvm", b"Could not access KVM")


def judge(serial: bytes, errors: bytes, ended: bool) -> Accelerator | None:
    """Decide from what was seen of a firmware under KVM.

    Parameters
    ----------
    serial:
        What the firmware wrote so far.
    errors:
        What QEMU wrote so far.
    ended:
        Whether QEMU has ended.

    Returns
    -------
    Accelerator or None
        None while it cannot be told.
    """
    if any(sign in errors for sign in DEAD):
        return "tcg"
    if ALIVE in serial:
        return "kvm"
    return "tcg" if ended else None


def probe(work: Path) -> Accelerator:
    """How guests run on this machine; tried once per boot of it, then remembered in the cache folder.

    Parameters
    ----------
    work:
        Work folder of the run that asks.

    Raises
    ------
    KilnError
        QEMU or its firmware is not installed.
    """
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return "tcg"
    boot_id = BOOT_ID.read_text(encoding="ascii").strip()
    memory = paths.cache_dir() / "accelerator.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if (
        isinstance(known, dict)
        and known.get("boot_id") == boot_id
        and known.get("accelerator") in ("kvm", "tcg")
    ):
        return "kvm" if known["accelerator"] == "kvm" else "tcg"
    found = _try_kvm(work)
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_text(json.dumps({"boot_id": boot_id, "accelerator": found}) + "\n", encoding="utf-8")
    return found


def _try_kvm(work: Path) -> Accelerator:
    arguments = machine("kvm", 1, 256)
    # In the work folder: of a probe that was killed, nothing stays.
    folder = Path(tempfile.mkdtemp(prefix="kvm-", dir=work))
    serial = folder / "serial.log"
    try:
        try:
            qemu = Qemu([*arguments, "-serial", f"file:{quoted(serial)}"], folder)
        except KilnError:
            return "tcg"  # it could not even set KVM up
        deadline = time.monotonic() + PROBE_SECONDS
        try:
            while time.monotonic() < deadline:
                ended = not qemu.alive
                seen = serial.read_bytes() if serial.exists() else b""
                if (found := judge(seen, qemu.errors.read_bytes(), ended)) is not None:
                    return found
                time.sleep(0.05)
        finally:
            qemu.kill()
        return "tcg"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
