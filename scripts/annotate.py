"""What a clinician's session does, by the real client: the same program on the host and beside the server.

Runs with nothing of kiln installed, in the image's own environment too: ``python annotate.py URL FOLDER``.
``KILN_LOGIN=NAME:PASSWORD`` logs in first, where the server has a gateway before it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException
from numpy.typing import NDArray

IMAGE = "kiln_synthetic_ct"
MODEL = "segmentation_spleen"
SHAPE = (72, 72, 56)  # voxels
SPACING = (1.5, 1.5, 2.0)  # mm


def volume(seed: int = 1) -> nibabel.Nifti1Image:
    """Make a synthetic abdominal CT.

    Parameters
    ----------
    seed:
        Of the noise.

    Returns
    -------
    nibabel.Nifti1Image
        int16 Hounsfield units of shape ``SHAPE``: air −1000, body 40, liver 110, spleen 130, spine 500,
        with Gaussian noise of 15.
    """
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    values = np.full(SHAPE, -1000.0)
    organs = (
        (40, (0, 0, 0), (0.85, 0.7, np.inf)),
        (110, (0.35, 0, 0), (0.35, 0.35, 0.6)),
        (130, (-0.45, -0.1, 0), (0.2, 0.22, 0.4)),
        (500, (0, 0.5, 0), (0.12, 0.12, np.inf)),
    )
    for hounsfield, centre, radii in organs:
        terms = (((axis - c) / r) ** 2 for axis, c, r in zip((x, y, z), centre, radii, strict=True))
        values[sum(terms) < 1] = hounsfield
    values += np.random.default_rng(seed).normal(0, 15, SHAPE)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    return nibabel.Nifti1Image(values.astype(np.int16), affine)


def voxels(path: Path) -> NDArray[np.generic]:
    """Return the voxels of a NIfTI file as stored."""
    return np.asarray(nibabel.load(path).dataobj)


def log_in(client: MONAILabelClient, name: str, password: str) -> dict[str, object]:
    """Log in by the client's own calls, as Slicer does; say what the server answered.

    Parameters
    ----------
    client:
        Logged in afterwards.
    name, password:
        Of the user.

    Returns
    -------
    dict
        Whether the server asks for a log-in, the status of a call without one, and whether the token counts.

    Raises
    ------
    MONAILabelClientException
        The user is not let in.
    """
    answers: dict[str, object] = {"name": name, "enabled": client.auth_enabled(), "anonymous": 200}
    try:
        client.info()
    except MONAILabelClientException as refusal:
        answers["anonymous"] = refusal.status_code
    client.update_auth(client.auth_token(name, password))
    return {**answers, "valid": client.auth_valid_token()}


def annotate(url: str, folder: Path, login: str = "") -> dict[str, object]:
    """Log in, upload, be given the next sample, infer, save the label and read it back.

    Parameters
    ----------
    url:
        Address of the server.
    folder:
        Where ``label.nii.gz`` and ``read_back.nii.gz`` are left.
    login:
        ``NAME:PASSWORD``, empty where nobody has to log in.

    Returns
    -------
    dict
        What each call answered, and the seconds it took.

    Raises
    ------
    MONAILabelClientException
        A call was not answered as it should.
    """
    client = MONAILabelClient(url, str(folder))
    seconds: dict[str, float] = {}
    answers: dict[str, object] = {"seconds": seconds}

    def timed(name: str, call: Callable[..., Any], *arguments: object) -> Any:
        start = time.monotonic()
        answer = call(*arguments)
        seconds[name] = round(time.monotonic() - start, 2)
        answers[name] = answer
        return answer

    name, _, password = login.partition(":")
    if name:
        timed("login", log_in, client, name, password)
    image = folder / f"{IMAGE}.nii.gz"
    nibabel.save(volume(), image)
    timed("info", client.info)
    timed("upload", client.upload_image, str(image), IMAGE)
    timed("next_sample", client.next_sample, "first", {})
    answer = timed("infer", client.infer, MODEL, IMAGE, {"device": "cpu"})
    shutil.move(answer[0], folder / "label.nii.gz")
    timed("save_label", client.save_label, IMAGE, str(folder / "label.nii.gz"), "final", {"by": "kiln"})
    back = timed("download_label", client.download_label, IMAGE, "final")
    shutil.move(str(back), folder / "read_back.nii.gz")
    timed("datastore", client.datastore)
    return answers


if __name__ == "__main__":
    place = Path(sys.argv[2])
    found = annotate(sys.argv[1], place, os.environ.get("KILN_LOGIN", ""))
    (place / "answers.json").write_text(json.dumps(found, indent=1, default=str))
