"""Steps of the tests that run side by side, each with its output in one piece."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO


@dataclass(frozen=True)
class Step:
    """A command of the tests and what it is called."""

    name: str
    command: Sequence[str]


@dataclass
class Lane:
    """Steps that follow each other while other lanes run.

    Parameters
    ----------
    steps:
        In order.
    shown:
        Its output is seen as it comes; of the others it is seen when a step has ended.
    """

    steps: Sequence[Step]
    shown: bool = True
    done: int = 0
    running: subprocess.Popen[bytes] | None = None
    output: IO[bytes] | None = field(default=None, repr=False)

    @property
    def step(self) -> Step:
        """The step that runs, or did last."""
        return self.steps[min(self.done, len(self.steps) - 1)]

    def start(self) -> None:
        """Start the step whose turn it is, if one is left."""
        if self.done == len(self.steps):
            self.running = None
            return
        if self.shown:
            print(f"== {self.step.name}", flush=True)
        # Closed when it was shown.
        self.output = None if self.shown else tempfile.TemporaryFile()  # noqa: SIM115
        self.running = subprocess.Popen(self.step.command, stdout=self.output, stderr=self.output)

    def show(self) -> None:
        """Print what the ended step of a lane that is not shown said."""
        if self.output is None:
            return
        self.output.seek(0)
        print(f"== {self.step.name}", flush=True)
        sys.stdout.buffer.write(self.output.read())
        sys.stdout.flush()
        self.output.close()
        self.output = None

    def end(self, told: bool) -> None:
        """End what runs as Ctrl-C would, and wait: a bake takes its half-made version away.

        Parameters
        ----------
        told:
            It got the signal already.
        """
        if self.running is not None:
            if not told:
                self.running.send_signal(signal.SIGINT)
            self.running.wait()
            self.show()


def side_by_side(lanes: Sequence[Lane]) -> int:
    """Run lanes until all have ended, or a step of one failed, which ends the others.

    Parameters
    ----------
    lanes:
        Not started.

    Returns
    -------
    int
        0 when all passed, else the exit code of the step that did not.
    """
    told = False
    try:
        for lane in lanes:
            lane.start()
        while running := {one.running.pid: (one, one.running) for one in lanes if one.running is not None}:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            assert ended is not None, "it waits"
            lane, process = running[ended.si_pid]
            code = process.wait()
            lane.show()
            if code:
                lane.running = None
                print(
                    f"error: {lane.step.name} failed\n  fix: see above; once more by: "
                    f"{' '.join(lane.step.command)}",
                    file=sys.stderr,
                )
                return code if code > 0 else 128 - code
            lane.done += 1
            lane.start()
        return 0
    except KeyboardInterrupt:
        # The terminal told them too, and a second word would break off how they tidy up.
        told = True
        raise
    finally:
        for lane in lanes:
            lane.end(told)
