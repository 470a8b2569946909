"""Uploads that are not what their name says, or not all of it, by files that real libraries have written."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln import paths

sys.path.insert(0, str(paths.ROOT / "ansible/roles/monai_label/files"))

from kiln_store import content
from kiln_store.errors import RefusedError

KINDS = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.int64)


def saved(folder: Path, name: str, kind: type[np.generic] = np.int16, version: int = 1) -> Path:
    rng = np.random.default_rng(1)
    voxels = rng.integers(0, 100, (12, 11, 10)).astype(kind)
    made = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}[version](voxels, np.eye(4), dtype=kind)
    path = folder / name
    nibabel.save(made, path)
    return path


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ext", [".nii", ".nii.gz"])
def test_whole_images_are_taken(tmp_path: Path, ext: str, kind: type[np.generic], version: int) -> None:
    content.check(saved(tmp_path, f"x{ext}", kind, version), ext, "the image")


def test_every_type_of_voxels_is_known() -> None:
    known = nibabel.nifti1.data_type_codes
    for code in set(known.code.values()):
        bits = known.dtype[code].itemsize * 8
        if bits and code in content.BITS:
            assert content.BITS[code] == bits, code


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("ext", [".nii", ".nii.gz"])
@pytest.mark.parametrize("left", [0, 10, 300, 700, -1])
def test_truncated_images_are_refused(tmp_path: Path, ext: str, left: int, version: int) -> None:
    path = saved(tmp_path, f"x{ext}", version=version)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(
        RefusedError, match=r"the image as .* is (empty|truncated|no )[^\n]*\n  fix: send the file"
    ):
        content.check(path, ext, "the image")


def test_an_image_in_several_parts_is_looked_through(tmp_path: Path) -> None:
    """As bgzip writes it: the last word speaks of the last part alone."""
    whole = saved(tmp_path, "x.nii").read_bytes()
    path = tmp_path / "y.nii.gz"
    path.write_bytes(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:]))
    content.check(path, ".nii.gz", "the image")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RefusedError, match="truncated"):
        content.check(path, ".nii.gz", "the image")
    path.write_bytes(gzip.compress(whole[:1000]) + gzip.compress(whole[1000:-100]))
    with pytest.raises(RefusedError, match=r"truncated: \d+ bytes of \d+"):
        content.check(path, ".nii.gz", "the image")


@pytest.mark.parametrize("ext", sorted(content.KINDS))
@pytest.mark.parametrize("body", [b"hello", b"PK\x03\x04" + bytes(100), b"\x1f\x8b\x08", bytes(600)])
def test_what_is_no_image_is_refused(tmp_path: Path, ext: str, body: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(body)
    with pytest.raises(RefusedError):
        content.check(path, ext, "the label")


@pytest.mark.parametrize(
    ("ext", "whole"),
    [
        (".nrrd", b"NRRD0004\ntype: short\n"),
        (".seg.nrrd", b"NRRD0005\n"),
        (".png", b"\x89PNG\r\n\x1a\n" + bytes(80) + b"IEND\xaeB`\x82"),
        (".jpg", b"\xff\xd8\xff\xe0" + bytes(80) + b"\xff\xd9"),
        (".tif", b"II*\0" + bytes(20)),
        (".svs", b"MM\0*" + bytes(20)),
        (".xml", b"<annotations/>"),
        (".json", b"whatever is not listed"),
    ],
)
def test_other_kinds_are_told_by_their_beginning_and_end(tmp_path: Path, ext: str, whole: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(whole)
    content.check(path, ext, "the label")
    if ext in (".png", ".jpg"):
        path.write_bytes(whole[:40])
        with pytest.raises(RefusedError, match="truncated"):
            content.check(path, ext, "the label")


@given(st.binary(max_size=700))
def test_any_header_is_a_size_or_a_refusal(head: bytes) -> None:
    for first in (b"", b"\x5c\x01\x00\x00", b"\x00\x00\x02\x1c"):
        try:
            assert content.nifti_size(first + head) >= 348
        except content._OddError as odd:
            assert "NIfTI" in str(odd)


def test_a_header_that_lies_about_its_offset_is_refused_or_a_size(tmp_path: Path) -> None:
    path = saved(tmp_path, "x.nii")
    body = bytearray(path.read_bytes())
    body[108:112] = b"\x00\x00\xc0\x7f"  # a NaN
    path.write_bytes(body)
    with pytest.raises(RefusedError):
        content.check(path, ".nii", "the image")


@pytest.mark.parametrize(
    ("ext", "good"), [(".nii.gz", True), (".seg.nrrd", True), (".txt", False), ("", False)]
)
def test_an_image_that_no_list_would_show_is_refused(ext: str, good: bool) -> None:
    patterns = ("*.nii.gz", "*.nrrd")
    if good:
        content.listed(ext, patterns)
    else:
        with pytest.raises(
            RefusedError, match=r"is no image of this server\n  fix: it takes \.nii\.gz, \.nrrd"
        ):
            content.listed(ext, patterns)
