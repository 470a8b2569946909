"""Who gets in and what arrives, over the real nginx and the real kiln-auth."""

from __future__ import annotations

import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from kiln_auth import policy
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

from kiln import paths
from scripts import annotate, seed
from tests.gateway import memory
from tests.gateway.gateway import ROLES, USERS, Answer, Gateway, password, read, running

GB = 1024**3

RANK = {None: -1, **{role: rank for rank, role in enumerate(ROLES)}, policy.NOBODY: 99}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running() as found:
        yield found


# Which part of a path stands for what.
FILLED = {
    "{path:path}": "a/b.css",
    "{model}": "unet",
    "{strategy}": "random",
    "{session_id}": "s1",
    "{method}": "dice",
}


def until(what: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def target(path: str) -> str:
    for part, value in FILLED.items():
        path = path.replace(part, value)
    assert "{" not in path
    return path


ROWS = [(route, role) for route in policy.ROUTES for role in (None, *ROLES)]


@pytest.mark.parametrize(
    ("route", "role"), ROWS, ids=[f"{route.method} {route.path} {role}" for route, role in ROWS]
)
def test_each_route_lets_in_each_role_as_the_table_has_it(
    gateway: Gateway, route: policy.Route, role: str | None
) -> None:
    gateway.upstream.got.clear()
    body = b"x" if route.method in ("POST", "PUT") else None
    answer = gateway.ask(route.method, target(route.path), role, body=body)
    if route.path == "/reload":
        expected = 404
    elif role is None:
        expected = 401
    else:
        expected = 200 if RANK[role] >= RANK[route.role] else 403
    assert answer.status == expected
    assert [got.target for got in gateway.upstream.got] == ([target(route.path)] if expected == 200 else [])


@pytest.mark.parametrize("role", [None, *ROLES])
def test_health_is_open(gateway: Gateway, role: str | None) -> None:
    for path in ("/healthz", "/readyz"):
        answer = gateway.ask("GET", path, role)
        assert (answer.status, answer.json) == (200, {"asked": path})


@pytest.mark.parametrize(
    "spelled",
    [
        "/reload", "/reload/", "//reload", "/./reload", "/%72eload", "/RELOAD", "/x/../reload", "/reload%2f",
        "/reload?x", "/reload%3f", "/reload#x", "/healthz/../reload", "/reload%00", "/reload;x", "/nope",
    ],
)  # fmt: skip
def test_no_spelling_of_a_closed_path_reaches_the_server(gateway: Gateway, spelled: str) -> None:
    gateway.upstream.got.clear()
    assert gateway.ask("POST", spelled, "admin", body=b"").status in (400, 403, 404)
    assert gateway.upstream.got == []


@pytest.mark.parametrize(
    "spelled",
    [
        "/info/../logs/",
        "/info/..%2flogs/",
        "/info/%2e%2e/logs/",
        "//logs/",
        "/logs//",
        "/%6cogs/",
        "/LOGS/",
        "/logs/%2e",
        "/healthz/../logs/",
        "/auth/../logs/",
        "/static/../logs/",
        "/static/..%5clogs/",
        "/logs",
        "/static//../logs/",
        "/static/%252e%252e/logs/",
    ],
)
@pytest.mark.parametrize("role", [None, "user", "admin"])
def test_no_spelling_of_admins_path_lets_others_in(gateway: Gateway, spelled: str, role: str | None) -> None:
    gateway.upstream.got.clear()
    assert gateway.ask("GET", spelled, role).status in (400, 401, 403, 404)
    assert gateway.upstream.got == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_address_arrives_exactly_as_it_was_sent(gateway: Gateway, method: str) -> None:
    gateway.upstream.got.clear()
    sent = {"GET": "/session/a%20b%C3%A9%3f+;c?x=%2F..//%zz&y=#", "POST": "/infer/a%20b?image=%2e%2e%2Fa"}[
        method
    ]
    assert gateway.ask(method, sent, "user", body=b"x" if method == "POST" else None).status == 200
    assert [got.target for got in gateway.upstream.got] == [sent]


def raw(gateway: Gateway, text: bytes) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", gateway.port), 10)) as channel:
        channel.sendall(text)
        channel.settimeout(10)
        return b"".join(iter(lambda: channel.recv(65536), b""))


@pytest.mark.parametrize(
    "start",
    [
        b"GET http://127.0.0.1/logs/ HTTP/1.1",
        b"get /logs/ HTTP/1.1",
        b"GET /logs/ HTTP/0.9",
        b"GET logs/ HTTP/1.1",
        b"GET /logs/ HTTP/1.1 x",
        b"CONNECT /logs/ HTTP/1.1",
        b"TRACE /logs/ HTTP/1.1",
        b"GET /info/\t/logs/ HTTP/1.1",
    ],
)
def test_odd_request_lines_reach_nothing_of_admins(gateway: Gateway, start: bytes) -> None:
    gateway.upstream.got.clear()
    head = f"Host: x\r\nAuthorization: Bearer {gateway.token('user')}\r\nConnection: close\r\n\r\n".encode()
    said = raw(gateway, start + b"\r\n" + head)
    assert b" 200 " not in said[:20]
    assert gateway.upstream.got == []


def test_an_absolute_address_is_judged_by_its_path(gateway: Gateway) -> None:
    gateway.upstream.got.clear()
    head = f"Host: x\r\nAuthorization: Bearer {gateway.token('user')}\r\nConnection: close\r\n\r\n".encode()
    said = raw(gateway, b"GET http://x/info/ HTTP/1.1\r\n" + head)
    assert b" 200 " in said[:20]
    assert [got.target for got in gateway.upstream.got] == ["/info/"]


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic dXNlcjE6eA==", "Bearer x", "Bearer a.b.c", "bearer null", "Token x",
     "Bearer \xff", "x" * 15_000],
)  # fmt: skip
def test_anything_but_a_good_token_is_401_with_how_to_log_in(gateway: Gateway, value: str) -> None:
    gateway.upstream.got.clear()
    answer = gateway.ask("GET", "/info/", Authorization=value.encode("latin-1").decode("latin-1"))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "/auth/token" in answer.json["detail"]
    assert gateway.upstream.got == []


def test_two_tokens_are_none(gateway: Gateway) -> None:
    good, head = gateway.token("admin"), b"GET /info/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    both = f"Authorization: Bearer {good}\r\nAuthorization: Bearer x\r\n\r\n".encode()
    assert b" 200 " not in raw(gateway, head + both)[:20]


def test_a_client_cannot_be_somebody_else_and_the_server_sees_no_token(gateway: Gateway) -> None:
    gateway.upstream.got.clear()
    token = gateway.token("user")
    forged = b"".join(
        name + b": root\r\n"
        for name in (b"X-Kiln-User", b"x-kiln-user", b"X_Kiln_User", b"X-Forwarded-For", b"X-Real-IP",
                     b"X-Original-URI", b"X-Original-Method")
    )  # fmt: skip
    head = (
        f"GET /info/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n".encode()
    )
    assert b" 200 " in raw(gateway, head + forged + b"\r\n")[:20]
    got = gateway.upstream.got[0].headers
    assert got["x-kiln-user"] == "user1"
    assert got["x-forwarded-for"] == got["x-real-ip"] == "127.0.0.1"
    assert "authorization" not in got
    assert "x_kiln_user" not in got
    # Nor choose what kiln-auth is asked.
    head = (
        f"GET /logs/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n".encode()
    )
    more = b"X-Original-URI: /info/\r\nX-Original-Method: GET\r\n\r\n"
    assert b" 403 " in raw(gateway, head + more)[:20]


@pytest.mark.parametrize("path", ["/kiln-check", "/check", "/auth/check", "/status", "/auth/token/valid/x"])
def test_what_is_for_nginx_alone_is_not_there(gateway: Gateway, path: str) -> None:
    assert gateway.ask("GET", path, "admin").status in (403, 404)


# The client's own log-in


def test_the_client_logs_in_as_it_stands(gateway: Gateway) -> None:
    client = MONAILabelClient(gateway.url, client_id="c")
    assert client.auth_enabled()
    assert not client.auth_valid_token()
    client.update_auth(client.auth_token("annotator1", password("annotator1")))
    assert client.auth_valid_token()
    assert client.info() == {"target": "/info/"}
    with pytest.raises(MONAILabelClientException):
        client.train_start("unet", {})
    assert client.train_status(check_if_running=True) is False
    with pytest.raises(MONAILabelClientException) as caught:
        client.auth_token("annotator1", "wrong")
    assert caught.value.status_code == 401


def test_the_client_keeps_working_after_an_upload(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the length of an upload in its headers and sends it with later requests, without a body."""
    (tmp_path / "label.nii.gz").write_bytes(b"x" * 200_000)
    # It has no timeout of its own.
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, *_, **__: connect(address, 10))
    client = MONAILabelClient(gateway.url)
    client.update_auth(client.auth_token("admin1", password("admin1")))
    gateway.upstream.got.clear()
    client.save_label("image", str(tmp_path / "label.nii.gz"), params={"a": 1})
    assert gateway.upstream.got[-1].headers["x-kiln-user"] == "admin1"
    assert int(client._headers["content-length"]) > 200_000
    # nginx would wait for the body until that time is up.
    assert client.auth_valid_token()
    assert client.info()
    assert client.datastore()
    assert client.remove_session("s1")
    assert client.train_stop()


@pytest.mark.parametrize(
    "form",
    [b"", b"username=a", b"username=a&username=b&password=x", b"username=%ff&password=x", b"{}", b"\xff",
     b"username=user1&password=x&grant_type=client_credentials", b"&".join([b"a=b"] * 50)],
)  # fmt: skip
def test_a_form_that_is_no_log_in_is_400(gateway: Gateway, form: bytes) -> None:
    assert gateway.ask("POST", "/auth/token", body=form).status == 400


def test_a_long_form_is_413_and_other_methods_405(gateway: Gateway) -> None:
    assert gateway.ask("POST", "/auth/token", body=b"x" * 20_000).status == 413
    assert gateway.ask("GET", "/auth/token").status == 405
    assert gateway.ask("POST", "/auth/", body=b"").status == 405


# What is logged, and passed on


def test_the_access_log_has_no_query_and_no_secret(gateway: Gateway) -> None:
    gateway.ask("GET", "/datastore/image?image=patient7", "user", X_Request_ID="mine-1")
    gateway.ask("GET", '/info/"\\x?q="', "user")
    gateway.log_in("user1", "a-wrong-password")
    gateway.log_in("a-password-as-name", "x")
    time.sleep(0.2)
    found = next(entry for entry in gateway.log() if entry["id"] == "mine-1")
    assert (found["user"], found["method"], found["path"]) == ("user1", "GET", "/datastore/image")
    logs = "".join((gateway.place / name).read_text() for name in ("access.log", "auth.log", "error.log"))
    for secret in (
        "patient7",
        gateway.token("user"),
        "a-wrong-password",
        "a-password-as-name",
        password("user1"),
    ):
        assert secret not in logs
    assert "log-in from 127.0.0.1 of user1" in logs


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-1_2.3", True), ("a b", False), ('a"b', False), ("x" * 65, False), ("", False)]
)
def test_a_request_id_is_passed_on_where_it_is_safe(gateway: Gateway, sent: str, kept: bool) -> None:
    gateway.upstream.got.clear()
    answer = gateway.ask("GET", "/info/", "user", X_Request_ID=sent)
    passed = gateway.upstream.got[0].headers["x-request-id"]
    assert answer.headers["x-request-id"] == passed
    assert (passed == sent) is kept
    assert kept or len(passed) == 32


def test_an_answer_of_the_server_is_passed_on_as_it_is(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/info/?fail=1", "user")
    assert (answer.status, answer.json) == (500, {"target": "/info/?fail=1"})


# Uploads


def upload(gateway: Gateway, size: int, role: str, pause: float = 0.0, parts: int = 10) -> int:
    with closing(gateway.connection()) as connection:
        connection.putrequest("PUT", "/datastore/image?image=a")
        connection.putheader("Authorization", f"Bearer {gateway.token(role)}")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for _ in range(parts):
            connection.send(b"\0" * (size // parts))
            time.sleep(pause)
        return read(connection.getresponse()).status


def test_a_slow_upload_reaches_the_server_in_one_go(gateway: Gateway) -> None:
    gateway.upstream.got.clear()
    assert upload(gateway, 5_000_000, "annotator", pause=0.2) == 200
    (got,) = gateway.upstream.got
    assert got.body == 5_000_000
    assert got.seconds < 1.0


def test_many_slow_clients_hold_nothing_open_in_the_server(gateway: Gateway) -> None:
    gateway.upstream.got.clear()
    token, all_but_one, go_on = gateway.token("annotator"), threading.Barrier(201), threading.Event()

    def slow() -> int:
        with closing(gateway.connection()) as connection:
            connection.putrequest("PUT", "/datastore/image?image=a")
            connection.putheader("Authorization", f"Bearer {token}")
            connection.putheader("Content-Length", "100000")
            connection.endheaders(b"\0" * 99_999)
            all_but_one.wait(60)
            go_on.wait(60)
            connection.send(b"\0")
            return read(connection.getresponse()).status

    with ThreadPoolExecutor(200) as pool:
        sent = [pool.submit(slow) for _ in range(200)]
        all_but_one.wait(60)
        # Each lacks a byte: the server knows of none, and others work.
        assert gateway.upstream.got == []
        assert gateway.ask("GET", "/info/", "user").status == 200
        assert len(gateway.upstream.got) == 1
        go_on.set()
        assert {one.result() for one in sent} == {200}
    assert len([got for got in gateway.upstream.got if got.body == 100_000]) == 200


def left(folder: Path) -> list[Path]:
    """Bodies of requests that lie there."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_who_may_not_in_is_told_before_the_body(gateway: Gateway) -> None:
    gateway.upstream.got.clear()
    for role, expected in ((None, 401), ("user", 403)):
        with closing(gateway.connection()) as connection:
            connection.putrequest("PUT", "/datastore/image?image=a")
            if role:
                connection.putheader("Authorization", f"Bearer {gateway.token(role)}")
            connection.putheader("Content-Length", str(9 * 1024**3))
            connection.endheaders()
            assert read(connection.getresponse()).status == expected
    assert gateway.upstream.got == []


def announced(gateway: Gateway, size: int) -> Answer:
    """What a client is told that names the length of its body and sends none of it."""
    with closing(gateway.connection()) as connection:
        connection.putrequest("PUT", "/datastore/image?image=patient7")
        connection.putheader("Authorization", f"Bearer {gateway.token('annotator')}")
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        return read(connection.getresponse())


def endless(gateway: Gateway, most: int) -> tuple[Answer, int]:
    """What a client is told that sends a body without naming its length, and how much of it was taken."""
    part = b"\0" * (1 << 18)
    with closing(gateway.connection()) as connection:
        connection.putrequest("PUT", "/datastore/image?image=patient7")
        connection.putheader("Authorization", f"Bearer {gateway.token('annotator')}")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        channel, sent = connection.sock, 0
        try:
            while sent < most and not select.select([channel], [], [], 0)[0]:
                connection.send(b"%x\r\n%b\r\n" % (len(part), part))
                sent += len(part)
            if sent >= most:
                connection.send(b"0\r\n\r\n")
        except OSError:
            pass
        return read(connection.getresponse()), sent


@pytest.mark.parametrize("size", [10 * GB + 1, 20 * GB])
def test_more_than_the_limit_is_413(gateway: Gateway, size: int) -> None:
    answer = announced(gateway, size)
    assert answer.status == 413
    assert "10g" in answer.json["detail"]


def test_more_than_the_limit_is_413_also_where_no_length_is_named() -> None:
    with running(gateway_upload_limit="1m") as gateway:
        gateway.token("annotator")
        assert endless(gateway, 1 << 19)[0].status == 200
        answer, sent = endless(gateway, 1 << 27)
        assert answer.status == 413
        assert sent < 1 << 27
        assert len(gateway.upstream.got) == 1
        assert upload(gateway, 100_000, "annotator") == 200
        assert left(gateway.place / "uploads") == []


@pytest.mark.root
def test_a_full_disk_is_507_and_other_requests_work(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # Its folders up to pytest's own are root's alone.
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
        else:
            break
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "disk", disk], check=True)
    try:
        with running(upload_dir=disk) as gateway:
            assert upload(gateway, 100_000, "annotator") == 200
            with closing(gateway.connection()) as connection:
                connection.putrequest("PUT", "/datastore/image?image=patient7")
                connection.putheader("Authorization", f"Bearer {gateway.token('annotator')}")
                connection.putheader("Content-Length", "4000000")
                connection.endheaders()
                try:
                    connection.send(b"\0" * 4_000_000)
                except OSError:
                    pass
                answer = read(connection.getresponse())
            assert answer.status == 507
            assert "disk" in answer.json["detail"]
            # Nobody said how much there is to come, so that nothing but the disk ends it.
            answer, sent = endless(gateway, 20 * GB)
            assert answer.status == 507
            assert sent < GB
            assert announced(gateway, 20 * GB).status == 413
            assert len(gateway.upstream.got) == 1
            assert upload(gateway, 100_000, "annotator") == 200
            assert left(disk) == []
            assert "patient7" not in (gateway.place / "error.log").read_text()
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.root
def test_a_killed_nginx_leaves_nothing_of_an_upload() -> None:
    """nginx takes the name of a body's file away as it makes it: what nobody holds open is free."""
    with running() as gateway, closing(gateway.connection()) as connection:
        connection.putrequest("PUT", "/datastore/image?image=a")
        connection.putheader("Authorization", f"Bearer {gateway.token('annotator')}")
        connection.putheader("Content-Length", "5000000")
        connection.endheaders(b"\0" * 4_000_000)
        processes = memory.family(gateway.nginx.pid)
        uploads = str(gateway.place / "uploads")

        def held() -> list[str]:
            found = [os.readlink(each) for pid in processes for each in Path(f"/proc/{pid}/fd").iterdir()]
            return [path for path in found if path.startswith(uploads)]

        until(held)
        for process in processes:
            os.kill(process, signal.SIGKILL)
        gateway.nginx.wait()
        assert left(Path(uploads)) == []


# Counting, memory, failures


def test_requests_in_flight_are_counted(gateway: Gateway) -> None:
    gateway.token("user")
    time.sleep(0.3)
    assert gateway.in_flight() == 0
    gateway.upstream.hold.clear()
    try:
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(gateway.ask, "POST", "/infer/unet", "user", body=b"x") for _ in range(3)]
            time.sleep(1)
            assert gateway.in_flight() == 3
            gateway.upstream.hold.set()
            assert [one.result().status for one in asked] == [200] * 3
    finally:
        gateway.upstream.hold.set()
    time.sleep(0.3)
    assert gateway.in_flight() == 0


def test_memory_leaves_room_for_the_other_helpers(gateway: Gateway) -> None:
    """Resident, after the work of the tests before this: the bound is 100 MB for all."""
    gateway.token("user")
    used = gateway.memory()
    assert used < 55_000, f"{used} KiB"


def test_pages_of_a_file_count_once_and_own_pages_each(tmp_path: Path) -> None:
    """Two processes that each fill 8 MB, and map the same 16 MB of a file."""
    (tmp_path / "file").write_bytes(bytes(16 << 20))
    program = (
        "import mmap, sys\nown = bytearray(b'x' * (8 << 20))\nfile = open(sys.argv[1], 'rb')\n"
        "pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\nsum(pages[::4096])\n"
        "print(flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", program, tmp_path / "file"]
    with ExitStack() as stack:
        made = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        for process in made:
            assert process.stdout and process.stdout.readline()
        one = memory.resident([made[0].pid])
        both = memory.resident([process.pid for process in made])
        for process in made:
            process.kill()
    assert one > 24 << 10
    # The second adds what is its own, and neither the file nor the interpreter's.
    assert 8 << 10 < both - one < 15 << 10


def test_without_kiln_auth_nobody_gets_in_and_health_still_answers() -> None:
    with running() as gateway:
        gateway.token("user")
        gateway.auth.terminate()
        gateway.auth.wait()
        for method in ("GET", "POST"):
            answer = gateway.ask(method, "/infer/unet", "user", body=b"x")
            assert answer.status == 503
            assert "kiln-auth" in answer.json["detail"]
        # Nor is it logged whom they asked for where the socket itself is gone, which nginx finds worse.
        (gateway.place / "run/auth.sock").unlink(missing_ok=True)
        assert gateway.ask("GET", "/datastore/image?image=patient7", "user").status == 503
        assert "patient7" not in (gateway.place / "error.log").read_text()
        assert gateway.upstream.got == []
        assert gateway.ask("GET", "/healthz").status == 200


def test_the_log_in_of_a_proof_is_let_in(tmp_path: Path) -> None:
    login = seed.Login.made()
    with running(users=login.files()[0]["content"]) as gateway:
        client = MONAILabelClient(gateway.url, str(tmp_path))
        said = annotate.log_in(client, login.name, login.password)
        assert said == {"name": login.name, "enabled": True, "anonymous": 401, "valid": True}
        assert client.info() == {"target": "/info/"}
        with pytest.raises(MONAILabelClientException):
            annotate.log_in(MONAILabelClient(gateway.url), login.name, "another")


@pytest.mark.parametrize("name", ["drain", "stop"])
def test_while_it_is_closed_no_new_work_is_taken(name: str) -> None:
    # Not pytest's folder, which only root may enter.
    with TemporaryDirectory(prefix="kiln-gates-") as folder:
        Path(folder).chmod(0o755)
        gates = {one: Path(folder) / one for one in ("drain", "stop")}
        with (
            running(gateway_closed_by=[str(path) for path in gates.values()]) as gateway,
            ThreadPoolExecutor(1) as pool,
        ):
            gateway.token("user")
            gateway.upstream.hold.clear()
            working = pool.submit(gateway.ask, "POST", "/infer/unet", "user", body=b"x")
            until(lambda: len(gateway.upstream.got) == 1)
            gates[name].touch()
            for method, role in (("GET", "user"), ("POST", "user"), ("PUT", "annotator"), ("GET", None)):
                answer = gateway.ask(
                    method, "/datastore/", role, body=b"x" if method in ("POST", "PUT") else None
                )
                assert answer.status == 503
                assert "no new work" in answer.json["detail"]
                assert answer.headers["content-type"] == "application/json"
            assert gateway.ask("GET", "/healthz").json == {"asked": "/healthz"}
            assert gateway.ask("GET", "/readyz").json == {"asked": "/readyz"}
            assert gateway.log_in("user1", password("user1")).status == 200
            # What was under way ends with its answer, and is counted until then.
            assert gateway.in_flight() >= 1
            gateway.upstream.hold.set()
            assert working.result().status == 200
            assert len(gateway.upstream.got) == 1
            gates[name].unlink()
            assert gateway.ask("GET", "/info/", "user").status == 200


def test_health_and_drain_may_ask_how_many_requests_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(paths.ROOT / "ansible/roles/health/files"))
    from kiln_instance import server, settings

    with running() as gateway, ThreadPoolExecutor(1) as pool:
        address = gateway.place / "run/status.sock"
        # They are neither root nor www-data.
        assert address.stat().st_mode & 0o777 == 0o666
        assert server.waiting(str(address), settings.Settings().nginx_path) == 0
        gateway.token("user")
        gateway.upstream.hold.clear()
        working = pool.submit(gateway.ask, "GET", "/info/", "user")
        until(lambda: len(gateway.upstream.got) == 1)
        assert server.waiting(str(address), settings.Settings().nginx_path) == 1
        gateway.upstream.hold.set()
        assert working.result().status == 200


def test_an_answer_is_waited_for_as_long_as_the_settings_say() -> None:
    with running(response_timeout=2) as gateway:
        gateway.token("user")
        gateway.upstream.hold.clear()
        # By the role's own limit the client would give up first.
        assert gateway.ask("POST", "/infer/unet", "user", body=b"x").status == 504
        gateway.upstream.hold.set()


def test_without_the_server_it_is_502_with_where_to_look() -> None:
    with running(gateway_upstream="127.0.0.1:9") as gateway:
        answer = gateway.ask("GET", "/datastore/image?image=patient7", "user")
        assert answer.status == 502
        assert "/readyz" in answer.json["detail"]
        until(lambda: [entry for entry in gateway.log() if entry["status"] == 502])
        assert "patient7" not in (gateway.place / "error.log").read_text()


def test_a_users_file_that_breaks_lets_nobody_in_and_says_so() -> None:
    with running() as gateway:
        assert gateway.ask("GET", "/info/", "user").status == 200
        users = gateway.place / "users"
        users.write_text(USERS["admin"])
        assert gateway.ask("GET", "/info/", "user").status == 401
        users.write_text("admin1:oops\n")
        for _ in range(2):
            assert gateway.ask("GET", "/info/", "user").status == 503
            assert gateway.log_in("admin1", password("admin1")).status == 503
        users.write_text(USERS["user"] + USERS["admin"])
        assert gateway.ask("GET", "/info/", "user").status == 200
        log = (gateway.place / "auth.log").read_text()
        assert "line 1 of" in log
        assert "oops" not in log


def test_two_servers_with_one_key_take_each_others_tokens() -> None:
    key = Path("/dev/shm/kiln-gateway-test.key")
    key.write_text("s" * 64)
    try:
        users = "".join(USERS.values())
        settings = {"signing_key_file": str(key)}
        with running(users=users, auth=settings) as one, running(users=users, auth=settings) as two:
            two.tokens["user"] = one.token("user")
            assert two.ask("GET", "/info/", "user").status == 200
        with running(users=users) as other:
            other.tokens["user"] = one.tokens["user"]
            assert other.ask("GET", "/info/", "user").status == 401
    finally:
        key.unlink()


# Limits


def test_failures_of_a_name_are_limited_whether_it_is_known_or_not() -> None:
    with running(auth={"login": {"by_user": 3}}) as gateway:
        for name in ("user1", "nobody"):
            said = [gateway.log_in(name, "wrong") for _ in range(4)]
            assert [answer.status for answer in said] == [401, 401, 401, 429]
            assert int(said[-1].headers["retry-after"]) > 0
        assert gateway.log_in("user1", password("user1")).status == 429
        assert gateway.log_in("admin1", password("admin1")).status == 200


def test_attempts_at_once_are_counted_before_they_are_judged() -> None:
    with running(auth={"login": {"by_user": 3}}) as gateway, ThreadPoolExecutor(12) as pool:
        said = [answer.status for answer in pool.map(lambda _: gateway.log_in("user1", "wrong"), range(12))]
        assert sorted(said) == [401] * 3 + [429] * 9


def test_failures_of_an_address_are_limited_and_a_client_cannot_choose_its_own() -> None:
    with running(auth={"login": {"by_address": 3}}) as gateway:
        for number in range(3):
            answer = gateway.log_in(f"n{number}", "x", X_Forwarded_For=f"192.0.2.{number}")
            assert answer.status == 401
        assert gateway.log_in("user1", password("user1")).status == 429


def test_a_load_balancers_word_for_the_address_counts_where_it_is_trusted() -> None:
    with running(auth={"login": {"by_address": 2}}, trusted=("127.0.0.0/8",)) as gateway:
        for _ in range(2):
            # What the client itself has said stands before what the load balancer adds.
            gateway.log_in("n", "x", X_Forwarded_For="203.0.113.9, 192.0.2.1")
        assert gateway.log_in("m", "x", X_Forwarded_For="203.0.113.8, 192.0.2.1").status == 429
        assert gateway.log_in("m", "x", X_Forwarded_For="192.0.2.2").status == 401


def test_log_ins_that_wait_do_not_keep_tokens_from_being_judged(gateway: Gateway) -> None:
    gateway.token("user")
    with ThreadPoolExecutor(16) as pool:
        tried = [pool.submit(gateway.log_in, f"slow{number}", "x") for number in range(16)]
        time.sleep(0.05)
        begun = time.monotonic()
        assert gateway.ask("GET", "/info/", "user").status == 200
        waited = time.monotonic() - begun
        assert {one.result().status for one in tried} <= {401, 429}
    assert waited < 1


# TLS


def test_with_a_certificate_it_is_tls_and_nothing_else() -> None:
    with running(tls=True) as gateway:
        client = MONAILabelClient(gateway.url)
        client.update_auth(client.auth_token("user1", password("user1")))
        assert client.info() == {"target": "/info/"}
        assert gateway.upstream.got[-1].headers["x-forwarded-proto"] == "https"
        assert b" 400 " in raw(gateway, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")[:20]
        for newest, refused in ((ssl.TLSVersion.TLSv1_1, True), (ssl.TLSVersion.TLSv1_2, False)):
            context = ssl._create_unverified_context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = newest
            with closing(socket.create_connection(("127.0.0.1", gateway.port), 10)) as channel:
                if refused:
                    with pytest.raises((ssl.SSLError, OSError)):
                        context.wrap_socket(channel)
                else:
                    assert context.wrap_socket(channel).version() == "TLSv1.2"
