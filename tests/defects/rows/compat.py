"""Defects of what must go together: driver, kernel, CUDA, torch, the GPUs of the instance types."""

from __future__ import annotations

import re
from pathlib import Path

from tests.defects.defect import Defect, Plant, change, found, gone, static, write

MODULES = "usr/lib/modules/*/updates/nvidia"
SITE = "opt/monai-label/venv/lib/python3.11/site-packages"
EM_AARCH64 = b"\xb7\0"
E_MACHINE = 18
"""Where an ELF header says what the file was compiled for."""


def patch(name: str, pattern: bytes, to: bytes) -> Plant:
    """Change bytes of every file that matches, to as many others."""

    def plant(root: Path) -> None:
        for path in found(root, name):
            data = path.read_bytes()
            changed = re.sub(pattern, to, data)
            assert changed != data, f"{path} has no {pattern!r}"
            assert len(changed) == len(data), f"{path} would change its size"
            path.write_bytes(changed)

    return plant


def beside(folder: str, pattern: bytes, to: bytes) -> Plant:
    """Leave a module for something else beside the image's own, which stays as its package has it."""

    def plant(root: Path) -> None:
        module = found(root, f"{MODULES}/nvidia-current-peermem.ko")[0]
        changed = re.sub(pattern, to, module.read_bytes())
        assert changed != module.read_bytes(), f"{module} has no {pattern!r}"
        assert len(changed) == module.stat().st_size, f"{module} would change its size"
        place = module.parents[1] / folder / module.name
        place.parent.mkdir()
        place.write_bytes(changed)

    return plant


STATIC = [
    Defect(
        "a module for another kernel",
        beside("left", rb"\0vermagic=\d", b"\0vermagic=9"),
        static("test_compat::test_modules_are_for_the_kernel"),
        ("the module nvidia-peermem is for the kernel 9.",),
    ),
    Defect(
        "a module for another processor",
        beside("arm", rb"(?s)\A(.{%d}).." % E_MACHINE, rb"\1" + EM_AARCH64),
        static("test_compat::test_instance_types_are_known_and_usable"),
        ("the image was made for amd64, arm64",),
    ),
    Defect(
        "a driver older than CUDA and the GPUs",
        patch(f"{MODULES}/nvidia-current*.ko", rb"\0version=\d{3}\.", b"\0version=418."),
        static(
            "test_base::test_packages_are_whole",
            "test_compat::test_modules_and_libraries_are_one_version",
            "test_compat::test_driver_runs_the_cuda_of_torch",
            "test_compat::test_driver_drives_every_gpu",
            "test_compat::test_driver_branch_is_supported",
        ),
        (
            "nvidia is 418.",
            "which needs a driver from 525.60.13",
            "A10G, compute 8.6) needs a driver from",
            "nothing says until when NVIDIA supports R418",
        ),
    ),
    Defect(
        "a library of another driver",
        write("usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.470.256.02"),
        static("test_compat::test_modules_and_libraries_are_one_version"),
        ("libnvidia-ml is 470.256.02, ",),
    ),
    Defect(
        "firmware of the driver missing",
        gone("usr/lib/firmware/nvidia/*/gsp_tu10x.bin"),
        static("test_base::test_packages_are_whole", "test_compat::test_firmware_of_the_driver_is_there"),
        ("gsp_tu10x.bin",),
    ),
    Defect(
        "torch for a CUDA that the driver does not run",
        change(f"{SITE}/torch/version.py", r"^(cuda.*)'12\.\d'", r"\1'13.0'"),
        static("test_compat::test_driver_runs_the_cuda_of_torch"),
        ("torch is built for CUDA 13.0, which needs a driver from 580",),
    ),
    Defect(
        "torch without code for a GPU",
        patch(f"{SITE}/torch/lib/libtorch_python.so", rb"\0sm_70 sm_75 ", b"\0sm_50 sm_60 "),
        static("test_compat::test_torch_has_code_for_every_gpu"),
        ("has no code for g4dn.xlarge (1 × T4, compute 7.5)",),
    ),
]
