"""Tokens of an OIDC issuer: signature by its published keys, issuer, audience, expiry; name and roles."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt

from .policy import ROLES
from .settings import Issuer, secure
from .tokens import LONGEST
from .trouble import RefusedError, TroubleError
from .user import User, checked

TIMEOUT = 5.0
"""Seconds for an answer of the issuer."""

LARGEST = 256 * 1024
"""Bytes of an answer."""

FRESH = 3600.0
"""Seconds for which its keys are used without asking again."""

STALE = 24 * 3600.0
"""Seconds for which they are used while the issuer does not answer: a key may have been withdrawn."""

AGAIN = 60.0
"""Seconds between two questions, however many tokens name a key that we do not know."""


BROKEN = (OSError, ValueError, KeyError, TypeError, http.client.HTTPException)
"""What an issuer's answer may end in."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An issuer that redirects could lead anywhere."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _open(address: str, form: dict[str, str] | None = None) -> Any:
    """Get JSON from the issuer, or send it a form."""
    if not secure(address):
        raise TroubleError("the issuer names an address without https", "see oidc.issuer in auth.json")
    data = urllib.parse.urlencode(form).encode() if form else None
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(urllib.request.Request(address, data=data), timeout=TIMEOUT) as answer:
        text = answer.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError("too long an answer")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


class Oidc:
    """Reads the tokens of an issuer.

    Parameters
    ----------
    issuer:
        Whose tokens count.
    skew:
        Seconds by which its clock may differ.
    clock:
        Seconds that only grow.
    """

    def __init__(self, issuer: Issuer, skew: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings, self._skew, self._clock = issuer, skew, clock
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._asked_at = float("-inf")
        self._token_endpoint = ""

    def _ask(self) -> None:
        """Read the issuer's document and keys; what was known stays where it does not answer."""
        self._asked_at = self._clock()
        try:
            document = _open(self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if document.get("issuer") != self.settings.issuer:
                raise ValueError("the document is of another issuer")
            keys: dict[str, jwt.PyJWK] = {}
            for given in _open(str(document["jwks_uri"]))["keys"]:
                try:
                    key = jwt.PyJWK(given)
                except jwt.PyJWTError:
                    continue  # of a kind that we do not accept either
                if given.get("kid") and given.get("use", "sig") == "sig" and key.key_type != "oct":
                    keys[given["kid"]] = key
            if not keys:
                raise ValueError("no key with a kid")
        except (*BROKEN, TroubleError) as problem:
            if self._clock() - self._read_at > STALE:
                raise TroubleError(
                    f"the issuer does not answer as OIDC has it: {type(problem).__name__}",
                    f"see that this server reaches {self.settings.issuer}/.well-known/openid-configuration",
                ) from None
            return
        self._keys, self._read_at = keys, self._clock()
        self._token_endpoint = str(document.get("token_endpoint", ""))

    def _key(self, kid: object) -> jwt.PyJWK:
        """Key of this id. Blocks while the issuer is asked."""
        if isinstance(kid, str) and kid in self._keys and self._clock() - self._read_at <= FRESH:
            return self._keys[kid]
        with self._lock:
            age = self._clock() - self._read_at
            known = isinstance(kid, str) and kid in self._keys
            due = self._clock() - self._asked_at >= AGAIN
            if due and (age > FRESH or not known):
                self._ask()
            elif age > STALE:
                raise TroubleError(
                    "the issuer does not answer", f"see that this server reaches {self.settings.issuer}"
                )
            found = self._keys.get(kid) if isinstance(kid, str) else None
        if found is None:
            raise RefusedError("token of an unknown key")
        return found

    def known(self, token: str) -> bool:
        """Whether a token can be read without asking the issuer, so without waiting."""
        try:
            kid = str(jwt.get_unverified_header(token).get("kid"))
        except Exception:
            return True
        if kid in self._keys and self._clock() - self._read_at <= FRESH:
            return True
        return self._clock() - self._asked_at < AGAIN and not self._lock.locked()

    def read(self, token: str) -> User:
        """Return the user of a token.

        Raises
        ------
        RefusedError
            It is malformed, forged, expired, of another issuer or for another audience, or its name may
            not be in a header.
        TroubleError
            The issuer's keys cannot be had.
        """
        if len(token) > LONGEST:
            raise RefusedError("a token of more than 16 KiB")
        try:
            key = self._key(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token, key.key, algorithms=list(self.settings.algorithms), issuer=self.settings.issuer,
                audience=self.settings.audience, leeway=self._skew,
                options={"require": ["iss", "aud", "sub", "exp"]},
            )  # fmt: skip
        except (RefusedError, TroubleError):
            raise
        # Whatever can be wrong with what a stranger sends, as deep JSON in its header, is a refusal.
        except Exception as problem:
            raise RefusedError(f"token: {type(problem).__name__}") from None
        roles = _claim(claims, self.settings.roles_claim)
        prefix = self.settings.role_prefix
        named = set(roles) if isinstance(roles, list) and all(isinstance(r, str) for r in roles) else set()
        return User(
            checked(_claim(claims, self.settings.username_claim)),
            tuple(role for role in ROLES if prefix + role in named),
        )

    def log_in(self, name: str, password: str) -> dict[str, Any]:
        """Hand a password to the issuer for a token, as upstream does. Blocks for its answer.

        Returns
        -------
        dict
            ``access_token``, and ``expires_in`` where the issuer says it.

        Raises
        ------
        RefusedError
            The issuer refuses it, or gives a token that does not count here.
        TroubleError
            The issuer does not answer.
        """
        with self._lock:
            if not self._token_endpoint and self._clock() - self._asked_at >= AGAIN:
                self._ask()
            endpoint = self._token_endpoint
        form = {
            "grant_type": "password", "scope": "openid", "client_id": self.settings.client_id,
            "username": name, "password": password,
        }  # fmt: skip
        try:
            if self.settings.client_secret_file:
                secret = Path(self.settings.client_secret_file).read_text(encoding="utf-8").strip()
                form["client_secret"] = secret
            answer = _open(endpoint, form)
            token = answer["access_token"]
            if not isinstance(token, str):
                raise ValueError("no token")
        except urllib.error.HTTPError as problem:
            if problem.code in (400, 401):
                raise RefusedError("the issuer refuses name or password") from None
            raise TroubleError(
                f"the issuer answers {problem.code} to a log-in", "see that client_id may use passwords there"
            ) from None
        except BROKEN as problem:
            raise TroubleError(
                f"no log-in at the issuer: {type(problem).__name__}",
                f"see that this server reaches {self.settings.issuer}",
            ) from None
        self.read(token)
        return {"access_token": token} | (
            {"expires_in": answer["expires_in"]} if isinstance(answer.get("expires_in"), int) else {}
        )


def _claim(claims: dict[str, Any], path: str) -> Any:
    """Find a claim; # leads into an object."""
    found: Any = claims
    for part in path.split("#"):
        found = found.get(part) if isinstance(found, dict) else None
    return found
