"""One account of AWS: clients, who we are, waiting, and the guard that no request is sent unannounced."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
import botocore.session
from botocore.config import Config as BotoConfig

from launch.plan import Request
from launch.trouble import told

READING = ("Describe", "Get", "List", "Head", "Search", "Lookup", "Simulate", "Decode", "BatchGet")
"""Operations that begin so change nothing. A request with DryRun changes nothing either."""

POLL_SECONDS = 15.0
"""How long we wait between two looks at something that AWS works on; ``KILN_POLL_SECONDS`` sets another."""


ATTEMPTS = {"pricing": 1}
"""How often a request is sent at most, where that is not six times: the dated table stands in for prices."""


@dataclass(frozen=True)
class Call:
    """A request that was answered.

    Parameters
    ----------
    request:
        What was asked of whom.
    start, end:
        Seconds on the monotonic clock, retries of botocore included.
    """

    request: Request
    start: float
    end: float


@dataclass
class Ledger:
    """What was asked of AWS in a run, and how long we slept for it.

    Parameters
    ----------
    calls:
        In the order of their answers.
    slept:
        Seconds in :meth:`Cloud.wait`.
    """

    calls: list[Call] = field(default_factory=list)
    slept: float = 0.0


class UnannouncedError(AssertionError):
    """A bug of ours: a request that changes something was about to be sent, and no step had announced it."""


class Cloud:
    """An account, as the credentials of the environment or of a profile give it.

    Parameters
    ----------
    region:
        Region of clients that are asked for without one.
    run_id:
        Goes into the tags and the user agent of what this run makes.
    profile:
        Profile of the AWS configuration; the environment's where it is None.

    Notes
    -----
    A request whose operation does not begin with a word of :data:`READING` is refused, as a bug, unless the
    thread is inside :meth:`permit` of a step that announced it. So a plan can send none.
    """

    def __init__(self, region: str, run_id: str, profile: str | None = None) -> None:
        self.region = region
        self.run_id = run_id
        self.ledger = Ledger()
        # Any: the typed overloads want the service as a literal, and ours is a variable.
        self._session: Any = boto3.Session(region_name=region, profile_name=profile)
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()
        self._local = threading.local()

    def client(self, service: str, region: str | None = None) -> Any:
        """Return the client of a service; made once, safe to use from several threads.

        Parameters
        ----------
        service:
            As boto3 names it.
        region:
            By default the account's.
        """
        key = (service, region or self.region)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make(*key)
            return self._clients[key]

    def once(self, service: str, region: str | None = None) -> Any:
        """Return a client that sends each request once, for :func:`launch.settled.settled`.

        Parameters
        ----------
        service, region:
            As of :meth:`client`.
        """
        key = (f"{service} once", region or self.region)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make(service, key[1], attempts=1)
            return self._clients[key]

    def _make(self, service: str, region: str, attempts: int | None = None) -> Any:
        config = BotoConfig(
            # standard: throttles and 5xx are tried again with jitter, a request that may have acted carries
            # its client token; see docs/operations.md for what a run does after the last try.
            retries={"mode": "standard", "total_max_attempts": attempts or ATTEMPTS.get(service, 6)},
            connect_timeout=10,
            read_timeout=float(os.environ.get("KILN_READ_TIMEOUT", "60")),
            max_pool_connections=64,
            user_agent_extra=f"kiln run/{self.run_id}",
        )
        client = self._session.client(service, region_name=region, config=config)
        client.meta.events.register("before-parameter-build", self._guard(service, region))
        client.meta.events.register("before-call", self._started)
        client.meta.events.register("after-call", self._ended(service, region))
        client.meta.events.register("after-call-error", self._ended(service, region))
        return client

    def _guard(self, service: str, region: str) -> Any:
        def check(params: dict[str, Any], model: Any, **_: Any) -> None:
            request = Request(service, model.name, region)
            if model.name.startswith(READING) or params.get("DryRun") is True:
                return
            if request not in getattr(self._local, "allowed", frozenset()):
                raise UnannouncedError(f"{request} was not announced by a step of the plan")

        return check

    def _started(self, **_: Any) -> None:
        self._local.start = time.monotonic()

    def _ended(self, service: str, region: str) -> Any:
        def note(event_name: str, **_: Any) -> None:
            end = time.monotonic()
            operation = event_name.rsplit(".", 1)[-1]
            start = getattr(self._local, "start", end)
            with self._lock:
                self.ledger.calls.append(Call(Request(service, operation, region), start, end))

        return note

    @contextmanager
    def permit(self, requests: tuple[Request, ...]) -> Iterator[None]:
        """Let this thread send requests that change something; only these, only inside.

        Parameters
        ----------
        requests:
            What the step announced.
        """
        before: frozenset[Request] = getattr(self._local, "allowed", frozenset())
        self._local.allowed = before | frozenset(requests)
        try:
            yield
        finally:
            self._local.allowed = before

    @cached_property
    def identity(self) -> dict[str, str]:
        """Who we are: ``Account``, ``Arn``, ``UserId``; a bad credential is told in two lines."""
        with told("asking who we are"):
            answer = self.client("sts").get_caller_identity()
        return {key: answer[key] for key in ("Account", "Arn", "UserId")}

    @property
    def account(self) -> str:
        """The account's number, twelve digits."""
        return self.identity["Account"]

    def wait(self, seconds: float | None = None) -> None:
        """Sleep for AWS; it is counted apart from our own time.

        Parameters
        ----------
        seconds:
            By default ``KILN_POLL_SECONDS`` or :data:`POLL_SECONDS`, which also caps what is asked for.
        """
        cap = float(os.environ.get("KILN_POLL_SECONDS", str(POLL_SECONDS)))
        pause = cap if seconds is None else min(seconds, cap)
        time.sleep(pause)
        with self._lock:
            self.ledger.slept += pause

    def counts(self) -> Counter[str]:
        """How often each operation was sent, ``service:Operation``."""
        return Counter(f"{call.request.service}:{call.request.operation}" for call in self.ledger.calls)


def service_model(service: str) -> Any:
    """Botocore's model of a service, for what is known without asking: limits, patterns, operations."""
    return botocore.session.get_session().get_service_model(service)
