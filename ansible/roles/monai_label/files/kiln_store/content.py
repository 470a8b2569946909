"""Whether a file that a client sends is what its name says, and all of it, as far as a look can tell.

An upload that broke off, or a page of a proxy's that was saved as an image, would be found by the first
inference, by another user, days later. A look costs the file's ends and not its middle: whoever wants to put
wrong voxels into a good file can do so.
"""

from __future__ import annotations

import bz2
import gzip
import math
import os
import re
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

NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32"), 4),
    **dict.fromkeys(("uint32_t", "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("signed long long int", "ulonglong", "unsigned long long", "uint64", "uint64_t"), 8),
    **dict.fromkeys(("unsigned long long int", "double"), 8),
}
"""Name of a type of NRRD's voxels → bytes of one; ``block`` says it itself."""

NRRD_PACKED = {
    "raw": "raw", "txt": "text", "text": "text", "ascii": "text", "hex": "hex",
    "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2",
}  # fmt: skip
"""Name of an encoding of NRRD's voxels → the name that we have for it."""

TIFF = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""How a TIFF begins → its order of bytes; a plus is one with offsets of 64 bits."""

TIFF_WIDTHS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
TIFF_PLACES, TIFF_SIZES = (273, 324), (279, 325)
"""Tags that say where the strips or tiles of an image are, and how many bytes each has."""

TILES = 1 << 21
"""Of an image at most: 370,000 pixels square, in tiles of 256. More would take the server's memory."""

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
    _gzip(stream, nifti_size)


def _gzip(stream: BinaryIO, size: Callable[[bytes], int]) -> None:
    """See that what is packed from here on has as many bytes as its first 540 say."""
    begin = stream.tell()
    try:
        with gzip.GzipFile(fileobj=stream) as inner:
            needed = size(inner.read(540))
            stream.seek(-4, os.SEEK_END)
            # The last word of a gzip file is how long its content is, modulo 2^32: enough for a whole one.
            if struct.unpack("<I", stream.read(4))[0] == needed % 2**32:
                return
            # Some have more than one part, or more than an image in it: then all of it is looked at.
            stream.seek(begin)
        with gzip.GzipFile(fileobj=stream) as inner:
            found = _length(inner)
    except EOFError:
        raise _OddError("truncated: its end is missing") from None
    except (OSError, zlib.error) as error:
        raise _OddError(f"no gzip file, or damaged: {error}") from None
    if found < needed:
        raise _OddError(f"truncated: {found} bytes of {needed}")


def _length(stream: gzip.GzipFile | bz2.BZ2File) -> int:
    found = 0
    while piece := stream.read(PIECE):
        found += len(piece)
    return found


def nrrd(head: bytes) -> tuple[int, int, str]:
    """Read the header of a NRRD file.

    Parameters
    ----------
    head:
        How the file begins.

    Returns
    -------
    tuple of int, int and str
        Bytes of the header, bytes that its voxels have before they are packed, and how they are.

    Raises
    ------
    _OddError
        It is none, or its voxels are in another file.
    """
    if not head.startswith(b"NRRD000"):
        raise _OddError("no NRRD file: its magic is missing")
    found = re.search(rb"\r?\n\r?\n", head)
    if found is None:
        raise _OddError("truncated: its header does not end, or its voxels are in another file")
    fields = {}
    for line in head[: found.start()].decode("latin-1").splitlines()[1:]:
        name, mark, value = line.partition(": ")
        if mark and not line.startswith("#"):
            fields[name.replace(" ", "").lower()] = value.strip()
    if "datafile" in fields:
        raise _OddError("a header alone: its voxels are in another file")
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
        width = NRRD_BYTES.get(fields["type"].lower()) or int(fields["blocksize"])
        encoding = NRRD_PACKED[fields["encoding"].lower()]
        if len(sizes) != int(fields["dimension"]) or min(width, *sizes) < 1:
            raise ValueError
    except (KeyError, ValueError, TypeError):
        raise _OddError("no NRRD file: its dimensions, type or encoding make no sense") from None
    return found.end(), width * math.prod(sizes), encoding


def _nrrd(stream: BinaryIO, size: int) -> None:
    begin, needed, encoding = nrrd(stream.read(PIECE))
    stream.seek(begin)
    if encoding == "gzip":
        _gzip(stream, lambda _: needed)
        return
    found = size - begin
    if encoding == "bzip2":
        try:
            with bz2.BZ2File(stream) as inner:
                found = _length(inner)
        except EOFError:
            raise _OddError("truncated: its end is missing") from None
        except OSError as error:
            raise _OddError(f"no bzip2 file, or damaged: {error}") from None
    elif encoding == "hex":
        needed *= 2
    elif encoding == "text":
        # The voxels' bytes tell nothing of their digits: at least there is something.
        needed = 1
    if found < needed:
        raise _OddError(f"truncated: {found} bytes of {needed}")


def _tiff(stream: BinaryIO, size: int) -> None:
    """See that each directory of a TIFF, and all that they name as an image's, is in the file."""

    def read(at: int, kind: str) -> tuple[int, ...]:
        length = struct.calcsize(order + kind)
        if at + length > size:
            raise _OddError(f"truncated: {size} bytes of {at + length}")
        stream.seek(at)
        return struct.unpack(order + kind, stream.read(length))

    head = stream.read(4)
    if head not in TIFF:
        raise _OddError("no TIFF file: it begins otherwise")
    order, big = TIFF[head], head[2:] in (b"+\0", b"\0+")
    word, count, entry, width = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    seen: set[int] = set()
    (at,) = read(width, word)
    while at and at not in seen:
        seen.add(at)
        (entries,) = read(at, count)
        first = at + struct.calcsize(order + count)
        tags: dict[int, tuple[int, ...]] = {}
        for place in range(first, first + entry * entries, entry):
            tag, kind, length = read(place, f"HH{word}")
            if tag in TIFF_PLACES + TIFF_SIZES and kind in TIFF_WIDTHS:
                if length > TILES:
                    raise _OddError(f"no TIFF file: {length} tiles make no sense")
                values = f"{length}{TIFF_WIDTHS[kind]}"
                inline = place + 4 + width
                tags[tag] = read(inline if _fits(order + values, width) else read(inline, word)[0], values)
        for places, sizes in zip(TIFF_PLACES, TIFF_SIZES, strict=True):
            ends = map(sum, zip(tags.get(places, ()), tags.get(sizes, ()), strict=False))
            if (end := max(ends, default=0)) > size:
                raise _OddError(f"truncated: {size} bytes of {end}")
        (at,) = read(first + entry * entries, word)
    if not seen:
        raise _OddError("no TIFF file: there is no image in it")


def _fits(values: str, width: int) -> bool:
    return struct.calcsize(values) <= width


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
    ".nrrd": _nrrd,
    ".png": _begins(b"\x89PNG\r\n\x1a\n", end=b"IEND"),
    ".jpg": _begins(b"\xff\xd8\xff", end=b"\xff\xd9"),
    ".jpeg": _begins(b"\xff\xd8\xff", end=b"\xff\xd9"),
    ".tif": _tiff,
    ".svs": _tiff,
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
