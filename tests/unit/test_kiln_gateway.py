"""The programs beside kiln-auth: where nginx listens, and who is behind a request in the server's process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kiln_gateway
import kiln_identity
import pytest

PROGRAM = Path(kiln_gateway.__file__)

PLAIN: dict[str, Any] = {
    "http_port": 80, "https_port": 443, "certificate": "", "certificate_key": "", "trusted_proxies": [],
    "response_timeout": 4000,
}  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    for name in ("a.crt", "a.key"):
        (tmp_path / name).write_text("x")
    return {**PLAIN, "certificate": str(tmp_path / "a.crt"), "certificate_key": str(tmp_path / "a.key")}


def test_without_a_certificate_it_is_http() -> None:
    assert kiln_gateway.render(PLAIN, ipv6=False) == (
        "listen 80 default_server;\nproxy_read_timeout 4000s;\n"
    )
    assert "listen [::]:80 default_server;\n" in kiln_gateway.render(PLAIN, ipv6=True)


def test_with_a_certificate_it_is_tls_alone(given: dict[str, Any]) -> None:
    said = kiln_gateway.render(given, ipv6=True)
    assert said.startswith("listen 443 ssl default_server;\nlisten [::]:443 ssl default_server;\n")
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in said
    assert "listen 80" not in said


def test_an_answer_is_waited_for_as_long_as_the_settings_say() -> None:
    said = kiln_gateway.render({**PLAIN, "response_timeout": 7260}, ipv6=False)
    assert "proxy_read_timeout 7260s;\n" in said


def test_only_named_networks_are_believed() -> None:
    said = kiln_gateway.render({**PLAIN, "trusted_proxies": ["10.0.0.0/16", "2001:db8::/32"]}, ipv6=False)
    assert "set_real_ip_from 10.0.0.0/16;\nset_real_ip_from 2001:db8::/32;\nreal_ip_header" in said
    assert "real_ip" not in kiln_gateway.render(PLAIN, ipv6=False)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"certificate": ""}, "go together"),
        ({"certificate_key": ""}, "go together"),
        ({"certificate": "/not/there.crt"}, "is not there"),
        ({"certificate": "a.crt"}, "no absolute path"),
        ({"certificate": "/etc/x;include /etc/passwd"}, "no absolute path"),
        ({"certificate": 7}, "certificate is no str"),
        ({"https_port": 0}, "0 is no port"),
        ({"https_port": "443"}, "https_port is no int"),
        ({"trusted_proxies": ["10.0.0.1/16"]}, "trusted_proxies"),
        ({"trusted_proxies": ["any; x"]}, "trusted_proxies"),
        ({"trusted_proxies": "10.0.0.0/8"}, "trusted_proxies is no list"),
        ({"response_timeout": 0}, "no number of seconds"),
        ({"response_timeout": 90_001}, "no number of seconds"),
        ({"more": 1}, "exactly"),
    ],
)
def test_what_cannot_be_meant_ends_the_start(
    given: dict[str, Any], tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    (tmp_path / "gateway.json").write_text(json.dumps({**given, **changed}))
    done = subprocess.run(
        [sys.executable, "-I", "-S", PROGRAM, tmp_path / "listen.conf", tmp_path / "gateway.json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 2
    assert not (tmp_path / "listen.conf").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_settings_that_are_none_end_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "gateway.json").write_text(text)
    assert kiln_gateway.main([str(tmp_path / "listen.conf"), str(tmp_path / "gateway.json")]) == 1
    assert kiln_gateway.main([str(tmp_path / "listen.conf"), str(tmp_path / "none.json")]) == 1


def test_settings_from_user_data_count_over_the_images_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, port in (("own", 80), ("theirs", 8080)):
        said = {"http_port": port, "https_port": 443, "certificate": "", "certificate_key": ""}
        (tmp_path / f"{name}.json").write_text(json.dumps({**PLAIN, **said}))
    monkeypatch.setattr(kiln_gateway, "SETTINGS", tmp_path / "own.json")
    listen = tmp_path / "listen.conf"
    assert kiln_gateway.main([str(listen)]) == 0
    assert "listen 80 " in listen.read_text()
    monkeypatch.setenv("KILN_GATEWAY_SETTINGS", str(tmp_path / "theirs.json"))
    assert kiln_gateway.main([str(listen)]) == 0
    assert "listen 8080 " in listen.read_text()


# Who is behind a request


def seen(*headers: tuple[bytes, bytes]) -> str:
    """Name that an application behind the middleware sees."""
    names: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        names.append(kiln_identity.current.get())

    asyncio.run(kiln_identity.Identity(app)({"type": "http", "headers": list(headers)}, None, None))
    assert kiln_identity.current.get() == kiln_identity.LOCAL
    return names[0]


def test_the_header_says_who_is_behind_a_request() -> None:
    assert seen((b"x-kiln-user", b"ann"), (b"user", b"bob")) == "ann"


@pytest.mark.parametrize(
    "headers", [[], [(b"x-kiln-user", b"")], [(b"x-kiln-user", b"ann"), (b"x-kiln-user", b"root")]]
)
def test_without_one_name_it_is_somebody_local(headers: list[tuple[bytes, bytes]]) -> None:
    assert seen(*headers) == "local"


def test_requests_at_the_same_time_do_not_mix() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            assert kiln_identity.current.get() == scope["name"]

    async def both() -> None:
        identity = kiln_identity.Identity(app)
        await asyncio.gather(
            *(
                identity({"headers": [(b"x-kiln-user", name.encode())], "name": name}, None, None)
                for name in ("ann", "bob", "eve")
            )
        )

    asyncio.run(both())


def test_a_label_notes_the_user_and_not_whom_the_client_names() -> None:
    def save_label(
        tasks: object, image: str, params: str = "{}", user: str | None = None
    ) -> tuple[str, object]:
        return image, json.loads(params)

    saving = kiln_identity.naming(save_label)
    token = kiln_identity.current.set("ann")
    try:
        assert saving(None, "a", '{"user": "eve", "x": 1}', "admin") == ("a", {"user": "ann", "x": 1})
        assert saving(None, image="a") == ("a", {"user": "ann"})
        assert saving(None, "a", "") == ("a", {"user": "ann"})
        for params in ("[]", "7", "{"):
            with pytest.raises(ValueError):
                saving(None, "a", params)
    finally:
        kiln_identity.current.reset(token)


def test_an_upstream_that_changed_is_noticed_at_the_start() -> None:
    with pytest.raises(RuntimeError, match="no params"):
        kiln_identity.naming(lambda image, metadata: None)


def test_it_is_mounted_once() -> None:
    app = SimpleNamespace(dependency_overrides={}, middleware=[])
    app.add_middleware = app.middleware.append
    module = SimpleNamespace(save_label=lambda params: json.loads(params))

    def get_current_user() -> None:
        pass

    for _ in range(2):
        kiln_identity.mount(app, module, get_current_user, lambda **made: made)
    assert app.middleware == [kiln_identity.Identity]
    assert module.save_label("{}") == {"user": "local"}
    assert asyncio.run(app.dependency_overrides[get_current_user]())["username"] == "local"
