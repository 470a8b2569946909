"""The image's root run in a container on this machine: the reference for what the booted guest answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kiln.errors import KilnError
from scripts import annotate, engine

VENV_PYTHON = "/opt/monai-label/venv/bin/python"
UNIT = "monai-label.service"
INSIDE = "/run/kiln-native"
START_SECONDS = 300.0


@dataclass(frozen=True)
class Container:
    """A running container of the root.

    Parameters
    ----------
    engine:
        What runs it.
    name:
        Its name.
    """

    engine: engine.Engine
    name: str

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a command in the container and return its output.

        Raises
        ------
        KilnError
            It ended with a code other than 0.
        """
        done = self.engine.call("exec", self.name, *command, timeout=timeout)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise KilnError(
                f"in the container: {' '.join(command)[:80]} failed: {said[-1] if said else done.returncode}",
                "boot the image by kiln boot and look at the journal",
            )
        return done.stdout


@contextmanager
def start(root: Path, run_id: str, share: Path) -> Iterator[Container]:
    """Start the root as a container with systemd, cut off from every network, through a copy-on-write layer.

    Parameters
    ----------
    root:
        The root, which stays as it is.
    run_id:
        Of the work folder, whose clean-up removes the container.
    share:
        A folder that the container sees at ``INSIDE``.
    """
    found = engine.find(root)
    name = f"kiln-native-{run_id}"
    options = ["--detach", "--hostname=native", "--name", name, "--label", f"{engine.LABEL}={run_id}",
               "--volume", f"{share}:{INSIDE}"]  # fmt: skip
    done = found.call("run", *found.arguments(root, *options, layer=True, network="none"))
    if done.returncode != 0:
        raise KilnError(
            f"the root does not start as a container: {done.stderr.strip()[-200:]}",
            f"try: {found.name} info",
        )
    try:
        yield Container(found, name)
    finally:
        found.call(*found.REMOVE, name)


def wait_ready(container: Container, deadline: float = START_SECONDS) -> None:
    """Wait until the server's unit is active, which it is once the server answers.

    Raises
    ------
    KilnError
        It failed, or took longer than the deadline in seconds.
    """
    end = time.monotonic() + deadline
    state = ""
    while time.monotonic() < end:
        state = container.engine.call("exec", container.name, "systemctl", "is-active", UNIT).stdout.strip()
        if state in ("active", "failed"):
            break
        time.sleep(0.5)
    if state != "active":
        journal = container.engine.call(
            "exec", container.name, "journalctl", "-u", UNIT, "-n", "5", "-o", "cat"
        ).stdout
        raise KilnError(
            f"{UNIT} in a container is {state or 'unknown'}: {' | '.join(journal.split(chr(10)))[-300:]}",
            "boot the image by kiln boot and look at the journal",
        )


def reference(root: Path, run_id: str, folder: Path) -> None:
    """Annotate natively: the same client program, beside the server.

    Parameters
    ----------
    root:
        The sealed root.
    run_id:
        Of the work folder.
    folder:
        Where ``answers.json`` and the labels are left.

    Raises
    ------
    KilnError
        The server does not start, or a call fails.
    """
    folder.mkdir(parents=True)
    (folder / "annotate.py").write_bytes(Path(annotate.__file__).read_bytes())
    with start(root, run_id, folder) as container:
        wait_ready(container)
        container.run(VENV_PYTHON, f"{INSIDE}/annotate.py", "http://127.0.0.1:8000", INSIDE)
