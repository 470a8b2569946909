"""Each route × role over a gateway before the real server, and tokens that nobody may get in with."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jwt

from tests.gateway.gateway import FILES, ROLES, Gateway

sys.path.insert(0, str(FILES))  # outside of pytest nobody has

from kiln_auth import policy, tokens

FILLED = {
    "{path:path}": "a/b.css",
    "{model}": "no-such-model",
    "{strategy}": "no-such-strategy",
    "{session_id}": "no-such-session",
    "{method}": "no-such-method",
}
"""What stands for the parts of a path: nothing that the server has, so that a cell changes nothing."""

RANK = {None: -1, **{role: rank for rank, role in enumerate(ROLES)}, policy.NOBODY: len(ROLES)}


@dataclass(frozen=True)
class Cell:
    """A request of somebody.

    Parameters
    ----------
    route:
        What is asked.
    role:
        Of who asks, None for whoever has no token.
    """

    route: policy.Route
    role: str | None

    @property
    def expected(self) -> int:
        """What the gateway answers by itself, 0 where the server is to be asked."""
        if self.route.path == "/reload":
            return 404
        if self.role is None:
            return 401
        return 0 if RANK[self.role] >= RANK[self.route.role] else 403

    def __str__(self) -> str:
        return f"{self.route.method} {self.route.path} {self.role or 'anonymous'}"


def cells(routes: Iterable[policy.Route] = policy.ROUTES) -> list[Cell]:
    """The table: every route, for everybody."""
    return [Cell(route, role) for route in routes for role in (None, *ROLES)]


def target(path: str) -> str:
    """A path with something in the place of its parts."""
    for part, value in FILLED.items():
        path = path.replace(part, value)
    if "{" in path:
        raise ValueError(f"{path}: nothing stands for its part; see FILLED")
    return path


def answered(gateway: Gateway, cell: Cell, number: int) -> int:
    """Send a cell's request; what the gateway answered by itself, 0 where it asked the server.

    Which of the two it was is what nginx has logged: the server may answer with any status of its own.
    """
    name = f"cell-{number}"
    body = b"x" if cell.route.method in ("POST", "PUT") else None
    answer = gateway.ask(cell.route.method, target(cell.route.path), cell.role, body=body, X_Request_ID=name)
    end = time.monotonic() + 10
    while not (logged := [row for row in gateway.log() if row["id"] == name]):
        if time.monotonic() > end:
            raise AssertionError(f"{cell} is not in the access log")
        time.sleep(0.02)
    return 0 if logged[0]["server_seconds"] else answer.status


def wrong(gateway: Gateway, table: Iterable[Cell]) -> Iterator[str]:
    """Cells that are not answered as the table has it."""
    for number, cell in enumerate(table):
        found = answered(gateway, cell, number)
        if found != cell.expected:
            yield f"{cell}: {found or 'let in'} instead of {cell.expected or 'let in'}"


def unclassified(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Routes of a server's own OpenAPI that have no row."""
    table = {(route.method, route.path) for route in policy.ROUTES}
    # OpenAPI has no word for a part with slashes.
    plain = {(method, path.replace(":path}", "}")) for method, path in table}
    return sorted(
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if method in ("get", "put", "post", "delete", "patch", "head", "options", "trace")
        and (method.upper(), path) not in plain
    )


def _signed(**changed: Any) -> Callable[[bytes, dict[str, Any]], str]:
    return lambda key, claims: jwt.encode({**claims, **changed}, key, algorithm=tokens.ALGORITHM)


def _unsigned(_key: bytes, claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
    ) + "."  # fmt: skip


FORGED: dict[str, Callable[[bytes, dict[str, Any]], str]] = {
    "expired": _signed(exp=1_700_000_000),
    "not yet": _signed(iat=4_000_000_000, nbf=4_000_000_000),
    "other audience": _signed(aud="other"),
    "other issuer": _signed(iss="other"),
    "of a user who is gone": _signed(sub="gone"),
    "of another password": _signed(pwd="0" * 16),
    "alg none": _unsigned,
    "another key": lambda _key, claims: jwt.encode(claims, b"k" * 32, algorithm=tokens.ALGORITHM),
    "another algorithm": lambda key, claims: jwt.encode(claims, key, algorithm="HS512"),
    "changed after it was signed": lambda key, claims: _changed(_signed()(key, claims), claims),
}
"""What is done to the claims of a good token, by the key of the gateway itself."""


def _changed(token: str, claims: dict[str, Any]) -> str:
    head, _, signature = token.split(".")
    middle = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "admin1"}).encode()).rstrip(b"=").decode()
    return f"{head}.{middle}.{signature}"


def forged(gateway: Gateway) -> dict[str, str]:
    """Name of a defect → a token that has it and is otherwise one of the gateway's own."""
    key = (gateway.place / "state/own.key").read_bytes().strip()
    claims = jwt.decode(gateway.token("user"), options={"verify_signature": False})
    assert gateway.ask("GET", "/info/", Authorization=f"Bearer {_signed()(key, claims)}").status == 200
    return {name: make(key, claims) for name, make in FORGED.items()}


def let_in(gateway: Gateway) -> list[str]:
    """Forged tokens that are not refused."""
    return [
        name
        for name, token in forged(gateway).items()
        if gateway.ask("GET", "/info/", Authorization=f"Bearer {token}").status != 401
    ]
