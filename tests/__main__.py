"""``make test``: lint, one proven image, every test, and last whether every task ran. What fails ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent

STEPS: tuple[tuple[str, list[str]], ...] = (
    ("lint", [sys.executable, "-m", "scripts.lint"]),
    # The first test that a newcomer sees takes seconds; a broken unit must not cost a bake.
    ("unit tests", [sys.executable, "-m", "pytest", "-q", "-n", "auto", "tests/unit"]),
    # Ends at once where a proven image of the same inputs is there.
    ("one proven image", [str(BIN / "kiln"), "bake", "monai-label"]),
    (
        "tests on it",
        [
            # A name for each test that ended: some take minutes.
            *(sys.executable, "-m", "pytest", "-v", "-ra"),
            # Emulation and containers side by side, see tests/conftest.py.
            *("-n", "2", "--dist", "loadscope"),
            *("tests/guest", "tests/molecule", "tests/server", "tests/gateway"),
            *("tests/defects", "tests/accidents", "tests/benchmarks"),
            # Last: what the bake and the scenarios ran is noted by then.
            "tests/coverage",
        ],
    ),
)


def main() -> int:
    """Run the steps in order.

    Returns
    -------
    int
        0 when all passed, else the exit code of the first that did not.
    """
    if sys.argv[1:]:
        print(
            "error: tests takes no arguments\n  fix: one test alone: pytest tests/unit/test_tree.py",
            file=sys.stderr,
        )
        return 2
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    # It would make every call of Ansible start cold.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for name, command in STEPS:
        print(f"== {name}", flush=True)
        if code := subprocess.run(command, env=environment).returncode:
            print(
                f"error: {name} failed\n  fix: see above; once more by: {' '.join(command)}", file=sys.stderr
            )
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
