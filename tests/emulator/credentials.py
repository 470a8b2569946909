"""Whose a request is, by its access key: made here, an account by its number, a session that has expired."""

from __future__ import annotations

from typing import Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from tests.emulator import control, faults
from tests.emulator.control import Answer
from tests.emulator.understand import Asked

ACCOUNT = "111122223333"
"""The account of whoever calls with keys that were not made here."""

NUMBERED = "AKIAKILN"
"""Followed by twelve digits: an access key of the account of that number, with all permissions."""

EXPIRED_KEY = "ASIAKILNEXPIRED00000"
"""An access key whose session has expired."""

BAD_KEY = "AKIAKILNUNKNOWN00000"
"""An access key that AWS does not know."""


def account_of(access_key: str) -> str:
    """The account of an access key."""
    number = access_key.removeprefix(NUMBERED)
    if access_key.startswith(NUMBERED) and number.isdigit():
        return number
    for account in list(iam_backends):
        if access_key in iam_backends[account]["aws"].access_keys:
            return account
    return ACCOUNT


def role_of(access_key: str) -> Any:
    """The assumed role that an access key belongs to; None where it is none's."""
    for account in list(sts_backends):
        for partition in list(sts_backends[account].keys()):
            role = sts_backends[account][partition].get_assumed_role_from_access_key(access_key)
            if role:
                return role
    return None


def gate(asked: Asked, environ: dict[str, Any]) -> Answer | None:
    """Refuse expired and unknown keys, and tell moto the account."""
    ec2 = asked.service == "ec2"
    if asked.access_key == EXPIRED_KEY:
        code = "RequestExpired" if ec2 else "ExpiredTokenException" if _json(asked) else "ExpiredToken"
        return faults.answer(asked, 400, code, "The security token included in the request is expired")
    if asked.access_key == BAD_KEY:
        code = (
            "AuthFailure"
            if ec2
            else "UnrecognizedClientException"
            if _json(asked)
            else "InvalidClientTokenId"
        )
        return faults.answer(asked, 403, code, "The security token included in the request is invalid.")
    if asked.access_key:
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = account_of(asked.access_key)
    return None


def _json(asked: Asked) -> bool:
    return asked.model is not None and asked.model.service_model.resolved_protocol in ("json", "rest-json")


def install() -> None:
    """Judge credentials before anything else; let moto's own look-ups begin at our account."""
    from moto.moto_server import werkzeug_app

    werkzeug_app.DEFAULT_ACCOUNT_ID = ACCOUNT
    control.GATES.insert(0, gate)
