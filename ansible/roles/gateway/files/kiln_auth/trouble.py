"""What goes wrong, said in two lines: what happened, and what to do."""

from __future__ import annotations


class TroubleError(Exception):
    """The service cannot judge: a file or an issuer is not as it must be. Nobody gets in meanwhile.

    Parameters
    ----------
    what:
        What happened; no secret is in it.
    hint:
        What to do.
    """

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint

    def __str__(self) -> str:
        return f"error: {self.what}\n  fix: {self.hint}"


class RefusedError(Exception):
    """A token or a password that is not accepted. Its words are for the log, not for who tries."""
