"""``make test``: lint, a proven image of each kind, every test, last whether every task ran."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.lanes import Lane, Step, side_by_side

BIN = Path(sys.executable).parent


def rounds() -> tuple[tuple[Lane, ...], ...]:
    """What runs: rounds that follow each other, of lanes that run side by side."""
    pytest = (sys.executable, "-m", "pytest")
    return (
        (Lane([Step("lint", [sys.executable, "-m", "scripts.lint"])]),),
        (
            # Each ends at once where a proven image of the same inputs is there.
            Lane(
                [
                    Step(f"a proven image of {image}", [str(BIN / "kiln"), "bake", image])
                    for image in ("monai-label", "slicer")
                ]
            ),
            # A bake waits for the network, and keeps one core busy at most times.
            Lane(
                [
                    Step("unit tests", [*pytest, "-q", "-n", "auto", "tests/unit"]),
                    # An emulator for each worker.
                    Step("launchers", [*pytest, "-q", "-n", "auto", "-m", "not root", "tests/aws"]),
                    Step("Windows in rehearsal", [*pytest, "-q", "-n", "auto", "tests/windows"]),
                ],
                shown=False,
            ),
        ),
        (
            Lane(
                [
                    Step(
                        "tests on it",
                        [
                            # A name for each test that ended: some take minutes.
                            *(*pytest, "-v", "-ra"),
                            # Guests and servers beside containers, see tests/conftest.py.
                            *("-n", "2", "--dist", "loadscope"),
                            *("tests/guest", "tests/molecule", "tests/server", "tests/gateway"),
                            *("tests/slicer", "tests/defects", "tests/accidents", "tests/benchmarks"),
                            # Those of the launchers that need a container on the image's root.
                            *("tests/aws/test_packer.py", "tests/aws/test_prove_host.py"),
                            # Last: what the bake and the scenarios ran is noted by then.
                            "tests/coverage",
                        ],
                    )
                ]
            ),
        ),
    )


def main() -> int:
    """Run the rounds in order.

    Returns
    -------
    int
        0 when all passed, else the exit code of the first step that did not.
    """
    if sys.argv[1:]:
        print(
            "error: tests takes no arguments\n  fix: one test alone: pytest tests/unit/test_tree.py",
            file=sys.stderr,
        )
        return 2
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    # A shell's & has it ignored, which the steps would inherit: a failure could not end the others.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # It would make every call of Ansible start cold.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with suppress(KeyboardInterrupt):
        return next((code for lanes in rounds() if (code := side_by_side(lanes))), 0)
    return 130


if __name__ == "__main__":
    sys.exit(main())
