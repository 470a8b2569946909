"""Tokens of our own, for users of the file: HS256 and nothing else, whatever a token says of itself."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable
from pathlib import Path

import jwt

from .trouble import RefusedError, TroubleError
from .user import User
from .users import Entry, Users

ISSUER = "kiln-auth"
AUDIENCE = "monai-label"
ALGORITHM = "HS256"
KEY_BYTES = 32
LONGEST = 16 * 1024
"""Characters of a token that are looked at."""


def signing_key(given: Path, own: Path) -> bytes:
    """Return the key that signs tokens.

    Parameters
    ----------
    given:
        From the settings: several servers behind one load balancer need the same.
    own:
        Made at the first start where none is given; tokens then count on this server alone.

    Raises
    ------
    TroubleError
        The key is too short, or cannot be read or written.
    """
    try:
        if given.exists():
            key = given.read_bytes().strip()
            if len(key) < KEY_BYTES:
                raise TroubleError(
                    f"{given} has fewer than {KEY_BYTES} bytes",
                    "make one by: openssl rand -hex 32; give the same to each server",
                )
            return key
        if not own.exists():
            half = own.with_name(f".{own.name}.{os.getpid()}")
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(os.urandom(KEY_BYTES).hex())
                stream.flush()
                os.fsync(stream.fileno())
            half.replace(own)
        key = own.read_bytes().strip()
    except OSError as problem:
        raise TroubleError(
            f"the signing key cannot be read or made: {problem.strerror}",
            f"see who owns {given} and {own.parent}; the service runs as kiln-auth",
        ) from None
    if len(key) < KEY_BYTES:
        raise TroubleError(f"{own} is damaged", f"remove it and restart kiln-auth; users log in again: {own}")
    return key


class Tokens:
    """Makes and reads tokens.

    Parameters
    ----------
    key:
        Signs them; at least :data:`KEY_BYTES` bytes.
    users:
        Whose tokens count: who is gone from the file, or has a new password, is out at once, and roles are
        those of the file now. Nothing has to be remembered or revoked.
    seconds:
        For which a token counts.
    skew:
        Seconds by which another server's clock may differ.
    clock:
        Seconds since the epoch.
    """

    def __init__(
        self, key: bytes, users: Users, seconds: int, skew: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._key, self._users, self.seconds, self._skew, self._clock = key, users, seconds, skew, clock

    def _mark(self, entry: Entry) -> str:
        """Tells one password of a user from the next, and nobody what it is."""
        return hmac.new(self._key, f"{entry.user.name}:{entry.hash}".encode(), hashlib.sha256).hexdigest()[
            :16
        ]

    def make(self, entry: Entry) -> str:
        """Return a token of a user who has given the right password."""
        now = int(self._clock())
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": entry.user.name, "iat": now, "exp": now + self.seconds,
            "pwd": self._mark(entry),
        }  # fmt: skip
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def log_in(self, name: str, password: str) -> dict[str, object]:
        """Return a token of a user, as an answer to a log-in has it; takes as long as the hash.

        Raises
        ------
        RefusedError
            Name or password is wrong.
        TroubleError
            The users file cannot be used.
        """
        return {"access_token": self.make(self._users.log_in(name, password)), "expires_in": self.seconds}

    def known(self, _token: str) -> bool:
        """Whether a token can be read without waiting for anybody."""
        return True

    def read(self, token: str) -> User:
        """Return the user of a token.

        Raises
        ------
        RefusedError
            It is malformed, forged, expired, not ours, or of a user who is gone.
        TroubleError
            The users file cannot be used.
        """
        if len(token) > LONGEST:
            raise RefusedError("a token of more than 16 KiB")
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[ALGORITHM], issuer=ISSUER, audience=AUDIENCE, leeway=self._skew,
                options={"require": ["iss", "aud", "sub", "iat", "exp"], "strict_aud": True},
            )  # fmt: skip
            name, mark = str(claims["sub"]), str(claims.get("pwd"))
        # Whatever can be wrong with what a stranger sends, as deep JSON in its header, is a refusal.
        except Exception as problem:
            raise RefusedError(f"token: {type(problem).__name__}") from None
        entry = self._users.entry(name)
        if entry is None or not hmac.compare_digest(mark.encode(), self._mark(entry).encode()):
            raise RefusedError("token of a user who is gone or has a new password")
        return entry.user
