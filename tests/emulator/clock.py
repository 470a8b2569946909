"""The clock that Auto Scaling and AppStream go by here: virtual, so that an hour of waiting takes no time.

Each Describe of theirs moves it by the setting ``describe_seconds``; the action ``advance`` moves it by as
much as a test wants. With nothing but :mod:`tests.emulator.lifecycle` installed it is the real one: what
waits there for a hook is a real program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.emulator import control

control.setting("describe_seconds", 15.0)


@dataclass
class Clock:
    """Seconds since the last reset.

    Parameters
    ----------
    virtual:
        Whether only :meth:`advance` moves it.
    began:
        Real time of the last reset.
    seconds:
        How far it was moved.
    listeners:
        Called with the time after each move: what happens by itself, happens then.
    """

    virtual: bool = False
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    listeners: list[Callable[[float], None]] = field(default_factory=list)

    def now(self) -> float:
        """Seconds since the last reset."""
        return self.seconds if self.virtual else self.seconds + time.monotonic() - self.started

    def date(self, seconds: float | None = None) -> datetime:
        """Day and time at a moment of this clock; now where none is given."""
        return self.began + timedelta(seconds=self.now() if seconds is None else seconds)

    def advance(self, seconds: float) -> None:
        """Move on, and let happen what happens in that time."""
        self.seconds += seconds
        for listener in self.listeners:
            listener(self.now())

    def described(self) -> None:
        """A Describe was asked: time went by."""
        self.advance(float(control.SETTINGS["describe_seconds"]))

    def reset(self) -> None:
        """Begin anew."""
        self.began, self.started, self.seconds = datetime.now(UTC), time.monotonic(), 0.0


CLOCK = Clock()
control.RESETS.append(CLOCK.reset)


@control.action
def advance(seconds: float) -> float:
    """Let time go by; returns the clock's."""
    CLOCK.advance(float(seconds))
    return CLOCK.now()
