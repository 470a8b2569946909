"""Fingerprints of the keys in an OpenPGP keyring; nothing that reads keyrings is in an image for certain."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

PUBLIC_KEY = 6
"""Tag of a packet (RFC 9580, 5)."""


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Length of a packet in the format of today, and where its body begins (RFC 9580, 4.2.1)."""
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    assert first == 255, "a key in parts of unknown length"
    return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5


def packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet."""
    at = 0
    while at < len(data):
        head = data[at]
        assert head & 0x80, "not an OpenPGP packet"
        if head & 0x40:
            tag = head & 0x3F
            length, at = _length(data, at + 1)
        else:
            tag, octets = (head >> 2) & 0x0F, 1 << (head & 3)
            assert octets < 8, "a packet of unknown length"
            length, at = int.from_bytes(data[at + 1 : at + 1 + octets], "big"), at + 1 + octets
        yield tag, data[at : at + length]
        at += length


def unarmoured(data: bytes) -> bytes:
    """What the armoured blocks of a keyring hold, as apt takes it: a block needs neither checksum nor end.

    Raises
    ------
    AssertionError
        It is armoured only in parts.
    """
    lines = [line.rstrip() for line in data.splitlines()]
    blocks: list[bytes] = []
    place = "outside"
    for line in lines:
        if line.startswith(b"-----BEGIN"):
            place = "headers"
            blocks.append(b"")
        elif line.startswith(b"-----END"):
            place = "outside"
        elif place == "headers" and not line:
            place = "body"
        elif place == "body" and not line.startswith((b"=", b"-")):
            blocks[-1] += line
    if not blocks:
        return data
    assert data.isascii(), "armoured and binary keys in one file"
    return b"".join(base64.b64decode(block, validate=True) for block in blocks)


def fingerprints(data: bytes) -> list[str]:
    """Fingerprints of the primary keys, in capital hex digits.

    Raises
    ------
    AssertionError
        It is no keyring, or has a key of a kind that is not known here.
    """
    try:
        binary = unarmoured(data)
    except ValueError as error:
        raise AssertionError(f"no key: {error}") from error
    found = []
    for tag, body in packets(binary):
        if tag == PUBLIC_KEY:
            assert body[0] == 4, f"a key of version {body[0]}"
            # RFC 9580, 5.5.4.2
            found.append(hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper())
    assert found, "no key"
    return found
