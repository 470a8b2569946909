"""What kiln.toml says of 3D Slicer: which build, where its archives are, which server it asks first."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from kiln import mistakes
from kiln.errors import UsageError
from kiln.mistakes import Section

System = Literal["linux", "windows"]

Address = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]+(:\d{1,5})?(/\S*)?$")]

ROLE = "slicer"
"""The role that installs it."""

FACTS = "etc/kiln/slicer.json"
"""Where that role writes, in a root, what it has installed."""


class Download(Section):
    """A file that is pinned; ``kiln pins learn URL`` writes the table."""

    url: Annotated[str, StringConstraints(pattern=r"^(https?|file)://\S+$")] = Field(
        description="where it is downloaded from: http, https or file",
        examples=["https://example.org/slicer.tar.gz"],
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="of the whole file, in hexadecimal", examples=["0123456789abcdef" * 4]
    )


class Archives(Section):
    """``[image.NAME.slicer.linux]`` and ``windows``: what is installed on one system."""

    slicer: Download = Field(
        description="3D Slicer itself: its installer on Windows, its archive on Linux",
        examples=[{"url": "https://example.org/slicer.tar.gz", "sha256": "0123456789abcdef" * 4}],
    )
    extension: Download = Field(
        description="the extension MONAILabel, built for just this revision of Slicer",
        examples=[{"url": "https://example.org/monailabel.tar.gz", "sha256": "0123456789abcdef" * 4}],
    )


class Slicer(Section):
    """``[image.NAME.slicer]``: 3D Slicer itself; without it a local bake takes a stand-in of our tests."""

    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")] = Field(
        description="release of 3D Slicer", examples=["5.10.0"]
    )
    revision: Annotated[str, StringConstraints(pattern=r"^\d{4,6}$")] = Field(
        description="number with which the names of its extensions begin; another one's do not load",
        examples=["34045"],
    )
    server_url: (
        Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.-]+(:\d+)?(/\S*)?$")] | None
    ) = Field(
        default=None,
        description="server that Slicer asks where its session names none; default is the role's",
        examples=["http://monai-label.kiln.internal"],
    )
    linux: Archives | None = Field(
        default=None, description="for Linux, which a local bake installs; none bakes the stand-in"
    )
    windows: Archives | None = Field(
        default=None, description="for Windows, which a builder and a bake on AWS install"
    )

    @model_validator(mode="after")
    def _an_extension_is_of_its_revision(self) -> Slicer:
        for system in ("linux", "windows"):
            archives: Archives | None = getattr(self, system)
            if archives is None:
                continue
            name = archives.extension.url.rpartition("/")[2]
            first = name.partition("-")[0]
            # A name without a number tells nothing: then Slicer itself judges, in the role.
            if first.isdecimal() and first != self.revision:
                raise mistakes.hinted(
                    f"{name} is for revision {first}, and Slicer is {self.revision}",
                    f"take the extension whose name begins with {self.revision}-",
                    at=(system, "extension", "url"),
                )
        return self


def variables(found: Slicer | None, system: System) -> dict[str, object]:
    """Return the variables of the role for a system.

    Parameters
    ----------
    found:
        ``[image.NAME.slicer]``, None where kiln.toml has none.
    system:
        What the image runs.

    Returns
    -------
    dict
        Variable → value.

    Raises
    ------
    UsageError
        kiln.toml does not say what is installed there.
    """
    archives: Archives | None = getattr(found, system) if found else None
    if found is None or archives is None:
        raise UsageError(
            f"kiln.toml pins no 3D Slicer for {system.capitalize()}, and a stand-in is for local bakes alone",
            f"add [image.NAME.slicer] with version, revision, {system}; kiln pins learn URL tells a sha256",
        )
    said: dict[str, object] = {
        "slicer_kind": "real",
        "slicer_version": found.version,
        "slicer_revision": found.revision,
        "slicer_url": archives.slicer.url,
        "slicer_sha256": archives.slicer.sha256,
        "slicer_extension_url": archives.extension.url,
        "slicer_extension_sha256": archives.extension.sha256,
    }
    return said | preferences(found)


def preferences(found: Slicer | None) -> dict[str, object]:
    """Return the variables that do not depend on which Slicer is installed, the stand-in's included."""
    return {"slicer_server_url": found.server_url} if found and found.server_url else {}
