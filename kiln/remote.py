"""A host that runs an image somewhere else: what the side that starts it tells the side that proves it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Remote:
    """A host that answers to ssh, or soon will.

    Parameters
    ----------
    address, port:
        Where its sshd listens.
    user:
        Whom to log in as; may do anything by sudo.
    key:
        Private key of that user.
    started:
        When it was asked for, on this machine's monotonic clock in seconds.
    machine:
        What it is, a line for the proof.
    proxy:
        Command through which ssh reaches it, where there is no direct way; empty where there is.
    """

    address: str
    port: int
    user: str
    key: Path
    started: float
    machine: str
    proxy: str = ""
