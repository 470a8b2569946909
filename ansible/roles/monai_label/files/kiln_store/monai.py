"""The one place where MONAI Label learns of the store. Neither upstream nor an app is edited.

An app's ``init_datastore`` is upstream's, or calls it, and that looks up ``LocalDatastore`` among the names
of ``monailabel.interfaces.app`` when it runs. Putting our class there reaches every app, and leaves those
alone that use upstream's class by another way: the caches of a DICOMweb, which no servers share.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import StoreError
from .tree import OWN, Tree


def local(studies: str) -> bool:
    """Whether studies are a folder, and not the address of an archive."""
    return not studies.startswith(("http://", "https://"))


def use() -> None:
    """Make every app of this process keep its studies, sessions and models as servers can share them.

    Raises
    ------
    StoreError
        This release of MONAI Label picks its datastore in another way.
    """
    from monailabel.interfaces import app
    from monailabel.tasks.train import handler
    from monailabel.utils.async_tasks import utils

    from .datastore import SharedDatastore
    from .models import Shutil
    from .sessions import SharedSessions
    from .tasks import Subprocess

    _replace(
        (app, app.MONAILabelApp.init_datastore, "LocalDatastore", SharedDatastore),
        (app, app.MONAILabelApp._load_sessions, "Sessions", SharedSessions),
        (utils, utils._task_func, "subprocess", Subprocess()),
        (handler, handler.PublishStatsAndModel.iteration_completed, "shutil", Shutil()),
    )


def _replace(*rows: tuple[Any, Any, str, Any]) -> None:
    """Put ours where a module's function looks up a name, for each module, function, name and ours."""
    for module, function, name, ours in rows:
        if name not in function.__code__.co_names or not hasattr(module, name):
            raise StoreError(
                f"{module.__name__} does not look up {name} any more",
                "set KILN_SERVE_STORE=stock for one server alone, or adapt kiln_store/monai.py",
            )
        setattr(module, name, ours)


def serve(app: str, studies: str, conf: dict[str, str]) -> None:
    """Prepare a server of this process.

    Parameters
    ----------
    app:
        Folder of the app.
    studies:
        The studies folder; an address leaves everything as upstream has it.
    conf:
        Settings of the app, of which ``models`` is read.

    Raises
    ------
    StoreError
        As for :func:`use`, or the folder cannot be used.
    """
    if not local(studies):
        return
    use()
    from monailabel.config import settings
    from monailabel.endpoints import model

    from . import models

    _replace(
        (model, model.update_model, "shutil", models.Shutil()),
        (model, model.delete_model, "shutil", models.Shutil()),
    )

    Path(studies).mkdir(parents=True, exist_ok=True)
    if not settings.MONAI_LABEL_SESSION_PATH:
        with Tree(Path(studies)) as tree:
            tree.folder(f"{OWN}/sessions", make=True)
        settings.MONAI_LABEL_SESSION_PATH = str(Path(studies).absolute() / OWN / "sessions")
    if os.environ.get("KILN_STORE_MODELS", "yes") != "no":
        asked = [name.strip() for name in conf.get("models", "").split(",")]
        models.share(Path(app), Path(studies).absolute(), [name for name in asked if name and name != "all"])
