"""What the real client got from the server in the guest, held against a native run of the same root."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from scripts import annotate

GUEST, NATIVE = (Path(os.environ.get(name, ".")) for name in ("KILN_CLIENT", "KILN_REFERENCE"))


@pytest.fixture(scope="module")
def answers():
    return json.loads((GUEST / "answers.json").read_text())


def test_info_lists_the_model(answers):
    assert annotate.MODEL in answers["info"]["models"], (
        "the server does not offer the model it was baked with"
    )


def test_the_uploaded_image_is_the_next_sample(answers):
    assert answers["next_sample"]["id"] == annotate.IMAGE, "active learning does not offer the uploaded image"


def test_inference_segments_something(answers):
    found = np.unique(annotate.voxels(GUEST / "label.nii.gz"))
    assert set(found) == {0, 1}, f"the label holds the classes {found}, not background and spleen"


def test_inference_equals_the_native_run_voxel_by_voxel(answers):
    guest, native = (annotate.voxels(folder / "label.nii.gz") for folder in (GUEST, NATIVE))
    assert guest.shape == native.shape == annotate.SHAPE, f"shapes differ: {guest.shape} and {native.shape}"
    assert (different := int((guest != native).sum())) == 0, f"{different} of {guest.size} voxels differ"


def test_the_saved_label_reads_back_the_same(answers):
    saved, back = (annotate.voxels(GUEST / name) for name in ("label.nii.gz", "read_back.nii.gz"))
    assert np.array_equal(saved, back), "the label that was read back is not the label that was saved"


def test_the_datastore_keeps_the_label_and_its_metadata(answers):
    label = answers["datastore"]["objects"][annotate.IMAGE]["labels"]["final"]
    assert label["info"].get("by") == "kiln", f"the label's metadata is lost: {label}"
