"""Trained models on the share: what one server has trained, every server infers with.

The app looks for a trained model in its own folder, ``model/<name>.pt``, and for how the training went in
``model/<name>/train_stats.json``. Both become links to the share. Upstream copies onto them in their place
after each epoch, and when somebody uploads a model; here a copy takes the place of the file as a whole, so
that no peer loads half a model. A model that is deleted is set aside on the share, for all.
Checkpoints and caches of a training stay on the machine.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import names
from .errors import RefusedError
from .tree import OWN, Tree, put

logger = logging.getLogger(__name__)

FOLDER = f"{OWN}/models"


def share(app: Path, studies: Path, models: Iterable[str]) -> None:
    """Let an app find the trained models of a share.

    Parameters
    ----------
    app:
        Folder of the app.
    studies:
        The studies folder.
    models:
        Names of the models, as the app's setting has them.

    Raises
    ------
    OSError
        A link cannot be made.
    """
    with Tree(studies) as tree:
        tree.folder(FOLDER, make=True)
    for name in models:
        try:
            names.plain(name, "a model")
        except RefusedError as error:
            logger.warning("%s", error)
            continue
        _link(app / "model" / f"{name}.pt", studies / FOLDER / f"{name}.pt")
        _link(app / "model" / name / "train_stats.json", studies / FOLDER / f"{name}.json")


def _link(here: Path, there: Path) -> None:
    """Make a link, and bring what was trained before to the share if it has none."""
    if here.is_symlink():
        if here.readlink() == there:
            return
        here.unlink(missing_ok=True)
    elif here.exists():
        if there.exists():
            logger.warning("%s stays in use: %s is there as well", here, there)
            return
        publish(here, there)
        here.unlink()
    here.parent.mkdir(parents=True, exist_ok=True)
    try:
        here.symlink_to(there)
    except FileExistsError:
        pass  # another server of this machine was quicker


def publish(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file so that it takes another's place as a whole, durably; a link stays one.

    Raises
    ------
    OSError
        It cannot be copied. What was there before still is.
    """
    place = Path(target).resolve()
    with Tree(place.parent) as tree, Path(source).open("rb") as stream:
        with tree.part("") as (part, file):
            while piece := stream.read(1 << 20):
                put(file, piece)
        tree.move(part, place.name)
        tree.sync("")


def withdraw(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Move a file. Of a link, the file that it leads to gets the new name where it is, and the link stays.

    Raises
    ------
    OSError
        It is not there, or cannot be moved.
    """
    if not Path(source).is_symlink():
        shutil.move(source, target)
        return
    place = Path(source).resolve(strict=True)
    with Tree(place.parent) as tree:
        tree.move(place.name, Path(target).name)
        tree.sync("")


class Shutil:
    """The module shutil for one that copies and deletes models: whole, and for all who share them."""

    copy = staticmethod(publish)
    move = staticmethod(withdraw)

    def __getattr__(self, name: str) -> Any:
        return getattr(shutil, name)
