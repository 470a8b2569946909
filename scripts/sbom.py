"""The software bill of materials of an image: its packages, Python distributions and 3D Slicer.

debsbom was looked at: it knows Debian packages only, so the Python half would have to be merged into its
file, and it reads the same dpkg status that the facts are read from.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.component import Component, ComponentType
from packageurl import PackageURL

from kiln import sbom
from kiln.sbom import validate as validate
from scripts import distributions, dpkg, facts, slicer


def write(
    root: Path,
    path: Path,
    *,
    image: str,
    version: str,
    created: datetime,
    root_digest: str,
    input_digest: str,
) -> int:
    """Write the bill of materials of a root.

    Parameters
    ----------
    root:
        The sealed root folder.
    path:
        File to write.
    image, version, created, root_digest, input_digest:
        As in the manifest.

    Returns
    -------
    int
        Number of components.

    Raises
    ------
    KilnError
        The packages cannot be read, or the document is not valid CycloneDX; nothing is written then.
    """
    subject = Component(
        type=ComponentType.OPERATING_SYSTEM,
        name=image,
        version=version,
        bom_ref=f"{image}@{version}",
        properties=[
            Property(name="kiln:root-digest", value=f"sha256:{root_digest}"),
            Property(name="kiln:input-digest", value=f"sha256:{input_digest}"),
        ],
    )
    components = [*_debian(root), *_python(root), *_slicer(root)]
    text = sbom.text(subject, components, root_digest, created)
    path.write_text(text, encoding="utf-8")
    return len(components)


def _debian(root: Path) -> Iterable[Component]:
    packages = dpkg.installed(root)
    release = facts.debian_version(root).split(".")[0]
    for package in packages:
        qualifiers = {"arch": package.architecture, "distro": f"debian-{release}"}
        purl = PackageURL("deb", "debian", package.name, package.version, qualifiers)
        source = f"{package.source}@{package.source_version}"
        yield Component(
            type=ComponentType.LIBRARY,
            name=package.name,
            version=package.version,
            purl=purl,
            bom_ref=purl.to_string(),
            # Debian's advisories name source packages.
            properties=[Property(name="kiln:debian:source", value=source)],
        )


def _python(root: Path) -> Iterable[Component]:
    licences = LicenseFactory()
    for one in distributions.installed(root):
        purl = PackageURL("pypi", None, one.name, one.version)
        # PyPI's torch is 2.10.0, and advisories know it as that; which build it is, only torch itself says.
        build = facts.torch_build(root)[0] if one.name == "torch" else one.version
        yield Component(
            type=ComponentType.LIBRARY,
            name=one.name,
            version=one.version,
            purl=purl,
            bom_ref=purl.to_string(),
            properties=[Property(name="kiln:python:build", value=build)] if build != one.version else [],
            licenses=[licences.make_from_string(one.licence)] if one.licence else [],
        )


def _slicer(root: Path) -> Iterable[Component]:
    """3D Slicer and its extension, which no package manager knows."""
    found = slicer.installed(root)
    if found is None:
        return
    # 34045-linux-amd64-MONAILabel-git1a2b3c4-2026-01-02: what stands behind the name is its own version.
    name, own = found.extension.name, found.extension.archive.rpartition(f"-{found.extension.name}-")[2]
    for part, version in (("slicer", found.version), (name, own)):
        purl = PackageURL("generic", None, part, version)
        yield Component(
            type=ComponentType.APPLICATION,
            name=part,
            version=version,
            purl=purl,
            bom_ref=purl.to_string(),
            properties=[
                Property(name="kiln:slicer:kind", value=found.kind),
                Property(name="kiln:slicer:revision", value=found.revision),
            ],
        )
