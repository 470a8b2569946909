"""Facts are read from planted roots; what contradicts itself is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kiln import compat
from kiln.errors import KilnError
from scripts import facts
from tests.unit import elf
from tests.unit.roots import SITE, add_distribution, put

STATUS = """\
Package: python3
Status: install ok installed
Architecture: amd64
Source: python3-defaults
Version: 3.11.2-1+b1

Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.17-1~deb12u2)
Version: 3.0.17-1~deb12u2+b1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0
"""
KERNEL = "6.1.0-1-cloud-amd64"
TORCH = """\
from typing import Optional

__version__ = '2.10.0+cu128'
cuda: Optional[str] = '12.8'
hip: Optional[str] = None
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    put(root / "var/lib/dpkg/status", STATUS)
    put(root / "etc/debian_version", "12.12\n")
    put(root / "boot" / f"vmlinuz-{KERNEL}")
    (root / facts.MODULES / KERNEL / "kernel").mkdir(parents=True)
    return root


@pytest.fixture
def server(root: Path) -> Path:
    add_distribution(root, "monailabel", "0.8.5")
    add_distribution(root, "torch", "2.10.0")
    add_distribution(root, "Typing_Extensions", "4.15.0")
    put(root / SITE / "torch/version.py", TORCH)
    put(root / SITE / "torch/lib/libtorch_python.so", b"\x7fELF\0sm_86\n\0sm_75 sm_86 compute_90\0sm_\0")
    put(root / facts.WEIGHTS, '{"origin": "random"}')
    put(root / facts.SETTINGS / "1.json", "{}")
    put(root / facts.SETTINGS / "10.json", "{}")
    put(root / facts.SETTINGS / "2.json", "{}")
    return root


def test_a_bare_root(root: Path) -> None:
    found = facts.read(root, ["base", "seal"])
    assert found.model_dump() == {
        "kernel": KERNEL,
        "driver": None,
        "cuda": None,
        "torch": None,
        "architectures": [],
        "monai_label": None,
        "python": "3.11.2",
        "debian": "12.12",
        "roles": ["base", "seal"],
        "packages": {"libssl3": "3.0.17-1~deb12u2+b1", "python3": "3.11.2-1+b1"},
        "distributions": {},
        "settings_schemas": [],
        "weights": None,
        "slicer": None,
    }


def test_a_server(server: Path) -> None:
    found = facts.read(server, ["base", "monai_label", "seal"])
    assert (found.torch, found.cuda, found.monai_label) == ("2.10.0+cu128", "12.8", "0.8.5")
    assert found.architectures == ["sm_75", "sm_86", "compute_90"]
    assert found.distributions == {"monailabel": "0.8.5", "torch": "2.10.0", "typing-extensions": "4.15.0"}
    assert (found.settings_schemas, found.weights, found.slicer) == ([1, 2, 10], "random", None)


@pytest.mark.parametrize("kind", ["real", "stand-in"])
def test_a_slicer(root: Path, kind: str) -> None:
    put(root / facts.SLICER, f'{{"kind": "{kind}", "version": "5.10.0"}}')
    add_distribution(root, "numpy", "2.0.1", site="opt/slicer/lib/Python/lib/python3.12/site-packages")
    found = facts.read(root, ["base", "slicer", "seal"])
    assert (found.slicer, found.weights, found.distributions) == (kind, None, {"numpy": "2.0.1"})


def test_a_torch_without_cuda(server: Path) -> None:
    put(server / SITE / "torch/version.py", "__version__ = '2.10.0+cpu'\ncuda: Optional[str] = None\n")
    found = facts.read(server, [])
    assert (found.torch, found.cuda, found.architectures) == ("2.10.0+cpu", None, [])


def test_the_stack_is_what_the_manifest_gets(server: Path) -> None:
    put(server / facts.MODULES / KERNEL / "updates/nvidia-current.ko", elf.nvidia())
    found = facts.read(server, [])
    assert found.driver is not None
    assert facts.stack(server) == compat.Stack.of(found)


def test_a_stack_of_two_kernels_has_none(server: Path) -> None:
    (server / facts.MODULES / "6.1.0-2-amd64").mkdir()
    assert facts.stack(server).kernel is None


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "two kernels": (
        lambda r: (r / facts.MODULES / "6.1.0-2-amd64").mkdir(),
        "2 kernels: 6.1.0-1-cloud-amd64, 6.1.0-2",
    ),
    "no kernel": (lambda r: (r / facts.MODULES).rename(r / "elsewhere"), "no kernel"),
    "no kernel image": (lambda r: (r / "boot" / f"vmlinuz-{KERNEL}").unlink(), "vmlinuz-.* is missing"),
    "no dpkg status": (lambda r: (r / "var/lib/dpkg/status").unlink(), "no var/lib/dpkg/status"),
    "half-configured package": (
        lambda r: put(r / "var/lib/dpkg/status", STATUS.replace("ok installed", "ok half-configured", 1)),
        "python3 is half-configured",
    ),
    "no python3": (
        lambda r: put(r / "var/lib/dpkg/status", STATUS.replace("python3\n", "perl\n")),
        "no package python3",
    ),
    "no debian_version": (lambda r: (r / "etc/debian_version").unlink(), "no /etc/debian_version"),
    "two versions of one distribution": (
        lambda r: add_distribution(r, "torch", "2.9.0"),
        "torch is installed as 2",
    ),
    "distribution without metadata": (
        lambda r: (r / SITE / "torch-2.10.0.dist-info/METADATA").unlink(),
        "torch-2.10.0.dist-info has no metadata",
    ),
    "torch without its module": (
        lambda r: (r / SITE / "torch/version.py").unlink(),
        "torch/version.py is missing",
    ),
    "torch without a version": (
        lambda r: put(r / SITE / "torch/version.py", "cuda = None\n"),
        "names no version",
    ),
    "unknown weights": (lambda r: put(r / facts.WEIGHTS, '{"origin": "web"}'), "unknown origin 'web'"),
    "unknown slicer": (lambda r: put(r / facts.SLICER, '{"kind": "beta"}'), "unknown origin 'beta'"),
    "slicer without origin": (lambda r: put(r / facts.SLICER, "{}"), "does not name an origin"),
    "weights without origin": (lambda r: put(r / facts.WEIGHTS, "[]"), "does not name an origin"),
    "weights that are no JSON": (lambda r: put(r / facts.WEIGHTS, "{"), "does not name an origin"),
    "schema without a number": (
        lambda r: put(r / facts.SETTINGS / "new.json", "{}"),
        "not named by a schema's number",
    ),
    "module that is none": (
        lambda r: put(r / facts.MODULES / KERNEL / "nvidia.ko", b"\x7fELF"),
        "nvidia.ko is no kernel module",
    ),
}


@pytest.mark.parametrize(("plant", "message"), PLANTED.values(), ids=PLANTED)
def test_refused(server: Path, plant: Callable[[Path], object], message: str) -> None:
    plant(server)
    with pytest.raises(KilnError, match=message):
        facts.read(server, [])
