"""A guest for long sessions: it runs the proven image, or the disk that KILN_GUEST_IMAGE names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiln import paths
from scripts.guest import Guest


@pytest.fixture(scope="session")
def disk() -> Path:
    """The disk of the image."""
    named = os.environ.get("KILN_GUEST_IMAGE")
    path = Path(named) if named else paths.build_dir() / "monai-label/latest/image.qcow2"
    assert path.is_file(), f"{path} is missing: run make bake"
    return path.resolve()


@pytest.fixture(scope="session")
def guest(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A guest that reaches this machine and has booted to the end."""
    work = tmp_path_factory.mktemp("guest")
    with Guest(disk, work, work / "serial.log", online=True, progress=print) as running:
        running.wait_ssh()
        running.wait_running()
        yield running
