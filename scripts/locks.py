"""``make locks``: every lock of requirements/ anew from its .in file, with hashes, by uv.

What is locked stays at its version as long as the .in file allows it; ``--upgrade`` takes the newest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from kiln import paths


@dataclass(frozen=True)
class Lock:
    """A lock and how it is made.

    Parameters
    ----------
    name:
        ``requirements/<name>.in`` and ``.lock``.
    options:
        Of ``uv pip compile``.
    """

    name: str
    options: list[str] = field(default_factory=list)


LOCKS: tuple[Lock, ...] = (
    Lock("uv"),
    Lock("kiln"),
    # What the tests run with is what kiln runs with: the same versions of everything in both.
    Lock("dev", ["--constraints", "requirements/kiln.lock"]),
    Lock("client", ["--no-deps"]),
    Lock("monai-label", ["--overrides", "requirements/monai-label.overrides.txt"]),
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
        f"requirements/{lock.name}.in", "--output-file", f"requirements/{lock.name}.lock",
    ]  # fmt: skip


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.locks", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these locks")
    options = parser.parse_args()
    if unknown := set(options.names) - {lock.name for lock in LOCKS}:
        parser.error(f"no lock is called {', '.join(sorted(unknown))}")
    # The header names what a reader can run.
    environment = {**os.environ, "UV_CUSTOM_COMPILE_COMMAND": "make locks"}
    for lock in LOCKS:
        if not options.names or lock.name in options.names:
            print(f"requirements/{lock.name}.lock", flush=True)
            done = subprocess.run(command(lock, options.upgrade), cwd=paths.ROOT, env=environment)
            if done.returncode:
                print(f"error: requirements/{lock.name}.in cannot be resolved", file=sys.stderr)
                print("  fix: see above; the lock is as it was", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
