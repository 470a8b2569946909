"""The container engine that runs the build: podman or Docker, found and made to work on this machine.

Both run a root folder as it lies, and nothing is copied in or out. podman has an option for that; Docker gets
a container whose first process changes to the folder (``docker_init.sh``).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from kiln import paths
from kiln.errors import KilnError, UsageError

LABEL = "kiln.run"

# A machine on cgroup v1, or one that may not raise limits, needs these (field notes: local-bake).
_CONSERVATIVE = '[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\n'

CHOICE = "KILN_ENGINE"
"""Variable that names the one engine to use; without it the first that runs a container is taken."""

INIT = ("/sbin/init",)

_COMMON = ("--cap-add=SYS_ADMIN",)
"""For systemd's sandboxed units."""

_ANSWER_SECONDS = 20.0

_REMOVALS = 5
"""How often the removal of a container is tried, a second apart."""

_INIT_SCRIPT = Path(__file__).with_name("docker_init.sh")
_ROOT_INSIDE, _LAYER_INSIDE = "/kiln-root", "/kiln-layer"


@dataclass(frozen=True)
class Engine(ABC):
    """A container engine.

    Parameters
    ----------
    program:
        Path of podman or docker.
    env:
        Variables that make it work on this machine.
    version:
        As it says itself.
    """

    program: str
    version: str
    env: dict[str, str] = field(default_factory=dict)

    name: ClassVar[str]
    REMOVE: ClassVar[tuple[str, ...]]
    """Command that ends and removes a container at once, with what it kept."""

    @classmethod
    @abstractmethod
    def settings(cls) -> Iterator[dict[str, str]]:
        """Yield the variables to try it with, the plainest first."""

    @classmethod
    @abstractmethod
    def ask_version(cls) -> tuple[str, ...]:
        """Return the command that succeeds where the engine answers, and ends with its version."""

    @abstractmethod
    def arguments(
        self,
        root: Path,
        *options: str | Path,
        layer: bool = False,
        network: str = "host",
        inner: tuple[str, ...] = INIT,
    ) -> list[str]:
        """Return what follows ``run``: a container on a root folder, in which systemd can be process 1.

        Parameters
        ----------
        root:
            The folder.
        options:
            Further options of ``run``.
        layer:
            Whether the container writes into a copy-on-write layer, and the folder stays as it is.
        network:
            ``host`` or ``none``.
        inner:
            The container's command.

        Raises
        ------
        KilnError
            The engine refuses what has to be there first.
        """

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

    def containers(self, run_id: str = "") -> list[str]:
        """Return the ids of a run's containers, running or not; by default those of every run.

        Parameters
        ----------
        run_id:
            Name of its work folder.

        Raises
        ------
        KilnError
            The engine cannot say; that is not the same as none.
        """
        label = f"{LABEL}={run_id}" if run_id else LABEL
        done = self.call("ps", "--all", "--quiet", "--filter", f"label={label}")
        if done.returncode != 0:
            raise KilnError(
                f"{self.name} cannot list containers: {_last_line(done)}", f"try: {self.name} ps --all"
            )
        return done.stdout.split()


class Podman(Engine):
    """podman, which takes a folder as the root of a container."""

    name = "podman"
    REMOVE = ("rm", "--force", "--time", "0")

    @classmethod
    def settings(cls) -> Iterator[dict[str, str]]:
        """Yield none, and then what a machine on cgroup v1 needs."""
        yield {}
        yield {"CONTAINERS_CONF": str(_conservative_config())}

    @classmethod
    def ask_version(cls) -> tuple[str, ...]:
        """Return a question that needs no daemon."""
        return ("--version",)

    def arguments(
        self,
        root: Path,
        *options: str | Path,
        layer: bool = False,
        network: str = "host",
        inner: tuple[str, ...] = INIT,
    ) -> list[str]:
        """Return the arguments of ``run``, as of :class:`Engine`."""
        return [
            "--systemd=always", *_COMMON, f"--network={network}", *(str(option) for option in options),
            "--rootfs", f"{root}:O" if layer else str(root), *inner,
        ]  # fmt: skip


class Docker(Engine):
    """Docker, whose container changes its root to the folder before systemd starts."""

    name = "docker"
    REMOVE = ("rm", "--force", "--volumes")

    # Without these, where the daemon's settings say so: AppArmor refuses the mounts, a remapped root owns no
    # file of the folder, an init of Docker's is process 1 in systemd's place. Without the filter of system
    # calls, since docker_init.sh was never run under it.
    _OPTIONS = (
        "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--userns=host",
        "--init=false", "--cgroupns=private",
        "--env=container=docker", "--tmpfs=/run:exec,mode=755", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec",
        "--tmpfs=/var/log/journal:mode=755",
    )  # fmt: skip

    @classmethod
    def settings(cls) -> Iterator[dict[str, str]]:
        """Yield none: a daemon has its settings of its own."""
        yield {}

    @classmethod
    def ask_version(cls) -> tuple[str, ...]:
        """Return a question to the daemon: a client alone runs nothing."""
        return ("version", "--format", "{{.Server.Version}}")

    def arguments(
        self,
        root: Path,
        *options: str | Path,
        layer: bool = False,
        network: str = "host",
        inner: tuple[str, ...] = INIT,
    ) -> list[str]:
        """Return the arguments of ``run``, as of :class:`Engine`."""
        # --volume would make a folder that is not there, for one on the machine of a remote daemon.
        mount = f"--mount=type=bind,source={root},target={_ROOT_INSIDE}"
        place = [f"{mount},readonly", f"--volume={_LAYER_INSIDE}"] if layer else [mount]
        return [
            *_COMMON, *self._OPTIONS, f"--network={network}", *place,
            *(str(option) for option in options), self._image(), *inner,
        ]  # fmt: skip

    def _image(self) -> str:
        """Return the image of every container, made where the daemon has none: a script, and no program."""
        packed = _docker_image()
        name = f"kiln-root:{hashlib.sha256(packed).hexdigest()[:12]}"
        if self.call("image", "inspect", name).returncode == 0:
            return name
        tar = paths.cache_dir() / f"{name.replace(':', '-')}.{os.getpid()}.tar"
        tar.parent.mkdir(parents=True, exist_ok=True)
        tar.write_bytes(packed)
        try:
            done = self.call("import", "--change", f'ENTRYPOINT ["/{_INIT_SCRIPT.name}"]', tar, name)
        finally:
            tar.unlink()
        if done.returncode != 0:
            raise KilnError(f"docker cannot import an image: {_last_line(done)}", "try: docker info")
        return name


ENGINES: tuple[type[Engine], ...] = (Podman, Docker)
"""In the order in which they are tried."""


def _docker_image() -> bytes:
    """Pack the first process and links to the libraries of the root folder, the same each time."""
    files = {
        _INIT_SCRIPT.name: (_INIT_SCRIPT.read_bytes(), 0o755),
        # For the daemon, which looks up the user of docker exec in the image.
        "etc/passwd": (b"root:x:0:0:root:/root:/bin/sh\n", 0o644),
        "etc/group": (b"root:x:0:\n", 0o644),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for name in ("lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"{_ROOT_INSIDE[1:]}/{name}"
            tar.addfile(link)
    return packed.getvalue()


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
            f"try: {Path(command[0]).name} info; then try again",
        ) from None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return what an engine said last, but for Docker's advice where to read more."""
    lines = [line.strip() for line in done.stderr.splitlines()]
    said = [line for line in lines if line and not line.startswith(("See '", "Run '"))]
    return (said or [f"exit code {done.returncode}"])[-1]


def _chosen() -> tuple[type[Engine], ...]:
    """Return the engines to try, in order."""
    name = os.environ.get(CHOICE, "")
    chosen = tuple(kind for kind in ENGINES if name in ("", kind.name))
    if not chosen:
        known = " or ".join(kind.name for kind in ENGINES)
        raise UsageError(f"{CHOICE}={name} is no engine", f"set it to {known}, or unset it")
    return chosen


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
    UsageError
        ``KILN_ENGINE`` names none.
    """
    refused: dict[str, str] = {}
    for kind in _chosen():
        tried = _try(kind, root)
        if isinstance(tried, Engine):
            return tried
        refused[kind.name] = tried
    said = "; ".join(f"{name} {why}" for name, why in refused.items())
    if "podman" in refused and not shutil.which("podman"):
        hint = "run scripts/setup.sh, which installs podman, then try again"
    else:
        by_hand = " and ".join(f"{name} info" for name in refused)
        hint = f"try, as root: {by_hand}" + (f"; or unset {CHOICE}" if os.environ.get(CHOICE) else "")
    raise KilnError(f"no container engine: {said}", hint)


def _try(kind: type[Engine], root: Path) -> Engine | str:
    """Return the engine as it runs a container here, or why it does not."""
    program = shutil.which(kind.name)
    if program is None:
        return "is not installed"
    said = ""
    for env in kind.settings():
        engine = _reach(kind, program, env)
        if isinstance(engine, str):
            return f"does not answer: {engine}"
        done = engine.call("run", *engine.arguments(root, "--rm", layer=True, inner=("true",)))
        if done.returncode == 0:
            return engine
        said = _last_line(done)
    return f"cannot run a container: {said}"


def _reach(kind: type[Engine], program: str, env: dict[str, str]) -> Engine | str:
    """Return the engine that answers, or what it said instead."""
    answer = _ask([program, *kind.ask_version()], {**os.environ, **env}, _ANSWER_SECONDS)
    return kind(program, answer.stdout.split()[-1], env) if answer.returncode == 0 else _last_line(answer)


def answering() -> Iterator[Engine]:
    """Yield every engine of this machine that can have containers, whichever one was chosen."""
    for kind in ENGINES:
        *_, env = kind.settings()
        program = shutil.which(kind.name)
        # A client without its daemon has no containers.
        if program and isinstance(engine := _reach(kind, program, env), Engine):
            yield engine


def remove_containers(run_id: str) -> None:
    """Remove the containers of a run, if there are any; also those of a killed one.

    Parameters
    ----------
    run_id:
        Name of its work folder.

    Raises
    ------
    KilnError
        A container of the run is still there afterwards, or an engine cannot say.
    """
    for engine in answering():
        left = engine.containers(run_id)
        # Packer may be removing the same container, and who comes second is refused.
        for _ in range(_REMOVALS):
            for identity in left:
                engine.call(*engine.REMOVE, identity)
            if not left or not (left := engine.containers(run_id)):
                break
            time.sleep(1)
        if left:
            by_hand = " ".join(engine.command(*engine.REMOVE, left[0]))
            raise KilnError(f"container {left[0]} cannot be removed", f"run: {by_hand}")


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
