"""Somebody who got in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .trouble import RefusedError

# A name goes into a header, into logs and into labels' metadata: nothing in it may mean anything there.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


@dataclass(frozen=True)
class User:
    """Somebody who got in.

    Parameters
    ----------
    name:
        Matches :data:`NAME`.
    roles:
        Some of :data:`policy.ROLES`, perhaps none.
    """

    name: str
    roles: tuple[str, ...]


def checked(name: object) -> str:
    """Return a name that is safe in a header.

    Raises
    ------
    RefusedError
        It is no such name.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RefusedError("a user name with characters that may not be in a header")
    return name
