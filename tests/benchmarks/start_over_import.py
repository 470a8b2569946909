"""server.start_over_import: service start to /info/ 200 ÷ importing all modules of the ready server.

Beside it server.start_over_import_without_gc: the service starts with garbage collection off and a plain
import does not, so the second ratio is over an import without it as well.

``python -m tests.benchmarks.start_over_import [ROUNDS]``, on the latest proven image, in a container of its
root; the sides take turns, bytecode and page cache are warm for all.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import sys
from pathlib import Path

from kiln import errors, figures, paths
from scripts import images, native, workspace

IMAGE = "monai-label"
COMMAND = "make bench (tests/benchmarks/start_over_import.py)"


def main(rounds: int) -> None:
    """Measure, print, write the figure."""
    root = images.resolve(IMAGE) / "root"
    folder = paths.build_dir() / "bench"
    with contextlib.ExitStack() as held:
        held.enter_context(workspace.claim(folder))
        # A measurement that was killed leaves its container.
        workspace.sweep(folder)
        work = held.enter_context(workspace.workspace(folder))
        share = work / "share"
        share.mkdir()
        share.chmod(0o777)  # the service's account writes the list of modules
        for name in ("start_inside.py", "list_modules.py", "import_all.py"):
            shutil.copy(Path(__file__).with_name(name), share / name)
        with native.start(root, work.name, share) as container:
            native.wait_ready(container)
            said = container.run(
                "/usr/bin/python3", f"{native.INSIDE}/start_inside.py", str(rounds), timeout=900
            )
    taken = json.loads(said.strip().splitlines()[-1])
    start, imports, without_gc = (
        statistics.median(taken[name]) for name in ("starts", "imports", "imports_without_gc")
    )
    print(
        f"start {start:.2f} s, imports {imports:.2f} s, ratio {start / imports:.3f}; "
        f"without gc {without_gc:.2f} s, ratio {start / without_gc:.3f}  {taken}"
    )
    figures.write("server.start_over_import", round(start / imports, 3), COMMAND)
    figures.write("server.start_over_import_without_gc", round(start / without_gc, 3), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(lambda: main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)))
