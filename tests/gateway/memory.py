"""What processes hold of this machine's memory together, each page once, however many of them map it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) (\S+) (\d+) *(.*)")


def resident(pids: list[int]) -> int:
    """KiB that some processes have in memory.

    Pages of files are counted once where several map them, by the largest part that one of them has of each
    mapping, whoever else on the machine has them too. Pages of nobody's file count by their share among the
    processes that have them: a worker shares some with its master.

    Parameters
    ----------
    pids:
        Of the processes. One that ends meanwhile counts for nothing.
    """
    files: dict[tuple[str, ...], int] = {}
    own = 0.0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for mapping, said in _mappings(text):
            anonymous = said["Anonymous"]
            file = said["Rss"] - anonymous
            if file:
                files[mapping] = max(files.get(mapping, 0), file)
            # Shared after a fork: by Pss, of which the file's part is unknown and at most the file's pages.
            own += min(anonymous, said["Pss"]) if anonymous else 0
    return round(own) + sum(files.values())


def _mappings(text: str) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
    """Each mapping of a process: what is mapped, and its counters in KiB."""
    mapping: tuple[str, ...] = ()
    said: dict[str, int] = {}
    for line in text.splitlines():
        if found := _MAPPING.fullmatch(line):
            if said:
                yield mapping, said
            mapping, said = found.groups(), {}
        elif line.endswith(" kB"):
            name, value, _ = line.split()
            said[name.rstrip(":")] = int(value)
    if said:
        yield mapping, said


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        below = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return [pid]
    return [pid, *(each for child in below for each in family(child))]


@contextmanager
def watched(pids: list[int], pause: float = 0.05) -> Iterator[Callable[[], tuple[int, int]]]:
    """Look again and again at some processes and all that descend from them.

    Parameters
    ----------
    pids:
        Of the processes.
    pause:
        Seconds between two looks.

    Yields
    ------
    callable
        Returns the least and the most KiB that were seen.
    """
    seen: list[int] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append(resident([each for pid in pids for each in family(pid)]))
            time.sleep(pause)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: (min(seen), max(seen))
    finally:
        stop.set()
        thread.join()
