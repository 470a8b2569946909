"""The HTTP side: what nginx asks before each request, and the three calls of the client's own log-in.

Plain ASGI: a framework would cost more memory than the rest of this service, for four routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from . import policy
from .limits import Limit, network
from .settings import Settings
from .trouble import RefusedError, TroubleError
from .user import User

if TYPE_CHECKING:
    from .oidc import Oidc
    from .tokens import Tokens

LONGEST_FORM = 16 * 1024
"""Bytes of a log-in."""

MOST_WAITING = 64
"""Log-ins that wait for a thread; a hash takes a quarter of a second of one."""

LOG = logging.getLogger("kiln-auth")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    """What is answered.

    Parameters
    ----------
    status:
        HTTP status.
    body:
        JSON, nothing where it is None.
    headers:
        Besides type and length of the body.
    """

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[dict[str, str], Receive], Awaitable[Answer]]


def _detail(status: int, words: str, **headers: str) -> Answer:
    return Answer(
        status, {"detail": words}, {name.replace("_", "-"): value for name, value in headers.items()}
    )


UNKNOWN = _detail(401, "log in first: POST /auth/token", WWW_Authenticate="Bearer")
UNABLE = _detail(503, "nobody can log in now: see the journal of kiln-auth", Retry_After="30")


class App:
    """The service.

    Parameters
    ----------
    settings:
        Its settings.
    reader:
        Whose tokens count: our own, or an issuer's.
    """

    def __init__(self, settings: Settings, reader: Tokens | Oidc) -> None:
        self._settings, self._reader = settings, reader
        login = settings.login
        self._by_address = Limit(login.by_address, login.by_address_seconds)
        self._by_user = Limit(login.by_user, login.by_user_seconds)
        self._threads = ThreadPoolExecutor(2, "kiln-auth")
        self._waiting = 0
        self._routes: dict[str, dict[str, Handler]] = {
            "/check": {"GET": self._check},
            "/auth/": {"GET": self._enabled},
            "/auth/token": {"POST": self._token},
            "/auth/token/valid": {"GET": self._valid},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        # Which of two counts could be read differently by others.
        twice = sum(name == b"authorization" for name, _ in scope["headers"]) > 1
        methods = self._routes.get(scope["path"])
        if methods is None:
            answer = _detail(404, "not found")
        elif (found := methods.get(scope["method"])) is None:
            answer = _detail(405, "not this method", Allow=", ".join(methods))
        elif twice:
            answer = UNKNOWN
        else:
            try:
                answer = await found(headers, receive)
            except TroubleError as trouble:
                LOG.error("%s", trouble)
                answer = UNABLE
        await _send(answer, send)

    async def _aside(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run what takes its time in a thread, so that others are answered meanwhile."""
        if self._waiting >= MOST_WAITING:
            raise TroubleError(
                f"{MOST_WAITING} log-ins wait already",
                "see who tries in nginx's access log; they may try again",
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._waiting -= 1

    async def _user(self, headers: dict[str, str]) -> User | None:
        """Return who sends this token, None where it does not count."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip(" ")
        if kind.lower() != "bearer" or not token:
            return None
        try:
            # Only a question to the issuer takes its time.
            if not self._reader.known(token):
                user: User = await self._aside(self._reader.read, token)
                return user
            return self._reader.read(token)
        except RefusedError as refused:
            LOG.info("refused: %s (request %s)", refused, headers.get("x-request-id", "-"))
            return None

    async def _check(self, headers: dict[str, str], _receive: Receive) -> Answer:
        """Say whether a request may pass: 204, 401 or 403, which is all that nginx's auth_request knows."""
        user = await self._user(headers)
        if user is None:
            return Answer(401, headers={"WWW-Authenticate": "Bearer"})
        role = policy.needed(headers.get("x-original-method", ""), headers.get("x-original-uri", ""))
        named = {"X-Kiln-User": user.name}
        if not policy.allows(user.roles, role):
            reason = "this route is closed" if role == policy.NOBODY else f"this needs the role {role}"
            return Answer(403, headers={**named, "X-Kiln-Reason": reason})
        return Answer(204, headers=named)

    async def _enabled(self, _headers: dict[str, str], _receive: Receive) -> Answer:
        oidc = self._settings.oidc
        return Answer(200, {"enabled": True, "client_id": oidc.client_id, "realm": oidc.issuer})

    async def _valid(self, headers: dict[str, str], _receive: Receive) -> Answer:
        user = await self._user(headers)
        if user is None:
            return UNKNOWN
        # As upstream's, which knows more of a user than we do.
        prefix = self._settings.oidc.role_prefix
        roles = [prefix + role for role in policy.ROLES if policy.allows(user.roles, role)]
        return Answer(200, {"username": user.name, "email": None, "name": None, "roles": roles})

    async def _token(self, headers: dict[str, str], receive: Receive) -> Answer:
        """Log in, as OAuth's password grant has it."""
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if len(body) > LONGEST_FORM:
                return _detail(413, "a log-in is a short form")
            if part["type"] != "http.request":
                return _detail(400, "the form did not arrive")
            if not part.get("more_body"):
                break
        try:
            form = parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=16)
            (name,), (password,) = form["username"], form["password"]
        except (ValueError, KeyError):
            return _detail(400, "a log-in is a form with username and password, once each")
        if form.get("grant_type", ["password"]) != ["password"]:
            return _detail(400, "grant_type is password, or not there")
        return await self._log_in(network(headers.get("x-real-ip", "")), name, password)

    async def _log_in(self, address: str, name: str, password: str) -> Answer:
        # Before the hash, or many at once would all be counted too late; what succeeds is given back.
        wait = self._by_address.take(address) or self._by_user.take(name)
        if wait:
            LOG.warning("log-in from %s: too many failures", address)
            return _detail(
                429, "too many log-ins failed: wait", Retry_After=str(int(wait) + 1), Cache_Control="no-store"
            )
        try:
            made = await self._made(name, password)
        except RefusedError as refused:
            # No name: it may be a password in the wrong field.
            LOG.warning("log-in from %s refused: %s", address, refused)
            return _detail(401, "wrong name or password", WWW_Authenticate="Bearer", Cache_Control="no-store")
        except TroubleError:
            self._give_back(address, name)
            raise
        self._give_back(address, name)
        LOG.info("log-in from %s of %s", address, self._reader.read(made["access_token"]).name)
        return Answer(200, {**made, "token_type": "Bearer"}, {"Cache-Control": "no-store"})

    def _give_back(self, address: str, name: str) -> None:
        self._by_address.give_back(address)
        self._by_user.give_back(name)

    async def _made(self, name: str, password: str) -> dict[str, Any]:
        made: dict[str, Any] = await self._aside(self._reader.log_in, name, password)
        return made


async def _send(answer: Answer, send: Send) -> None:
    body = b"" if answer.body is None else json.dumps(answer.body).encode()
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    if body:
        headers.append((b"content-type", b"application/json"))
    if answer.status != 204:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
