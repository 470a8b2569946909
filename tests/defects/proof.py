"""Defects of a version's files and of its boots, which a proof sees beside the checks of the roles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from kiln import manifest
from scripts import tree, verdicts
from tests.defects.defect import Answer, Defect, change, gone, write
from tests.unit import contract

KEY = "ssh-ed25519 AAAA{} root@kiln\n"
PURL = "pkg:deb/debian/systemd@252"


def make_version(version: Path) -> manifest.Manifest:
    """Make a version of a few bytes whose files are as its manifest says; return the manifest."""
    root = version / "root/etc"
    root.mkdir(parents=True)
    (root / "hostname").write_text("")
    (version / "image.qcow2").write_bytes(b"a disk")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "components": [{"type": "library", "name": "systemd", "version": "252", "purl": PURL}],
    }
    (version / "sbom.cdx.json").write_text(json.dumps(bill))
    made = contract.made()
    digest, *_ = tree.digest(version / "root")
    disk = made.disk.model_copy(update={"sha256": manifest.sha256_file(version / "image.qcow2")})
    return made.model_copy(update={"disk": disk, "root": made.root.model_copy(update={"digest": digest})})


def _asked(agent: str, token: bool, status: int) -> dict[str, Any]:
    path = "/latest/meta-data/instance-id"
    return {"method": "GET", "path": path, "agent": agent, "token": token, "status": status}


SOUND_BOOTS = verdicts.Boots(
    ended="off",
    baked="0" * 64,
    after="0" * 64,
    first="1" * 32 + "\n" + KEY.format("1"),
    second="2" * 32 + "\n" + KEY.format("2"),
    requests=(_asked(verdicts.PROBE, False, 401), _asked(verdicts.PROBE, True, 200)),
)


def _files(*names: str) -> frozenset[str]:
    return frozenset(f"files::{name}" for name in names)


def _boot(*names: str) -> frozenset[str]:
    return frozenset(f"boot::{name}" for name in names)


FILES = [
    Defect("another disk", write("image.qcow2", "b disk"), _files("disk digest"), ("not the disk",)),
    Defect("no disk", gone("image.qcow2"), _files("disk digest"), ("image.qcow2 is missing",)),
    Defect(
        "a root that was changed after the seal",
        write("root/etc/hostname", "x"),
        _files("root digest"),
        ("not the one that was sealed",),
    ),
    Defect("no bill of materials", gone("sbom.cdx.json"), _files("sbom"), ("sbom.cdx.json is missing",)),
    Defect(
        "a bill that lacks a package",
        change("sbom.cdx.json", "systemd@252", "systemd@251"),
        _files("sbom"),
        ("lacks 1 packages, first pkg:deb/debian/systemd@252",),
    ),
]

DISK = [
    Defect(
        "a boot that wrote to the disk",
        write("image.qcow2", "b disk"),
        _boot("disk unchanged"),
        ("the boot changed the disk",),
    ),
]
"""What a boot may do to the files of a version."""

BOOTS = [
    Answer("no shutdown", ("ended",), "killed", _boot("shutdown"), ("was ended",)),
    Answer("boot writes to the disk", ("after",), "1" * 64, _boot("disk unchanged"), ("changed the disk",)),
    Answer(
        "machine-id of the image",
        ("second",),
        "1" * 32 + "\n" + KEY.format("2"),
        _boot("two boots differ"),
        ("the same machine-id 1111",),
    ),
    Answer(
        "host key of the image",
        ("second",),
        "2" * 32 + "\n" + KEY.format("1"),
        _boot("two boots differ"),
        ("the same host key",),
    ),
    Answer(
        "boot without host keys", ("first",), "1" * 32 + "\n", _boot("two boots differ"), ("no host key",)
    ),
    Answer(
        "program that asks for metadata by version 1",
        ("requests",),
        (*SOUND_BOOTS.requests, _asked("old-agent/1", False, 401)),
        _boot("metadata is asked by version 2 alone"),
        ("old-agent/1 asks for /latest/meta-data/instance-id by version 1",),
    ),
    Answer(
        "no way to the metadata service",
        ("requests",),
        (),
        _boot("metadata is asked by version 2 alone"),
        ("did not reach",),
    ),
]

CHECKS = {
    *_files(*verdicts.FILES),
    *_boot(*verdicts.BOOTS),
}
"""Every check of this kind."""


def refused_files(row: Defect | None, version: Path) -> dict[str, str]:
    """Plant a row in a version; return the checks that fail, with what they say."""
    written = make_version(version)
    if row is not None:
        row.plant(version)
    found = {f"files::{name}": wrong(version, written) for name, wrong in verdicts.FILES.items()}
    return {name: said for name, said in found.items() if said}


def refused_disk(row: Defect | None, version: Path) -> dict[str, str]:
    """Plant a row in a version that was baked, as its boots would; return the checks that fail."""
    written = make_version(version)
    if row is not None:
        row.plant(version)
    after = manifest.sha256_file(version / written.disk.file)
    return _refused(dataclasses.replace(SOUND_BOOTS, baked=written.disk.sha256, after=after))


def refused_boots(row: Answer | None) -> dict[str, str]:
    """Checks that fail over two boots, sound but for a row."""
    seen = SOUND_BOOTS if row is None else dataclasses.replace(SOUND_BOOTS, **{row.where[0]: row.says})
    return _refused(seen)


def _refused(seen: verdicts.Boots) -> dict[str, str]:
    found = {f"boot::{name}": wrong(seen) for name, wrong in verdicts.BOOTS.items()}
    return {name: said for name, said in found.items() if said}
