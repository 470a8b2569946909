"""What Ansible sends to a Windows host is read as it is, or not at all."""

from __future__ import annotations

import base64

import pytest

from tests.windows import wire


def test_a_script_is_decoded() -> None:
    encoded = base64.b64encode("Get-Date".encode("utf-16-le")).decode()
    assert wire.script(f"PowerShell -NoProfile -EncodedCommand {encoded}") == "Get-Date"
    assert wire.script("Get-Date") == "Get-Date"


@pytest.mark.parametrize(
    "data", [b"{}", b'{"name": "another"}\n\0\0\0\0\n{}'], ids=["no parts", "another wrapper"]
)
def test_another_form_is_no_call(data: bytes) -> None:
    with pytest.raises(ValueError, match="something else"):
        wire.call(data)
