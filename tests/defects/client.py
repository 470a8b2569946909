"""Defects of what the real client gets from a server, held against a native run of the same root."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np

from kiln.errors import KilnError
from scripts import annotate, checks, prove
from tests.defects.defect import Defect, Plant, change, found, gone


def client(name: str) -> frozenset[str]:
    """Id of a check of the client's session."""
    return frozenset({f"client::{name}"})


def make_session(folder: Path) -> None:
    """Leave what the real client would, and what a native run would, each in a folder of its own."""
    label = np.zeros(annotate.SHAPE, np.uint8)
    label[20:30, 20:30, 20:30] = 1
    for side in ("guest", "native"):
        (folder / side).mkdir(parents=True)
        for name in ("label.nii.gz", "read_back.nii.gz"):
            nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / side / name)
    answers = {
        "login": {"name": "kiln", "enabled": True, "anonymous": 401, "valid": True},
        "info": {"models": {annotate.MODEL: {}}},
        "next_sample": {"id": annotate.IMAGE},
        "datastore": {
            "objects": {annotate.IMAGE: {"labels": {"final": {"info": {"by": "kiln", "user": "kiln"}}}}}
        },
    }
    (folder / "guest/answers.json").write_text(json.dumps(answers))
    (folder / "guest/server").touch()


def voxels(name: str, where: slice, value: int) -> Plant:
    """Give other voxels to a label; to both sides' where the name says so."""

    def plant(folder: Path) -> None:
        for path in found(folder, name):
            data = np.array(annotate.voxels(path))
            data[where] = value
            nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)

    return plant


SESSION = "client::session"

DEFECTS = [
    Defect("a server that does not answer", gone("guest/server"), frozenset({SESSION}), ("session failed",)),
    Defect(
        "a model that the server does not offer",
        change("guest/answers.json", annotate.MODEL, "another"),
        client("test_monai_label::test_info_lists_the_model"),
        ("does not offer the model",),
    ),
    Defect(
        "an upload that is never offered",
        change("guest/answers.json", '"id": "[^"]*"', '"id": "another"'),
        client("test_monai_label::test_the_uploaded_image_is_the_next_sample"),
        ("does not offer the uploaded image",),
    ),
    Defect(
        "a label of background alone",
        voxels("*/*.nii.gz", slice(None), 0),
        client("test_monai_label::test_inference_segments_something"),
        ("not background and spleen",),
    ),
    Defect(
        "a voxel that differs from the native run",
        voxels("guest/*.nii.gz", slice(0, 1), 1),
        client("test_monai_label::test_inference_equals_the_native_run_voxel_by_voxel"),
        ("voxels differ",),
    ),
    Defect(
        "a saved label that comes back changed",
        voxels("guest/read_back.nii.gz", slice(0, 1), 1),
        client("test_monai_label::test_the_saved_label_reads_back_the_same"),
        ("not the label that was saved",),
    ),
    Defect(
        "a label without its metadata",
        change("guest/answers.json", '"by": "kiln"', '"by": ""'),
        client("test_monai_label::test_the_datastore_keeps_the_label_and_its_metadata"),
        ("metadata is lost",),
    ),
    Defect(
        "a client that is not told to log in",
        change("guest/answers.json", '"enabled": true', '"enabled": false'),
        client("test_gateway::test_client_is_told_to_log_in"),
        ("does not tell the client to log in",),
    ),
    Defect(
        "a token that does not count",
        change("guest/answers.json", '"valid": true', '"valid": false'),
        client("test_gateway::test_log_in_counts"),
        ("does not count",),
    ),
    Defect(
        "a label of nobody",
        change("guest/answers.json", ', "user": "kiln"', ""),
        client("test_gateway::test_label_notes_who_saved_it"),
        ("saved by nobody",),
    ),
]


def refused(row: Defect | None, folder: Path) -> dict[str, str]:
    """Plant a row in a client's session; return the checks that fail, with what they say."""
    make_session(folder)
    if row is not None:
        row.plant(folder)
    if not (folder / "guest/server").exists():
        try:
            # Nothing listens on the port of "discard".
            prove.session("http://127.0.0.1:9", folder / "guest", folder / "log")
        except KilnError as error:
            return {SESSION: error.what}
    said = checks.run(
        "client", ["monai_label", "gateway"], folder / "junit.xml", folder / "log",
        env={"KILN_CLIENT": str(folder / "guest"), "KILN_REFERENCE": str(folder / "native")},
    )  # fmt: skip
    return {check.id: check.message for check in said if check.outcome == "failed"}
