"""What a guest says of NVIDIA's driver: the load test that needs no GPU is a refusal by the driver itself."""

from __future__ import annotations

import glob
import os
from typing import Any

from tests.image.live.asked.common import read, run


def answers() -> dict[str, Any]:
    """The answers, by name."""
    # By name: a unit whose condition did not hold is no longer among those that are loaded.
    daemon = run("systemctl", "show", "--property=LoadState,ActiveState", "nvidia-persistenced.service")
    vendors = [read(path).strip() for path in glob.glob("/sys/bus/pci/devices/*/vendor")]
    return {
        "persistenced": dict(line.split("=", 1) for line in daemon.splitlines() if "=" in line),
        "pci_vendors": vendors,
        "modprobe_nvidia": run("/sbin/modprobe", "nvidia").strip(),
        "nvidia_loaded": os.path.exists("/sys/module/nvidia"),
        "nouveau_loaded": os.path.exists("/sys/module/nouveau"),
    }
