"""Uploads whose header names another boundary than their body has, or none at all.

Upstream's client keeps the headers of its last request once it is logged in, and sends them with the next:
an image or a session that is uploaded after a label was saved, or after a next sample was asked for, comes
with that request's ``Content-Type``. (``MONAILabelUtils`` updates the dictionary it was given, and requests
keeps a content type that it finds; release 0.8.5, in the package and in 3D Slicer's module alike.) What the
body says of itself counts here (RFC 2046, section 5.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

UPLOADS = {"/session/", "/datastore/image"}
"""Paths that the client uploads to by requests, with PUT."""

FIRST = re.compile(
    rb"--([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])\r\ncontent-disposition: *form-data",
    re.IGNORECASE,
)
"""How a form begins: its boundary of 70 characters at most, and what every part of one says first."""

ENOUGH = 128
"""Bytes that tell whether a body is a form."""


def content_type(said: bytes, body: bytes) -> bytes:
    """Return the content type that a body has.

    Parameters
    ----------
    said:
        What the header says.
    body:
        How the body begins, :data:`ENOUGH` bytes of it if it has them.

    Returns
    -------
    bytes
        What the header says, where that fits or where the body is no form.
    """
    found = FIRST.match(body)
    if found is None:
        return said
    boundary = found.group(1)
    kind, _, rest = said.partition(b";")
    named = re.search(rb"boundary=(\"?)(.*?)\1\s*(?:;|$)", rest)
    if kind.strip().lower() == b"multipart/form-data" and named and named.group(2) == boundary:
        return said
    return b'multipart/form-data; boundary="' + boundary + b'"'


def middleware(app: App) -> App:
    """Put the content type right before an application reads a form.

    Parameters
    ----------
    app:
        The application of ASGI.
    """

    async def wrapped(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "PUT" or scope["path"] not in UPLOADS:
            await app(scope, receive, send)
            return
        kept: list[Any] = []
        body, more = b"", True
        while more and len(body) < ENOUGH:
            message = await receive()
            kept.append(message)
            body += message.get("body", b"")
            more = message["type"] == "http.request" and message.get("more_body", False)

        async def again() -> Any:
            return kept.pop(0) if kept else await receive()

        said = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        if (right := content_type(said, body)) != said:
            others = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
            scope = {**scope, "headers": [*others, (b"content-type", right)]}
        await app(scope, again, send)

    return wrapped
