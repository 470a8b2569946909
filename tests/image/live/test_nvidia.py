"""NVIDIA's driver in a booted guest: loaded where there is a GPU, and elsewhere refused for that alone."""

from __future__ import annotations

from typing import Any

Guest = dict[str, Any]

NVIDIA = "0x10de"
"""NVIDIA's vendor number on the PCI bus."""

NO_DEVICE = "No such device"
"""What the driver's own start returns without a GPU: the kernel took the module and called it."""


def has_gpu(guest: Guest) -> bool:
    """Whether a device of NVIDIA's is on the bus; a guest that shows no bus at all could not tell."""
    assert guest["pci_vendors"], "the guest shows no PCI device: nothing says whether it has a GPU"
    return NVIDIA in guest["pci_vendors"]


def test_modprobe_says_no_such_device(guest: Guest) -> None:
    said = guest["modprobe_nvidia"]
    if has_gpu(guest):
        assert guest["nvidia_loaded"] and not said, f"modprobe nvidia, with a GPU: {said or 'not loaded'}"
    else:
        # Of Debian's lines the first is about the module, the others about the command that called for it.
        first = said.partition("\n")[0]
        assert first.endswith(NO_DEVICE), f"modprobe nvidia, without a GPU: {first or 'nothing'}"
        assert not guest["nvidia_loaded"], "the module nvidia is loaded, and there is no GPU"


def test_persistenced_runs_where_there_is_a_gpu(guest: Guest) -> None:
    wanted = "active" if has_gpu(guest) else "inactive"
    said = guest["persistenced"]
    state = said.get("ActiveState") if said.get("LoadState") == "loaded" else "missing"
    assert state == wanted, f"nvidia-persistenced.service is {state}, and not {wanted}"


def test_nouveau_is_not_loaded(guest: Guest) -> None:
    assert not guest["nouveau_loaded"], "nouveau is loaded: it would keep the GPU from NVIDIA's driver"
