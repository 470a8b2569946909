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
from kiln.slicer import FACTS, ROLE, preferences, variables
from scripts import cache, mirrors, proc

STAND_IN = "tests.slicer.standin"
"""Program of the checkout that makes the stand-in; the bake side imports nothing of the tests."""

_ARCHIVES = ("slicer", "slicer_extension")
"""What it makes: the start of the role's variables, and the folder of the cache."""

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


class Installed(BaseModel):
    """What the role says in a root that it has installed there."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["real", "stand-in"] = Field(description="origin")
    version: str = Field(pattern=r"^\d+(\.\d+)+$", description="release of 3D Slicer")
    revision: str = Field(pattern=r"^\d+$", description="number that its extensions are built for")
    home: str = Field(pattern=r"^/", description="folder that it lies in")
    extension: str = Field(min_length=1, description="name of the extension's archive, without its suffix")


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
        return Choice(variables(image.slicer, "linux"))
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
            said: dict[str, object] = json.loads(text)
            made = {key: Path(folder) / Path(str(said[f"{key}_url"])).name for key in _ARCHIVES}
            stated = {key: said[f"{key}_sha256"] for key in _ARCHIVES}
        except (ValueError, KeyError, TypeError) as error:
            raise KilnError(f"{what}: it did not say what it made: {error!r}", _BY_HAND) from None
        lent = {}
        for key, path in made.items():
            digest = sha256_file(path)
            if digest != stated[key]:
                raise KilnError(f"{what}: the sha256 of {path.name} is not what it says", _BY_HAND)
            kept = paths.cache_dir() / key / f"{digest[:16]}.tar"
            if not cache.ready(kept, path.name, say):
                cache.keep(path, kept)
            lent[path.name] = kept
            said[f"{key}_url"] = f"file://{mirrors.INSIDE / path.name}"
    return said, lent
