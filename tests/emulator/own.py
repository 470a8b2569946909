"""Operations that are answered in place of moto, for services of JSON that it hardly has."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from tests.emulator import control, credentials, faults
from tests.emulator.control import Answer
from tests.emulator.understand import Asked


class RefusedError(Exception):
    """An error of the service.

    Parameters
    ----------
    status, code, message:
        As it is answered.
    more:
        Further members of the error.
    """

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more


def answer(body: dict[str, Any], status: int = 200) -> Answer:
    """An answer of JSON."""
    headers = [("content-type", "application/json"), ("x-amzn-requestid", str(uuid.uuid4()))]
    return status, headers, json.dumps(body).encode()


def operation(service: str, name: str, act: Callable[[Asked, str], Answer]) -> None:
    """Let a function answer an operation.

    Parameters
    ----------
    service, name:
        As botocore has them.
    act:
        Of the request and its account; it raises :class:`RefusedError`, and takes ``control.LOCK`` itself.
    """

    def run(asked: Asked, environ: dict[str, Any]) -> Answer:
        try:
            return act(asked, credentials.account_of(asked.access_key))
        except RefusedError as refused:
            _, headers, _ = faults.answer(asked, refused.status, refused.code, refused.message)
            body = {"__type": refused.code, "Message": refused.message, "message": refused.message}
            return refused.status, headers, json.dumps(body | refused.more).encode()

    control.OWN[service, name] = run
