"""The Python distributions of a root's virtual environments, read from their files."""

from __future__ import annotations

import email
import re
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError

SITE_PACKAGES = ("opt/*/venv/lib/python3*/site-packages", "opt/*/lib/Python/lib/python3*/site-packages")
"""Where roles put environments, and 3D Slicer its Python. Debian's own Python modules are Debian packages."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution.

    Parameters
    ----------
    name:
        Normalised: lower case, hyphens.
    version:
        As its metadata has it, a local version (``+cu128``) included.
    licence:
        SPDX expression or short name from its metadata, None when it gives neither.
    """

    name: str
    version: str
    licence: str | None


def site_packages(root: Path) -> list[Path]:
    """Folders of the root's virtual environments that hold distributions, sorted.

    Parameters
    ----------
    root:
        Root folder.

    Returns
    -------
    list of Path
        Empty where there is no environment.
    """
    return sorted(path for pattern in SITE_PACKAGES for path in root.glob(pattern))


def installed(root: Path) -> list[Distribution]:
    """Every distribution, by name.

    Parameters
    ----------
    root:
        Root folder.

    Returns
    -------
    list of Distribution
        Sorted.

    Raises
    ------
    KilnError
        A distribution has no readable metadata, or is there in two versions: the environment is broken.
    """
    found: dict[str, Distribution] = {}
    for folder in site_packages(root):
        for info in sorted(folder.glob("*.dist-info")):
            one = _distribution(info)
            if (other := found.setdefault(one.name, one)).version != one.version:
                raise KilnError(
                    f"{one.name} is installed as {other.version} and as {one.version}",
                    "one environment holds one version of each distribution; bake again",
                )
    return sorted(found.values(), key=lambda one: one.name)


def _distribution(info: Path) -> Distribution:
    path = info / "METADATA"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    metadata = email.message_from_string(text)
    if not metadata["Name"] or not metadata["Version"]:
        raise KilnError(f"{info.name} has no metadata ({path})", "its install was cut short; bake again")
    licence = metadata["License-Expression"] or metadata["License"]
    # Old metadata holds the licence's whole text in this field; a name is short and one line.
    if licence and (len(licence) > 60 or "\n" in licence or licence.upper() == "UNKNOWN"):
        licence = None
    name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
    return Distribution(name, metadata["Version"], licence or None)
