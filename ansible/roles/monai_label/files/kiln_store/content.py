"""Whether a file that a client sends is what its name says, and all of it, as far as a look can tell.

An upload that broke off, or a page of a proxy's that was saved as an image, would be found by the first
inference, by another user, days later. A look costs the file's ends and not its middle: whoever wants to put
wrong voxels into a good file can do so.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from .errors import RefusedError

HEADERS = {348: ("<", ">"), 540: ("<", ">")}
"""Size of a NIfTI header, which is its first word, of version 1 and 2."""

BITS = {1: 1, 2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64,
        1280: 64, 1536: 128, 1792: 128, 2048: 256, 2304: 32}  # fmt: skip
"""Code of a type of voxels → bits of one, as nifti1.h has it."""

PIECE = 1 << 20


class _OddError(Exception):
    """What is wrong with a file, in words that follow "is"."""


def nifti_size(head: bytes) -> int:
    """Bytes that a NIfTI file has at least, by its header.

    Parameters
    ----------
    head:
        Its first 540 bytes, or as many as there are.

    Raises
    ------
    _OddError
        It is none.
    """
    for size in HEADERS:
        for order in HEADERS[size]:
            if len(head) < size or struct.unpack(f"{order}i", head[:4])[0] != size:
                continue
            two = size == 540
            if head[4:7] != b"n+2" if two else head[344:347] not in (b"n+1", b"ni1"):
                raise _OddError("no NIfTI file: its magic is missing")
            places = ("8q", 16), ("h", 12), ("q", 168)
            if not two:
                places = ("8h", 40), ("h", 70), ("f", 108)
            dims, (code,), (offset,) = (struct.unpack_from(f"{order}{kind}", head, at) for kind, at in places)
            if not 1 <= dims[0] <= 7 or any(dim < 1 for dim in dims[1 : dims[0] + 1]) or code not in BITS:
                raise _OddError("no NIfTI file: its dimensions or its type make no sense")
            if not 0 <= offset < 1 << 40:
                raise _OddError("no NIfTI file: its voxels begin nowhere")
            voxels = 1
            for dim in dims[1 : dims[0] + 1]:
                voxels *= dim
            return max(int(offset), size) + voxels * BITS[code] // 8
    raise _OddError("no NIfTI file")


def _nifti(stream: BinaryIO, size: int) -> None:
    needed = nifti_size(stream.read(540))
    if size < needed:
        raise _OddError(f"truncated: {size} bytes of {needed}")


def _nifti_gz(stream: BinaryIO, _size: int) -> None:
    try:
        with gzip.GzipFile(fileobj=stream) as inner:
            needed = nifti_size(inner.read(540))
            stream.seek(-4, os.SEEK_END)
            # The last word of a gzip file is how long its content is, modulo 2^32: enough for a whole one.
            if struct.unpack("<I", stream.read(4))[0] == needed % 2**32:
                return
            # Some have more than one part, or more than an image in it: then all of it is looked at.
            stream.seek(0)
        with gzip.GzipFile(fileobj=stream) as inner:
            found = 0
            while piece := inner.read(PIECE):
                found += len(piece)
    except EOFError:
        raise _OddError("truncated: its end is missing") from None
    except (OSError, zlib.error) as error:
        raise _OddError(f"no gzip file, or damaged: {error}") from None
    if found < needed:
        raise _OddError(f"truncated: {found} bytes of {needed}")


def _begins(*words: bytes, end: bytes = b"") -> Callable[[BinaryIO, int], None]:
    def look(stream: BinaryIO, size: int) -> None:
        if not stream.read(16).startswith(words):
            raise _OddError("no file of this kind: it begins otherwise")
        if end:
            stream.seek(max(0, size - 64))
            if end not in stream.read():
                raise _OddError("truncated: its end is missing")

    return look


KINDS: dict[str, Callable[[BinaryIO, int], None]] = {
    ".nii.gz": _nifti_gz,
    ".nii": _nifti,
    ".nrrd": _begins(b"NRRD000"),
    ".png": _begins(b"\x89PNG\r\n\x1a\n", end=b"IEND"),
    ".jpg": _begins(b"\xff\xd8\xff", end=b"\xff\xd9"),
    ".jpeg": _begins(b"\xff\xd8\xff", end=b"\xff\xd9"),
    ".tif": _begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".svs": _begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".xml": _begins(b"<", b"\xef\xbb\xbf<"),
}
"""End of a name → the look at it; the first that fits. What is not listed is not looked at."""


def check(path: Path, ext: str, what: str) -> None:
    """Look at a file.

    Parameters
    ----------
    path:
        The file.
    ext:
        Extension that it is to have.
    what:
        What it is to be, for the message.

    Raises
    ------
    RefusedError
        It is something else, or a part of it is missing.
    OSError
        It cannot be read.
    """
    look = next((look for end, look in KINDS.items() if ext.lower().endswith(end)), None)
    if look is None:
        return
    size = path.stat().st_size
    try:
        if not size:
            raise _OddError("empty")
        with path.open("rb") as stream:
            look(stream, size)
    except _OddError as odd:
        raise RefusedError(
            f"{what} as {ext} is {odd}", "send the file again, whole and under its own name"
        ) from None


def listed(ext: str, patterns: Sequence[str]) -> None:
    """Refuse an image that no list of images would show.

    Parameters
    ----------
    ext:
        Its extension.
    patterns:
        Of files that are images and labels.

    Raises
    ------
    RefusedError
        It is none of them.
    """
    ends = [pattern.removeprefix("*") for pattern in patterns]
    if not any(ext.endswith(end) for end in ends):
        raise RefusedError(
            f"a file with the extension {ext!r} is no image of this server", f"it takes {', '.join(ends)}"
        )
