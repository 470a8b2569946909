"""The metadata service, version 2: a token first, a few tries, and "no such thing" told from "nobody
there"."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from kiln_instance import wire

TOKEN_SECONDS = 21600
"""Life of a token, the longest that there is."""

TRIES = 3
PAUSE = 0.2
"""Seconds before the second try, and twice as long before the third."""

LOST = 60.0
"""Seconds for which a machine on which nobody answered is not asked again: three tries on each look would
be in vain."""


class NobodyError(Exception):
    """No metadata service answers: this is no EC2 instance, or it is turned off."""


class Metadata:
    """A client.

    Parameters
    ----------
    address:
        Host and port.
    seconds:
        For one try.
    clock, sleep:
        Of the machine.
    """

    def __init__(
        self,
        address: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.seconds = seconds
        self.clock = clock
        self.sleep = sleep
        self.reached = False
        self._token = ""
        self._ends = 0.0
        self._lost: tuple[float, str] | None = None

    def _once(self, path: str) -> str | None:
        """One try.

        Raises
        ------
        OSError
            No answer, or one that makes no sense.
        """
        if not self._token or self.clock() >= self._ends:
            header = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            status, body = wire.exchange(self.address, "PUT", "/latest/api/token", header, self.seconds)
            if status != 200:
                raise ConnectionError(f"it refuses a token with {status}")
            # A minute early: what is asked with an ended one is refused.
            self._token, self._ends = body.decode(), self.clock() + TOKEN_SECONDS - 60
        header = {"X-aws-ec2-metadata-token": self._token}
        status, body = wire.exchange(self.address, "GET", f"/latest/{path}", header, self.seconds)
        if status == 200:
            return body.decode()
        if status == 404:
            return None
        if status == 401:
            self._token = ""
        raise ConnectionError(f"it answers {status}")

    def get(self, path: str) -> str | None:
        """What stands at a path below /latest; None where nothing does.

        Raises
        ------
        NobodyError
            No answer after some tries; the reason is kept for a while.
        """
        if self._lost and self.clock() < self._lost[0]:
            raise NobodyError(self._lost[1])
        for number in range(TRIES):
            if number:
                self.sleep(PAUSE * 2 ** (number - 1))
            try:
                found = self._once(path)
            except (OSError, ValueError) as error:
                why = str(error)
            else:
                self._lost, self.reached = None, True
                return found
        why = f"no metadata service at {self.address[0]}:{self.address[1]}: {why}"
        # One that has answered before is away for a moment only, and spot's notice comes two minutes before
        # the end.
        self._lost = None if self.reached else (self.clock() + LOST, why)
        raise NobodyError(why)

    def instance(self) -> tuple[str, str]:
        """The instance's id and region.

        Raises
        ------
        NobodyError
            Nobody says so.
        """
        found, region = self.get("meta-data/instance-id"), self.get("meta-data/placement/region")
        if not found or not region:
            raise NobodyError("the metadata service knows no instance")
        return found, region

    def target(self) -> str:
        """What Auto Scaling wants of the instance, ``InService`` or ``Terminated``; empty without a group.

        Raises
        ------
        NobodyError
            Nobody says so.
        """
        return (self.get("meta-data/autoscaling/target-lifecycle-state") or "").strip()

    def spot_end(self) -> float | None:
        """When a spot instance ends, in seconds since 1970; None where it does not.

        Raises
        ------
        NobodyError
            Nobody says so.
        """
        text = self.get("meta-data/spot/instance-action")
        if not text:
            return None
        try:
            said = json.loads(text)
            when = time.strptime(said["time"], "%Y-%m-%dT%H:%M:%SZ")
        except (ValueError, KeyError, TypeError):
            # A notice that cannot be read is one all the same; two minutes are what AWS gives.
            return time.time() + 120
        import calendar

        return float(calendar.timegm(when))
