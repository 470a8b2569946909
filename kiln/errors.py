"""Errors that a user sees: what happened, and what to do about it, in two lines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum

AGAIN = "run the same command again: what is done is not done twice"
"""The remedy of what was cut short."""


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


def tell(what: str, hint: str, code: int) -> int:
    """Print an error as its two lines on stderr.

    Parameters
    ----------
    what, hint:
        As of :class:`KilnError`.
    code:
        The exit code that goes with it.

    Returns
    -------
    int
        The same code, for the caller to leave with.
    """
    print(f"error: {what}\n  fix: {hint}", file=sys.stderr)
    return code


def main(call: Callable[[], object]) -> int:
    """Run a small program to its end; an error of ours is told in two lines.

    Parameters
    ----------
    call:
        The program. What it returns is passed over.

    Returns
    -------
    int
        The exit code: 0, or that of the :class:`KilnError` which ended it.
    """
    try:
        call()
    except KilnError as error:
        return tell(error.what, error.hint, error.code)
    return Exit.DONE
