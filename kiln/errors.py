"""Errors that a user sees: what happened, and what to do about it, in two lines."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every kiln command (house plan, Front door)."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    REFUSED = 3
    NOTHING_TO_DO = 4


class KilnError(Exception):
    """Something failed that the user can act on.

    Parameters
    ----------
    what:
        One line: what happened.
    hint:
        One line: what to do about it.
    """

    code = Exit.FAILED

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n{self.hint}"


class UsageError(KilnError):
    """The command line or kiln.toml asks for something that cannot be meant."""

    code = Exit.WRONG_USE


class RefusedError(KilnError):
    """A check refused; nothing was moved."""

    code = Exit.REFUSED
