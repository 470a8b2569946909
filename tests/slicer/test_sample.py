"""The role's sample volume is what its program makes, and a volume that anything reads."""

from __future__ import annotations

import gzip

import numpy as np

from tests.slicer import sample


def parts() -> tuple[str, np.ndarray]:
    head, _, body = sample.FILE.read_bytes().partition(b"\n\n")
    return head.decode(), np.frombuffer(gzip.decompress(body), "<i2").reshape(sample.SHAPE, order="F")


def test_file_is_what_the_program_makes() -> None:
    head, voxels = parts()
    assert f"{head}\n\n" == sample.HEADER
    assert (voxels == sample.voxels()).all()


def test_volume_has_a_body_and_what_to_segment() -> None:
    _, voxels = parts()
    assert set(np.unique(voxels)) == {-1000, 40, 120, 600}
    assert (voxels == 120).sum() > 1000
