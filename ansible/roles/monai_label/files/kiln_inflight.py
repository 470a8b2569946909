"""Requests that the server is working on, in a table that others can read while it blocks its own loop.

An inference runs on the server's event loop: nobody gets an answer meanwhile, and from outside a busy
server looks like one that hangs. The table is a file in the service's runtime directory that the server
maps into its memory. A request is one word of 64 bits, its kind and when it began, so whoever reads sees it
whole or not at all. A server that is killed leaves the file as it is; a reader knows by process and start
time that nobody works on it any more.

It holds no address, no name of an image and nothing of a patient.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "inflight"
"""Name of the table in the runtime directory."""

ALIVE = "/.kiln/alive"
"""A GET of it is answered by the loop itself, before the application and without a place in the table."""

MAGIC = 0x314C464E494E4C4B
"""``KLNINFL1``: another layout gets another number."""

SLOTS = 504
"""Requests that have a place; with the header they fill a page. What comes on top is counted."""

WORDS = ("magic", "pid", "born", "ready", "begun", "labels", "busy_us", "busy_since_us")
"""The header, a word each: ``born`` is the process's start in the kernel's ticks, ``busy_us`` the time
during which there was work, ``busy_since_us`` when the present work began, 0 without any."""

CROWD = len(WORDS)
"""Word that counts the requests without a place."""

FIRST = CROWD + 1
SIZE = (FIRST + SLOTS) * 8

KINDS = ("other", "infer", "sample", "train", "label", "image")
RULES = (
    ("POST", "/infer", "infer"),
    ("POST", "/wsi", "infer"),
    ("POST", "/activelearning", "sample"),
    ("POST", "/train", "train"),
    ("PUT", "/datastore/label/info", "other"),
    ("PUT", "/datastore/label", "label"),
    ("PUT", "/datastore", "image"),
)
"""Method, beginning of the path, kind; the first that fits."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def now_us() -> int:
    """The kernel's monotonic clock in microseconds: the same in every process."""
    return time.monotonic_ns() // 1000


def kind_of(method: str, path: str) -> str:
    """Kind of a request."""
    return next((kind for verb, start, kind in RULES if verb == method and path.startswith(start)), "other")


def born(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process started, in the kernel's ticks since boot; 0 where there is none."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return 0
    # The second field may hold spaces and brackets of its own.
    return int(text.rpartition(")")[2].split()[19])


@dataclass(frozen=True)
class Request:
    """A request in flight.

    Parameters
    ----------
    kind:
        One of KINDS.
    seconds:
        How long it has been worked on.
    """

    kind: str
    seconds: float


@dataclass(frozen=True)
class Seen:
    """What the table said.

    Parameters
    ----------
    pid:
        The server's process.
    born:
        Its start, in ticks: with the pid it tells one process from the next.
    alive:
        Whether it still runs; if not, nothing is in flight.
    ready:
        Whether it has said that it can serve.
    requests:
        Those in flight, the oldest first. Those without a place are missing here.
    crowd:
        How many have no place.
    begun:
        Requests since the start.
    labels:
        Labels that were saved since the start.
    busy:
        Seconds since the start during which there was a request.
    """

    pid: int
    born: int
    alive: bool
    ready: bool
    requests: tuple[Request, ...]
    crowd: int
    begun: int
    labels: int
    busy: float

    @property
    def count(self) -> int:
        """Requests in flight."""
        return len(self.requests) + self.crowd


class Table:
    """The server's own side; one thread, that of the loop, writes.

    Parameters
    ----------
    folder:
        The runtime directory; whoever finds the file there finds it complete.
    """

    def __init__(self, folder: Path) -> None:
        half = folder / f"{FILE}.part"
        half.write_bytes(bytes(SIZE))
        half.chmod(0o644)
        with half.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self._words = memoryview(self._map).cast("Q")
        self._free = list(range(SIZE // 8 - 1, FIRST - 1, -1))
        self._count = 0
        pid = os.getpid()
        for name, value in (("pid", pid), ("born", born(pid)), ("magic", MAGIC)):
            self._words[WORDS.index(name)] = value
        half.replace(folder / FILE)

    def _add(self, name: str, by: int) -> None:
        self._words[WORDS.index(name)] += by

    def ready(self) -> None:
        """Say that the server can serve."""
        self._words[WORDS.index("ready")] = 1

    def label(self) -> None:
        """Count a label that was saved."""
        self._add("labels", 1)

    @contextmanager
    def request(self, kind: str) -> Iterator[None]:
        """Keep a request in the table for as long as it is worked on."""
        now = now_us()
        self._add("begun", 1)
        if not self._count:
            self._words[WORDS.index("busy_since_us")] = now
        self._count += 1
        place = self._free.pop() if self._free else CROWD
        if place == CROWD:
            self._words[CROWD] += 1
        else:
            self._words[place] = KINDS.index(kind) << 56 | now
        try:
            yield
        finally:
            if place == CROWD:
                self._words[CROWD] -= 1
            else:
                self._words[place] = 0
                self._free.append(place)
            self._count -= 1
            if not self._count:
                since = self._words[WORDS.index("busy_since_us")]
                self._words[WORDS.index("busy_since_us")] = 0
                self._add("busy_us", now_us() - since)


def read(path: Path, proc: Path = Path("/proc")) -> Seen | None:
    """Read a table.

    Parameters
    ----------
    path:
        The file.
    proc:
        Where the kernel shows its processes.

    Returns
    -------
    Seen or None
        None where there is no table: the server has not begun to start.
    """
    try:
        body = path.read_bytes()
    except OSError:
        return None
    if len(body) != SIZE:
        return None
    words = memoryview(body).cast("Q")
    head = dict(zip(WORDS, words, strict=False))
    if head["magic"] != MAGIC:
        return None
    now = now_us()
    alive = born(head["pid"], proc) == head["born"]
    found = [
        Request(
            KINDS[word >> 56] if word >> 56 < len(KINDS) else "other", (now - (word & (1 << 56) - 1)) / 1e6
        )
        for word in (words[FIRST:] if alive else ())
        if word
    ]
    since = head["busy_since_us"] if alive else 0
    return Seen(
        pid=head["pid"],
        born=head["born"],
        alive=alive,
        ready=bool(head["ready"]) and alive,
        requests=tuple(sorted(found, key=lambda each: -each.seconds)),
        crowd=words[CROWD] if alive else 0,
        begun=head["begun"],
        labels=head["labels"],
        busy=(head["busy_us"] + (now - since if since else 0)) / 1e6,
    )


def middleware(app: App, table: Table) -> App:
    """An ASGI application that keeps the table while another one works.

    Parameters
    ----------
    app:
        The application.
    table:
        Where its requests are kept.
    """

    async def tabled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if scope["path"] == ALIVE:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        kind = kind_of(scope["method"], scope["path"])

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] < 300:
                table.label()
            await send(message)

        with table.request(kind):
            await app(scope, receive, counted if kind == "label" else send)

    return tabled
