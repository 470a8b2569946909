"""Who may do what, who is who, and how often somebody may try: without a server, in seconds."""

from __future__ import annotations

import dataclasses
import json
import posixpath
import time
from pathlib import Path
from urllib.parse import unquote

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kiln_auth import limits, policy, settings, user, users
from kiln_auth.trouble import RefusedError, TroubleError

# The salt is fixed: names of tests must be the same in every worker.
HASH = bcrypt.hashpw(b"right", b"$2b$10$kilnkilnkilnkilnkilnke").decode()

ADMINS = [
    ("DELETE", "/datastore/image"),
    ("DELETE", "/session/x"),
    ("PUT", "/model/x"),
    ("POST", "/train/x"),
    ("GET", "/train/"),
    ("POST", "/batch/infer/x"),
    ("GET", "/logs/"),
    ("GET", "/datastore/dataset?limit_cases=1"),
]


@pytest.mark.parametrize(("method", "target"), ADMINS)
def test_what_the_issue_names_is_admins(method: str, target: str) -> None:
    assert policy.needed(method, target) == "admin"


def test_every_delete_and_every_route_of_these_folders_is_admins() -> None:
    folders = ("/train/", "/batch/", "/logs/", "/model/")
    low = [
        route
        for route in policy.ROUTES
        if (route.method == "DELETE" or route.path.startswith(folders) or "dataset" in route.path)
        and route.role != "admin"
    ]
    assert low == []


def test_no_route_stands_there_twice() -> None:
    pairs = [(route.method, route.path) for route in policy.ROUTES]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/reload"),
        ("GET", "/nope"),
        ("PATCH", "/info/"),
        ("get", "/info/"),
        ("GET", "/info"),
        ("GET", "/INFO/"),
        ("OPTIONS", "/info/"),
        ("", ""),
        ("GET", "/check"),
    ],
)
def test_what_nobody_classified_is_closed_for_admin_too(method: str, target: str) -> None:
    role = policy.needed(method, target)
    assert role == policy.NOBODY
    assert not policy.allows(policy.ROLES, role)


ODD = [
    "//info/",
    "/info//",
    "/./info/",
    "/info/../logs/",
    "/info/..",
    "/info/%2e%2e/logs/",
    "/info/%2E%2e/logs/",
    "/model%2finfo",
    "/model/%2Fx",
    "/model/a%5Cb",
    "/model/a\\b",
    "/%69nfo/",
    "/model/%2561",
    "/model/a%00",
    "/model/a%0d%0ax",
    "/model/a\r\nx",
    "/model/a b",
    "/model/%ff",
    "/model/%c0%ae%c0%ae",
    "/model/%",
    "/model/%4",
    "/model/a#b",
    "info/",
    "http://x/info/",
    "*",
    "/model/\N{SNOWMAN}",
    "/model/a%7fb",
    "/model/%e2%80%ae",
    "/model/%2B%2F",
]


@pytest.mark.parametrize("target", ODD)
def test_a_path_that_could_be_read_differently_is_closed(target: str) -> None:
    assert policy.plain(target) is None
    assert policy.needed("GET", target) == policy.NOBODY


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/info/", "/info/"),
        ("/info/?a=/../b//c%2e", "/info/"),
        ("/model/a%20b", "/model/a b"),
        ("/model/%C3%A9", "/model/é"),
        ("/model/a+b:c@d", "/model/a+b:c@d"),
        ("/model/...", "/model/..."),
    ],
)
def test_a_plain_path_is_read_as_the_server_reads_it(target: str, path: str) -> None:
    assert policy.plain(target) == path


@given(st.text(max_size=40).map(lambda text: "/" + text))
def test_a_plain_path_has_nothing_left_to_normalise(target: str) -> None:
    path = policy.plain(target)
    if path is not None:
        raw = target.partition("?")[0]
        assert path == unquote(raw, errors="strict")
        assert posixpath.normpath(path) + ("/" if path.endswith("/") and path != "/" else "") == path


def test_where_rows_overlap_the_highest_role_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("GET", policy._pattern("/a/{x}"), "user"), ("GET", policy._pattern("/a/b"), "admin")]
    monkeypatch.setattr(policy, "_TABLE", rows)
    assert policy.needed("GET", "/a/b") == "admin"
    assert policy.needed("GET", "/a/c") == "user"


def test_a_role_may_do_what_those_before_it_may() -> None:
    for rank, mine in enumerate(policy.ROLES):
        assert [policy.allows([mine], role) for role in policy.ROLES] == [
            place <= rank for place in range(len(policy.ROLES))
        ]
    assert not policy.allows([], "user")
    assert not policy.allows(["root", "nobody"], "user")


# Users


def file(tmp_path: Path, text: str) -> users.Users:
    path = tmp_path / "users"
    path.write_text(text)
    return users.Users(path)


def test_users_are_read_with_their_roles(tmp_path: Path) -> None:
    known = file(tmp_path, f"# who\n\nann:{HASH}:annotator,reviewer\nbob@x.org:{HASH}:user\n").entries()
    assert known["ann"].user == user.User("ann", ("annotator", "reviewer"))
    assert list(known) == ["ann", "bob@x.org"]
    assert HASH not in repr(known)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ann", "three fields"),
        (f"ann:{HASH}", "three fields"),
        (f"ann:{HASH}:user:x", "three fields"),
        (f"a\u0301nn:{HASH}:user", "name with other characters"),
        (f"an n:{HASH}:user", "name with other characters"),
        (f":{HASH}:user", "name with other characters"),
        (f"{'a' * 65}:{HASH}:user", "name with other characters"),
        ("ann:secret:user", "no bcrypt hash"),
        ("ann:$apr1$x$yyyy:user", "no bcrypt hash"),
        (f"ann:{HASH[:-1]}:user", "no bcrypt hash"),
        (f"ann:{HASH.replace('$10$', '$04$')}:user", "no bcrypt hash"),
        (f"ann:{HASH.replace('$10$', '$31$')}:user", "no bcrypt hash"),
        (f"ann:{HASH}:", "roles other than"),
        (f"ann:{HASH}:root", "roles other than"),
        (f"ann:{HASH}:user, admin", "roles other than"),
        (f"bob:{HASH}:user", "an earlier line"),
    ],
)
def test_a_malformed_line_is_named_and_not_shown(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(TroubleError, match=words) as caught:
        file(tmp_path, f"bob:{HASH}:user\n{line}\n").entries()
    assert "line 2 of" in str(caught.value)
    assert str(caught.value).count("\n") == 1
    assert "secret" not in str(caught.value)
    assert HASH not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "users").write_bytes(content)
    with pytest.raises(TroubleError, match="cannot be read"):
        users.Users(tmp_path / "users").log_in("ann", "right")


def test_a_file_that_becomes_malformed_does_not_leave_yesterdays_users(tmp_path: Path) -> None:
    known = file(tmp_path, f"ann:{HASH}:user\n")
    assert known.entry("ann")
    known.path.write_text("half a li")
    for _ in range(2):
        with pytest.raises(TroubleError):
            known.entry("ann")
    known.path.write_text(f"bob:{HASH}:user\n")
    assert known.entry("bob")
    assert known.entry("ann") is None


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ann", "wrong"), ("ann", ""), ("nobody", "right"), ("", ""), ("ann\r\nX: y", "right"),
        ("ANN", "right"),
        ("ann", "right" + "x" * 80), ("ann", "right\0"), ("ann", "é" * 50),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(RefusedError):
        file(tmp_path, f"ann:{HASH}:user\n").log_in(name, password)


def test_bytes_that_bcrypt_does_not_look_at_do_not_make_a_password_right(tmp_path: Path) -> None:
    long = "p" * 72
    known = file(tmp_path, f"ann:{bcrypt.hashpw(long.encode(), bcrypt.gensalt(10)).decode()}:user\n")
    assert known.log_in("ann", long).user.name == "ann"
    with pytest.raises(RefusedError):
        known.log_in("ann", long + "q")


@pytest.mark.parametrize("kind", ["$2a$", "$2b$", "$2y$"])
def test_every_kind_of_bcrypt_that_tools_write_is_read(tmp_path: Path, kind: str) -> None:
    assert file(tmp_path, f"ann:{HASH.replace('$2b$', kind)}:user\n").log_in("ann", "right")


def test_a_name_that_is_not_there_costs_a_hash_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    check = bcrypt.checkpw

    def noting(password: bytes, hashed: bytes) -> bool:
        seen.append(hashed)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", noting)
    known = file(tmp_path, f"ann:{HASH}:user\nbob:{HASH.replace('$10$', '$11$')}:user\n")
    for name in ["ann", *(f"no{number}" for number in range(12)), "no1"]:
        with pytest.raises(RefusedError):
            known.log_in(name, "x" * 73)
    costs = [h[4:6] for h in seen]
    assert len(seen) == 14
    # At costs that are in the file, and always the same for a name, or trying twice would tell.
    assert set(costs) == {b"10", b"11"}
    assert costs[2] == costs[13]


# Limits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_attempts_run_out_and_come_back() -> None:
    clock = Clock()
    limit = limits.Limit(3, 30.0, clock=clock)
    assert [limit.take("a") for _ in range(3)] == [0, 0, 0]
    assert limit.take("a") == pytest.approx(10.0)
    assert limit.take("b") == 0
    clock.now += 10.0
    assert limit.take("a") == 0
    assert limit.take("a") > 0
    clock.now += 1e6
    assert [limit.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_what_succeeds_costs_nothing_however_often() -> None:
    clock = Clock()
    limit = limits.Limit(2, 30.0, clock=clock)
    for _ in range(100):
        assert limit.take("a") == 0
        limit.give_back("a")
    assert [limit.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_memory_does_not_grow_with_who_tries() -> None:
    limit = limits.Limit(2, 30.0, slots=64)
    for number in range(10_000):
        limit.take(f"name{number}")
    assert len(limit._free_at) == 64


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("x", ""),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, key: str) -> None:
    assert limits.network(address) == key


# Settings


def loaded(tmp_path: Path, given: object) -> settings.Settings:
    (tmp_path / "auth.json").write_text(given if isinstance(given, str) else json.dumps(given))
    return settings.load(tmp_path / "auth.json")


def test_no_settings_are_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, {}) == settings.Settings()


def test_settings_are_read(tmp_path: Path) -> None:
    issuer = {"issuer": "https://id.example.org/r", "audience": "monai", "algorithms": ["RS256", "ES256"]}
    found = loaded(tmp_path, {"token_seconds": 600, "oidc": issuer, "login": {"by_user": 3}})
    assert found.oidc.algorithms == ("RS256", "ES256")
    assert found.login == dataclasses.replace(settings.Login(), by_user=3)


OIDC = {"issuer": "https://id.example.org", "audience": "x"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "Expecting"),
        ([], "no object"),
        ({"tokens": 1}, "tokens is no setting"),
        ({"oidc": {"isuer": "x"}}, "oidc.isuer is no setting"),
        ({"token_seconds": "1"}, "token_seconds is no int"),
        ({"token_seconds": True}, "token_seconds is no int"),
        ({"token_seconds": 0}, "token_seconds is not from"),
        ({"clock_skew_seconds": 3600}, "clock_skew_seconds is not from"),
        ({"login": {"by_user": 0}}, "login.by_user is not from"),
        ({"oidc": {**OIDC, "issuer": "http://id.example.org"}}, "no https address"),
        ({"oidc": {**OIDC, "issuer": "ftp://id.example.org"}}, "no https address"),
        ({"oidc": {**OIDC, "audience": ""}}, "audience is missing"),
        ({"oidc": {**OIDC, "algorithms": ["HS256"]}}, "algorithms has HS256"),
        ({"oidc": {**OIDC, "algorithms": ["none"]}}, "algorithms has none"),
        ({"oidc": {**OIDC, "algorithms": []}}, "no list of strings"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, given: object, words: str) -> None:
    with pytest.raises(TroubleError, match=words) as caught:
        loaded(tmp_path, given)
    assert str(caught.value).count("\n") == 1


@pytest.mark.parametrize("name", ["a", "ann", "ann.b@example.org", "a-b_c+d", "9"])
def test_a_plain_name_is_safe(name: str) -> None:
    assert user.checked(name) == name


@given(st.one_of(st.none(), st.integers(), st.text(), st.binary()))
def test_no_name_breaks_a_header(name: object) -> None:
    try:
        found = user.checked(name)
    except RefusedError:
        return
    assert found.isascii()
    assert found.isprintable()
    assert not set(found) & set(" \r\n:;,\"'\\\0")


def test_names_with_line_ends_are_refused() -> None:
    for name in ("ann\r\nX-Kiln-User: root", "ann\n", "\nann", "ann\0"):
        with pytest.raises(RefusedError):
            user.checked(name)


def test_a_hash_of_the_dummy_takes_as_long(tmp_path: Path) -> None:
    known = file(tmp_path, f"ann:{HASH}:user\n")

    def seconds(name: str) -> float:
        times = []
        for _ in range(5):
            begun = time.process_time()
            with pytest.raises(RefusedError):
                known.log_in(name, "wrong")
            times.append(time.process_time() - begun)
        return min(times)

    # Ten times apart would be no hash at all; the machine may be busy.
    assert seconds("nobody") > seconds("ann") / 2
