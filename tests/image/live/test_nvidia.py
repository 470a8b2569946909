"""NVIDIA's driver in a booted guest: loaded where there is a GPU, and elsewhere refused for that alone."""

from __future__ import annotations

import re
from typing import Any

Guest = dict[str, Any]

GPU = re.compile(r"pci:v000010DE\w*bc03sc0[02]")
"""How the kernel calls a display device of NVIDIA's: VGA or 3D."""

EACH = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
"""Device files that there are once, however many GPUs."""

NO_DEVICE = "No such device"
"""What the driver's own start returns without a GPU: the kernel took the module and called it."""


def gpus(guest: Guest) -> int:
    """How many GPUs are on the bus; a guest that shows no bus at all could not tell."""
    assert guest["pci_devices"], "the guest shows no PCI device: nothing says whether it has a GPU"
    return sum(1 for name in guest["pci_devices"] if GPU.match(name))


def test_modprobe_says_no_such_device(guest: Guest) -> None:
    said = guest["modprobe_nvidia"]
    if gpus(guest):
        assert guest["nvidia_loaded"] and not said, f"modprobe nvidia, with a GPU: {said or 'not loaded'}"
    else:
        # Of Debian's lines the first is about the module, the others about the command that called for it.
        first = said.partition("\n")[0]
        assert first.endswith(NO_DEVICE), f"modprobe nvidia, without a GPU: {first or 'nothing'}"
        assert not guest["nvidia_loaded"], "the module nvidia is loaded, and there is no GPU"


def state(said: dict[str, str]) -> str:
    """Whether a unit is active, inactive or failed; missing where systemd does not know it."""
    return said.get("ActiveState", "missing") if said.get("LoadState") == "loaded" else "missing"


def test_persistenced_runs_where_there_is_a_gpu(guest: Guest) -> None:
    wanted, found = "active" if gpus(guest) else "inactive", state(guest["persistenced"])
    assert found == wanted, f"nvidia-persistenced.service is {found}, and not {wanted}"


def test_every_gpu_has_its_device_files(guest: Guest) -> None:
    count, found = gpus(guest), state(guest["gpu_service"])
    wanted = "active" if count else "inactive"
    assert found == wanted, f"kiln-gpu.service is {found}, and not {wanted}"
    if count:
        minors = guest["gpu_minors"]
        assert len(minors) == count, f"{count} GPU on the PCI bus, and the driver has taken {len(minors)}"
        missing = {*EACH, *(f"/dev/nvidia{minor}" for minor in minors)} - set(guest["gpu_devices"])
        assert not missing, f"the server finds no GPU without {', '.join(sorted(missing))}"


def test_nouveau_is_not_loaded(guest: Guest) -> None:
    assert not guest["nouveau_loaded"], "nouveau is loaded: it would keep the GPU from NVIDIA's driver"
