"""Blocks of a disk to a snapshot: side by side, each with its checksum, none twice that AWS has taken."""

from __future__ import annotations

import base64
import hashlib
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from botocore.exceptions import ClientError
from rich.filesize import decimal

from kiln.progress import clock
from launch.cloud import Cloud
from launch.disk import BLOCK, ZERO, Disk, Reader
from launch.journal import Journal
from launch.plan import Request, Say, requests
from launch.trouble import code

WORKERS = 32
"""Puts at a time. AWS takes 1,000 a second to a snapshot (Service Quotas, "PutSnapshotBlock requests per
snapshot"), each in some 30 ms: more workers would only be throttled."""

_AGAIN = 8
"""How often a put is tried again after botocore gave it up as throttled: a long upload meets others."""

_EVERY = 0.5 if sys.stderr.isatty() else 10.0
"""Seconds between two words about the progress."""


def putting(region: str) -> tuple[Request, ...]:
    """Return the requests that an upload sends."""
    return requests("ebs", region, "PutSnapshotBlock")


def send(cloud: Cloud, region: str, disk: Disk, journal: Journal, snapshot: str, say: Say) -> None:
    """Put each block of a disk that is not all zeros, if the journal does not say that AWS has taken it.

    Parameters
    ----------
    cloud, region:
        Where to.
    disk:
        Served for reading.
    journal:
        Of this snapshot; knows all blocks in the end.
    snapshot:
        Id of the snapshot, pending.
    say:
        Is told bytes, rate and what remains.

    Raises
    ------
    ClientError
        AWS did not take a block.
    KilnError
        The disk cannot be read.
    """
    flags = disk.candidates()
    meter = _Meter(flags.count(1), say)
    todo = _todo(flags, journal, meter)
    lock = threading.Lock()
    stop = threading.Event()

    def next_block() -> int | None:
        with lock:
            return None if stop.is_set() else next(todo, None)

    def work() -> None:
        try:
            with disk.connect() as reader, cloud.permit(putting(region)):
                while (index := next_block()) is not None:
                    sent = _put(cloud, region, reader, journal, snapshot, index)
                    meter.add(BLOCK if sent else 0)
        except BaseException:
            stop.set()
            raise

    count = min(WORKERS, max(1, meter.whole))
    with ThreadPoolExecutor(max_workers=count) as pool:
        futures = [pool.submit(work) for _ in range(count)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Ctrl-C: each worker ends the put that it is at.
            stop.set()
    for future in futures:
        future.result()
    meter.done()


def _todo(flags: bytearray, journal: Journal, meter: _Meter) -> Iterator[int]:
    for index in itertools.compress(itertools.count(), flags):
        if index in journal:
            meter.skip()
        else:
            yield index


def _put(cloud: Cloud, region: str, reader: Reader, journal: Journal, snapshot: str, index: int) -> bool:
    """Put one block; False where it is all zeros after all."""
    data = reader.block(index)
    if data == ZERO:
        return False
    digest = hashlib.sha256(data).digest()
    client = cloud.client("ebs", region)
    for attempt in itertools.count(1):
        try:
            client.put_snapshot_block(
                SnapshotId=snapshot,
                BlockIndex=index,
                BlockData=data,
                DataLength=BLOCK,
                Checksum=base64.b64encode(digest).decode(),
                ChecksumAlgorithm="SHA256",
            )
            break
        except ClientError as error:
            if code(error) != "RequestThrottledException" or attempt == _AGAIN:
                raise
            cloud.wait(2**attempt / 4)
    journal.add(index, digest)
    return True


def linear(journal: Journal) -> str:
    """Return the checksum over all blocks, as CompleteSnapshot takes it.

    Parameters
    ----------
    journal:
        Of a finished upload.

    Returns
    -------
    str
        Base64 of the sha256 over the blocks' sha256 in their order (EBS direct API, CompleteSnapshot,
        ``ChecksumAggregationMethod`` LINEAR).
    """
    whole = hashlib.sha256()
    for digest in journal.digests():
        whole.update(digest)
    return base64.b64encode(whole.digest()).decode()


class _Meter:
    """Tells how far an upload is."""

    def __init__(self, whole: int, say: Say) -> None:
        self.whole = whole
        self._say = say
        self._lock = threading.Lock()
        self._start = self._told = time.monotonic()
        self._looked = self._skipped = self._sent = 0

    def skip(self) -> None:
        with self._lock:
            self._looked += 1
            self._skipped += 1

    def add(self, sent: int) -> None:
        with self._lock:
            self._looked += 1
            self._sent += sent
            now = time.monotonic()
            if now - self._told < _EVERY:
                return
            self._told = now
            text = self._text(now)
        self._say(text)

    def _text(self, now: float) -> str:
        seconds = max(now - self._start, 1e-3)
        fresh = max(self._looked - self._skipped, 1)
        left = (self.whole - self._looked) * seconds / fresh
        return (
            f"{decimal(self._looked * BLOCK)} of {decimal(self.whole * BLOCK)},"
            f" {decimal(int(self._sent / seconds))}/s, {clock(left)} left"
        )

    def done(self) -> None:
        seconds = max(time.monotonic() - self._start, 1e-3)
        before = f", {decimal(self._skipped * BLOCK)} were there" if self._skipped else ""
        self._say(f"sent {decimal(self._sent)} at {decimal(int(self._sent / seconds))}/s{before}")
