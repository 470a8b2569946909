"""Processes of a killed run that are still tidying up: nothing of the run is cleared under their hands."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from kiln.errors import KilnError

_PATIENCE_SECONDS = 10.0
"""How long they may go on by themselves: they were told to end when their run died; Packer takes a while."""


def _family() -> set[int]:
    """Return ourselves and those that started us, who may name a run without being of it."""
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            break
        pid = int(status.partition("\nPPid:")[2].split()[0])
    return found


def of(run_id: str) -> Iterator[int]:
    """Yield the processes that carry a run's id in their command line or environment.

    Parameters
    ----------
    run_id:
        Name of the run's work folder, which is drawn at random: no other process carries it by chance.
    """
    ours, wanted = _family(), run_id.encode()
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid in ours:
            continue
        try:
            said = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
        except OSError:
            continue  # it ended while we looked
        if wanted in said:
            yield pid


def end(run_id: str, patience: float = _PATIENCE_SECONDS) -> None:
    """Wait until every process of a run has ended, and kill those that do not.

    Parameters
    ----------
    run_id:
        Name of the run's work folder.
    patience:
        Seconds to wait before the kill.

    Raises
    ------
    KilnError
        One of them cannot be killed.
    """
    deadline = time.monotonic() + patience
    while left := list(of(run_id)):
        late = time.monotonic() - deadline
        if late > patience:
            raise KilnError(
                f"process {left[0]} of the run {run_id} cannot be ended", f"see: ps -fp {left[0]}"
            )
        if late > 0:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it ended by itself
        time.sleep(0.1)
