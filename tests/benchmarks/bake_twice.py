"""bake.unchanged_over_full: a second ``kiln bake`` ÷ the first, whole commands; before them, one kill −9.

``python -m tests.benchmarks.bake_twice``. The kill hits the real image's longest stage of the bake; the next
bake has to clear what it left. The figures of the proof are written by the bake's own proof.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from kiln import figures, paths
from scripts import images, versions

IMAGE = "monai-label"
KILN = Path(sys.executable).parent / "kiln"
COMMAND = "make bench (tests/benchmarks/bake_twice.py)"
MAKING = ("base", "packer", "facts", "disk")
"""Stages that make something; a kill in the proof leaves a whole version."""


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


def kill_in(stage: str, after: float) -> None:
    """Start a bake and kill it without warning, some seconds into a stage."""
    child = subprocess.Popen(
        [KILN, "bake", IMAGE, "--force"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        print(line, end="")
        if line.rstrip().endswith(f"] {stage} …"):
            time.sleep(after)
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait()
    print(f"killed −9 in {stage}", flush=True)


def main() -> None:
    """Kill once, bake twice, see that nothing is left, write the figure."""
    before = images.resolve(IMAGE)
    seconds = versions.read(before).seconds
    longest = max(MAKING, key=lambda stage: seconds[stage])
    kill_in(longest, seconds[longest] / 2)
    if images.resolve(IMAGE) != before:
        raise SystemExit("the killed bake moved latest")
    full = bake("--force")
    unchanged = bake()
    if left := list((paths.build_dir() / IMAGE / ".work").glob("*")):
        raise SystemExit(f"left behind: {left}")
    print(f"full {full:.1f} s, unchanged {unchanged:.2f} s, ratio {unchanged / full:.4f}")
    figures.write("bake.unchanged_over_full", round(unchanged / full, 4), COMMAND)


if __name__ == "__main__":
    main()
