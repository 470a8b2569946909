"""What is wrong with a version's files and with its boots: the checks of a proof that no pytest runs.

Two tables of functions; each returns a sentence, or nothing where all is well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packageurl import PackageURL

from kiln import manifest
from scripts import sbom, tree

PROBE = "kiln-proof"
"""User agent of a proof's own requests to the metadata service."""

IDENTITY = "cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub"
"""Run in a guest: its machine-id, then its public host keys, a line each."""


def _disk(version: Path, written: manifest.Manifest) -> str:
    path = version / written.disk.file
    if not path.exists():
        return f"{path.name} is missing"
    if manifest.sha256_file(path) != written.disk.sha256:
        return f"{path.name} is not the disk that was baked"
    return ""


def _root(version: Path, written: manifest.Manifest) -> str:
    if tree.digest((version / "root").resolve())[0] != written.root.digest:
        return "the root is not the one that was sealed"
    return ""


def _sbom(version: Path, written: manifest.Manifest) -> str:
    path = version / "sbom.cdx.json"
    if not path.exists():
        return f"{path.name} is missing"
    text = path.read_text(encoding="utf-8")
    sbom.validate(text)
    listed = {component["purl"].partition("?")[0] for component in json.loads(text)["components"]}
    facts = written.facts
    expected = {PackageURL("deb", "debian", name, v).to_string() for name, v in facts.packages.items()}
    expected |= {PackageURL("pypi", None, name, v).to_string() for name, v in facts.distributions.items()}
    missing = sorted(expected - listed)
    return f"{path.name} lacks {len(missing)} packages, first {missing[0]}" if missing else ""


FILES: Mapping[str, Callable[[Path, manifest.Manifest], str]] = {
    "disk digest": _disk,
    "root digest": _root,
    "sbom": _sbom,
}
"""Check → what is wrong with the files of a version folder, by its manifest."""


@dataclass(frozen=True)
class Boots:
    """What a proof saw of two boots of one disk.

    Parameters
    ----------
    ended:
        How the first shutdown ended, ``off`` or ``killed``.
    baked, after:
        Sha256 of the disk by the manifest, and after the boots.
    first, second:
        What ``IDENTITY`` said at each.
    requests:
        What the first guest asked the metadata service (:func:`scripts.imds.requests`).
    """

    ended: str
    baked: str
    after: str
    first: str
    second: str
    requests: tuple[dict[str, Any], ...]


def _shutdown(seen: Boots) -> str:
    return "" if seen.ended == "off" else "the guest did not shut down and was ended"


def _unchanged(seen: Boots) -> str:
    return "" if seen.after == seen.baked else "the boot changed the disk"


def _differ(seen: Boots) -> str:
    (one, *keys), (other, *others) = (said.split("\n") for said in (seen.first, seen.second))
    public, again = ({key.split()[1] for key in lines if key.strip()} for lines in (keys, others))
    if not (one.strip() and other.strip() and public and again):
        return "a boot has no machine-id or no host key"
    if one == other:
        return f"two boots have the same machine-id {one}"
    return "two boots have the same host key" if public & again else ""


def _metadata(seen: Boots) -> str:
    if not [asked for asked in seen.requests if asked["agent"] == PROBE]:
        return "the guest did not reach the metadata service"
    bare = [
        asked
        for asked in seen.requests
        if asked["method"] == "GET" and not asked["token"] and asked["agent"] != PROBE
    ]
    if bare:
        first = bare[0]
        return (
            f"{first['agent'] or 'a program'} asks for {first['path']} by version 1 of the metadata service"
        )
    return ""


BOOTS: Mapping[str, Callable[[Boots], str]] = {
    "shutdown": _shutdown,
    "disk unchanged": _unchanged,
    "two boots differ": _differ,
    "metadata is asked by version 2 alone": _metadata,
}
"""Check → what is wrong with the boots."""
