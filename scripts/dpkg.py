"""The Debian packages of a root, read from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822

from kiln.errors import KilnError

STATUS = "var/lib/dpkg/status"


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package.

    Parameters
    ----------
    name, version, architecture:
        As in dpkg's status.
    source, source_version:
        The source package it was built from, by which Debian's security advisories go.
    """

    name: str
    version: str
    architecture: str
    source: str
    source_version: str


def installed(root: Path) -> list[Package]:
    """Every installed package, by name and architecture.

    Parameters
    ----------
    root:
        Root folder.

    Returns
    -------
    list of Package
        Sorted.

    Raises
    ------
    KilnError
        There is no dpkg status, or it names a package that is neither installed nor removed (half-configured
        and the like): such a root is not finished.
    """
    path = root / STATUS
    try:
        with path.open(encoding="utf-8") as stream:
            paragraphs = list(Deb822.iter_paragraphs(stream))
    except FileNotFoundError:
        raise KilnError(
            f"{root} has no {STATUS}", "it is not the root of a Debian system; bake again"
        ) from None
    packages = []
    for paragraph in paragraphs:
        name, state = paragraph["Package"], paragraph["Status"].split()[-1]
        if state in ("config-files", "not-installed"):
            continue
        if state != "installed":
            raise KilnError(
                f"package {name} is {state}, not installed", "read the bake's log for dpkg's error"
            )
        packages.append(_package(paragraph))
    return sorted(packages, key=lambda package: (package.name, package.architecture))


def _package(paragraph: Deb822) -> Package:
    version = paragraph["Version"]
    # "Source: name (version)", with the parts left out that equal the package's own.
    source, _, source_version = paragraph.get("Source", paragraph["Package"]).partition(" ")
    return Package(
        name=paragraph["Package"],
        version=version,
        architecture=paragraph["Architecture"],
        source=source,
        source_version=source_version.strip("()") or version,
    )
