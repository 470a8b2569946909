"""Ports of this machine."""

from __future__ import annotations

import socket


def free() -> int:
    """Return a port on 127.0.0.1 that nobody has at the moment."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])
