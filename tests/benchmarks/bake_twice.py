"""bake.unchanged_over_full: a second ``kiln bake`` ÷ the first, whole commands; before them, two kills −9.

``python -m tests.benchmarks.bake_twice``. The kills hit the real image's longest stage of the bake, and the
stage of the proof that has a container of its own; the next bake has to clear what they left. The figures of
the proof are written by the bake's own proof.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from kiln import figures, paths
from kiln.errors import KilnError
from scripts import engine, images, versions

IMAGE = "monai-label"
KILN = Path(sys.executable).parent / "kiln"
COMMAND = "make bench (tests/benchmarks/bake_twice.py)"
MAKING = ("base", "packer", "facts", "disk")
"""Stages that make something; a kill in the proof leaves a whole version."""
INTO_NATIVE = 4.0
"""Seconds into the stage native: its container is up after one, and the server in it answers after seven."""


def bake(*options: str) -> float:
    """Seconds of a whole ``kiln bake``.

    Raises
    ------
    SystemExit
        It failed.
    """
    start = time.monotonic()
    if code := subprocess.run([KILN, "bake", IMAGE, *options]).returncode:
        raise SystemExit(f"kiln bake {' '.join(options)} ended with {code}")
    return time.monotonic() - start


def containers() -> set[str]:
    """Ids of the containers that runs of ours have on this machine, running or not."""
    return {identity for found in engine.answering() for identity in found.containers()}


def kill_in(stage: str, after: float) -> None:
    """Start a bake and kill it without warning, some seconds into a stage.

    Raises
    ------
    SystemExit
        The stage did not come, or the bake ended before it was killed.
    """
    child = subprocess.Popen(
        [KILN, "bake", IMAGE, "--force"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stderr is not None
    came = False
    for line in child.stderr:
        print(line, end="")
        if came := line.rstrip().endswith(f"] {stage} …"):
            time.sleep(after)
            child.kill()
            break
    code = child.wait()
    if not came or code != -signal.SIGKILL:
        raise SystemExit(
            f"no bake was killed in {stage}: it {'came' if came else 'did not come'}, "
            f"and the bake ended with {code}"
        )
    print(f"killed −9 in {stage}", flush=True)


def main() -> None:
    """Kill twice, bake twice, see that nothing is left, write the figure."""
    before = images.resolve(IMAGE)
    seconds = versions.read(before).seconds
    longest = max(MAKING, key=lambda stage: seconds[stage])
    foreign = containers()
    kill_in(longest, seconds[longest] / 2)
    kill_in("native", INTO_NATIVE)
    if not containers() - foreign:
        raise SystemExit("the bake killed in native had no container yet, or none any more")
    if images.resolve(IMAGE) != before:
        raise SystemExit("a killed bake moved latest")
    full = bake("--force")
    if left := sorted(containers() - foreign):
        raise SystemExit(f"containers left behind: {left}")
    unchanged = bake()
    if folders := list((paths.build_dir() / IMAGE / ".work").glob("*")):
        raise SystemExit(f"left behind: {folders}")
    print(f"full {full:.1f} s, unchanged {unchanged:.2f} s, ratio {unchanged / full:.4f}")
    figures.write("bake.unchanged_over_full", round(unchanged / full, 4), COMMAND)


if __name__ == "__main__":
    try:
        main()
    except KilnError as error:
        print(f"error: {error.what}\n  fix: {error.hint}", file=sys.stderr)
        sys.exit(1)
