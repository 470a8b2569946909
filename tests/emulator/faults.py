"""Faults of a cloud and of the way to it, told by rules: the next requests that fit meet them.

A rule is a JSON object::

    {"service": "ec2", "operation": "CopyImage", "region": "eu-.*", "params": {"Name": "kiln-.*"},
     "after": 1, "times": 2, "fault": "throttle"}

``service``, ``operation``, ``region`` and the values of ``params`` are patterns for the whole text, by
default anything. ``after`` requests that fit pass first (0), the next ``times`` (1) meet the fault:

========  ====================================================================================
throttle  the service's own error for too many requests
5xx       ``status`` (500) with InternalError
error     ``code``, ``message``, ``status`` (400)
timeout   no answer until the client goes, ``seconds`` (70) at most; with ``acts`` it is acted upon
reset     the connection is closed before anything was done
lost      it is acted upon, and the connection is closed instead of an answer
stale     what the same request was answered before; one never sent before is answered as it should be
hook      the request is held until the test lets it go, ``when`` = ``before`` or ``after`` (default) it
          was acted upon; what is let go by ``drop`` gets no answer
slow      ``seconds`` pass before it is acted upon
========  ====================================================================================
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from tests.emulator.understand import Asked

FAULTS = ("throttle", "5xx", "error", "timeout", "reset", "lost", "stale", "hook", "slow")

THROTTLES: dict[str, tuple[str, int]] = {
    "ec2": ("RequestLimitExceeded", 503),
    "autoscaling": ("Throttling", 400),
    "elbv2": ("Throttling", 400),
    "cloudwatch": ("Throttling", 400),
    "sts": ("Throttling", 400),
    "iam": ("Throttling", 400),
    "s3": ("SlowDown", 503),
    "ebs": ("RequestThrottledException", 400),
    "appstream": ("RequestLimitExceededException", 400),
}
"""Service → code and status of its throttling; the others say ThrottlingException."""

KEYS = {"service", "operation", "region", "params", "after", "times", "fault", "code", "message", "status"}
KEYS |= {"seconds", "acts", "when"}


@dataclass
class Rule:
    """A rule and how often it was met."""

    given: dict[str, Any]
    seen: int = 0
    met: int = 0

    def fits(self, asked: Asked) -> bool:
        """Whether a request is one of those that it is about."""
        texts = {"service": asked.service, "operation": asked.operation, "region": asked.region}
        if not all(re.fullmatch(self.given.get(key, ".*"), text) for key, text in texts.items()):
            return False
        wanted = self.given.get("params", {})
        return all(re.fullmatch(str(p), str(asked.params.get(key))) for key, p in wanted.items())


@dataclass
class Held:
    """A request that a test holds.

    Parameters
    ----------
    asked:
        What it asks.
    go:
        Set when the test lets it go.
    drop:
        Whether it goes without an answer.
    """

    asked: Asked
    go: threading.Event = field(default_factory=threading.Event)
    drop: bool = False


class Rules:
    """The rules in force, and the requests that they hold."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.held: list[Held] = []
        self._changed = threading.Condition()

    def set(self, rules: list[dict[str, Any]]) -> None:
        """Put these rules in place of the others; what is held goes.

        Raises
        ------
        ValueError
            A rule is none.
        """
        for rule in rules:
            if rule.get("fault") not in FAULTS or set(rule) - KEYS:
                raise ValueError(f"{rule} is no rule: see tests/emulator/faults.py")
        with self._changed:
            self.rules = [Rule(dict(rule)) for rule in rules]
        self.release(drop=True)

    def pick(self, asked: Asked) -> dict[str, Any] | None:
        """Return the rule that a request meets, and count it; the first that is not used up."""
        with self._changed:
            for rule in self.rules:
                if rule.met < rule.given.get("times", 1) and rule.fits(asked):
                    rule.seen += 1
                    if rule.seen > rule.given.get("after", 0):
                        rule.met += 1
                        return rule.given
        return None

    def hold(self, asked: Asked) -> bool:
        """Hold a request until the test lets it go.

        Returns
        -------
        bool
            Whether it is to be answered.
        """
        held = Held(asked)
        with self._changed:
            self.held.append(held)
            self._changed.notify_all()
        held.go.wait()
        return not held.drop

    def wait_held(self, seconds: float) -> dict[str, str] | None:
        """Return the first request that is held, None when none came in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self.held), seconds):
                return None
            asked = self.held[0].asked
        return {"service": asked.service, "operation": asked.operation, "region": asked.region}

    def release(self, *, drop: bool) -> int:
        """Let go of all that is held; return how many it were."""
        with self._changed:
            held, self.held = self.held, []
        for each in held:
            each.drop = drop
            each.go.set()
        return len(held)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the rules, each with how many requests fitted (``seen``) and met it (``met``)."""
        with self._changed:
            return [{**rule.given, "seen": rule.seen, "met": rule.met} for rule in self.rules]


def error(rule: dict[str, Any], asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return the answer of a rule that is an error of the service."""
    kind = rule["fault"]
    code, status = "InternalError", int(rule.get("status", 500))
    if kind == "throttle":
        code, status = THROTTLES.get(asked.service, ("ThrottlingException", 400))
    elif kind == "error":
        code, status = rule["code"], int(rule.get("status", 400))
    return answer(asked, status, code, rule.get("message", f"a fault that a test asked for: {kind}"))


def answer(asked: Asked, status: int, code: str, message: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return an error in the form of its service.

    Returns
    -------
    tuple
        Status, headers, body.
    """
    request_id = str(uuid.uuid4())
    protocol = asked.model.service_model.resolved_protocol if asked.model is not None else "ec2"
    inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    headers = [("x-amzn-requestid", request_id), ("x-amz-request-id", request_id)]
    if protocol in ("json", "rest-json"):
        body = json.dumps({"__type": code, "message": message, "Message": message})
        return (
            status,
            [*headers, ("content-type", "application/json"), ("x-amzn-errortype", code)],
            body.encode(),
        )
    if protocol == "ec2":
        body = (
            f"<Response><Errors><Error>{inner}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
        )
    elif protocol == "rest-xml":
        body = f"<Error>{inner}<RequestId>{request_id}</RequestId></Error>"
    else:
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    return status, [*headers, ("content-type", "text/xml")], b"<?xml version='1.0'?>" + body.encode()
