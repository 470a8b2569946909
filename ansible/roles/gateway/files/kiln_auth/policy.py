"""Which role a request needs, as data: a row per route of the server, in the words of its own OpenAPI.

A route without a row is closed, for admin too: an upgrade of the server opens nothing that nobody has looked
at. ``tests/gateway`` holds the rows against the real server, which fails both for a route without a row and
for a row without a route.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

ROLES = ("user", "annotator", "reviewer", "admin")
"""Upstream's, each of which may do what those before it may."""

NOBODY = "nobody"
"""Needed where a route is closed; no user has it."""

_RANK = {role: rank for rank, role in enumerate((*ROLES, NOBODY))}


@dataclass(frozen=True)
class Route:
    """A route of the server.

    Parameters
    ----------
    method:
        HTTP method.
    path:
        As in OpenAPI: ``{x}`` is one segment, ``{x:path}`` any number.
    role:
        Lowest of :data:`ROLES` that may use it, or :data:`NOBODY`.
    """

    method: str
    path: str
    role: str


ROUTES: tuple[Route, ...] = (
    # Pages about the server itself.
    Route("GET", "/", "user"),
    Route("GET", "/docs", "user"),
    Route("HEAD", "/docs", "user"),
    Route("GET", "/openapi.json", "user"),
    Route("HEAD", "/openapi.json", "user"),
    Route("GET", "/favicon.ico", "user"),
    Route("GET", "/static/{path:path}", "user"),
    Route("HEAD", "/static/{path:path}", "user"),
    Route("GET", "/ohif/{path:path}", "user"),
    Route("GET", "/info/", "user"),
    # Work on images and labels.
    Route("POST", "/infer/{model}", "user"),
    Route("POST", "/infer/wsi/{model}", "user"),
    Route("POST", "/infer/wsi_v2/{model}", "user"),
    Route("POST", "/activelearning/{strategy}", "user"),
    Route("PUT", "/session/", "user"),
    Route("GET", "/session/{session_id}", "user"),
    Route("DELETE", "/session/{session_id}", "admin"),
    Route("GET", "/datastore/", "user"),
    Route("PUT", "/datastore/", "annotator"),
    Route("DELETE", "/datastore/", "admin"),
    Route("GET", "/datastore/image", "user"),
    Route("HEAD", "/datastore/image", "user"),
    Route("PUT", "/datastore/image", "annotator"),
    Route("DELETE", "/datastore/image", "admin"),
    Route("GET", "/datastore/image/info", "user"),
    Route("PUT", "/datastore/image/info", "annotator"),
    Route("GET", "/datastore/label", "user"),
    Route("HEAD", "/datastore/label", "user"),
    Route("PUT", "/datastore/label", "annotator"),
    Route("DELETE", "/datastore/label", "admin"),
    Route("GET", "/datastore/label/info", "user"),
    Route("PUT", "/datastore/label/info", "annotator"),
    Route("PUT", "/datastore/updatelabelinfo", "annotator"),
    Route("GET", "/datastore/dataset", "admin"),
    Route("GET", "/scoring/", "user"),
    Route("POST", "/scoring/", "annotator"),
    Route("POST", "/scoring/{method}", "annotator"),
    Route("DELETE", "/scoring/", "admin"),
    # A DICOM server behind the server: who may send may also store there.
    *(
        Route(method, f"/proxy/dicom/{kind}{{path:path}}", role)
        for kind in ("wado/", "qido/", "stow/", "")
        for method, role in (("GET", "user"), ("POST", "annotator"))
    ),
    # What holds the machine, hands out everything, or changes what everybody gets.
    Route("GET", "/train/", "admin"),
    Route("POST", "/train/", "admin"),
    Route("POST", "/train/{model}", "admin"),
    Route("DELETE", "/train/", "admin"),
    Route("GET", "/batch/infer", "admin"),
    Route("POST", "/batch/infer/{model}", "admin"),
    Route("DELETE", "/batch/infer", "admin"),
    Route("GET", "/model/{model}", "admin"),
    Route("GET", "/model/info/{model}", "admin"),
    Route("PUT", "/model/{model}", "admin"),
    Route("DELETE", "/model/{model}", "admin"),
    Route("GET", "/logs/", "admin"),
    Route("GET", "/logs/gpu", "admin"),
    # Drops the application's state under requests that run: restart the service instead.
    Route("POST", "/reload", NOBODY),
)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+(?::path)?\})", path)
    made = (
        (".*" if part.endswith(":path}") else "[^/]+") if part.startswith("{") else re.escape(part)
        for part in parts
    )
    return re.compile("".join(made))


_TABLE = tuple((route.method, _pattern(route.path), route.role) for route in ROUTES)

# Letters of RFC 3986's pchar. What else a path holds is escaped, or the request is odd.
_TARGET = re.compile(r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)(?:\?.*)?", re.DOTALL)

# An escape of a letter that needs none, of a slash, of a backslash, of the escape itself, of a control
# character: nobody sends these but to have two programs read a path differently.
_ODD = frozenset(b"%/\\" + bytes(range(0x21)) + b"\x7f") - frozenset(b" ")
_NEEDLESS = re.compile(rb"[A-Za-z0-9._~-]")


def plain(target: str) -> str | None:
    """Path of a request as the server will read it, None where two programs might read it differently.

    Parameters
    ----------
    target:
        What stands in the request line, query included, exactly as it is passed on.
    """
    found = _TARGET.fullmatch(target)
    if not found:
        return None
    raw = found[1]
    for escape in re.findall(r"%(..)", raw):
        byte = bytes.fromhex(escape)
        if byte[0] in _ODD or _NEEDLESS.match(byte):
            return None
    try:
        path = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return None
    segments = path.split("/")[1:]
    if not path.isprintable() or {".", ".."} & set(segments) or "" in segments[:-1]:
        return None
    return path


def needed(method: str, target: str) -> str:
    """Role that a request needs.

    Parameters
    ----------
    method:
        Its method, exactly as it is passed on.
    target:
        Its target, exactly as it is passed on.

    Returns
    -------
    str
        One of :data:`ROLES`; :data:`NOBODY` where it is closed, odd or unknown. Where several rows match, the
        highest of theirs.
    """
    path = plain(target)
    if path is None:
        return NOBODY
    roles = [role for verb, pattern, role in _TABLE if verb == method and pattern.fullmatch(path)]
    return max(roles, key=_RANK.__getitem__, default=NOBODY)


def allows(roles: Iterable[str], role: str) -> bool:
    """Whether somebody with these roles may do what needs this one; unknown roles count for nothing."""
    return max((_RANK[one] for one in roles if one in ROLES), default=-1) >= _RANK[role]
