"""One HTTP exchange with an end: the whole of it takes no longer than it may, however slowly the other side
drips."""

from __future__ import annotations

import socket
import time

LIMIT = 1 << 20
"""Bytes of an answer: whoever says more is not who we think."""

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


def connect(address: Address, seconds: float) -> socket.socket:
    """A connection.

    Raises
    ------
    OSError
        There is none within the time.
    """
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=seconds)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.settimeout(seconds)
        channel.connect(address)
    except OSError:
        channel.close()
        raise
    return channel


def exchange(
    address: Address, method: str, path: str, headers: dict[str, str] | None = None, seconds: float = 1.0
) -> tuple[int, bytes]:
    """Ask and hear the answer.

    Parameters
    ----------
    address:
        Whom.
    method:
        GET or PUT; nothing has a body.
    path:
        What.
    headers:
        Besides Host.
    seconds:
        For all of it.

    Returns
    -------
    int
        The status.
    bytes
        The body.

    Raises
    ------
    OSError
        No whole answer within the time, or no HTTP.
    """
    end = time.monotonic() + seconds
    lines = [f"{method} {path} HTTP/1.0", "Host: localhost", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    with connect(address, seconds) as channel:
        channel.sendall("\r\n".join([*lines, "", ""]).encode())
        said = b""
        while len(said) <= LIMIT:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            channel.settimeout(left)
            more = channel.recv(65536)
            said += more
            if not more or complete(said):
                return parsed(said)
    raise ConnectionError("the answer is too long")


def complete(said: bytes) -> bool:
    """Whether an answer has all that its length promises; one without a length ends with its connection."""
    head, gap, body = said.partition(b"\r\n\r\n")
    if gap:
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return len(body) >= int(line.partition(b":")[2])
        return head.split(b" ", 2)[1:2] == [b"204"]
    return False


def parsed(said: bytes) -> tuple[int, bytes]:
    """Status and body of an answer.

    Raises
    ------
    ConnectionError
        It is no HTTP.
    """
    head, gap, body = said.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if not gap or len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ConnectionError("the answer is no HTTP")
    return int(words[1]), body
