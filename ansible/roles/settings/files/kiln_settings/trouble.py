"""What is wrong with a document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    key:
        Key of the document, with dots; empty where it is the document itself.
    what:
        What is wrong, in one line.
    do:
        What an operator can do, in one line.
    """

    key: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.key} {self.what}" if self.key else self.what


class TroubleError(Exception):
    """A document that is refused.

    Parameters
    ----------
    problems:
        What is wrong, at least one thing.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(str(self.problems[0]))


def shown(value: object) -> str:
    """A value for a line of a terminal: short, and with nothing that moves its cursor."""
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
