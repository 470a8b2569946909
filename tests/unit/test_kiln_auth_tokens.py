"""Tokens, of our own and of an issuer: what is forged, expired or meant for others lets nobody in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import bcrypt
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from kiln_auth.oidc import AGAIN, FRESH, STALE, Oidc
from kiln_auth.settings import Issuer, Settings
from kiln_auth.tokens import Tokens, signing_key
from kiln_auth.trouble import RefusedError, TroubleError
from kiln_auth.user import User
from kiln_auth.users import Users

from kiln import paths

KEY = b"k" * 64
NOW = 1_800_000_000
HASHES = [bcrypt.hashpw(b"right", bcrypt.gensalt(10)).decode() for _ in range(2)]


THREE = st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_text(f"ann:{HASHES[0]}:annotator\n")
    return path


@pytest.fixture(scope="module")
def tokens(file: Path) -> Tokens:
    return Tokens(KEY, Users(file), 3600, 30)


def made(tokens: Tokens) -> str:
    entry = tokens._users.entry("ann")
    assert entry
    return tokens.make(entry)


def claims(tokens: Tokens, **changed: object) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(made(tokens), options={"verify_signature": False})
    return {name: value for name, value in {**found, **changed}.items() if value is not None}


def signed(tokens: Tokens, key: bytes = KEY, algorithm: str = "HS256", **changed: object) -> str:
    return by_hand(claims(tokens, **changed), key, algorithm)


def by_hand(payload: object, key: bytes = KEY, algorithm: str = "HS256") -> str:
    """Sign what jwt.encode would refuse to."""
    return jwt.PyJWS().encode(json.dumps(payload).encode(), key, algorithm=algorithm)


def raw(header: object, payload: object, signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_a_token_is_read(tokens: Tokens) -> None:
    assert tokens.read(made(tokens)) == User("ann", ("annotator",))
    assert HASHES[0] not in str(claims(tokens))


def test_the_same_signed_by_hand_is_read(tokens: Tokens) -> None:
    """Or the cases below would be refused for what they are not about."""
    assert tokens.read(signed(tokens)).name == "ann"


PAST, FUTURE = 1_750_000_000, 4_000_000_000
"""Written down, not reckoned: names of tests must be the same in every worker."""


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": PAST}, {"exp": None}, {"exp": "x"}, {"exp": [1]}, {"exp": 1e400}, {"iat": FUTURE},
        {"iat": None}, {"nbf": 2**40},
        {"aud": "other"}, {"aud": None}, {"aud": ["monai-label", "other"]}, {"aud": {}}, {"iss": "other"},
        {"iss": None}, {"iss": ["kiln-auth"]}, {"sub": None}, {"sub": "nobody"}, {"sub": 1}, {"sub": ["ann"]},
        {"pwd": None}, {"pwd": "0" * 16}, {"pwd": "\N{SNOWMAN}"}, {"pwd": 1},
    ],
    ids=str,
)  # fmt: skip
def test_claims_that_do_not_count_are_refused(tokens: Tokens, changed: dict[str, object]) -> None:
    with pytest.raises(RefusedError):
        tokens.read(signed(tokens, **changed))


def test_forged_tokens_are_refused(tokens: Tokens) -> None:
    head, body, signature = made(tokens).split(".")
    forged = [
        signed(tokens, key=b"x" * 32),
        signed(tokens, KEY, "HS384"),
        signed(tokens, KEY, "HS512"),
        raw({"alg": "none", "typ": "JWT"}, claims(tokens)),
        raw({"alg": "None"}, claims(tokens)),
        raw({"alg": "nOnE"}, claims(tokens)),
        raw({"typ": "JWT"}, claims(tokens)),
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}.{signature}.{signature}",
        f"{head}.{raw({}, {'sub': 'root'}).split('.')[1]}.{signature}",
        raw({"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}}, claims(tokens), b"x"),
        raw({"alg": "HS256", "crit": ["exp"]}, claims(tokens), b"x"),
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "\0",
        "x" * 20_000,
        base64.urlsafe_b64encode(b"[" * 9_000).decode() + "..",
    ]
    for token in forged:
        with pytest.raises(RefusedError):
            tokens.read(token)


@given(st.one_of(st.text(), THREE))
def test_nothing_malformed_ends_in_anything_but_a_refusal(tokens: Tokens, token: str) -> None:
    with pytest.raises(RefusedError):
        tokens.read(token)


CLAIMS = st.sampled_from(["exp", "iat", "nbf", "aud", "iss", "sub", "pwd"])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(
    json_values,
    st.dictionaries(CLAIMS, json_values),
)
def test_claims_of_any_kind_end_in_a_refusal(
    tokens: Tokens, header: object, changed: dict[str, object]
) -> None:
    if changed:
        with pytest.raises(RefusedError):
            tokens.read(by_hand({**claims(tokens), "pwd": "", **changed}))
    with pytest.raises(RefusedError):
        tokens.read(raw(header, claims(tokens), b"x"))


def test_clocks_may_differ_by_what_the_settings_say(tokens: Tokens) -> None:
    now = int(time.time())
    assert tokens.read(signed(tokens, exp=now - 20))
    assert tokens.read(signed(tokens, iat=now + 20))
    for changed in ({"exp": now - 40}, {"iat": now + 60}):
        with pytest.raises(RefusedError):
            tokens.read(signed(tokens, **changed))


def test_who_is_gone_or_has_a_new_password_or_other_roles_is_so_at_once(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"ann:{HASHES[0]}:annotator\n")
    tokens = Tokens(KEY, Users(path), 3600, 30)
    token = made(tokens)
    path.write_text(f"ann:{HASHES[0]}:user\n# longer\n")
    assert tokens.read(token).roles == ("user",)
    path.write_text(f"ann:{HASHES[1]}:user\n")
    with pytest.raises(RefusedError):
        tokens.read(token)
    path.write_text(f"bob:{HASHES[0]}:user\n")
    with pytest.raises(RefusedError):
        tokens.read(token)


def test_a_token_counts_on_every_server_that_has_the_key_and_on_no_other(file: Path, tokens: Tokens) -> None:
    assert Tokens(KEY, Users(file), 60, 0).read(made(tokens)).name == "ann"
    with pytest.raises(RefusedError):
        Tokens(b"other" * 8, Users(file), 60, 0).read(made(tokens))


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    key = signing_key(tmp_path / "given", own)
    assert key == signing_key(tmp_path / "given", own)
    assert len(bytes.fromhex(key.decode())) == 32
    assert own.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["own"]


def test_a_key_from_the_settings_goes_before_our_own(tmp_path: Path) -> None:
    signing_key(tmp_path / "given", tmp_path / "own")
    (tmp_path / "given").write_text("g" * 64 + "\n")
    assert signing_key(tmp_path / "given", tmp_path / "own") == b"g" * 64


@pytest.mark.parametrize("name", ["given", "own"])
def test_a_short_key_is_refused_and_not_shown(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("secret\n")
    with pytest.raises(TroubleError) as caught:
        signing_key(tmp_path / "given", tmp_path / "own")
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(TroubleError, match="cannot be read or made"):
        signing_key(tmp_path / "given", tmp_path / "no/own")


def test_nobodys_tokens_are_signed_by_the_key_of_the_example(tmp_path: Path) -> None:
    files = yaml.safe_load((paths.ROOT / "docs/settings.cloud-config.yaml").read_text())["write_files"]
    (example,) = [each["content"] for each in files if each["path"] == Settings().signing_key_file]
    (tmp_path / "given").write_text(example)
    with pytest.raises(TroubleError, match="fewer than 32 bytes"):
        signing_key(tmp_path / "given", tmp_path / "own")


# An issuer


class Idp(ThreadingHTTPServer):
    """An issuer, and what is wrong with it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[str] = []
        self.form: dict[str, list[str]] = {}
        self.down = False
        self.keys: list[dict[str, Any]] = []
        self.document = {
            "issuer": self.url, "jwks_uri": f"{self.url}/keys", "token_endpoint": f"{self.url}/token",
        }  # fmt: skip
        self.token: tuple[int, object] = (200, {})


class Asked(BaseHTTPRequestHandler):
    server: Idp

    def say(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.down:
            return self.say(503, {})
        return self.say(200, {"keys": self.server.keys} if self.path == "/keys" else self.server.document)

    def do_POST(self) -> None:
        self.server.form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        self.say(*self.server.token)

    def log_message(self, *args: object) -> None:
        pass


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


@pytest.fixture
def idp() -> Iterator[Idp]:
    server = Idp()
    server.keys = [jwk(RSA, "one", use="sig")]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def reader(idp: Idp, clock: Clock | None = None, **changed: Any) -> Oidc:
    issuer = Issuer(**{"issuer": idp.url, "audience": "monai", **changed})
    return Oidc(issuer, 30, clock or Clock(NOW))


def token(
    idp: Idp, key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **changed: object
) -> str:
    body = {
        "iss": idp.url, "aud": "monai", "sub": "1", "exp": int(time.time()) + 600,
        "preferred_username": "ann", "realm_access": {"roles": ["monailabel-reviewer", "other"]},
    }  # fmt: skip
    body = {name: value for name, value in {**body, **changed}.items() if value is not None}
    return jwt.encode(body, key, algorithm=algorithm, headers={"kid": kid} if kid else {})


def test_an_issuers_token_is_read(idp: Idp) -> None:
    oidc = reader(idp)
    assert oidc.read(token(idp)) == User("ann", ("reviewer",))
    assert oidc.read(token(idp, aud=["account", "monai"])).name == "ann"
    assert idp.asked == ["/.well-known/openid-configuration", "/keys"]


def test_claims_are_found_where_the_settings_say(idp: Idp) -> None:
    oidc = reader(idp, username_claim="email", roles_claim="groups", role_prefix="")
    assert oidc.read(token(idp, email="ann@x.org", groups=["admin", "user"])) == User(
        "ann@x.org", ("user", "admin")
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": PAST}, {"exp": None}, {"nbf": 2**40}, {"aud": "other"}, {"aud": None}, {"aud": []},
        {"iss": "https://other.example.org"}, {"iss": None}, {"sub": None},
        {"preferred_username": None}, {"preferred_username": "ann\r\nx: root"}, {"preferred_username": 7},
        {"preferred_username": "\N{SNOWMAN}"}, {"preferred_username": {"a": "b"}},
    ],
    ids=str,
)  # fmt: skip
def test_an_issuers_claims_that_do_not_count_are_refused(idp: Idp, changed: dict[str, object]) -> None:
    with pytest.raises(RefusedError):
        reader(idp).read(token(idp, **changed))


@pytest.mark.parametrize(
    "roles", [None, "monailabel-admin", {"monailabel-admin": 1}, [["monailabel-admin"]], 1]
)
def test_roles_of_another_shape_are_none(idp: Idp, roles: object) -> None:
    assert reader(idp).read(token(idp, realm_access={"roles": roles})).roles == ()
    assert reader(idp).read(token(idp, realm_access=roles)).roles == ()


def test_an_issuers_tokens_cannot_be_forged(idp: Idp) -> None:
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    good = token(idp)
    body = good.split(".")[1]
    payload = json.loads(base64.urlsafe_b64decode(body + "=="))

    # PyJWT itself refuses to sign with a public key: the attack is made by hand.
    confused = [
        raw({"alg": alg, "kid": "one"}, payload).rsplit(".", 1)[0] for alg in ("HS256", "HS384", "HS512")
    ]
    for start, digest in zip(confused, (hashlib.sha256, hashlib.sha384, hashlib.sha512), strict=True):
        mac = base64.urlsafe_b64encode(hmac.digest(pem, start.encode(), digest)).rstrip(b"=").decode()
        with pytest.raises(RefusedError):
            reader(idp).read(f"{start}.{mac}")
    idp.keys += [jwk(CURVE, "curve"), {"kty": "oct", "k": "eHh4eHh4", "kid": "oct", "alg": "HS256"}]
    forged = [
        token(idp, key=OTHER),
        token(idp, kid="two"),
        token(idp, kid=None),
        token(idp, kid="oct"),
        token(idp, algorithm="RS512"),
        token(idp, algorithm="PS256"),
        token(idp, key=CURVE, algorithm="ES256", kid="curve"),
        token(idp, key=CURVE, algorithm="ES256", kid="one"),
        raw({"alg": "none", "kid": "one"}, payload),
        raw({"alg": "HS256", "kid": "oct"}, payload, b"x"),
        raw({"alg": "RS256", "kid": ["one"]}, payload, b"x"),
        raw({"alg": "RS256", "kid": "one", "jwk": jwk(OTHER, "one")}, payload, b"x"),
        raw(["RS256"], payload, b"x"),
        good[:-3],
        "a.b.c",
        "",
    ]
    for one in forged:
        with pytest.raises(RefusedError):
            reader(idp).read(one)


def test_a_key_for_encryption_signs_nothing(idp: Idp) -> None:
    idp.keys = [jwk(RSA, "one", use="enc"), jwk(OTHER, "two")]
    with pytest.raises(RefusedError):
        reader(idp).read(token(idp))


@given(token=st.one_of(st.text(), THREE))
def test_nothing_malformed_passes_an_issuer(token: str) -> None:
    oidc = Oidc(Issuer(issuer="http://127.0.0.1:9", audience="x"), 30, Clock(NOW))
    oidc._keys, oidc._read_at = {"one": jwt.PyJWK(jwk(RSA, "one"))}, NOW
    oidc._asked_at = NOW
    with pytest.raises(RefusedError):
        oidc.read(token)
    assert oidc.known(token)


def test_a_new_key_is_looked_for_and_not_more_often_than_bound(idp: Idp) -> None:
    clock = Clock(NOW)
    oidc = reader(idp, clock)
    assert oidc.read(token(idp))
    idp.keys = [jwk(OTHER, "two")]
    for _ in range(20):
        with pytest.raises(RefusedError):
            oidc.read(token(idp, key=OTHER, kid="two"))
    assert idp.asked.count("/keys") == 1
    clock.now += AGAIN
    assert not oidc.known(token(idp, key=OTHER, kid="two"))
    assert oidc.read(token(idp, key=OTHER, kid="two"))
    assert idp.asked.count("/keys") == 2
    # What the issuer has withdrawn counts no longer.
    with pytest.raises(RefusedError):
        oidc.read(token(idp))


def test_keys_are_read_anew_after_a_time_and_kept_for_a_day_without_an_answer(idp: Idp) -> None:
    clock = Clock(NOW)
    oidc = reader(idp, clock)
    assert oidc.read(token(idp))
    clock.now += FRESH + 1
    assert oidc.read(token(idp))
    assert idp.asked.count("/keys") == 2
    idp.down = True
    clock.now += FRESH + 1
    assert oidc.read(token(idp)).name == "ann"
    clock.now += STALE
    with pytest.raises(TroubleError, match="does not answer"):
        oidc.read(token(idp))
    with pytest.raises(TroubleError, match="does not answer"):
        oidc.read(token(idp))
    idp.down = False
    clock.now += AGAIN
    assert oidc.read(token(idp)).name == "ann"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://other.example.org"},
        {"jwks_uri": "http://example.org/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
        {"jwks_uri": None},
    ],
)
def test_a_document_that_cannot_be_trusted_gives_no_keys(idp: Idp, document: dict[str, object]) -> None:
    idp.document |= document  # type: ignore[arg-type]
    with pytest.raises(TroubleError) as caught:
        reader(idp).read(token(idp))
    assert str(caught.value).count("\n") == 1


def test_a_password_is_handed_to_the_issuer(idp: Idp, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3\n")
    idp.token = (200, {"access_token": token(idp), "expires_in": 300, "refresh_token": "never passed on"})
    oidc = reader(idp, client_id="c", client_secret_file=str(tmp_path / "secret"))
    assert oidc.log_in("ann", "right") == {"access_token": token(idp), "expires_in": 300}
    assert idp.form["username"] == ["ann"]
    assert idp.form["client_secret"] == ["s3"]
    assert idp.form["grant_type"] == ["password"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, {}), RefusedError),
        ((400, {"error": "invalid_grant"}), RefusedError),
        ((500, {}), TroubleError),
        ((302, {}), TroubleError),
        ((200, {}), TroubleError),
        ((200, []), TroubleError),
        ((200, {"access_token": 7}), TroubleError),
        ((200, {"access_token": "x.y.z"}), RefusedError),
    ],
)
def test_an_issuers_refusal_is_a_refusal_and_its_failure_ours(
    idp: Idp, answer: tuple[int, object], error: type[Exception]
) -> None:
    idp.token = answer
    with pytest.raises(error) as caught:
        reader(idp).log_in("ann", "pass-word")
    assert "pass-word" not in str(caught.value)
