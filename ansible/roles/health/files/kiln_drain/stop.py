"""``systemctl stop``: closes the server's own gate and waits for what is under way, before systemd ends the
server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kiln_instance.settings import Settings
from kiln_instance.systemd import notify, say

from kiln_drain.gate import Gate
from kiln_drain.machine import Facts, state
from kiln_drain.work import Work

PAUSE = 0.5
"""Seconds between two looks: whoever stops the server by hand waits for it."""

MORE = 60
"""Seconds for which each look asks systemd to wait on. Its own limit is the unit's, written when the image
was baked; ours may be longer, where the settings let an inference last longer."""


def stop(settings: Settings, sleep: Callable[[float], None] = time.sleep) -> str:
    """Wait until nothing is under way, or the limit is reached.

    The file lies in the server's own runtime directory: systemd takes it away with the service, and so the
    next start begins with an open gate.

    Parameters
    ----------
    settings:
        Limits and places.
    sleep:
        Waits so many seconds.

    Returns
    -------
    str
        Name of the state in which it ended, ``drained`` or ``overdue``.
    """
    gate = Gate(Path(settings.stopping))
    gate.note(reason="stop")
    work, said = Work(settings), ""
    while True:
        notify(f"EXTEND_TIMEOUT_USEC={MORE * 1_000_000}")
        work.look()
        facts = Facts("stop", gate.waited, None, work.requests, work.tasks, work.idle)
        found = state(facts, settings)
        if found.complete:
            say(
                f"{found.name} after {gate.waited:.1f} s: {work.words()}", 4 if found.name == "overdue" else 6
            )
            return found.name
        if work.words() != said and not work.idle:
            said = work.words()
            say(f"no new work; waiting for {said}, {settings.stop:g} s at most")
        sleep(PAUSE)
