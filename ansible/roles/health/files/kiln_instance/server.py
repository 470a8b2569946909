"""The server's process, its work, and what nginx holds for it: read where a blocked server cannot keep it."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kiln_instance import wire

TASK = re.compile(
    r"\0-m\0(?:monailabel\.interfaces\.utils\.app|kiln_store\.tasks)\0(?:.*\0)?-m\0(train|batch_infer)\0",
    re.DOTALL,
)
"""Command line of a task, separated as the kernel does: as upstream's utils/async_tasks/utils.py starts it,
and as the shared store does. Scoring is none to wait for: upstream starts one after each label."""

STATES = {"T": "stopped", "t": "stopped", "Z": "zombie", "X": "dead"}
"""The kernel's letters of a process that does nothing any more. D waits for a device or for NFS, and goes
on."""


@dataclass(frozen=True)
class Process:
    """A process as the kernel shows it.

    Parameters
    ----------
    letter:
        Its state: R, S, D, T, Z.
    cpu:
        Seconds of processor time that it has used.
    """

    letter: str
    cpu: float

    @property
    def halted(self) -> str:
        """How it has come to a halt, empty where it has not."""
        return STATES.get(self.letter, "")


def process(pid: int, proc: Path = Path("/proc")) -> Process | None:
    """A process, None where there is none."""
    try:
        words = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return Process(words[0], (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK"))


def tasks(members: str, proc: Path = Path("/proc")) -> Counter[str]:
    """Tasks among the processes of the service's control group: ``train`` and ``batch_infer`` → how many.

    Parameters
    ----------
    members:
        The group's file of its processes; without it there is no task.
    proc:
        Where the kernel shows them.
    """
    try:
        pids = Path(members).read_text().split()
    except OSError:
        return Counter()
    found = {}
    for pid in pids:
        try:
            line = (proc / pid / "cmdline").read_bytes().decode(errors="replace")
            parent = (proc / pid / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if task := TASK.search("\0" + line):
            found[pid] = (parent, task[1])
    # Loaders of data that a training forks have its command line: they are not one more.
    return Counter(kind for parent, kind in found.values() if parent not in found)


def trainings(members: str, proc: Path = Path("/proc")) -> int:
    """Trainings among them."""
    return tasks(members, proc)["train"]


def waiting(address: str, path: str, seconds: float = 1.0) -> int | None:
    """Requests that nginx has taken and not yet answered, without ours; None where it does not say.

    Parameters
    ----------
    address:
        Socket of its stub_status.
    path:
        Where that is.
    seconds:
        For the answer.
    """
    try:
        status, body = wire.exchange(address, "GET", path, seconds=seconds)
    except (OSError, ValueError):
        return None
    found = re.search(rb"Reading: (\d+) Writing: (\d+) Waiting: \d+", body)
    return max(int(found[1]) + int(found[2]) - 1, 0) if status == 200 and found else None
