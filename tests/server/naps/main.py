"""An app whose one model sleeps as long as it is asked to: a long inference, without an hour of processor."""

from __future__ import annotations

import shutil
import tempfile
import time
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType


class Nap(InferTask):  # type: ignore[misc]
    """Blocks the server's loop as a model on a GPU does, and answers with the image itself."""

    def __init__(self) -> None:
        super().__init__(type=InferType.SEGMENTATION, labels={"nap": 1}, dimension=3, description="sleeps")

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        time.sleep(float(request.get("seconds", 0)))
        with (
            tempfile.NamedTemporaryFile(suffix=".nii.gz", delete=False) as file,
            open(request["image"], "rb") as image,
        ):
            shutil.copyfileobj(image, file)
        return file.name, {"slept": request.get("seconds", 0)}

    def is_valid(self) -> bool:
        return True


class Naps(MONAILabelApp):  # type: ignore[misc]
    """The app."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        super().__init__(app_dir, studies, conf, name="Naps", description="sleeps", version="1")

    def init_infers(self) -> dict[str, Any]:
        return {"nap": Nap()}

    def init_trainers(self) -> dict[str, Any]:
        return {}

    def init_strategies(self) -> dict[str, Any]:
        return {}
