"""NVIDIA's driver and torch's GPU code as they are read from files: real ELF, made here."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.errors import KilnError
from scripts import gpu
from tests.unit import elf
from tests.unit.roots import SITE, put

UPDATES = f"{gpu.MODULES}/{elf.KERNEL}/updates"
CURRENT = f"{gpu.SHARED}/nvidia/current"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with Debian's driver."""
    root = tmp_path / "root"
    put(root / UPDATES / "nvidia-current.ko", elf.nvidia())
    put(root / UPDATES / "nvidia-current-uvm.ko", elf.nvidia(license="Dual MIT/GPL", firmware=[]))
    for name in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"):
        put(root / CURRENT / f"{name}.so.535.309.01")
        (root / CURRENT / f"{name}.so.1").symlink_to(f"{name}.so.535.309.01")
    put(root / gpu.FIRMWARE / "nvidia/535.309.01/gsp_tu10x.bin")
    return root


def test_a_driver(root: Path) -> None:
    found = gpu.driver(root, {"nvidia-smi": "535.309.01-1"})
    assert found is not None
    assert (found.version, found.flavour, found.fabric_manager) == ("535.309.01", "proprietary", None)
    assert [(one.name, one.version, one.kernel, one.processor) for one in found.modules] == [
        (name, "535.309.01", elf.KERNEL, "amd64") for name in ("nvidia-uvm", "nvidia")
    ]
    assert found.libraries == {name: ["535.309.01"] for name in found.libraries}
    assert found.firmware == {
        "nvidia/535.309.01/gsp_tu10x.bin": True,
        "nvidia/535.309.01/gsp_ga10x.bin": False,
    }


@pytest.mark.parametrize(
    ("name", "pack"),
    [("nvidia.ko", bytes), ("nvidia.ko.xz", lzma.compress), ("nvidia.ko.gz", gzip.compress)],
)
def test_a_module_of_another_distribution(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    put(tmp_path / UPDATES / name, pack(elf.nvidia("580.82.07", license="Dual MIT/GPL")))
    put(tmp_path / gpu.SHARED / "libcuda.so.580.82.07")
    found = gpu.driver(tmp_path, {"nvidia-fabricmanager-580": "1:580.82.07-1"})
    assert found is not None
    assert (found.version, found.flavour, found.fabric_manager) == ("580.82.07", "open", "580.82.07")
    assert found.libraries["libcuda"] == ["580.82.07"]
    assert found.libraries["libnvidia-ml"] == []


def test_what_is_no_driver(tmp_path: Path) -> None:
    for name in ("nvidiafb.ko", "nvidia-wmi-ec-backlight.ko", "nvidia-current.ko.bak"):
        put(tmp_path / UPDATES / name, "x")
    assert gpu.driver(tmp_path, {}) is None
    put(tmp_path / UPDATES / "nvidia-uvm.ko", elf.nvidia())
    assert gpu.driver(tmp_path, {}) is None


UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    "no ELF": ("nvidia.ko", b"text", "is no kernel module"),
    "empty": ("nvidia.ko", b"", "is no kernel module"),
    "cut short": ("nvidia.ko", elf.nvidia()[:-70], "is no kernel module"),
    "no xz": ("nvidia.ko.xz", elf.nvidia(), "is no kernel module"),
    "cut xz": ("nvidia.ko.xz", lzma.compress(elf.nvidia())[:60], "is no kernel module"),
    "cut gzip": ("nvidia.ko.gz", gzip.compress(elf.nvidia())[:60], "is no kernel module"),
    "another packer": ("nvidia.ko.zst", b"x", "is packed as .zst"),
    "no version": ("nvidia.ko", elf.module(license="NVIDIA", vermagic="6.1"), "names no version"),
    "no vermagic": ("nvidia.ko", elf.module(license="NVIDIA", version="535.1"), "names no kernel"),
    "odd version": ("nvidia.ko", elf.nvidia("535-beta"), "names no version"),
    "odd licence": ("nvidia.ko", elf.nvidia(license="GPL"), "the licence 'GPL'"),
    "no .modinfo": ("nvidia.ko", elf.module(), "names no version"),
}


@pytest.mark.parametrize(("name", "data", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_no_driver_without_a_version(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    put(tmp_path / UPDATES / name, data)
    with pytest.raises(KilnError, match=message):
        gpu.driver(tmp_path, {})


@given(at=st.integers(0, 400), new=st.binary(min_size=1, max_size=8), end=st.integers(0, 500))
def test_no_damage_to_a_module_is_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, at: int, new: bytes, end: int
) -> None:
    whole = elf.nvidia()
    path = tmp_path_factory.getbasetemp() / "damaged.ko"
    path.write_bytes((whole[:at] + new + whole[at + len(new) :])[:end])
    try:
        assert gpu.modinfo(path)["processor"]
    except KilnError as error:
        assert "is no kernel module" in error.what


def test_another_processor_is_told(tmp_path: Path) -> None:
    put(tmp_path / "nvidia.ko", elf.nvidia(machine=elf.AARCH64))
    assert gpu.modinfo(tmp_path / "nvidia.ko")["processor"] == ["arm64"]


LIBRARY = f"{SITE}/torch/lib/libtorch_python.so"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\0sm_90\0b", ["sm_90"]),
        (b"a\0sm_70 sm_90a compute_90\0b\0sm_70 sm_90a compute_90\0", ["sm_70", "sm_90a", "compute_90"]),
        (b"nvcc -arch=sm_90 \0", []),
        (b"", []),
    ],
)
def test_gpu_code_of_torch(tmp_path: Path, data: bytes, expected: list[str]) -> None:
    put(tmp_path / LIBRARY, data)
    assert gpu.architectures(tmp_path) == expected


def test_two_lists_of_gpu_code_are_a_contradiction(tmp_path: Path) -> None:
    put(tmp_path / LIBRARY, b"\0sm_80\0\0sm_80 sm_90\0")
    with pytest.raises(KilnError, match="sm_80 and as sm_80 sm_90"):
        gpu.architectures(tmp_path)
