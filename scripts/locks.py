"""``make locks``: every lock of requirements/ anew from its .in file, with hashes, by uv.

What is locked stays at its version as long as the .in file allows it; ``--upgrade`` takes the newest.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from kiln import paths

REVIEW = re.compile(r"^# .*Review by (\d{4}-\d\d-\d\d)\n([\w.-]+)", re.MULTILINE)


@dataclass(frozen=True)
class Lock:
    """A lock and how it is made.

    Parameters
    ----------
    name:
        ``requirements/<name>.lock``.
    options:
        Of ``uv pip compile``.
    source:
        ``requirements/<source>.in``; the lock's own name where it is empty.
    note:
        What the lock's header says of it besides the command that makes it.
    """

    name: str
    options: list[str] = field(default_factory=list)
    source: str = ""
    note: str = ""


LEFT_OUT = "requirements/monai-label.left-out.txt"
"""Overrides that leave distributions out of the image's lock, each with the day of its review."""

LOCKS: tuple[Lock, ...] = (
    Lock("uv"),
    Lock("kiln"),
    # What the tests run with is what kiln runs with: the same versions of everything in both.
    Lock("dev", ["--constraints", "requirements/kiln.lock"]),
    Lock("client", ["--no-deps"]),
    Lock(
        "monai-label-plain",
        ["--overrides", "requirements/monai-label.overrides.txt"],
        source="monai-label",
        note="what monai-label.lock would be untrimmed: for tests and benchmarks, in no image",
    ),
    # Constrained by the plain one, so that both differ in what is left out and in nothing else.
    Lock(
        "monai-label",
        [
            *("--overrides", "requirements/monai-label.overrides.txt", "--overrides", LEFT_OUT),
            *("--constraints", "requirements/monai-label-plain.lock"),
        ],
    ),
)
"""In this order: a later one may be bound by an earlier one."""


def command(lock: Lock, upgrade: bool = False) -> list[str]:
    """Return the command line that makes a lock.

    Parameters
    ----------
    lock:
        A row of the table.
    upgrade:
        Take the newest versions instead of keeping those that are locked.
    """
    return [
        str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--generate-hashes",
        "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36",
        *(["--upgrade"] if upgrade else []), *lock.options,
        f"requirements/{lock.source or lock.name}.in", "--output-file", f"requirements/{lock.name}.lock",
    ]  # fmt: skip


def header(lock: Lock) -> str:
    """Return what the header of a lock names as the command that makes it."""
    return f"make locks  # {lock.note}" if lock.note else "make locks"


def overdue(text: str, today: date) -> list[str]:
    """Return the distributions of a file of overrides whose review is overdue.

    Parameters
    ----------
    text:
        The file; before each override stands a comment that ends in ``Review by`` and an ISO date.
    today:
        The day.
    """
    return [name for day, name in REVIEW.findall(text) if date.fromisoformat(day) < today]


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.locks", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these locks")
    options = parser.parse_args()
    if unknown := set(options.names) - {lock.name for lock in LOCKS}:
        parser.error(f"no lock is called {', '.join(sorted(unknown))}")
    for name in overdue((paths.ROOT / LEFT_OUT).read_text(encoding="utf-8"), datetime.now(UTC).date()):
        print(f"{LEFT_OUT}: the review of {name} is overdue: does it still stay out, and why?")
    for lock in LOCKS:
        if not options.names or lock.name in options.names:
            print(f"requirements/{lock.name}.lock", flush=True)
            # The header names what a reader can run.
            environment = {**os.environ, "UV_CUSTOM_COMPILE_COMMAND": header(lock)}
            done = subprocess.run(command(lock, options.upgrade), cwd=paths.ROOT, env=environment)
            if done.returncode:
                print(
                    f"error: requirements/{lock.source or lock.name}.in cannot be resolved", file=sys.stderr
                )
                print("  fix: see above; the lock is as it was", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
