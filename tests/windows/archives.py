"""What the host downloads in a rehearsal: what stands for the installer, the extension and the driver."""

from __future__ import annotations

import zipfile
from io import BytesIO
from typing import Any

from tests.windows.machine import Machine

VERSION, REVISION = "5.10.0", "34045"

SLICER = "https://downloads.example.org/Slicer-{version}-win-amd64.exe"
EXTENSION = "https://downloads.example.org/{revision}-win-amd64-MONAILabel.zip"
GRID = "windows/latest/582.16_grid_win10_win11_server2022_dch_64bit_international_aws_swl.exe"


def installer(revision: str = REVISION, stand_in: bool = False) -> bytes:
    """Return an installer: a ZIP archive of what it holds besides the programs."""
    held = {
        "bin/SlicerLauncherSettings.ini": f"[Application]\nname=Slicer\nrevision={revision}\n",
        "lib/Slicer-5.10/qt-scripted-modules/Home.py": "",
        "COPYRIGHT.txt": "",
        "share/doc/Slicer-5.10/License.txt": "",
    }
    if stand_in:
        held["STAND-IN"] = ""
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in held.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return made.getvalue()


def extension(revision: str = REVISION) -> bytes:
    """Return the archive of the extension, which only says for which Slicer it was built."""
    return f"{revision}-win-amd64-MONAILabel-git0a1b2c3-2026-06-01\n".encode()


def offered(machine: Machine, version: str = VERSION, revision: str = REVISION) -> dict[str, Any]:
    """Put both archives on the network; return the variables of the role slicer that name them."""
    slicer, extends = SLICER.format(version=version), EXTENSION.format(revision=revision)
    return {
        "slicer_version": version,
        "slicer_revision": revision,
        "slicer_url": slicer,
        "slicer_sha256": machine.serve(slicer, installer(revision)),
        "slicer_extension_url": extends,
        "slicer_extension_sha256": machine.serve(extends, extension(revision)),
    }


def driver(machine: Machine) -> dict[str, Any]:
    """Put a driver into the bucket; return the variables of the role slicer that name it."""
    content = b"a driver"
    return {
        "slicer_grid_key": GRID,
        "slicer_grid_sha256": machine.serve(f"s3://ec2-windows-nvidia-drivers/{GRID}", content),
    }
