"""A copy of the emulator with all that is in it, in a process of its own: seeded once, used often."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.emulator import control

WATCH_SECONDS = 0.5
"""How long a copy lives on when the emulator that it came from has gone."""


def fork(serve: Callable[[Any], None], make: Callable[[], Any]) -> dict[str, int]:
    """Copy this process and let the copy serve.

    Parameters
    ----------
    serve:
        Serves until the process ends; called with what ``make`` made.
    make:
        Makes a server on a free port.

    Returns
    -------
    dict
        ``port`` of the copy and its ``pid``, for whoever ends it.
    """
    reading, writing = os.pipe()
    mother = os.getpid()
    # No request is at work in the copy, and only this thread lives on there: it holds the lock it needs.
    with control.LOCK:
        pid = os.fork()
    if pid:
        os.close(writing)
        with os.fdopen(reading) as stream:
            return {"port": int(stream.read()), "pid": pid}
    try:
        os.close(reading)
        server = make()
        with os.fdopen(writing, "w") as stream:
            stream.write(str(server.server_port))
        threading.Thread(target=_leave_with, args=(mother,), daemon=True).start()
        serve(server)
    finally:
        os._exit(0)


def _leave_with(mother: int) -> None:
    while os.getppid() == mother:
        time.sleep(WATCH_SECONDS)
    os._exit(0)
