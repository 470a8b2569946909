"""Fingerprints of keys as the checks of an image read them, and what was reviewed."""

from __future__ import annotations

import base64
import re

import pytest

from kiln import paths
from tests.image import openpgp, reviewed

KEY = paths.ROOT / "tests/fixtures/nvidia_repository/keyring.asc"
FINGERPRINT = "45C0B2A191069542EB6224D803B884ECEB3A86CC"


def test_armoured_and_binary_keys_are_read() -> None:
    text = KEY.read_bytes()
    assert openpgp.fingerprints(text) == [FINGERPRINT]
    body = text.split(b"\n\n", 1)[1].split(b"\n=")[0]
    assert openpgp.fingerprints(base64.b64decode(body)) == [FINGERPRINT]
    assert openpgp.fingerprints(text + text) == [FINGERPRINT, FINGERPRINT]


def test_armour_is_read_as_apt_reads_it() -> None:
    """A block needs no checksum and no end: one that is not read would hide a key."""
    text = KEY.read_bytes()
    unsummed = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"="))
    for block in (unsummed, unsummed.split(b"-----END")[0], text.replace(b"\n", b"\r\n")):
        assert openpgp.fingerprints(text + block) == [FINGERPRINT, FINGERPRINT]
    with pytest.raises(AssertionError, match="armoured and binary"):
        openpgp.fingerprints(openpgp.unarmoured(text) + b"\n" + text)


@pytest.mark.parametrize("data", [b"", b"deb http://x y\n", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"])
def test_what_is_no_key_is_refused(data: bytes) -> None:
    with pytest.raises(AssertionError, match=r"no key|not an OpenPGP packet"):
        openpgp.fingerprints(data)


def test_what_was_reviewed_has_reasons_and_is_in_order() -> None:
    tables = (
        reviewed.KEYS_EVERYWHERE, reviewed.KEYS_SIGNED_BY, reviewed.REPOSITORIES, reviewed.UNITS,
        reviewed.WRITTEN, reviewed.ALIASES, reviewed.DROP_INS, reviewed.MATCHES, reviewed.WRITABLE,
    )  # fmt: skip
    for table in tables:
        assert all(len(reason) > 10 for reason in table.values())
    for programs in (reviewed.PRIVILEGED, reviewed.CAPABILITIES):
        assert all(one.keys() == {"is", "why"} and len(one["why"]) > 10 for one in programs.values())
    assert all(re.fullmatch(r"[0-7]{4} \w+:\w+", one["is"]) for one in reviewed.PRIVILEGED.values())
    assert all(
        re.fullmatch("[0-9A-F]{40}", key) for key in reviewed.KEYS_EVERYWHERE | reviewed.KEYS_SIGNED_BY
    )
    assert list(reviewed.UNITS) == sorted(reviewed.UNITS)
