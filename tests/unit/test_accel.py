"""What a firmware under KVM says decides; recorded outputs, and one real probe of this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from scripts import accel, qemu

# Recorded: a machine whose /dev/kvm opens and whose hypervisor then cannot run the guest's code.
BROKEN = b"""\
KVM internal error. Suberror: 1
extra data[0]: 0x0000000000000001
emulation failure
EAX=00000000 EBX=00807000 ECX=00000001 EDX=00807154
"""
NO_MODULE = b"""\
Could not access KVM kernel module: No such file or directory
qemu-system-x86_64: failed to initialize kvm: No such file or directory
"""
WARNING = b"qemu-system-x86_64: warning: host doesn't support requested feature: CPUID.07H:EBX [bit 4]\n"
TERMINAL = b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\x1b[01;01H"
FIRMWARE = TERMINAL + b'BdsDxe: loading Boot0001 "EFI Internal Shell" from Fv(7CB8BDC9-F8EB-4F34)'


@pytest.mark.parametrize(
    ("serial", "errors", "ended", "expected"),
    [
        (FIRMWARE, b"", False, "kvm"),
        (FIRMWARE, WARNING, False, "kvm"),
        (b"", BROKEN, False, "tcg"),
        (FIRMWARE, BROKEN, False, "tcg"),
        (b"", NO_MODULE, True, "tcg"),
        (b"", b"", True, "tcg"),
        (TERMINAL, b"", True, "tcg"),
        (b"", b"", False, None),
        (TERMINAL, WARNING, False, None),
    ],
)
def test_judge(serial: bytes, errors: bytes, ended: bool, expected: str | None) -> None:
    assert accel.judge(serial, errors, ended) == expected


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/accelerator.json"


def test_without_the_device_there_is_no_kvm(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(accel, "DEVICE", tmp_path / "kvm")
    assert accel.probe(tmp_path) == "tcg"
    assert not cache.exists()


def test_an_answer_of_this_boot_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(accel, "DEVICE", tmp_path)  # a device that opens
    cache.parent.mkdir()
    cache.write_text(json.dumps({"boot_id": accel.BOOT_ID.read_text().strip(), "accelerator": "kvm"}))
    assert accel.probe(tmp_path) == "kvm"


@pytest.mark.parametrize("old", ['{"boot_id": "another", "accelerator": "kvm"}', "{", "[]", "\x00"])
def test_any_other_answer_is_not(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str
) -> None:
    # A CPU model that no KVM offers: QEMU ends by itself, on every machine.
    monkeypatch.setattr(accel, "DEVICE", tmp_path)
    monkeypatch.setitem(qemu.ACCELERATORS, "kvm", ("kvm", "no-such-processor"))
    cache.parent.mkdir()
    cache.write_text(old)
    assert accel.probe(tmp_path) == "tcg"
    assert json.loads(cache.read_text())["accelerator"] == "tcg"


def test_a_real_probe_ends_in_time_and_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    began = time.monotonic()
    assert accel.probe(folder) in ("kvm", "tcg")
    assert time.monotonic() - began < accel.PROBE_SECONDS + 5
    assert not any(folder.iterdir())
