"""An upload whose header is that of the request before it is read by the boundary of its own body."""

from __future__ import annotations

import asyncio
import email
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from monailabel.client.client import MONAILabelClient, MONAILabelUtils

from kiln import paths

sys.path.insert(0, str(paths.ROOT / "ansible/roles/monai_label/files"))

import kiln_multipart

STALE = ["application/json", "multipart/form-data; boundary=old", ""]


def sent(path: Path, said: str) -> requests.PreparedRequest:
    """What requests sends, as upstream's client calls it."""
    headers = {"Authorization": "Bearer x", **({"content-type": said} if said else {})}
    with path.open("rb") as stream:
        asked = requests.Request(
            "PUT",
            "http://x/session/",
            headers=headers,
            data={"params": "{}"},
            files=[("files", ("a.nii", stream))],
        )
        return asked.prepare()


def served(
    body: bytes, said: str | None, method: str = "PUT", path: str = "/session/", piece: int = 7
) -> tuple[str, bytes]:
    """Content type and body as they come to the application, in pieces of some bytes."""
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)] or [b""]
    messages = [
        {"type": "http.request", "body": each, "more_body": number < len(pieces) - 1}
        for number, each in enumerate(pieces)
    ]
    got: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def app(scope: Any, receive: Any, _: Any) -> None:
        read, more = b"", True
        while more:
            message = await receive()
            read += message["body"]
            more = message["more_body"]
        types = [value.decode() for name, value in scope["headers"] if name == b"content-type"]
        assert len(types) <= 1
        got.extend(("".join(types), read))

    headers = [(b"host", b"x"), *([(b"content-type", said.encode())] if said is not None else [])]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(kiln_multipart.middleware(app)(scope, receive, None))
    assert not messages
    return got[0], got[1]


@pytest.mark.parametrize("said", STALE)
@pytest.mark.parametrize("path", sorted(kiln_multipart.UPLOADS))
def test_the_form_is_found_by_its_own_boundary(tmp_path: Path, said: str, path: str) -> None:
    (tmp_path / "a.nii").write_bytes(b"\0voxels" * 100)
    asked = sent(tmp_path / "a.nii", said)
    assert isinstance(asked.body, bytes)
    if said:
        assert asked.headers["Content-Type"] == said, "requests has mended it: this module can go"
    kind, body = served(asked.body, said or None, path=path)
    assert body == asked.body
    form = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    assert [part.get_param("name", header="content-disposition") for part in form.get_payload()] == [  # type: ignore[union-attr]
        "params",
        "files",
    ]


def test_upstreams_client_still_keeps_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the module is for; where it ends, the module can go."""
    client = MONAILabelClient("http://127.0.0.1:9")
    client.update_auth({"token_type": "Bearer", "access_token": "x"})
    monkeypatch.setattr(MONAILabelUtils, "send_response", lambda *_: (200, b'{"id": 1}', None, {}))
    monkeypatch.setattr("http.client.HTTPConnection.request", lambda *_, **__: None)
    client.next_sample("random", {})
    assert client._headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "said",
    [
        'multipart/form-data; boundary="abc"',
        "multipart/form-data; boundary=abc",
        "Multipart/Form-Data;boundary=abc; x=y",
    ],
)
def test_what_is_right_stays_as_it_is(said: str) -> None:
    body = b'--abc\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--abc--\r\n'
    assert served(body, said) == (said, body)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/session/"), ("PUT", "/datastore/label"), ("PUT", "/session/x")]
)
def test_other_requests_are_left_alone(method: str, path: str) -> None:
    body = b'--abc\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--abc--\r\n'
    assert served(body, "application/json", method, path) == ("application/json", body)


@given(body=st.binary(max_size=300), said=st.sampled_from([*STALE, "a" * 90]))
def test_what_is_no_form_comes_as_it_was_sent(body: bytes, said: str) -> None:
    assert served(body, said) == (said, body)


@pytest.mark.parametrize("boundary", [b"", b"a" * 71, b"a\nb", b"a "])
def test_what_is_no_boundary_is_none(boundary: bytes) -> None:
    body = b"--" + boundary + b"\r\nContent-Disposition: form-data\r\n"
    assert kiln_multipart.content_type(b"application/json", body) == b"application/json"
