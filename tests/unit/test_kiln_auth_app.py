"""The service's HTTP side with an issuer, asked as ASGI has it; with users of a file see tests/gateway."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from kiln_auth import app as service
from kiln_auth.__main__ import make
from kiln_auth.app import App
from kiln_auth.oidc import Oidc
from kiln_auth.settings import Issuer, Settings
from kiln_auth.trouble import RefusedError, TroubleError
from kiln_auth.user import User

ISSUER = Issuer(issuer="https://id.example.org", audience="monai", client_id="desk")


class Known(Oidc):
    """An issuer that answers from memory, or waits as one on the network."""

    wait = threading.Event()

    def known(self, token: str) -> bool:
        return token != "slow"

    def read(self, token: str) -> User:
        if token == "slow":
            self.wait.wait(10)
        if token == "broken":
            raise TroubleError("what", "hint")
        if token not in ("good", "slow"):
            raise RefusedError("no")
        return User("ann", ("reviewer",))

    def log_in(self, name: str, password: str) -> dict[str, Any]:
        if password != "right":
            raise RefusedError("no")
        return {"access_token": "good"}


@pytest.fixture
def app() -> App:
    settings = Settings(oidc=ISSUER)
    return App(settings, Known(ISSUER, 30))


async def ask(app: App, method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> Any:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }  # fmt: skip
    await app(scope, receive, send)
    start, last = sent
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], named, json.loads(last["body"] or b"null")


def check(token: str, method: str = "GET", target: str = "/info/") -> tuple[tuple[str, str], ...]:
    return (
        ("authorization", f"Bearer {token}"),
        ("x-original-method", method),
        ("x-original-uri", target),
    )


def test_an_issuers_user_passes_by_role(app: App) -> None:
    status, headers, _ = asyncio.run(ask(app, "GET", "/check", *check("good")))
    assert (status, headers["x-kiln-user"]) == (204, "ann")
    status, headers, _ = asyncio.run(ask(app, "GET", "/check", *check("good", "GET", "/logs/")))
    assert (status, headers["x-kiln-reason"]) == (403, "this needs the role admin")
    status, headers, _ = asyncio.run(ask(app, "GET", "/check", *check("good", "GET", "/nope")))
    assert (status, headers["x-kiln-reason"]) == (403, "this route is closed")
    assert asyncio.run(ask(app, "GET", "/check", *check("bad")))[0] == 401


@pytest.mark.parametrize("left_out", [1, 2])
def test_a_question_without_method_or_address_is_closed(app: App, left_out: int) -> None:
    headers = [header for number, header in enumerate(check("good")) if number != left_out]
    assert asyncio.run(ask(app, "GET", "/check", *headers))[0] == 403


def test_an_issuer_in_trouble_lets_nobody_in(app: App, caplog: pytest.LogCaptureFixture) -> None:
    status, headers, body = asyncio.run(ask(app, "GET", "/check", *check("broken")))
    assert (status, headers["retry-after"]) == (503, "30")
    assert "journal" in body["detail"]
    assert "what\n  fix: hint" in caplog.text


def test_a_slow_issuer_keeps_nobody_else_waiting(app: App) -> None:
    async def both() -> None:
        slow = asyncio.create_task(ask(app, "GET", "/check", *check("slow")))
        await asyncio.sleep(0.05)
        assert (await asyncio.wait_for(ask(app, "GET", "/check", *check("good")), 1))[0] == 204
        assert not slow.done()
        Known.wait.set()
        assert (await slow)[0] == 204

    asyncio.run(both())


def test_the_client_is_told_of_the_issuer_as_upstream_tells_it(app: App) -> None:
    assert asyncio.run(ask(app, "GET", "/auth/"))[2] == {
        "enabled": True, "client_id": "desk", "realm": "https://id.example.org",
    }  # fmt: skip
    status, _, body = asyncio.run(ask(app, "GET", "/auth/token/valid", ("authorization", "bearer good")))
    assert (status, body["username"]) == (200, "ann")
    assert body["roles"] == ["monailabel-user", "monailabel-annotator", "monailabel-reviewer"]


def test_a_log_in_is_handed_on_and_not_stored(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    form = b"username=ann&password=right"
    status, headers, body = asyncio.run(ask(app, "POST", "/auth/token", body=form))
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert body == {"access_token": "good", "token_type": "Bearer"}
    assert asyncio.run(ask(app, "POST", "/auth/token", body=form.replace(b"right", b"wrong-one")))[0] == 401
    assert "wrong-one" not in caplog.text
    assert "of ann" in caplog.text


def test_more_log_ins_than_may_wait_are_sent_away(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_WAITING", 0)
    assert asyncio.run(ask(app, "POST", "/auth/token", body=b"username=a&password=right"))[0] == 503
    # That was nobody's failure.
    monkeypatch.setattr(service, "MOST_WAITING", 1)
    for _ in range(20):
        assert asyncio.run(ask(app, "POST", "/auth/token", body=b"username=a&password=right"))[0] == 200


def test_it_starts_before_there_are_users_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        users_file=str(tmp_path / "users"),
        signing_key_file=str(tmp_path / "given"),
        own_key_file=str(tmp_path / "own"),
    )
    made = make(settings)
    assert "deliver the users file by the settings" in caplog.text
    assert asyncio.run(ask(made, "POST", "/auth/token", body=b"username=a&password=b"))[0] == 503
