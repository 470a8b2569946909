"""One operator per target: an object in S3, taken where there is none, renewed, taken over when expired.

The lock says who holds it and until when by S3's clock. A run that is killed leaves it behind: run again on
the same machine it is taken over at once, since the process that held it is gone; from elsewhere after it
has expired.
"""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import Field

from kiln.config import Config
from kiln.errors import KilnError, RefusedError
from kiln.manifest import Strict
from launch.cloud import Cloud
from launch.plan import Request, Say, Step
from launch.records import ChangedError, Found, Records, now, written
from launch.trouble import AGAIN

STAGE = "lock"

MINUTES = 5.0
"""How long a lock lives that is not renewed: what another machine waits after a kill."""


class Holding(Strict):
    """``locks/<name>.json``: who works on what."""

    name: str = Field(description="a target, or image.NAME")
    who: str = Field(description="ARN of the operator")
    doing: str = Field(description="the command line")
    machine: str = Field(description="host, its boot, and its space of process numbers")
    process: str = Field(description="number and start of the process, empty where the system does not tell")
    since: datetime = Field(description="when it was taken, UTC by S3's clock")
    until: datetime = Field(description="when it ends unless it is renewed")
    nonce: str = Field(description="tells this taker from any other")

    def describe(self) -> str:
        """Who holds it, since when and until when, on one line."""
        return (
            f"{self.who} on {self.machine.split()[0]} ({self.doing}) since {_clock(self.since)}, "
            f"until {_clock(self.until)}"
        )


def lock_key(records: Records, name: str) -> str:
    """Return the key of a lock; ``name`` is a target's, or ``image.<name>`` for what changes an image."""
    return records.key("locks", f"{name}.json")


class Lock:
    """A lock that one run takes, keeps alive and releases.

    Parameters
    ----------
    cloud, config:
        The account, and kiln.toml.
    name:
        A target, or what :func:`of_image` returns.
    who:
        The operator; by default the credentials' ARN.
    minutes:
        How long it lives without being renewed; it is renewed three times in that while.
    """

    def __init__(
        self, cloud: Cloud, config: Config, name: str, who: str | None = None, minutes: float = MINUTES
    ) -> None:
        self.name = name
        self._cloud = cloud
        self._records = Records(cloud, config)
        self._key = lock_key(self._records, name)
        self._who = who
        self._life = timedelta(minutes=minutes)
        self._mine: Holding | None = None
        self._etag = ""
        self._offset = timedelta()
        self._lost: KilnError | None = None
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None

    @property
    def requests(self) -> tuple[Request, ...]:
        """What taking, renewing and releasing it sends."""
        return self._records.locking

    def step(self) -> Step:
        """Return the step of a plan that takes it; :func:`launch.execute.carry_out` puts it first."""
        return Step(f"take the lock {self.name}, and release it at the end", self.requests, self.take, STAGE)

    def left(self) -> bool:
        """Tell whether a run left it behind that was killed, or did not come to release it."""
        found = self._records.find(self._key)
        return found is not None and self._free(self._read(found), found.at)

    # ---- taking

    def take(self, say: Say = lambda _: None) -> None:
        """Take the lock.

        Parameters
        ----------
        say:
            Is told when it is taken over.

        Raises
        ------
        RefusedError
            Another run holds it, or was faster.
        """
        found = self._records.find(self._key)
        if found is None:
            at = self._records.clock()
            self._offset = at - now()
            mine = self._holding(at)
            try:
                self._records.put_once(self._key, written(mine))
            except KilnError:
                # Not there a moment ago: somebody was faster. Anything else is told as what it is.
                if (other := self._records.find(self._key)) is None:
                    raise
                raise self._refusal(self._read(other)) from None
            found = self._records.find(self._key)
            if found is None or self._read(found).nonce != mine.nonce:
                raise KilnError(f"the lock {self.name} was taken away as it was taken", AGAIN)
            self._etag = found.etag
        else:
            self._offset = found.at - now()
            before = self._read(found)
            if not self._free(before, found.at):
                raise self._refusal(before)
            say(f"taking over what {before.describe()} left")
            mine = self._holding(found.at)
            try:
                self._etag = self._records.replace(self._key, written(mine), found.etag)
            except ChangedError:
                other = self._records.find(self._key)
                if other is None:
                    raise
                raise self._refusal(self._read(other)) from None
        self._mine = mine
        self._renewer = threading.Thread(target=self._renew, name=f"lock {self.name}", daemon=True)
        self._renewer.start()

    def _holding(self, since: datetime) -> Holding:
        return Holding(
            name=self.name,
            who=self._who or self._cloud.identity["Arn"],
            doing=_command(),
            machine=_machine(),
            process=_process(os.getpid()),
            since=since,
            until=since + self._life,
            nonce=secrets.token_hex(8),
        )

    def _read(self, found: Found) -> Holding:
        return self._records.parsed(self._key, found.body, Holding)

    def _free(self, holding: Holding, at: datetime) -> bool:
        """Whether it may be taken: it has expired, or is of a process of this machine that is gone."""
        if at >= holding.until:
            return True
        pid = holding.process.partition(" ")[0]
        ours = bool(holding.process) and holding.machine == _machine()
        return ours and pid.isdigit() and _process(int(pid)) != holding.process

    def _refusal(self, holding: Holding) -> RefusedError:
        return RefusedError(
            f"{self.name} is locked by {holding.describe()}",
            "wait until that run ends; while it lives it renews the lock, and if it was killed the lock "
            "ends by itself at that time",
        )

    # ---- holding

    def check(self) -> None:
        """Make sure that it is still ours; called before each step.

        Raises
        ------
        KilnError
            It expired, since it could not be renewed, or another run has taken it over.
        """
        if self._lost is not None:
            raise self._lost
        if self._mine is not None and now() + self._offset >= self._mine.until:
            raise KilnError(f"the lock {self.name} has expired: it could not be renewed in time", AGAIN)

    def _renew(self) -> None:
        with self._cloud.permit(self.requests):
            while not self._stop.wait(self._life.total_seconds() / 3):
                assert self._mine is not None
                longer = self._mine.model_copy(update={"until": now() + self._offset + self._life})
                try:
                    self._etag = self._records.replace(self._key, written(longer), self._etag)
                    self._mine = longer
                except ChangedError:
                    self._lost = KilnError(
                        f"the lock {self.name} was taken over by another run", f"see who has it, then {AGAIN}"
                    )
                    return
                except KilnError:
                    # The network may be back at the next turn; check() ends the run when it is not in time.
                    continue

    def release(self) -> None:
        """Let it go, if it is still ours; without effect where it was not taken."""
        self._stop.set()
        if self._renewer is not None:
            self._renewer.join()
        if self._mine is None:
            return
        self._mine = None
        with self._cloud.permit(self.requests):
            self._records.remove(self._key, self._etag)


@contextmanager
def hold(
    cloud: Cloud, config: Config, target: str, who: str | None = None, minutes: float = MINUTES
) -> Iterator[Lock]:
    """Hold a lock for as long as the block runs; for what is not a plan.

    Parameters
    ----------
    cloud, config, target, who, minutes:
        As of :class:`Lock`.

    Yields
    ------
    Lock
        Taken.

    Raises
    ------
    RefusedError
        Another run holds it.
    """
    lock = Lock(cloud, config, target, who, minutes)
    with cloud.permit(lock.requests):
        lock.take()
    try:
        yield lock
    finally:
        lock.release()


def of_image(image: str) -> str:
    """Name of the lock of what changes an image's channels or removes its versions; no target has a dot."""
    return f"image.{image}"


def held(records: Records) -> list[Holding]:
    """List the locks that somebody holds now.

    Parameters
    ----------
    records:
        The bucket.

    Returns
    -------
    list of Holding
        Expired ones are left out.
    """
    found = [records.find(key) for key in records.keys(records.key("locks") + "/")]
    return [
        holding
        for each in found
        if each is not None and each.at < (holding := records.parsed(each.key, each.body, Holding)).until
    ]


def _clock(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")


def _command() -> str:
    return shlex.join(["kiln", *sys.argv[1:]])[:200]


def _machine() -> str:
    """Name this machine in this boot, and its space of process numbers: a container has one of its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _process(pid: int) -> str:
    """A process's number and start; empty where it is gone, or where this system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # proc(5): state is field 3, the start field 22. A zombie holds nothing.
    return "" if fields[0] in "ZX" else f"{pid} {fields[19]}"
