"""A container with systemd on a root folder, with what this machine lends a bake: stands for an instance."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError
from scripts import engine, mirrors, proc

SECONDS = 3600.0
"""How long one command may take: installing it all takes ten minutes on an idle machine."""

BOOT_SECONDS = 120.0

NO_SERVICES = "usr/sbin/policy-rc.d"


@dataclass(frozen=True)
class Machine:
    """A running one.

    Parameters
    ----------
    engine:
        What runs it.
    name:
        Of its container.
    environment:
        File with the variables of every command: commands are logged, and a proxy's address may be secret.
    log:
        Where the commands' output goes.
    """

    engine: engine.Engine
    name: str
    environment: Path
    log: Path

    def run(self, *command: str, **extra: str) -> None:
        """Run a command, with more variables where they are given.

        Raises
        ------
        KilnError
            It ended with a code other than 0, or took too long.
        """
        options = [f"--env-file={self.environment}", *(f"--env={k}={v}" for k, v in extra.items())]
        argv = self.engine.command("exec", *options, self.name, *command)
        env = self.engine.environment()
        proc.run(argv, self.log, what=" ".join(command)[:80], timeout=SECONDS, env=env)


@contextlib.contextmanager
def start(root: Path, work: Path, apt: Path, log: Path, volumes: tuple[str, ...] = ()) -> Iterator[Machine]:
    """Start a root as a container on this machine's network, in which packages start no service.

    A service that listens would do so on the network of this machine.

    Parameters
    ----------
    root:
        The root folder, which keeps what is done in it.
    work:
        The run's work folder, whose name labels the container.
    apt:
        Folder for apt's lists and downloads: a bake's (``archive.folder()``), or a :func:`fresh` one.
    log:
        Where the commands' output goes.
    volumes:
        More bind mounts.
    """
    found = engine.find(root)
    loan = mirrors.lend(work, apt)
    policy = work / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    lent = work / "environment"
    lent.write_text("".join(f"{name}={value}\n" for name, value in loan.environment.items()))
    mounts = [*loan.volumes, f"{policy}:/{NO_SERVICES}", *volumes]
    name = f"kiln-machine-{work.name}"
    label = f"{engine.LABEL}={work.name}"
    options = ["--detach", "--name", name, "--hostname", "localhost", "--label", label]
    options += [part for mount in mounts for part in ("--volume", mount)]
    done = found.call("run", *found.arguments(root, *options))
    if done.returncode != 0:
        raise KilnError(f"the root does not start: {done.stderr.strip()[-200:]}", f"try: {found.name} info")
    try:
        _wait_booted(found, name)
        yield Machine(found, name, lent, log)
    finally:
        found.call(*found.REMOVE, name)
        # The engine leaves the point at which it mounted.
        (root / NO_SERVICES).unlink(missing_ok=True)


def _wait_booted(found: engine.Engine, name: str) -> None:
    """User data runs at the end of a boot; before that even /tmp is not there."""
    end = time.monotonic() + BOOT_SECONDS
    state = ""
    while state not in ("running", "degraded"):
        if time.monotonic() > end:
            raise KilnError(f"systemd in a container is {state or 'silent'}", f"try: {found.name} info")
        time.sleep(0.25)
        state = found.call("exec", name, "systemctl", "is-system-running").stdout.strip()


def fresh(at: Path) -> Path:
    """Make a folder for apt with the sources of a bake and nothing fetched.

    Parameters
    ----------
    at:
        The folder, which is made.
    """
    at.mkdir()
    lines = mirrors.source_lines(mirrors.apt_sources(), mirrors.COMPONENTS)
    (at / "sources.list").write_text("\n".join(lines) + "\n")
    return at
