"""Defects of an image, and how each is planted: ``python -m tests.defects.plant NAME ROOT``.

A table of data: a defect's name, what is done to the root, the checks that must refuse it (those and no
others), and the words by which the refusal names it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SITE = "opt/monai-label/venv/lib/python3.11/site-packages"


@dataclass(frozen=True)
class Defect:
    """A defect.

    Parameters
    ----------
    plant:
        Does it to a root.
    checks:
        Names of the checks that must fail.
    named:
        Words that the message must hold.
    """

    plant: Callable[[Path], object]
    checks: frozenset[str]
    named: str


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _disable(root: Path) -> None:
    # A class in the last letter: glob follows a name without one, and the link leads out of the root.
    for link in root.glob("etc/systemd/system/*.wants/monai-label.servic[e]"):
        link.unlink()


def _break_venv(root: Path) -> None:
    (root / SITE / "torch/nn/modules/linear.py").unlink()


def _mirror(root: Path) -> None:
    sources = root / "etc/apt/sources.list"
    sources.write_text("deb http://mirror.build.example/debian bookworm main\n" + sources.read_text())


def _own(root: Path) -> None:
    app = root / "var/lib/monai-label/apps/radiology"
    for path in (app, app / "main.py"):
        os.chown(path, 0, 0)


def _checks(*names: str) -> frozenset[str]:
    return frozenset(f"static::{name}" for name in names)


DEFECTS: dict[str, Defect] = {
    "ssh host key": Defect(
        lambda root: _write(root / "etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA root@builder\n"),
        _checks("test_seal::test_no_ssh_host_key"),
        "ssh_host_ed25519_key",
    ),
    "authorized_keys": Defect(
        lambda root: _write(root / "root/.ssh/authorized_keys", "ssh-ed25519 AAAA operator\n", 0o600),
        _checks("test_seal::test_no_authorized_keys"),
        "authorized_keys",
    ),
    "filled machine-id": Defect(
        lambda root: _write(root / "etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444),
        _checks("test_seal::test_machine_id_is_empty"),
        "machine-id",
    ),
    "world-writable file": Defect(
        lambda root: _write(root / "usr/local/share/anybody.conf", "", 0o666),
        _checks("test_seal::test_nothing_is_writable_by_everybody"),
        "/usr/local/share/anybody.conf",
    ),
    "service disabled": Defect(
        _disable, _checks("test_monai_label::test_service_is_enabled"), "monai-label.service"
    ),
    "broken venv": Defect(
        _break_venv,
        _checks("test_monai_label::test_every_file_of_the_environment_is_there",
                "test_monai_label::test_server_can_be_imported"),
        "torch",
    ),
    "build mirror in apt's settings": Defect(
        _mirror, _checks("test_seal::test_apt_sources_are_public"), "mirror.build.example"
    ),
    "wrong owner of the app": Defect(
        _own, _checks("test_monai_label::test_app_belongs_to_the_service"), "radiology"
    ),
}  # fmt: skip


def main(name: str, root: Path) -> None:
    """Plant one defect."""
    DEFECTS[name].plant(root)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    os.sync()
