"""boot.baked_over_install: the baked container, start to /info/ 200 ÷ a plain one that installs it all first.

``python -m tests.benchmarks.baked_over_install``. The plain one is the base root with a kernel, which every
instance has, in a container with systemd; it runs workshop_userdata.sh with the image's own lock, nothing is
cached for it, and its server listens on 127.0.0.1. The baked one is the latest proven root as the proof runs
it; of its starts the median counts.
"""

from __future__ import annotations

import contextlib
import http.client
import statistics
import sys
import time
from pathlib import Path

from kiln import config, errors, figures, paths
from kiln.errors import KilnError
from kiln.progress import Progress
from scripts import archive, base, images, inputs, native, port, versions, workspace
from tests.benchmarks import machine

IMAGE = "monai-label"
COMMAND = "make bench (tests/benchmarks/baked_over_install.py)"
LOCK = "requirements/monai-label.lock"
SCRIPT = Path(__file__).with_name("workshop_userdata.sh")
INSIDE = "/run/kiln-userdata"
KERNEL = "linux-image-cloud-amd64"
ROUNDS = 3
READY_SECONDS = 900.0


def volumes(lock: Path) -> tuple[str, ...]:
    """Bind mounts by which a machine sees the script and a lock."""
    return (f"{SCRIPT}:{INSIDE}/userdata.sh:ro", f"{lock}:{INSIDE}/lock:ro")


def status(port: int) -> int | None:
    """What /info/ answers with on a port of 127.0.0.1, None where nobody answers."""
    # http.client and not requests: a proxy of the environment has no business here.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/info/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def wait(port: int, seconds: float = READY_SECONDS) -> None:
    """Wait for a 200 of /info/.

    Raises
    ------
    KilnError
        It did not come within so many seconds.
    """
    end = time.monotonic() + seconds
    while status(port) != 200:
        if time.monotonic() > end:
            raise KilnError(f"/info/ did not answer 200 within {seconds:.0f} s", f"correct {SCRIPT.name}")
        time.sleep(0.25)


def install(root: Path, work: Path, log: Path, progress: Progress) -> float:
    """Seconds from the start of a container on the plain base to a 200 of the server that it installs."""
    with (
        progress.stage("kernel"),
        archive.hold(progress.detail),
        machine.start(root, work, archive.folder(), log) as one,
    ):
        one.run("apt-get", "-qq", "-y", "--no-install-recommends", "install", KERNEL, INITRD="No")
    nothing, listens = machine.fresh(work / "apt"), port.free()
    given = {"LOCK": f"{INSIDE}/lock", "PORT": str(listens)}
    with progress.stage("install"):
        begin = time.monotonic()
        with machine.start(root, work, nothing, log, volumes(paths.ROOT / LOCK)) as one:
            one.run(f"{INSIDE}/userdata.sh", **given)
            wait(listens)
            return time.monotonic() - begin


def baked(root: Path, work: Path) -> float:
    """Seconds from the start of a container on the sealed root to the server's own word that it is ready."""
    share = work / "share"
    share.mkdir(exist_ok=True)
    begin = time.monotonic()
    with native.start(root, work.name, share) as container:
        native.wait_ready(container)
        took = time.monotonic() - begin
        # The word is held against the answer.
        ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/info/', timeout=60).status)"
        if (said := container.run("/usr/bin/python3", "-c", ask).strip()) != "200":
            raise KilnError(f"the ready server answers /info/ with {said}", "run: kiln prove")
        return took


def main() -> None:
    """Measure both, write the figure."""
    place = images.resolve(IMAGE)
    root = place / "root"
    installed = root / "opt/monai-label/venv/installed.lock"
    if installed.read_text() != (paths.ROOT / LOCK).read_text() or versions.read(place).facts.driver is None:
        raise KilnError(f"{place.name} has another lock or no driver: two different things", "bake again")
    folder = paths.build_dir() / "bench"
    with contextlib.ExitStack() as held:
        held.enter_context(workspace.claim(folder))
        workspace.sweep(folder)
        progress = held.enter_context(Progress("boot.baked_over_install"))
        work = held.enter_context(workspace.workspace(folder))
        resolved = inputs.resolve(IMAGE, config.load().select(IMAGE), work / "inputs.log")
        plain, log = work / "plain", folder / "baked_over_install.log"
        log.unlink(missing_ok=True)
        base.unpack(resolved.lock, resolved.inputs.tools, plain, work / "base.log", progress.detail)
        theirs = install(plain, work, log, progress)
        with progress.stage("baked"):
            taken = [baked(root, work) for _ in range(ROUNDS)]
        ours = statistics.median(taken)
        progress.say(f"baked {ours:.1f} s {taken}, install {theirs:.0f} s, ratio {ours / theirs:.4f}")
        figures.write("boot.baked_over_install", round(ours / theirs, 4), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
