"""Kernel modules as far as facts read them: an ELF file with a section .modinfo and nothing else."""

from __future__ import annotations

import struct

X86_64, AARCH64 = 62, 183
KERNEL = "6.1.0-1-cloud-amd64"


def module(machine: int = X86_64, **fields: str | list[str]) -> bytes:
    """Return an ELF object (64 bit, little endian; System V ABI, chapter 4).

    Parameters
    ----------
    machine:
        ``e_machine`` of its header.
    fields:
        Of ``.modinfo``; a list for one that is there more than once.
    """
    pairs = [
        (key, one) for key, value in fields.items() for one in ([value] if isinstance(value, str) else value)
    ]
    modinfo = b"".join(f"{key}={value}\0".encode() for key, value in pairs)
    names = b"\0.modinfo\0.shstrtab\0"
    start = 64
    sections = start + len(modinfo) + len(names)
    header = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH",
        b"\x7fELF",
        2,
        1,
        1,
        0,
        0,
        1,
        machine,
        1,
        0,
        0,
        sections,
        0,
        64,
        0,
        0,
        64,
        3,
        2,
    )
    table = bytes(64)
    table += struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, start, len(modinfo), 0, 0, 1, 0)
    table += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, start + len(modinfo), len(names), 0, 0, 1, 0)
    return header + modinfo + names + table


def nvidia(version: str = "535.309.01", kernel: str = KERNEL, **fields: str | list[str]) -> bytes:
    """Return the module nvidia as Debian compiles it."""
    said: dict[str, str | list[str]] = {
        "license": "NVIDIA",
        "version": version,
        "firmware": [f"nvidia/{version}/gsp_tu10x.bin", f"nvidia/{version}/gsp_ga10x.bin"],
        "vermagic": f"{kernel} SMP preempt mod_unload modversions ",
    }
    return module(**{**said, **fields})  # type: ignore[arg-type]
