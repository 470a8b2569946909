"""The container engine that runs the build: podman, found and made to work on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from kiln import paths
from kiln.errors import KilnError, UsageError

LABEL = "kiln.run"

# A machine on cgroup v1, or one that may not raise limits, needs these (field notes: local-bake).
_CONSERVATIVE = '[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\n'

RUN = ["--detach", "--systemd=always", "--cap-add=SYS_ADMIN", "--network=host"]
"""Options of every container of ours: real systemd, and SYS_ADMIN for its sandboxed units."""


@dataclass(frozen=True)
class Engine:
    """A container engine that was seen to run a container.

    Parameters
    ----------
    program:
        Path of podman.
    env:
        Variables that make it work on this machine.
    version:
        As it says itself.
    """

    program: str
    version: str
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return our environment with the engine's variables."""
        return {**os.environ, **self.env}

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command line of the engine."""
        return [self.program, *(str(a) for a in arguments)]

    def call(self, *arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the engine and return what it said, whatever its exit code."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, env=self.environment(), timeout=timeout
        )


def _conservative_config() -> Path:
    path = paths.cache_dir() / "containers.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != _CONSERVATIVE:
        path.write_text(_CONSERVATIVE)
    return path


def need_root(command: str) -> None:
    """Refuse to start what only root can finish: containers on a folder, layers, owners of files.

    Raises
    ------
    UsageError
        We are not root.
    """
    if os.geteuid() != 0:
        raise UsageError(f"{command} needs root", f"run it with sudo: sudo {sys.argv[0]} …")


def _podman() -> str | None:
    return shutil.which("podman")


def find(root: Path) -> Engine:
    """Return an engine that runs a container on the given root.

    Parameters
    ----------
    root:
        A root folder; the trial container sees it through a copy-on-write layer.

    Raises
    ------
    KilnError
        There is no engine, or none of the known settings makes it run.
    """
    program = _podman()
    if program is None:
        raise KilnError(
            "no container engine: podman is not installed", "run scripts/setup.sh, then try again"
        )
    said = ""
    for env in ({}, {"CONTAINERS_CONF": str(_conservative_config())}):
        full = {**os.environ, **env}
        trial = [
            program,
            "run",
            "--rm",
            "--network=host",
            "--cap-add=SYS_ADMIN",
            "--rootfs",
            f"{root}:O",
            "true",
        ]
        done = subprocess.run(trial, capture_output=True, text=True, env=full, timeout=120)
        if done.returncode == 0:
            version = subprocess.run([program, "--version"], capture_output=True, text=True, env=full).stdout
            return Engine(program, version.split()[-1], env)
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise KilnError(
        f"podman cannot run a container: {said}", "try: podman info; rootless podman is not supported"
    )


def remove_containers(run_id: str) -> None:
    """Remove the containers of a run, if there are any; also those of a killed one.

    Raises
    ------
    KilnError
        A container of the run is still there afterwards.
    """
    program = _podman()
    if program is None:
        return
    env = {**os.environ, "CONTAINERS_CONF": str(_conservative_config())}
    listing = [program, "ps", "--all", "--quiet", "--filter", f"label={LABEL}={run_id}"]
    for identity in subprocess.run(listing, capture_output=True, text=True, env=env).stdout.split():
        subprocess.run([program, "rm", "--force", "--time", "0", identity], capture_output=True, env=env)
    if left := subprocess.run(listing, capture_output=True, text=True, env=env).stdout.split():
        raise KilnError(f"container {left[0]} cannot be removed", f"run: podman rm --force {left[0]}")


def shim(folder: Path, engine: Engine) -> Path:
    """Make a folder whose ``docker`` is our engine, for programs that call docker by name.

    A stray docker client without a daemon may stand on PATH already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "docker"
    link.unlink(missing_ok=True)
    link.symlink_to(engine.program)
    return folder


def release(root: Path) -> None:
    """Undo what the engine left in a root that it ran: what it mounted its own files and folders on."""
    if (root / "packer-files").is_dir():
        (root / "packer-files").rmdir()
    for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    (root / "etc/hostname").write_text("localhost\n")
    if (root / "usr/lib/systemd/systemd-resolved").exists() or (
        root / "lib/systemd/systemd-resolved"
    ).exists():
        (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    else:
        (root / "etc/resolv.conf").write_text("")
