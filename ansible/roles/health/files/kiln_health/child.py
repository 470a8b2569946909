"""A command that may hang: nobody waits for it, and there is never a second one beside it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """How the last one went.

    Parameters
    ----------
    text:
        What it said; its last line of errors where it failed.
    failed:
        Whether it failed.
    late:
        Whether it did not end within its time.
    """

    text: str
    failed: bool = False
    late: bool = False

    @property
    def ok(self) -> bool:
        """Whether it said what it was asked."""
        return not self.failed and not self.late


class Child:
    """A command that is run again and again.

    Parameters
    ----------
    command:
        Its words.
    seconds:
        How long it may take. Then it is killed, and not waited for: what waits for a device or for NFS dies
        when that answers. Until it is gone no other is started.
    every:
        Seconds between the beginnings of two runs.
    clock:
        Of the machine.
    """

    def __init__(
        self,
        command: list[str],
        seconds: float,
        every: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.command = command
        self.seconds = seconds
        self.every = every
        self.clock = clock
        self.result: Result | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._began: float | None = None

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        if self.result and self.result.late and process.returncode < 0:
            return  # killed by us: what was said of it stays until the next one has ended
        self._said.seek(0)
        text = self._said.read().decode(errors="replace").strip()
        failed = process.returncode != 0
        words = text.splitlines()[-1] if failed and text else text
        self.result = Result(words or (f"exit code {process.returncode}" if failed else ""), failed)

    def look(self) -> Result | None:
        """Start it where it is due, see whether it has ended; what the last one said, None before the first
        has."""
        now = self.clock()
        if self._process is not None:
            if self._process.poll() is not None:
                self._ended(self._process)
                self._process = None
                self._said.close()
            elif self._began is not None and now - self._began >= self.seconds:
                self._process.kill()
                self.result = Result(f"no answer within {self.seconds:g} s", late=True)
        if self._process is None and (self._began is None or now - self._began >= self.every):
            self._start(now)
        return self.result

    def _start(self, now: float) -> None:
        self._began = now
        # A file and no pipe: whoever does not read it cannot make the command wait.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        try:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=self._said, stderr=subprocess.STDOUT
            )
        except OSError as error:
            self._said.close()
            self.result = Result(f"{self.command[0]} cannot be run: {error.strerror}", failed=True)
