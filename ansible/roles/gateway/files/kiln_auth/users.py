"""The users file: ``name:bcrypt hash:role,role``, a line each, as ``htpasswd -nB name`` begins it.

It is read anew when it changes. One that cannot be understood lets nobody in, rather than those of yesterday:
among what changed may be who has to stay out.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from .policy import ROLES
from .trouble import RefusedError, TroubleError
from .user import NAME, User

HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
COSTS = range(10, 15)
"""Below, a stolen file is cheap to guess; above, a log-in takes seconds."""

LONGEST_PASSWORD = 72
"""Bytes that bcrypt looks at."""


@dataclass(frozen=True)
class Entry:
    """A line of the file.

    Parameters
    ----------
    user:
        Name and roles.
    hash:
        The bcrypt hash.
    """

    user: User
    hash: str = field(repr=False)


def parse(text: str, path: Path) -> dict[str, Entry]:
    """Read a users file; blank lines and those that begin with # say nothing.

    Parameters
    ----------
    text:
        What is in it.
    path:
        Where it is, for the message.

    Raises
    ------
    TroubleError
        A line is malformed, or a name is there twice. The message names the line, not what is in it.
    """
    found: dict[str, Entry] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(":")
        name, hashed, roles = parts if len(parts) == 3 else ("", "", "")
        cost = HASH.fullmatch(hashed)
        wrong = (
            "has not three fields"
            if len(parts) != 3
            else "has a name with other characters than A-Z a-z 0-9 . _ @ + -"
            if not NAME.fullmatch(name)
            else f"has no bcrypt hash of cost {COSTS[0]} to {COSTS[-1]}"
            if not cost or int(cost[1]) not in COSTS
            else f"has roles other than {', '.join(ROLES)}"
            if not set(roles.split(",")) <= set(ROLES)
            else "has a name that an earlier line has"
            if name in found
            else ""
        )
        if wrong:
            raise TroubleError(
                f"line {number} of {path} {wrong}",
                "each line is name:bcrypt-hash:role,role; htpasswd -nB -C 12 NAME makes the first two",
            )
        found[name] = Entry(User(name, tuple(roles.split(","))), hashed)
    return found


class Users:
    """The users of a file, as it is now.

    Parameters
    ----------
    path:
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] = ()
        self._entries: dict[str, Entry] = {}
        self._secret = os.urandom(16)

    def entries(self) -> dict[str, Entry]:
        """Return the lines of the file by name.

        Raises
        ------
        TroubleError
            It is not there, may not be read, or is malformed.
        """
        try:
            status = self.path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)
            if seen != self._seen:
                self._entries = parse(self.path.read_text(encoding="utf-8"), self.path)
                self._seen = seen
        except (OSError, UnicodeDecodeError) as problem:
            raise TroubleError(
                f"{self.path} cannot be read: {type(problem).__name__}",
                "deliver the users file by the settings, readable for the group kiln-auth",
            ) from None
        return self._entries

    def entry(self, name: str) -> Entry | None:
        """Return the line of a user, None where there is none.

        Raises
        ------
        TroubleError
            The file cannot be used.
        """
        return self.entries().get(name)

    def log_in(self, name: str, password: str) -> Entry:
        """Check a password; takes as long for a name that is not there. Blocks for the time of one hash.

        Parameters
        ----------
        name, password:
            As they were sent.

        Raises
        ------
        RefusedError
            They do not belong together.
        TroubleError
            The file cannot be used.
        """
        entries = self.entries()
        known = entries.get(name)
        secret = password.encode()
        # bcrypt 5 raises for a longer one; hashing as much of it takes the same time.
        fits = 0 < len(secret) <= LONGEST_PASSWORD
        right = bcrypt.checkpw(
            secret[:LONGEST_PASSWORD], (known.hash if known else self._dummy(name, entries)).encode()
        )
        if not (known and fits and right):
            raise RefusedError("wrong name or password")
        return known

    def _dummy(self, name: str, entries: dict[str, Entry]) -> str:
        """Hash of nobody, at a cost that is as common as it is in the file and always the same for a name."""
        costs = [entry.hash[4:6] for entry in entries.values()] or ["12"]
        pick = hmac.digest(self._secret, name.encode(errors="replace"), hashlib.sha256)
        return f"$2b${costs[int.from_bytes(pick, 'big') % len(costs)]}${'.' * 53}"
