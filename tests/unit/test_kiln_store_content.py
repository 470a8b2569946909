"""Uploads that are not what their name says, or not all of it, by files that real libraries have written."""

from __future__ import annotations

import bz2
import gzip
import struct
import sys
import tempfile
from collections.abc import Callable
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


VOXELS = bytes(range(240))
NRRD = "NRRD0005\n# as Slicer writes it\ntype: {kind}\ndimension: 3\nspace: left-posterior-superior\n"
NRRD += "sizes: {sizes}\nkinds: domain domain domain\nencoding: {encoding}\nSegment0_ID:=a: b\n\n"
ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "hex": lambda voxels: voxels.hex().encode(),
}


def nrrd(kind: str = "short", sizes: str = "4 5 6", encoding: str = "gzip", voxels: bytes = VOXELS) -> bytes:
    header = NRRD.format(kind=kind, sizes=sizes, encoding=encoding)
    return header.encode() + ENCODINGS.get(encoding, bytes)(voxels)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ext", [".nrrd", ".seg.nrrd"])
def test_a_whole_nrrd_is_taken_and_half_of_one_is_not(tmp_path: Path, ext: str, encoding: str) -> None:
    path = tmp_path / "x"
    for ends in ("\n", "\r\n"):
        whole = nrrd(encoding=encoding)
        header, _, voxels = whole.partition(b"\n\n")
        whole = header.replace(b"\n", ends.encode()) + 2 * ends.encode() + voxels
        path.write_bytes(whole)
        content.check(path, ext, "the label")
        for left in (*range(7, len(whole), 13), len(whole) - 1):
            path.write_bytes(whole[:left])
            with pytest.raises(RefusedError, match=r"the label as .* is (truncated|no )"):
                content.check(path, ext, "the label")


def test_a_nrrd_with_text_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(nrrd(encoding="ascii", voxels=b"1 2 3"))
    content.check(path, ".nrrd", "the label")


def test_each_type_of_a_nrrd_has_a_width() -> None:
    for kind, width in content.NRRD_BYTES.items():
        assert content.nrrd(nrrd(kind))[1] == 120 * width
    block = nrrd("block").replace(b"encoding", b"block size: 3\nencoding")
    assert content.nrrd(block)[1] == 360


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"short", b"long short"),
        (b"short", b"block"),
        (b"4 5 6", b"4 5"),
        (b"4 5 6", b"4 5 0"),
        (b"4 5 6", b"4 5 x"),
        (b"4 5 6", b"4 5 -6"),
        (b"sizes", b"# sizes"),
        (b"gzip", b"lzma"),
        (b"encoding", b"data file: x.raw\nencoding"),
    ],
)
def test_a_nrrd_whose_header_makes_no_sense_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(nrrd().replace(old, new, 1))
    with pytest.raises(RefusedError, match=r"no NRRD file|in another file"):
        content.check(path, ".nrrd", "the label")


def tiff(order: str, big: bool, kind: str = "I") -> bytes:
    """Two images of a strip and of three tiles, their directories at the end, as libtiff writes them."""
    word, number, width = ("Q", "Q", 8) if big else ("I", "H", 4)
    codes = {"H": 3, "I": 4, "Q": 16}
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HH", 8, 0) if big else b""
    start = len(head) + width
    body, links = bytearray(120), []
    for places, sizes in (
        ((273, [start]), (279, [30])),
        ((324, [start, start + 30, start + 60]), (325, [30] * 3)),
    ):
        written = []
        for tag, values in (places, sizes):
            packed = struct.pack(f"{order}{len(values)}{kind}", *values)
            if len(packed) > width:
                at = start + len(body)
                body += packed
                packed = struct.pack(order + word, at)
            entry = struct.pack(f"{order}HH{word}", tag, codes[kind], len(values))
            written.append(entry + packed.ljust(width, b"\0"))
        links.append(start + len(body))
        body += struct.pack(order + number, len(written)) + b"".join(written)
        links.append(start + len(body))
        body += bytes(width)
    file = bytearray(head + struct.pack(order + word, links[0]) + body)
    file[links[1] : links[1] + width] = struct.pack(order + word, links[2])
    return bytes(file)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("big", "kind"), [(False, "H"), (False, "I"), (True, "I"), (True, "Q")])
def test_a_whole_tiff_is_taken_and_half_of_one_is_not(
    tmp_path: Path, order: str, big: bool, kind: str
) -> None:
    path = tmp_path / "x"
    whole = tiff(order, big, kind)
    path.write_bytes(whole)
    content.check(path, ".tif", "the image")
    for left in range(4, len(whole)):
        path.write_bytes(whole[:left])
        with pytest.raises(RefusedError, match="truncated"):
            content.check(path, ".svs", "the image")


def test_a_tiff_whose_directories_come_first_is_looked_at_to_its_last_tile(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = tiff("<", False)
    # Its tiles begin where the file ends.
    moved = whole.replace(
        struct.pack("<III", 8, 38, 68), struct.pack("<III", *(len(whole) + at for at in (0, 30, 60)))
    )
    path.write_bytes(moved + bytes(90))
    content.check(path, ".tif", "the image")
    path.write_bytes(moved + bytes(89))
    with pytest.raises(RefusedError, match="truncated"):
        content.check(path, ".tif", "the image")


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_of_too_many_tiles_is_refused(tmp_path: Path, big: bool) -> None:
    word = "Q" if big else "I"
    count = struct.pack(f"<{word}", 3)
    whole = tiff("<", big).replace(
        struct.pack("<HH", 324, 4) + count, struct.pack("<HH", 324, 4) + b"\xff" * len(count)
    )
    path = tmp_path / "x"
    path.write_bytes(whole)
    with pytest.raises(RefusedError, match=r"\d+ tiles make no sense"):
        content.check(path, ".tif", "the image")


def test_a_tiff_that_goes_in_a_circle_ends(tmp_path: Path) -> None:
    path = tmp_path / "x"
    body = b"II*\0" + struct.pack("<IHI", 8, 0, 8)
    path.write_bytes(body)
    content.check(path, ".tif", "the image")
    path.write_bytes(b"II*\0" + bytes(20))
    with pytest.raises(RefusedError, match="no image in it"):
        content.check(path, ".tif", "the image")


@given(st.sampled_from([*content.TIFF, b"NRRD0004\n"]), st.binary(max_size=200))
def test_any_bytes_are_an_image_or_refused(kind: bytes, body: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(kind + body)
        file.flush()
        try:
            content.check(Path(file.name), ".nrrd" if kind.startswith(b"N") else ".tif", "the image")
        except RefusedError as refused:
            assert "\n  fix: " in str(refused)


@pytest.mark.parametrize(
    ("ext", "whole"),
    [
        (".png", b"\x89PNG\r\n\x1a\n" + bytes(80) + b"IEND\xaeB`\x82"),
        (".jpg", b"\xff\xd8\xff\xe0" + bytes(80) + b"\xff\xd9"),
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
