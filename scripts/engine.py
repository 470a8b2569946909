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
        """Run the engine and return what it said, whatever its exit code.

        Parameters
        ----------
        arguments:
            Its command line.
        timeout:
            Seconds to wait at most.

        Raises
        ------
        KilnError
            It took longer.
        """
        return _ask(self.command(*arguments), self.environment(), timeout)


def _conservative_config() -> Path:
    path = paths.cache_dir() / "containers.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != _CONSERVATIVE:
        path.write_text(_CONSERVATIVE)
    return path


def need_root(command: str) -> None:
    """Refuse to start what only root can finish: containers on a folder, layers, owners of files.

    Parameters
    ----------
    command:
        What was to be started.

    Raises
    ------
    UsageError
        We are not root.
    """
    if os.geteuid() != 0:
        raise UsageError(f"{command} needs root", f"run it with sudo: sudo {sys.argv[0]} …")


def _podman() -> str | None:
    return shutil.which("podman")


def _ask(command: list[str], env: dict[str, str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the engine; return what it said, whatever its exit code.

    Raises
    ------
    KilnError
        It took longer than the timeout, in seconds.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise KilnError(
            f"{' '.join(command[:2])} did not answer within {timeout:.0f} s",
            "try: podman info; then try again",
        ) from None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


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
        what = "no container engine: podman is not installed"
        raise KilnError(what, "run scripts/setup.sh, then try again")
    said = ""
    options = ["--rm", "--network=host", "--cap-add=SYS_ADMIN"]
    for env in ({}, {"CONTAINERS_CONF": str(_conservative_config())}):
        full = {**os.environ, **env}
        done = _ask([program, "run", *options, "--rootfs", f"{root}:O", "true"], full)
        if done.returncode == 0:
            version = _ask([program, "--version"], full).stdout
            return Engine(program, version.split()[-1], env)
        said = _last_line(done)
    raise KilnError(f"podman cannot run a container: {said}", "try: podman info; it must run as root")


def containers(run_id: str) -> list[str]:
    """Return the ids of a run's containers, running or not.

    Parameters
    ----------
    run_id:
        Name of its work folder.

    Raises
    ------
    KilnError
        The engine cannot say; that is not the same as none.
    """
    program = _podman()
    if program is None:
        return []
    env = {**os.environ, "CONTAINERS_CONF": str(_conservative_config())}
    done = _ask([program, "ps", "--all", "--quiet", "--filter", f"label={LABEL}={run_id}"], env)
    if done.returncode != 0:
        raise KilnError(f"podman cannot list containers: {_last_line(done)}", "try: podman ps --all")
    return done.stdout.split()


def remove_containers(run_id: str) -> None:
    """Remove the containers of a run, if there are any; also those of a killed one.

    Parameters
    ----------
    run_id:
        Name of its work folder.

    Raises
    ------
    KilnError
        A container of the run is still there afterwards.
    """
    env = {**os.environ, "CONTAINERS_CONF": str(_conservative_config())}
    for identity in containers(run_id):
        _ask([_podman() or "podman", "rm", "--force", "--time", "0", identity], env)
    if left := containers(run_id):
        raise KilnError(f"container {left[0]} cannot be removed", f"run: podman rm --force {left[0]}")


def shim(folder: Path, engine: Engine) -> Path:
    """Make a folder whose ``docker`` is our engine, for programs that call docker by name.

    Parameters
    ----------
    folder:
        The folder, to stand first on PATH: a stray docker client without a daemon may be there already.
    engine:
        What the name leads to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "docker"
    link.unlink(missing_ok=True)
    link.symlink_to(engine.program)
    return folder


def release(root: Path) -> None:
    """Remove the mount point that Packer's docker builder leaves in a root.

    Parameters
    ----------
    root:
        The root folder, after its container has gone. What the engine itself mounts over (hosts, hostname,
        resolv.conf), the role seal has cleaned beneath the mounts.
    """
    if (root / "packer-files").is_dir():
        (root / "packer-files").rmdir()
