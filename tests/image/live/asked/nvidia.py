"""What a guest says of NVIDIA's driver: the load test that needs no GPU is a refusal by the driver itself."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Any

from tests.image.live.asked.common import read, run


def shown(name: str) -> dict[str, str]:
    """What systemd says of a unit, by name: one whose condition did not hold is no longer loaded."""
    said = run("systemctl", "show", "--property=LoadState,ActiveState", name)
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def minors() -> list[str]:
    """Minors of the GPUs that the driver has taken."""
    texts = [read(path) for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information"))]
    return [number for text in texts for number in re.findall(r"^Device Minor:\s*(\d+)", text, re.MULTILINE)]


def answers() -> dict[str, Any]:
    """The answers, by name."""
    # Asked first: modprobe below loads the driver where nothing had.
    devices = [path for path in sorted(glob.glob("/dev/nvidia*")) if Path(path).is_char_device()]
    return {
        "gpu_devices": devices,
        "gpu_minors": minors(),
        "gpu_service": shown("kiln-gpu.service"),
        "persistenced": shown("nvidia-persistenced.service"),
        "pci_devices": [read(path).strip() for path in glob.glob("/sys/bus/pci/devices/*/modalias")],
        "modprobe_nvidia": run("/sbin/modprobe", "nvidia").strip(),
        "nvidia_loaded": os.path.exists("/sys/module/nvidia"),
        "nouveau_loaded": os.path.exists("/sys/module/nouveau"),
    }
