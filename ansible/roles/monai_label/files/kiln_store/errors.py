"""What a user can act on: two lines, what happened and what to do."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot do what it was asked for.

    Parameters
    ----------
    what:
        What happened, one line.
    hint:
        What to do about it, one line.
    """

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  fix: {self.hint}"


class RefusedError(StoreError):
    """A name or a path that would lead out of the studies folder, or to files of the store's own."""


class MissingError(StoreError):
    """There is no such image or label."""
