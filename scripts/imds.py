"""The instance metadata service of one guest: version 2 alone, as an instance with HttpTokens=required.

``python -m scripts.imds SECRET LOG`` answers one HTTP connection on stdin and stdout and notes each request;
QEMU starts it for every connection that the guest opens. What it does is what AWS documents: a token by PUT
with its life in seconds, 401 to whoever asks without one, 403 to a PUT that came through a proxy
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

ADDRESS = "169.254.169.254:80"
"""Where an instance asks."""

TOKEN_PATH = "/latest/api/token"  # noqa: S105 - a path
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
TTL_MAX = 21600
"""Seconds that a token lives at most."""

IDLE_SECONDS = 60.0
"""How long a connection may be silent."""

_PLACE = {"region": "us-east-1", "availabilityZone": "us-east-1a", "accountId": "123456789012"}
_DOCUMENT = {"instanceId": "i-0123456789abcdef0", "instanceType": "g4dn.xlarge", **_PLACE}

TREE = {
    "meta-data/ami-id": "ami-0123456789abcdef0",
    "meta-data/hostname": "ip-169-0-2-15.ec2.internal",
    "meta-data/instance-id": _DOCUMENT["instanceId"],
    "meta-data/instance-type": _DOCUMENT["instanceType"],
    "meta-data/local-hostname": "ip-169-0-2-15.ec2.internal",
    "meta-data/local-ipv4": "169.0.2.15",
    "meta-data/placement/availability-zone": _PLACE["availabilityZone"],
    "meta-data/placement/region": _PLACE["region"],
    "meta-data/services/domain": "amazonaws.com",
    "meta-data/services/partition": "aws",
    "dynamic/instance-identity/document": json.dumps(_DOCUMENT),
}
"""Path below ``/latest`` → what is there; an instance without user data."""


def command(secret: str, log: Path) -> list[str]:
    """Return the command that answers one connection.

    Parameters
    ----------
    secret:
        Signs the tokens: no connection knows of another.
    log:
        File to which each request is added.
    """
    return [sys.executable, "-m", "scripts.imds", secret, str(log)]


def requests(log: Path) -> list[dict[str, object]]:
    """Return the requests that were made, in order.

    Parameters
    ----------
    log:
        The file; empty where nobody asked.

    Returns
    -------
    list of dict
        ``method``, ``path``, ``agent``, ``token`` (whether one came along) and ``status``.
    """
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def token(secret: str, expires: int) -> str:
    """Return a token.

    Parameters
    ----------
    secret:
        Of the service.
    expires:
        When it ends, in seconds since 1970.
    """
    return f"{expires}-{hmac.new(secret.encode(), str(expires).encode(), hashlib.sha256).hexdigest()}"


def is_valid(secret: str, said: str) -> bool:
    """Whether a token is the service's own and has not ended.

    Parameters
    ----------
    secret:
        Of the service.
    said:
        What came along as a token.
    """
    expires = said.partition("-")[0]
    return (
        expires.isdigit()
        and hmac.compare_digest(said, token(secret, int(expires)))
        and int(expires) > time.time()
    )


def look_up(path: str, tree: Mapping[str, str] = TREE) -> str | None:
    """What stands at a path below a version: a text, or the names in a folder; None where nothing does.

    Parameters
    ----------
    path:
        As it was asked for, ``/latest/meta-data/``.
    tree:
        What there is.
    """
    # Every version that AWS ever dated has the same, to us.
    below = path.lstrip("/").partition("/")[2]
    if below in tree:
        return tree[below]
    folder = f"{below.rstrip('/')}/" if below else ""
    inside = [name.removeprefix(folder) for name in tree if name.startswith(folder)]
    names = {name.partition("/")[0] + "/" * ("/" in name) for name in inside}
    return "\n".join(sorted(names)) or None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    timeout = IDLE_SECONDS
    secret = ""
    log = Path()
    tree: Mapping[str, str] = TREE

    def do_PUT(self) -> None:
        """Give a token."""
        ttl = self.headers.get(TTL_HEADER, "")
        if self.path != TOKEN_PATH:
            self._answer(404)
        elif self.headers.get("X-Forwarded-For") is not None:
            self._answer(403)
        elif not (ttl.isdigit() and 1 <= int(ttl) <= TTL_MAX):
            self._answer(400)
        else:
            self._answer(200, token(self.secret, int(time.time()) + int(ttl)), {TTL_HEADER: ttl})

    def do_GET(self) -> None:
        """Say what stands at a path to whoever has a token."""
        found = look_up(self.path, self.tree)
        if not is_valid(self.secret, self.headers.get(TOKEN_HEADER, "")):
            self._answer(401)
        elif found is None:
            self._answer(404)
        else:
            self._answer(200, found)

    def _answer(self, status: int, text: str = "", headers: dict[str, str] | None = None) -> None:
        # The body of a PUT is nobody's; what is left of it would be read as the next request.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = {
            "method": self.command,
            "path": self.path,
            "agent": self.headers.get("User-Agent", ""),
            "token": TOKEN_HEADER in self.headers,
            "status": status,
        }
        # One write of one line: connections that are open together do not mix theirs.
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asked) + "\n")
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Stdout is the connection, stderr QEMU's: the log is ``_answer``'s."""


def main(secret: str, log: str) -> None:
    """Answer the connection on stdin until it ends.

    Parameters
    ----------
    secret:
        Signs the tokens.
    log:
        Path of the log.
    """
    Handler.secret, Handler.log = secret, Path(log)
    # Whoever asks may go before the answer.
    with contextlib.suppress(ConnectionError), socket.socket(fileno=0) as connection:
        Handler(connection, ("guest", 0), None)  # type: ignore[arg-type] # there is no server


if __name__ == "__main__":
    main(*sys.argv[1:])
