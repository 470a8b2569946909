"""Serve on the socket that systemd hands over, or on the one that KILN_AUTH_SOCKET names."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

from .app import App
from .settings import Settings, load
from .trouble import TroubleError
from .users import Users

FIRST = 3
"""Descriptor of the first socket from systemd, see sd_listen_fds(3)."""


def without_cryptography() -> None:
    """Keep PyJWT from loading the library cryptography, where it has not yet.

    It takes it where it finds it, 10 MB of this process, for signatures by public keys. Our own tokens have
    none: HMAC is Python's, and PyJWT that finds no cryptography knows no other algorithm.
    """
    if "jwt" not in sys.modules:
        # As the import system has it: a module that is None cannot be imported.
        sys.modules.setdefault("cryptography", None)  # type: ignore[arg-type]


def make(settings: Settings) -> App:
    """Make the service.

    Raises
    ------
    TroubleError
        The settings name something that cannot be used. A users file that is not there yet is only logged: an
        image starts before it has any.
    """
    skew = settings.clock_skew_seconds
    if settings.oidc.issuer:
        from .oidc import Oidc

        return App(settings, Oidc(settings.oidc, skew))
    without_cryptography()
    from .tokens import Tokens, signing_key

    users = Users(Path(settings.users_file))
    try:
        users.entries()
    except TroubleError as trouble:
        logging.getLogger("kiln-auth").error("%s", trouble)
    key = signing_key(Path(settings.signing_key_file), Path(settings.own_key_file))
    return App(settings, Tokens(key, users, settings.token_seconds, skew))


def notify(message: str) -> None:
    """Tell systemd, as sd_notify(3) does; without NOTIFY_SOCKET nobody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(message.encode())


class Server(uvicorn.Server):
    """Tells systemd once it listens."""

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        await super().startup(*args, **kwargs)
        notify("READY=1")


def listener() -> socket.socket:
    """Return the socket to serve on.

    Raises
    ------
    TroubleError
        There is none.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=FIRST)
    if not (path := os.environ.get("KILN_AUTH_SOCKET")):
        raise TroubleError("no socket to serve on", "start it by: systemctl start kiln-auth.socket")
    made = socket.socket(socket.AF_UNIX)
    Path(path).unlink(missing_ok=True)
    made.bind(path)
    return made


def main() -> int:
    """Serve until told to stop; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        app = make(load(Path(os.environ.get("KILN_AUTH_SETTINGS", "/etc/kiln/auth.json"))))
        sockets = [listener()]
    except TroubleError as trouble:
        print(trouble, file=sys.stderr)
        return 1
    config = uvicorn.Config(
        app, loop="asyncio", http="h11", ws="none", lifespan="off", interface="asgi3", log_config=None,
        log_level="warning", access_log=False, proxy_headers=False, server_header=False,
        # A long token and a long address, each as long as nginx passes it.
        h11_max_incomplete_event_size=64 * 1024, timeout_graceful_shutdown=5,
    )  # fmt: skip
    Server(config).run(sockets)
    return 0


if __name__ == "__main__":
    sys.exit(main())
