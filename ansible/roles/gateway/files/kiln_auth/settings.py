"""Settings of the service, from /etc/kiln/auth.json; what is not understood ends the start."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .trouble import TroubleError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""Of an issuer's tokens. None is symmetric: a public key never serves as a secret."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Login:
    """How often log-in may fail.

    Parameters
    ----------
    by_address, by_address_seconds:
        Failures of one address at once, and seconds after which all of them are forgotten.
    by_user, by_user_seconds:
        The same of one name.
    """

    by_address: int = 30
    by_address_seconds: int = 300
    by_user: int = 10
    by_user_seconds: int = 900


@dataclass(frozen=True)
class Issuer:
    """An OIDC issuer whose tokens count.

    Parameters
    ----------
    issuer:
        Its address, exactly as its tokens say it.
    audience:
        One of the audiences that a token must name.
    client_id, client_secret_file:
        With which a user's password is handed to the issuer for a token; no file for a public client.
    algorithms:
        Of :data:`ALGORITHMS`.
    username_claim, roles_claim:
        Where name and roles stand; # leads into an object, as in upstream's settings.
    role_prefix:
        Of our roles among the issuer's.
    """

    issuer: str = ""
    audience: str = ""
    client_id: str = "monailabel-app"
    client_secret_file: str = ""
    algorithms: tuple[str, ...] = ("RS256",)
    username_claim: str = "preferred_username"
    roles_claim: str = "realm_access#roles"
    role_prefix: str = "monailabel-"


@dataclass(frozen=True)
class Settings:
    """All settings.

    Parameters
    ----------
    users_file:
        See :mod:`kiln_auth.users`.
    signing_key_file, own_key_file:
        See :func:`kiln_auth.tokens.signing_key`.
    token_seconds:
        For which a token of ours counts.
    clock_skew_seconds:
        By which another clock may differ.
    login, oidc:
        With an issuer in oidc, its tokens count and the users file does not.
    """

    users_file: str = "/etc/kiln/auth/users"
    signing_key_file: str = "/etc/kiln/auth/signing.key"
    own_key_file: str = "/var/lib/kiln-auth/signing.key"
    token_seconds: int = 12 * 3600
    clock_skew_seconds: int = 30
    login: Login = field(default_factory=Login)
    oidc: Issuer = field(default_factory=Issuer)


def _fill(kind: type[Any], given: object, where: str) -> Any:
    """Make a dataclass of ours from JSON, strictly."""
    if not isinstance(given, dict):
        raise ValueError(f"{where or 'it'} is no object")
    known = {part.name: part for part in dataclasses.fields(kind)}
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"{where}{unknown[0]} is no setting")
    made: dict[str, Any] = {}
    for name, value in given.items():
        usual = getattr(kind(), name)
        if dataclasses.is_dataclass(usual):
            made[name] = _fill(type(usual), value, f"{where}{name}.")
        elif isinstance(usual, tuple):
            if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
                raise ValueError(f"{where}{name} is no list of strings")
            made[name] = tuple(value)
        elif type(value) is not type(usual):
            raise ValueError(f"{where}{name} is no {type(usual).__name__}")
        else:
            made[name] = value
    return kind(**made)


def secure(address: str) -> bool:
    """Whether nobody on the way can change what an address answers."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    )


def _meant(settings: Settings) -> None:
    """Refuse what cannot be meant."""
    login, oidc = settings.login, settings.oidc
    bounds = (
        ("token_seconds", settings.token_seconds, 60, 7 * 24 * 3600),
        ("clock_skew_seconds", settings.clock_skew_seconds, 0, 300),
        ("login.by_address", login.by_address, 1, 100_000),
        ("login.by_user", login.by_user, 1, 100_000),
        ("login.by_address_seconds", login.by_address_seconds, 1, 86_400),
        ("login.by_user_seconds", login.by_user_seconds, 1, 86_400),
    )
    for name, value, least, most in bounds:
        if not least <= value <= most:
            raise ValueError(f"{name} is not from {least} to {most}")
    if oidc.issuer:
        if not secure(oidc.issuer):
            raise ValueError("oidc.issuer is no https address")
        if not oidc.audience:
            raise ValueError("oidc.audience is missing: a token for anything else would count here")
        if wrong := sorted(set(oidc.algorithms) - set(ALGORITHMS)):
            raise ValueError(f"oidc.algorithms has {wrong[0]}; one of {', '.join(ALGORITHMS)} is needed")


def load(path: Path) -> Settings:
    """Read the settings.

    Raises
    ------
    TroubleError
        They cannot be read or cannot be meant.
    """
    try:
        settings: Settings = _fill(Settings, json.loads(path.read_text(encoding="utf-8")), "")
        _meant(settings)
    except (OSError, ValueError) as problem:
        words = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise TroubleError(
            f"{path}: {words}", f"see gateway_auth in the role's README; then restart kiln-auth: {path}"
        ) from None
    return settings
