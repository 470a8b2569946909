"""What systemd is told, and what the journal hears."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Tell systemd, as sd_notify(3) does; without NOTIFY_SOCKET nobody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(message.encode())


def say(text: str, level: int = 6) -> None:
    """Write a line to the journal, 3 for an error, 4 for a warning, 6 for what is worth knowing."""
    print(f"<{level}>{text}", flush=True)
