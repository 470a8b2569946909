"""server.start_over_import: service start to /info/ 200 ÷ importing all modules of the ready server.

``python -m tests.benchmarks.start_over_import [ROUNDS]``, on the latest proven image, in a container of its
root; the two sides take turns, bytecode and page cache are warm for both.
"""

from __future__ import annotations

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
    with workspace.claim(folder), workspace.workspace(folder) as work:
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
    start, imports = (statistics.median(taken[name]) for name in ("starts", "imports"))
    print(f"start {start:.2f} s, imports {imports:.2f} s, ratio {start / imports:.3f}  {taken}")
    figures.write("server.start_over_import", round(start / imports, 3), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(lambda: main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)))
