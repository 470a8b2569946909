"""Answers on a unix socket from what is known already: no question makes a check."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 2.0
"""For a client to ask and to take its answer; it is nginx on this machine."""

CLIENTS = 16
"""At once; who comes on top is turned away."""

REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

Ask = Callable[[str], tuple[int, dict[str, Any]]]


def listen(path: str) -> socket.socket:
    """A socket at a path; an old one is replaced. Anybody on this machine may ask: nginx has a user of its
    own."""
    half = f"{path}.part"
    Path(half).unlink(missing_ok=True)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.bind(half)
    Path(half).chmod(0o666)
    channel.listen(64)
    # Whoever finds it can connect to it.
    os.replace(half, path)  # noqa: PTH105 - a socket is no file to pathlib's mind either, and this says it
    return channel


def reply(channel: socket.socket, ask: Ask) -> None:
    """Answer one client, and let go of it."""
    with channel:
        try:
            channel.settimeout(SECONDS)
            said = b""
            while b"\r\n" not in said and len(said) < 8192:
                more = channel.recv(4096)
                if not more:
                    return
                said += more
            method, _, rest = said.partition(b"\r\n")[0].decode("latin-1").partition(" ")
            path = rest.split(" ")[0].partition("?")[0]
            status, body = ask(path) if method in ("GET", "HEAD") else (405, {"status": "GET only"})
            text = (json.dumps(body, indent=1) + "\n").encode()
            head = (
                f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
            )
            channel.sendall(head.encode() + (b"" if method == "HEAD" else text))
        except OSError:
            return  # the client went away


def serve(listener: socket.socket, ask: Ask) -> None:
    """Answer until the socket is closed."""
    free = threading.BoundedSemaphore(CLIENTS)

    def one(channel: socket.socket) -> None:
        try:
            reply(channel, ask)
        finally:
            free.release()

    while True:
        try:
            channel, _ = listener.accept()
        except OSError:
            return
        if free.acquire(blocking=False):
            threading.Thread(target=one, args=(channel,), daemon=True).start()
        else:
            channel.close()
