"""3D Slicer as a local bake gets it: what kiln.toml pins, else the stand-in of our tests."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kiln import config, paths
from kiln.errors import KilnError
from kiln.manifest import sha256_file
from kiln.slicer import FACTS, ROLE, preferences
from kiln.slicer import variables as pinned
from scripts import cache, mirrors, proc

STAND_IN = "tests.slicer.standin"
"""Program of the checkout that makes the stand-in; the bake side imports nothing of the tests."""

_ARCHIVES = {"slicer": "slicer", "slicer_extension": "extension"}
"""Start of the role's variables, and folder of the cache → what the program calls the archive."""

_BY_HAND = f"try it by hand: .venv/bin/python -m {STAND_IN} FOLDER"


@dataclass(frozen=True)
class Choice:
    """What a bake installs.

    Parameters
    ----------
    variables:
        Of the role.
    lent:
        Files that the build container sees, as of :func:`scripts.mirrors.lend`.
    """

    variables: dict[str, object] = dataclasses.field(default_factory=dict)
    lent: dict[str, Path] = dataclasses.field(default_factory=dict)


class Extension(BaseModel):
    """The extension in :class:`Installed`."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, description="its name")
    archive: str = Field(min_length=1, description="name of its archive, without the suffix")
    revision: str = Field(pattern=r"^\d+$", description="revision of Slicer that it was built for")
    path: str = Field(pattern=r"^/", description="folder that its module lies in")


class Installed(BaseModel):
    """What the role says in a root that it has installed there."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["real", "stand-in"] = Field(description="origin")
    version: str = Field(pattern=r"^\d+(\.\d+)+$", description="release of 3D Slicer")
    revision: str = Field(pattern=r"^\d+$", description="number that its extensions are built for")
    home: str = Field(pattern=r"^/", description="folder that it lies in")
    extension: Extension = Field(description="the extension MONAILabel")


def installed(root: Path) -> Installed | None:
    """Read what a root has of 3D Slicer.

    Parameters
    ----------
    root:
        Root folder.

    Returns
    -------
    Installed or None
        None where the role has not run.

    Raises
    ------
    KilnError
        The role's word cannot be read.
    """
    path = root / FACTS
    if not path.exists():
        return None
    try:
        return Installed.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise KilnError(f"{path}: {where}: {first['msg']}", "the role slicer writes it: bake again") from None


def choose(image: config.Image, roles: Sequence[str], say: Callable[[str], None] = lambda _: None) -> Choice:
    """Choose the Slicer of an image, and make the stand-in where it has none.

    Parameters
    ----------
    image:
        Its section of kiln.toml.
    roles:
        Roles of its playbook.
    say:
        Told that it is a stand-in.

    Returns
    -------
    Choice
        Nothing for an image without the role.

    Raises
    ------
    KilnError
        The stand-in cannot be made.
    """
    if ROLE not in roles:
        return Choice()
    if image.slicer is not None and image.slicer.linux is not None:
        return Choice(pinned(image.slicer, "linux"))
    say("kiln.toml pins no 3D Slicer for Linux: a stand-in is baked, which the channel stable refuses")
    made, lent = _stand_in(say)
    return Choice(made | preferences(image.slicer), lent)


def _stand_in(say: Callable[[str], None]) -> tuple[dict[str, object], dict[str, Path]]:
    """Make the stand-in; return the role's variables, and its archives in the cache."""
    what = "making the stand-in of 3D Slicer"
    with tempfile.TemporaryDirectory(prefix="kiln-slicer-") as folder:
        text = proc.output(
            [sys.executable, "-m", STAND_IN, folder],
            what=what,
            env={**os.environ, "PYTHONPATH": str(paths.ROOT)},
        )
        try:
            said = json.loads(text)
            variables = {f"slicer_{key}": str(said[key]) for key in ("version", "revision")}
            made = {role: Path(folder) / said[key] for role, key in _ARCHIVES.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise KilnError(f"{what}: it did not say what it made: {error!r}", _BY_HAND) from None
        lent = {}
        for role, path in made.items():
            if not path.is_file():
                raise KilnError(f"{what}: it did not make {path.name}", _BY_HAND)
            digest = sha256_file(path)
            kept = paths.cache_dir() / role / f"{digest[:16]}.tar"
            if not cache.ready(kept, path.name, say):
                cache.keep(path, kept)
            lent[path.name] = kept
            variables |= {f"{role}_url": f"file://{mirrors.INSIDE / path.name}", f"{role}_sha256": digest}
    return {"slicer_kind": "stand-in", **variables}, lent
