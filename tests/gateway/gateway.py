"""The real nginx and the real kiln-auth, from the role's files, before a stand-in that notes what it got."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import urlencode

import bcrypt
import yaml
from jinja2 import Environment, StrictUndefined

from kiln import paths
from tests.gateway import memory

# A copy of the role with a defect in it, see test_planted.py.
ROLE = Path(os.environ.get("KILN_GATEWAY_ROLE", paths.ROOT / "ansible/roles/gateway"))
FILES = ROLE / "files"

ROLES = ("user", "annotator", "reviewer", "admin")


def password(name: str) -> str:
    return f"correct horse {name}"


def line(name: str, roles: str, secret: str = "") -> str:
    """Line of a users file, at the lowest cost that it takes."""
    hashed = bcrypt.hashpw((secret or password(name)).encode(), bcrypt.gensalt(10)).decode()
    return f"{name}:{hashed}:{roles}\n"


USERS = {role: line(f"{role}1", role) for role in ROLES}


@dataclass
class Got:
    """A request as the stand-in got it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: int = 0
    seconds: float = 0.0


class _Server(ThreadingHTTPServer):
    """Stands for the MONAI Label server."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[Got] = []
        self.hold = threading.Event()
        self.hold.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def answer(self) -> None:
        got = Got(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.server.got.append(got)
        begun = time.monotonic()
        # As upstream: what takes no body does not read one.
        if self.command in ("POST", "PUT"):
            left = int(self.headers.get("content-length", 0))
            while left and (part := self.rfile.read(min(left, 1 << 16))):
                left -= len(part)
                got.body += len(part)
        got.seconds = time.monotonic() - begun
        self.server.hold.wait(30)
        text = b"" if self.command == "HEAD" else json.dumps({"target": self.path}).encode()
        self.send_response(500 if "fail=1" in self.path else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


class _Health(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class _HealthHandler(_Handler):
    def answer(self) -> None:
        text = json.dumps({"asked": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True

    def address_string(self) -> str:
        return "unix"

    do_GET = answer  # noqa: N815


@dataclass(frozen=True)
class Answer:
    """What the client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    """A running gateway."""

    place: Path
    port: int
    tls: bool
    upstream: _Server
    nginx: subprocess.Popen[bytes]
    auth: subprocess.Popen[bytes]
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def connection(self) -> HTTPConnection:
        if self.tls:
            import ssl

            return HTTPSConnection(
                "127.0.0.1", self.port, timeout=30, context=ssl._create_unverified_context()
            )
        return HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(
        self, method: str, target: str, role: str | None = None, *, body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send a request exactly as given; ``a_b`` is the header ``a-b``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if role:
            sent["Authorization"] = f"Bearer {self.token(role)}"
        with closing(self.connection()) as connection:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return read(connection.getresponse())

    def log_in(self, name: str, secret: str, **headers: str) -> Answer:
        form = urlencode({"username": name, "password": secret, "grant_type": "password"}).encode()
        return self.ask(
            "POST", "/auth/token", body=form, Content_Type="application/x-www-form-urlencoded", **headers
        )

    def token(self, role: str) -> str:
        if role not in self.tokens:
            answer = self.log_in(f"{role}1", password(f"{role}1"))
            assert answer.status == 200, answer
            self.tokens[role] = answer.json["access_token"]
        return self.tokens[role]

    def log(self) -> list[dict[str, Any]]:
        """Lines of the access log."""
        return [json.loads(text) for text in (self.place / "access.log").read_text().splitlines()]

    def in_flight(self) -> int:
        """As kiln-health counts it."""
        with closing(socket.socket(socket.AF_UNIX)) as channel:
            channel.connect(str(self.place / "run/status.sock"))
            channel.sendall(b"GET /status HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: channel.recv(4096), b"")).decode()
        return int(text.split("Writing: ")[1].split()[0]) - 1

    def memory(self) -> int:
        """KiB of nginx's processes and kiln-auth together."""
        return memory.resident([*memory.family(self.nginx.pid), self.auth.pid])


def read(response: HTTPResponse) -> Answer:
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def rendered(template: str, variables: Mapping[str, object]) -> str:
    """A template of the role with its defaults, its own paths, and these variables over them."""
    known: dict[str, object] = {"ansible_managed": "by Ansible"}
    for file in ("vars", "defaults"):
        known |= yaml.safe_load((ROLE / file / "main.yml").read_text())
    made = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined).from_string(
        (ROLE / "templates" / template).read_text()
    )
    return made.render(known | variables)


def certificate(place: Path) -> tuple[str, str]:
    """Make a certificate that nobody trusts."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         "1", "-subj", "/CN=kiln", "-keyout", place / "tls.key", "-out", place / "tls.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(place / "tls.crt"), str(place / "tls.key")


def _wait(ready: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if ready.exists():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{ready} did not appear: {log.read_text()}")


def _wait_for_answers(path: Path) -> None:
    """A socket is there before anybody listens on it."""
    for _ in range(300):
        with closing(socket.socket(socket.AF_UNIX)) as channel:
            if channel.connect_ex(str(path)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on {path}")


@contextmanager
def running(
    *,
    tls: bool = False,
    auth: Mapping[str, object] | None = None,
    trusted: tuple[str, ...] = (),
    upload_dir: Path | None = None,
    response_timeout: int = 4000,
    users: str = "".join(USERS.values()),
    **variables: object,
) -> Iterator[Gateway]:
    """Run a gateway; ``variables`` are the role's."""
    with ExitStack() as stack:
        # Not pytest's folder, which only root may enter: nginx's workers are www-data.
        place = Path(tempfile.mkdtemp(prefix="kiln-gateway-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        place.chmod(0o755)
        for name in ("run", "state", "conf"):
            (place / name).mkdir()
        uploads = upload_dir or place / "uploads"
        uploads.mkdir(exist_ok=True)
        if os.getuid() == 0:
            nobody = pwd.getpwnam("www-data")
            os.chown(uploads, nobody.pw_uid, nobody.pw_gid)

        upstream = _Server()
        stack.callback(upstream.server_close)
        stack.callback(upstream.shutdown)
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        health = _Health(str(place / "run/health.sock"), _HealthHandler)
        stack.callback(health.server_close)
        stack.callback(health.shutdown)
        (place / "run/health.sock").chmod(0o666)
        threading.Thread(target=health.serve_forever, daemon=True).start()

        (place / "users").write_text(users)
        settings = {
            "users_file": str(place / "users"),
            "signing_key_file": str(place / "given.key"),
            "own_key_file": str(place / "state/own.key"),
            **(auth or {}),
        }
        (place / "auth.json").write_text(json.dumps(settings))
        auth_socket = place / "run/auth.sock"
        auth_log = (place / "auth.log").open("wb")
        stack.callback(auth_log.close)
        process = subprocess.Popen(
            [sys.executable, "-m", "kiln_auth"], cwd=FILES, stderr=auth_log, stdout=auth_log,
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "1",
                 "KILN_AUTH_SOCKET": str(auth_socket), "KILN_AUTH_SETTINGS": str(place / "auth.json")},
        )  # fmt: skip
        stack.callback(_stop, process)
        _wait(auth_socket, process, place / "auth.log")
        _wait_for_answers(auth_socket)
        auth_socket.chmod(0o666)

        port = free_port()
        crt, key = certificate(place) if tls else ("", "")
        (place / "gateway.json").write_text(
            json.dumps(
                {"http_port": port, "https_port": port, "certificate": crt, "certificate_key": key,
                 "trusted_proxies": list(trusted), "response_timeout": response_timeout}
            )
        )  # fmt: skip
        subprocess.run(
            [sys.executable, FILES / "kiln_gateway.py", place / "run/listen.conf", place / "gateway.json"],
            check=True,
        )
        known = {
            "__gateway_run": str(place / "run"),
            "__gateway_state": str(place / "state"),
            "__gateway_configuration": str(place / "conf"),
            "__gateway_auth_socket": str(auth_socket),
            "gateway_health_socket": str(place / "run/health.sock"),
            "gateway_upstream": f"127.0.0.1:{upstream.server_address[1]}",
            "gateway_access_log": str(place / "access.log"),
            "gateway_error_log": str(place / "error.log"),
            "gateway_upload_dir": str(uploads),
            **variables,
        }
        for name in ("nginx.conf", "judged.conf"):
            (place / "conf" / name).write_text(rendered(f"{name}.j2", known))
        nginx_log = (place / "nginx.log").open("wb")
        stack.callback(nginx_log.close)
        nginx = subprocess.Popen(
            ["/usr/sbin/nginx", "-g", "daemon off;", "-c", place / "conf/nginx.conf"],
            stderr=nginx_log, stdout=nginx_log,
        )  # fmt: skip
        stack.callback(_stop, nginx)
        _wait(place / "run/nginx.pid", nginx, place / "nginx.log")
        yield Gateway(place, port, tls, upstream, nginx, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
