"""The tiny image baked by Docker, beside the same by podman: equal roots, and nothing left by a kill −9.

``python -m tests.benchmarks.bake_by_docker``, where a daemon of Docker answers; elsewhere it says that it did
not run. Measures nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kiln import errors
from kiln.errors import KilnError
from scripts import engine, native, tree
from tests.accidents.bakery import IMAGE, NOTHING, Bakery

RELEASE = "etc/image-release"
"""The one file that names the bake, and so differs between two of the same inputs."""

BOOT_SECONDS = 60.0


def daemon() -> engine.Engine | None:
    """Docker where its daemon answers."""
    return next((found for found in engine.answering() if isinstance(found, engine.Docker)), None)


def baked(bakery: Bakery) -> Path:
    """Root of a bake that was proven.

    Raises
    ------
    KilnError
        The bake failed, or left something behind.
    """
    name = bakery.env[engine.CHOICE]
    done = bakery.kiln("bake", IMAGE)
    print(done.stderr, end="", flush=True)
    if done.returncode:
        raise KilnError(f"the bake by {name} ended with {done.returncode}", "see above")
    if (left := bakery.left()) != NOTHING:
        raise KilnError(f"the bake by {name} left {left}", "correct scripts/engine.py")
    return (bakery.folder / "latest").resolve() / "root"


def kill_in_packer(bakery: Bakery, docker: engine.Engine) -> None:
    """Kill a bake by Docker without warning while its container is up; the next bake clears it.

    Raises
    ------
    KilnError
        It was not killed, or had no container by then.
    """
    done = bakery.interrupt("packer", signal.SIGKILL, after=4.0)
    bakery.remember()
    if done.returncode != -signal.SIGKILL or not (bakery.runs and docker.containers(*bakery.runs)):
        raise KilnError("no bake by Docker was killed with its container up", "run it once more")
    print("killed −9 in packer", flush=True)


def equal(ours: Path, theirs: Path) -> None:
    """Refuse two roots that differ in more than the version that they name.

    Raises
    ------
    KilnError
        They do.
    """
    differ = set.symmetric_difference(*(set((r / RELEASE).read_text().splitlines()) for r in (ours, theirs)))
    if strange := sorted(line for line in differ if not line.startswith("VERSION=")):
        raise KilnError(f"{RELEASE} differs: {', '.join(strange)}", "commit nothing while this runs")
    for root in (ours, theirs):
        (root / RELEASE).unlink()
    digests = [tree.digest(root)[0] for root in (ours, theirs)]
    if digests[0] != digests[1]:
        compare: list[str | Path] = ["diff", "--recursive", "--brief", "--no-dereference", ours, theirs]
        said = subprocess.run(compare, capture_output=True, text=True).stdout.splitlines()
        files = [line for line in said if "special file" not in line] or [
            "modes, owners, attributes or links"
        ]
        raise KilnError(f"the roots differ: {'; '.join(files[:6])}", "correct scripts/engine.py")
    print(f"equal roots but for the version in {RELEASE}: {digests[0][:8]}", flush=True)


def layered(docker: engine.Engine, root: Path, place: Path) -> None:
    """Run the root with systemd in a copy-on-write layer, as the proof of an image with a server does.

    Raises
    ------
    KilnError
        It does not boot, or what is written there reaches the root.
    """
    before = tree.digest(root)
    place.mkdir()
    with native.start(root, f"bench-{os.getpid()}", place) as container:
        end, state = time.monotonic() + BOOT_SECONDS, ""
        while state not in ("running", "degraded"):
            if time.monotonic() > end:
                raise KilnError(
                    f"systemd in a container of Docker is {state or 'silent'}", "try: docker logs"
                )
            time.sleep(0.2)
            state = docker.call("exec", container.name, "systemctl", "is-system-running").stdout.strip()
        container.run("sh", "-c", f"touch /etc/mine {native.INSIDE}/mine")
    if not (place / "mine").exists() or tree.digest(root) != before:
        raise KilnError(
            "what a container writes into its layer reached the root", "correct scripts/engine.py"
        )
    print("native: the root stays as it was under a container that writes", flush=True)


def main() -> None:
    """Kill, bake twice, compare."""
    docker = daemon()
    if docker is None:
        print("did not run: no daemon of Docker answers on this machine", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        by = {n: Bakery(Path(folder) / n, {engine.CHOICE: n}) for n in (docker.name, engine.Podman.name)}
        kill_in_packer(by[docker.name], docker)
        roots = {name: baked(bakery) for name, bakery in by.items()}
        equal(*roots.values())
        os.environ[engine.CHOICE] = docker.name
        layered(docker, roots[docker.name], Path(folder) / "share")
    if left := docker.containers():
        raise KilnError(f"containers left behind: {left}", "correct scripts/engine.py")


if __name__ == "__main__":
    sys.exit(errors.main(main))
