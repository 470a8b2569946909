"""Run the MONAI Label server in this process and tell systemd once it answers.

Upstream's own command gives no sign of readiness: systemd would call the service started minutes before
``GET /info/`` answers on a slow machine. This program starts the same application with the same settings,
asks it for ``/info/`` once it listens, and sends ``READY=1`` on a 200. Its settings are the environment's.
Under systemd it keeps the requests in flight in a table, see ``kiln_inflight.py``. Behind the gateway it
notes who is behind each of them, by the gateway's own ``kiln_identity.py``. What the endpoints would do for
anybody and must not is refused by ``kiln_guard.py``.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kiln_guard
import kiln_inflight
import kiln_multipart

IDENTITY = Path("/opt/kiln-gateway/kiln_identity.py")
"""The gateway's; not there where nothing stands in front of the server."""

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def arguments(environment: Mapping[str, str]) -> list[str]:
    """Arguments of upstream's ``start_server`` as the environment has them.

    Parameters
    ----------
    environment:
        Variables of the service, from /etc/kiln/monai-label.env.

    Raises
    ------
    SystemExit
        A variable is missing, or MONAI_LABEL_APP_CONF is no JSON object of strings.
    """
    needed = ("MONAI_LABEL_APP_DIR", "MONAI_LABEL_STUDIES", "MONAI_LABEL_APP_CONF")
    if missing := [name for name in needed if not environment.get(name)]:
        raise SystemExit(f"kiln_serve: {', '.join(missing)} is not set; /etc/kiln/monai-label.env sets it")
    try:
        conf = json.loads(environment["MONAI_LABEL_APP_CONF"])
        pairs = [(key, value) for key, value in conf.items() if isinstance(value, str)]
    except (ValueError, AttributeError):
        conf, pairs = None, []
    if conf is None or len(pairs) != len(conf):
        raise SystemExit("kiln_serve: MONAI_LABEL_APP_CONF must be a JSON object whose values are strings")
    return [
        "start_server",
        *("--app", environment["MONAI_LABEL_APP_DIR"]),
        *("--studies", environment["MONAI_LABEL_STUDIES"]),
        *("--host", environment.get("KILN_SERVE_HOST", "127.0.0.1")),
        *("--port", environment.get("KILN_SERVE_PORT", "8000")),
        *("--log_config", environment.get("KILN_SERVE_LOGGING", "/etc/kiln/monai-label-logging.json")),
        *(word for key, value in pairs for word in ("--conf", key, value)),
    ]


def demand_device(environment: Mapping[str, str], gpus: Callable[[], bool]) -> None:
    """See that there is a GPU where the settings say that the server must not serve without.

    Parameters
    ----------
    environment:
        Variables of the service; ``KILN_SERVE_DEVICE=cuda`` demands one.
    gpus:
        Tells whether torch can use one.

    Raises
    ------
    SystemExit
        There is none.
    """
    if environment.get("KILN_SERVE_DEVICE") == "cuda" and not gpus():
        raise SystemExit(
            'error: the settings say device = "cuda", and torch finds no GPU\n'
            '  fix: nvidia-smi and systemctl status kiln-gpu say why; device = "auto" serves without'
        )


def _gpus() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def notify(message: str) -> None:
    """Tell systemd, as sd_notify(3) does; without NOTIFY_SOCKET nobody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(message.encode())


async def status_of(host: str, port: int, path: str) -> int:
    """Status of a GET to this server.

    Parameters
    ----------
    host:
        Address that the server is bound to; the unspecified one is asked on loopback.
    port:
        Its port.
    path:
        What to get.

    Returns
    -------
    int
        The status, 0 where the answer is no HTTP.
    """
    reader, writer = await asyncio.open_connection(LOOPBACK.get(host, host), port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        words = (await reader.readline()).split()
        await reader.read()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    finally:
        writer.close()


def identify(file: Path = IDENTITY) -> None:
    """Have upstream know who is behind a request, where the gateway is installed; imports the application.

    Loaded by its path: of the gateway's folder nothing else becomes a module of this process.

    Parameters
    ----------
    file:
        The gateway's module.

    Raises
    ------
    SystemExit
        It does not fit this release of MONAI Label: the names would be lost in silence.
    """
    if not file.is_file():
        return
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader, file
    identity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(identity)

    from monailabel.app import app
    from monailabel.endpoints import datastore
    from monailabel.endpoints.user.auth import User, get_current_user

    try:
        identity.mount(app, datastore, get_current_user, User)
    except RuntimeError as error:
        raise SystemExit(
            f"error: nobody's name would be noted: {error}\n"
            f"  fix: adapt {file} to this MONAI Label, or bake without the role gateway"
        ) from error


def guard() -> None:
    """Have the endpoints refuse what nobody may ask of them, see ``kiln_guard.py``; imports the application.

    Raises
    ------
    SystemExit
        They are not what they were: a check would never be asked.
    """
    from fastapi import HTTPException
    from monailabel.endpoints import batch_infer, infer, session, train, wsi_infer
    from monailabel.utils import sessions

    modules = (batch_infer, infer, session, train, wsi_infer)
    try:
        named = {module.__name__.rpartition(".")[2]: module for module in modules}
        kiln_guard.mount(named, sessions, HTTPException)
    except RuntimeError as error:
        raise SystemExit(
            f"error: requests would not be looked at: {error}\n"
            f"  fix: adapt {kiln_guard.__file__} to this MONAI Label"
        ) from error


def name_full_disks() -> None:
    """Have the application say that its disk is full, where an upload does not fit on it; imports it.

    FastAPI answers whatever goes wrong while it reads a body with 400, as if the client had sent nonsense.
    """
    from fastapi.exception_handlers import http_exception_handler
    from monailabel.app import app
    from starlette.exceptions import HTTPException

    async def told(request: Any, error: Any) -> Any:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in kiln_guard.FULL:
            error = HTTPException(507, kiln_guard.FULL_DISK)
        return await http_exception_handler(request, error)

    app.add_exception_handler(HTTPException, told)


def server_class(base: Any) -> Any:
    """Make uvicorn's server one that announces itself.

    Parameters
    ----------
    base:
        ``uvicorn.Server``, handed in because its import takes its time.
    """

    class AnnouncingServer(base):  # type: ignore[misc]
        """Reports READY=1 once ``/info/`` answers 200, and stops the server if it answers anything else."""

        announcement: asyncio.Task[None] | None = None
        failed = False
        table: kiln_inflight.Table | None = None
        identify: Callable[[], None] | None = None
        guard: Callable[[], None] | None = None
        name_full_disks: Callable[[], None] | None = None
        mend: Callable[[kiln_multipart.App], kiln_multipart.App] | None = None

        async def startup(self, *args: Any, **kwargs: Any) -> None:
            # Before the application is asked for the first time, which closes its list of middlewares.
            if self.identify:
                self.identify()
            if self.guard:
                self.guard()
            if self.name_full_disks:
                self.name_full_disks()
            if self.mend:
                self.config.loaded_app = self.mend(self.config.loaded_app)
            # Around all of it, the gateway's too: a request is in flight before anybody knows whose it is.
            if self.table:
                self.config.loaded_app = kiln_inflight.middleware(self.config.loaded_app, self.table)
            await super().startup(*args, **kwargs)
            if self.started:
                self.announcement = asyncio.create_task(self.announce())

        async def announce(self) -> None:
            status = await status_of(self.config.host, self.config.port, "/info/")
            if status == 200:
                # What was made during the start lives as long as the process: never scan it again.
                gc.enable()
                gc.freeze()
                if self.table:
                    self.table.ready()
                notify("READY=1\nSTATUS=/info/ answers")
                return
            print(f"kiln_serve: GET /info/ answered {status} instead of 200", file=sys.stderr)
            self.failed = self.should_exit = True

    return AnnouncingServer


def share(environment: Mapping[str, str], options: Any) -> None:
    """Take the store that any number of servers may use on one studies folder, or leave upstream's.

    Parameters
    ----------
    environment:
        Of its variables KILN_SERVE_STORE is read: ``shared``, which is the default, or ``stock``.
    options:
        Upstream's, as it has parsed them.

    Raises
    ------
    SystemExit
        The variable is neither, or the studies folder cannot be used.
    """
    store = environment.get("KILN_SERVE_STORE", "shared")
    if store not in ("shared", "stock"):
        raise SystemExit(f"kiln_serve: KILN_SERVE_STORE is {store!r}; set it to shared or stock")
    if store == "stock":
        return
    from kiln_store import monai
    from kiln_store.errors import StoreError

    try:
        monai.serve(options.app, options.studies, {pair[0]: pair[1] for pair in options.conf or []})
    except StoreError as error:
        raise SystemExit(f"kiln_serve: {error}") from error
    except OSError as error:
        raise SystemExit(
            f"kiln_serve: {error}\n  fix: let the service write to {options.studies} and to its app's folder"
        ) from error


def server(environment: Mapping[str, str]) -> Any:
    """Make the server as its settings say; it loads the application when it runs.

    Parameters
    ----------
    environment:
        Variables of the service, from /etc/kiln/monai-label.env.

    Raises
    ------
    SystemExit
        The settings cannot be meant.
    """
    argv = arguments(environment)

    import uvicorn
    from monailabel.main import Main

    demand_device(environment, _gpus)

    upstream = Main()
    options = upstream.args_parser().parse_args(argv)
    upstream.start_server_validate_args(options)
    upstream.start_server_init_settings(options)
    share(environment, options)
    Path(options.app, "logs").mkdir(exist_ok=True)
    return server_class(uvicorn.Server)(
        uvicorn.Config(
            options.uvicorn_app,
            host=options.host,
            port=options.port,
            log_config=options.log_config,
            access_log=False,
        )
    )


def main() -> int:
    """Serve until told to stop; return the exit code."""
    # A start makes millions of objects and frees few of them: collecting in between finds nothing.
    gc.disable()
    # Before the imports: a start that lasts minutes is then told from a server that is not there.
    folder = os.environ.get("RUNTIME_DIRECTORY")
    table = kiln_inflight.Table(Path(folder)) if folder else None
    running = server(os.environ)
    running.table = table
    running.identify = identify
    running.guard = guard
    running.name_full_disks = name_full_disks
    running.mend = kiln_multipart.middleware
    running.run()
    return 1 if running.failed or not running.started else 0


if __name__ == "__main__":
    sys.exit(main())
