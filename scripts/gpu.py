"""NVIDIA's driver and torch's GPU code in a root, read from their files: nothing is loaded, nothing runs."""

from __future__ import annotations

import gzip
import io
import lzma
import mmap
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from pydantic import ValidationError

from kiln.compat import LIBRARIES
from kiln.errors import KilnError
from kiln.manifest import Driver, Module
from scripts import distributions

MODULES = "usr/lib/modules"
FIRMWARE = "usr/lib/firmware"
SHARED = "usr/lib/x86_64-linux-gnu"

# Debian calls the modules nvidia-current.ko and so on, NVIDIA nvidia.ko; the kernel's own nvidiafb and
# nvidia-wmi-ec-backlight belong to no driver of NVIDIA's.
_MODULE = re.compile(r"nvidia(?:-current)?(-uvm|-modeset|-drm|-peermem)?\.ko(\.xz|\.gz|\.zst)?")

_UNPACK: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
}

_FLAVOURS: dict[str, Literal["open", "proprietary"]] = {
    "NVIDIA": "proprietary",
    "Dual MIT/GPL": "open",
}
"""Licence of the module nvidia → its flavour (NVIDIA's driver README, Open Linux Kernel Modules)."""

_PROCESSORS = {"EM_X86_64": "amd64", "EM_AARCH64": "arm64"}

_FABRIC = re.compile(r"(?:cuda-drivers|nvidia)-fabricmanager(?:-\d+)?")

# What torch.cuda.get_arch_list() answers where there is a GPU: a constant of torch/csrc/cuda/Module.cpp.
_ARCHITECTURES = re.compile(rb"\0((?:(?:sm|compute)_\d+[af]? ?)+)\0")

_BAKE_AGAIN = "the role nvidia left the driver unfinished; read the bake's log and bake again"


def modinfo(path: Path) -> dict[str, list[str]]:
    """Return what a kernel module says of itself.

    Parameters
    ----------
    path:
        ``.ko``, also packed by xz or gzip.

    Returns
    -------
    dict of str to list of str
        Field of ``.modinfo`` → its values, and ``processor``, from the ELF header.

    Raises
    ------
    KilnError
        It is no kernel module, or packed in a way that cannot be read.
    """
    packed = path.suffix if path.suffix != ".ko" else None
    if packed not in _UNPACK:
        raise KilnError(f"{path} is packed as {packed}", "let the role nvidia install it unpacked")
    try:
        elf = ELFFile(io.BytesIO(_UNPACK[packed](path.read_bytes())))
        section = elf.get_section_by_name(".modinfo")
        machine = str(elf["e_machine"])
        data = section.data() if section is not None else b""
    except (ELFError, OSError, EOFError, OverflowError, lzma.LZMAError, ValueError) as error:
        raise KilnError(f"{path} is no kernel module: {error or type(error).__name__}", _BAKE_AGAIN) from None
    found: dict[str, list[str]] = {"processor": [_PROCESSORS.get(machine, machine)]}
    for pair in data.split(b"\0"):
        key, equals, value = pair.decode(errors="replace").partition("=")
        if equals:
            found.setdefault(key, []).append(value)
    return found


def driver(root: Path, packages: Mapping[str, str]) -> Driver | None:
    """Return NVIDIA's driver in a root.

    Parameters
    ----------
    root:
        Root folder.
    packages:
        Debian package → version, for the fabric manager, whose files do not tell theirs.

    Returns
    -------
    Driver or None
        None where there is no module ``nvidia`` for any kernel.

    Raises
    ------
    KilnError
        A module cannot be read, or does not say what belongs in a manifest.
    """
    modules: list[Module] = []
    main: dict[str, list[str]] | None = None
    for path in sorted((root / MODULES).rglob("nvidia*.ko*")):
        if (match := _MODULE.fullmatch(path.name)) is None:
            continue
        said = modinfo(path)
        name = f"nvidia{match[1] or ''}"
        if name == "nvidia" and main is None:
            main = said
        try:
            modules.append(
                Module(
                    name=name,
                    version=said.get("version", [""])[0],
                    kernel=said.get("vermagic", [""])[0].partition(" ")[0],
                    processor=said["processor"][0],
                )
            )
        except ValidationError as error:
            field = error.errors()[0]["loc"][0]
            raise KilnError(f"{path} names no {field} that can be read", _BAKE_AGAIN) from None
    if main is None:
        return None
    licence = main.get("license", ["none"])[0]
    if licence not in _FLAVOURS:
        raise KilnError(
            f"the module nvidia has the licence {licence!r}: it is neither NVIDIA's nor the open one",
            "scripts/gpu.py lists the licences by which the two are told apart",
        )
    return Driver(
        version=main["version"][0],
        flavour=_FLAVOURS[licence],
        modules=modules,
        libraries={name: _library(root, name) for name in LIBRARIES},
        firmware={name: _has_firmware(root, name) for name in main.get("firmware", [])},
        fabric_manager=next((_upstream(v) for name, v in packages.items() if _FABRIC.fullmatch(name)), None),
    )


def _library(root: Path, name: str) -> list[str]:
    """Versions of a library of the driver, from the names of its files; links have the interface's number."""
    paths = (root / SHARED).rglob(f"{name}.so.*.*")
    return sorted({path.name.partition(".so.")[2] for path in paths if not path.is_symlink()})


def _has_firmware(root: Path, name: str) -> bool:
    return any((root / FIRMWARE / f"{name}{packed}").is_file() for packed in ("", ".xz", ".zst"))


def _upstream(version: str) -> str:
    """Version of a Debian package without Debian's own parts."""
    return version.split(":")[-1].partition("-")[0]


def architectures(root: Path) -> list[str]:
    """Return the GPU code that torch brings, as torch itself would list it.

    Parameters
    ----------
    root:
        Root folder with torch in it.

    Returns
    -------
    list of str
        Such as ``sm_86`` and ``compute_90``; empty where torch's library does not list them.

    Raises
    ------
    KilnError
        The library lists them twice, and not the same.
    """
    for folder in distributions.site_packages(root):
        path = folder / "torch/lib/libtorch_python.so"
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                found = {match[1].decode() for match in _ARCHITECTURES.finditer(data)}
            if len(found) > 1:
                raise KilnError(
                    f"{path} lists its GPU code as {' and as '.join(sorted(found))}",
                    "which one counts must not be a guess: look what has changed in torch",
                )
            return found.pop().split() if found else []
    return []
