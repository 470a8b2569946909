"""The bill of materials is valid, complete and the same each time; an invalid one is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kiln.errors import KilnError
from scripts import sbom, slicer
from tests.unit.roots import SITE, add_distribution, put

STATUS = """\
Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.17-1~deb12u2)
Version: 1:3.0.17-1~deb12u2+b1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2025b-0+deb12u2

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0
"""
NAMES: dict[str, Any] = {
    "image": "monai-label",
    "version": "20261123T050000Z-0123abcd",
    "created": datetime(2026, 11, 23, 5, tzinfo=UTC),
    "root_digest": "a" * 64,
    "input_digest": "b" * 64,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    put(root / "var/lib/dpkg/status", STATUS)
    put(root / "etc/debian_version", "12.12\n")
    add_distribution(root, "torch", "2.10.0", "License-Expression: BSD-3-Clause\n")
    put(root / SITE / "torch/version.py", "__version__ = '2.10.0+cu128'\n")
    add_distribution(root, "highdicom", "0.24.0+local.1")
    add_distribution(root, "numpymaxflow", "0.0.7", "License: Apache License 2.0\n")
    add_distribution(root, "tifffile", "2025.1.1", f"License: {'a whole text ' * 20}\n")
    add_distribution(root, "monai-label", "0.8.5", "License: UNKNOWN\n")
    return root


def test_it_holds_every_package_and_distribution(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "sbom.cdx.json"
    assert sbom.write(root, path, **NAMES) == 7
    document = json.loads(path.read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    components = {one["purl"]: one for one in document["components"]}
    assert set(components) == {
        "pkg:deb/debian/libssl3@1:3.0.17-1~deb12u2%2Bb1?arch=amd64&distro=debian-12",
        "pkg:deb/debian/tzdata@2025b-0%2Bdeb12u2?arch=all&distro=debian-12",
        "pkg:pypi/highdicom@0.24.0%2Blocal.1",
        "pkg:pypi/monai-label@0.8.5",
        "pkg:pypi/numpymaxflow@0.0.7",
        "pkg:pypi/tifffile@2025.1.1",
        "pkg:pypi/torch@2.10.0",
    }
    libssl = components["pkg:deb/debian/libssl3@1:3.0.17-1~deb12u2%2Bb1?arch=amd64&distro=debian-12"]
    assert libssl["properties"] == [{"name": "kiln:debian:source", "value": "openssl@3.0.17-1~deb12u2"}]
    torch = components["pkg:pypi/torch@2.10.0"]
    assert (torch["version"], torch["licenses"][0]["license"]["id"]) == ("2.10.0", "BSD-3-Clause")
    assert torch["properties"] == [{"name": "kiln:python:build", "value": "2.10.0+cu128"}]
    assert "properties" not in components["pkg:pypi/numpymaxflow@0.0.7"]
    assert "licenses" not in components["pkg:pypi/tifffile@2025.1.1"]

    subject = document["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("monai-label", NAMES["version"])
    assert {"name": "kiln:root-digest", "value": "sha256:" + "a" * 64} in subject["properties"]
    (whole,) = [one for one in document["dependencies"] if one["ref"] == subject["bom-ref"]]
    assert set(whole["dependsOn"]) == {one["bom-ref"] for one in document["components"]}


def test_it_holds_slicer_and_its_extension(root: Path, tmp_path: Path) -> None:
    wrote = {
        "kind": "stand-in", "version": "5.10.0", "revision": "34045", "home": "/opt/slicer",
        "extension": {
            "name": "MONAILabel", "archive": "34045-linux-amd64-MONAILabel-git1a2b3c4-2026-01-02",
            "revision": "34045", "path": "/opt",
        },
    }  # fmt: skip
    put(root / slicer.FACTS, json.dumps(wrote))
    path = tmp_path / "sbom.cdx.json"
    assert sbom.write(root, path, **NAMES) == 9
    components = {one["purl"]: one for one in json.loads(path.read_text())["components"]}
    assert components.keys() >= {
        "pkg:generic/slicer@5.10.0",
        "pkg:generic/MONAILabel@git1a2b3c4-2026-01-02",
    }
    assert {"name": "kiln:slicer:kind", "value": "stand-in"} in components["pkg:generic/slicer@5.10.0"][
        "properties"
    ]


def test_it_is_the_same_each_time_and_another_for_another_root(root: Path, tmp_path: Path) -> None:
    texts = []
    for number, names in enumerate((NAMES, NAMES, NAMES | {"root_digest": "c" * 64})):
        sbom.write(root, tmp_path / str(number), **names)
        texts.append((tmp_path / str(number)).read_text())
    assert texts[0] == texts[1]
    serials = {json.loads(text)["serialNumber"] for text in texts}
    assert len(serials) == 2


DEFECTS: dict[str, dict[str, Any]] = {
    "unknown key": {"kiln": 1},
    "bad serial number": {"serialNumber": "urn:uuid:kiln"},
    "component without a name": {"components": [{"type": "library", "version": "1"}]},
    "component of an unknown type": {"components": [{"type": "wheel", "name": "torch"}]},
    "component twice": {"components": [{"type": "library", "name": "torch"}] * 2},
    "unknown licence": {
        "components": [{"type": "library", "name": "a", "licenses": [{"license": {"id": "Mine-1.0"}}]}]
    },
}


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_an_invalid_one_is_refused(root: Path, tmp_path: Path, defect: dict[str, Any]) -> None:
    path = tmp_path / "sbom.cdx.json"
    sbom.write(root, path, **NAMES)
    document = json.loads(path.read_text())
    sbom.validate(json.dumps(document))
    with pytest.raises(KilnError, match=r"not valid CycloneDX 1\.6: ."):
        sbom.validate(json.dumps(document | defect))


def test_a_root_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="no var/lib/dpkg/status"):
        sbom.write(tmp_path, tmp_path / "sbom.cdx.json", **NAMES)
    assert not (tmp_path / "sbom.cdx.json").exists()
