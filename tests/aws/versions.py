"""Versions with a disk of a few megabytes, as a bake and a proof leave them: all that ``publish`` reads."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kiln import manifest
from launch.disk import BLOCK
from tests.unit import contract

VERSION = contract.VERSION
LATER = "20260203T040506Z-89abcdef"

TAIL = 512
"""The disk does not end with a whole block."""


def content(index: int) -> bytes:
    """A block that is its own in every disk: the same bytes for the same index, none like another's."""
    seed = hashlib.sha256(b"block %d" % index).digest()
    return seed * (BLOCK // len(seed))


def write_disk(path: Path, full: Iterable[int], blocks: int, *, zeros: Iterable[int] = ()) -> None:
    """Make a compressed qcow2, as a bake does.

    Parameters
    ----------
    path:
        Of the image.
    full:
        Blocks that hold something.
    blocks:
        How many there are; the last is of :data:`TAIL` bytes.
    zeros:
        Blocks that are written, with zeros: qemu-img cannot know that they are.
    """
    raw = path.with_suffix(".raw")
    with raw.open("wb") as stream:
        for index in full:
            stream.seek(index * BLOCK)
            stream.write(content(index) if index < blocks - 1 else content(index)[:TAIL])
        stream.truncate((blocks - 1) * BLOCK + TAIL)
    options = ["-c", "-o", "compression_type=zstd"]
    command = ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", *options, str(raw), str(path)]
    subprocess.run(command, check=True)
    raw.unlink()
    for index in zeros:
        write = f"write -P 0 {index * BLOCK} {BLOCK}"
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", write, str(path)], check=True, capture_output=True)


def put(
    build: Path,
    image: str = "monai-label",
    version: str = VERSION,
    *,
    full: Iterable[int] = (0, 1, 5, 6),
    blocks: int = 7,
    zeros: Iterable[int] = (3,),
    verdict: str | None = "passed",
    sbom: bool = True,
) -> Path:
    """Put a version in a build folder; returns its folder.

    Parameters
    ----------
    build, image, version:
        Where, and what it is called.
    full, blocks, zeros:
        As of :func:`write_disk`.
    verdict:
        Of its proof; None leaves it without one.
    sbom:
        Whether it has one.
    """
    folder = build / image / version
    folder.mkdir(parents=True)
    disk = folder / "image.qcow2"
    write_disk(disk, full, blocks, zeros=zeros)
    described = manifest.Disk(
        file=disk.name,
        format="qcow2",
        sha256=manifest.sha256_file(disk),
        bytes=disk.stat().st_size,
        virtual_bytes=(blocks - 1) * BLOCK + TAIL,
        root_uuid="6c0f5d3e-0001-4000-8000-000000000001",
    )
    made = contract.made(image, version).model_copy(update={"disk": described})
    _finish(folder, made, verdict, sbom=sbom)
    return folder


def put_from_aws(
    build: Path, ami: str, image: str = "monai-label", version: str = VERSION, *, region: str = "us-east-1"
) -> Path:
    """Put a version whose AMI Packer made, with the manifest of its post-processor; returns its folder."""
    folder = build / image / version
    folder.mkdir(parents=True)
    made = contract.made(image, version)
    made = made.model_copy(update={"inputs": made.inputs.model_copy(update={"destination": "aws"})})
    (folder / "packer-manifest.json").write_text(json.dumps(packer_manifest({region: ami}, version)))
    _finish(folder, made, "passed", sbom=True)
    return folder


def packer_manifest(amis: dict[str, str], version: str) -> dict[str, Any]:
    """What Packer's post-processor ``manifest`` writes of an amazon-ebs build."""
    return {
        "builds": [
            {
                "name": "image",
                "builder_type": "amazon-ebs",
                "build_time": 1767323045,
                "files": None,
                "artifact_id": ",".join(f"{region}:{ami}" for region, ami in amis.items()),
                "packer_run_uuid": "5a1d8b2c-0000-4000-8000-000000000000",
                "custom_data": {"version": version, "run_id": "bake-1"},
            }
        ],
        "last_run_uuid": "5a1d8b2c-0000-4000-8000-000000000000",
    }


def _finish(folder: Path, made: manifest.Manifest, verdict: str | None, *, sbom: bool) -> None:
    (folder / "manifest.json").write_text(made.model_dump_json(indent=1))
    if sbom:
        (folder / "sbom.cdx.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    if verdict:
        (folder / "proof.json").write_text(contract.checked(folder, verdict).model_dump_json(indent=1))
    if verdict == "passed":
        link = folder.parent / "latest"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
