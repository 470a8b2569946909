"""``make bench``: every measurement, then the campaigns whole. Takes hours; writes build/figures."""

from __future__ import annotations

import os
import subprocess
import sys

PYTHON = sys.executable

STEPS: tuple[tuple[str, list[str], dict[str, str]], ...] = (
    ("bake twice, kill twice", [PYTHON, "-m", "tests.benchmarks.bake_twice"], {}),
    ("bake over bare", [PYTHON, "-m", "tests.benchmarks.bake_over_bare"], {}),
    ("start over import", [PYTHON, "-m", "tests.benchmarks.start_over_import"], {}),
    ("image bytes over plain", [PYTHON, "-m", "tests.benchmarks.image_bytes"], {}),
    ("baked over install", [PYTHON, "-m", "tests.benchmarks.baked_over_install"], {}),
    ("readahead over plain", [PYTHON, "-m", "tests.benchmarks.readahead"], {}),
    ("labels over two servers", [PYTHON, "-m", "tests.benchmarks.labels"], {}),
    ("labels over NFS in a guest", [PYTHON, "-m", "tests.benchmarks.labels_nfs"], {}),
    ("who gets in", [PYTHON, "-m", "tests.benchmarks.auth"], {}),
    ("through nginx over direct", [PYTHON, "-m", "tests.benchmarks.proxy"], {}),
    ("memory of nginx and the helpers", [PYTHON, "-m", "tests.benchmarks.helpers_memory"], {}),
    ("every defect by itself", [PYTHON, "-m", "tests.benchmarks.defects"], {}),
    (
        "both signals in every stage",
        [PYTHON, "-m", "pytest", "-q", "tests/accidents"],
        {"KILN_CAMPAIGN": "whole"},
    ),
    (
        "faults that tests of the launchers ask for",
        [PYTHON, "-m", "pytest", "-q", "-n", "auto", "-m", "campaign", "tests/aws"],
        {"KILN_CAMPAIGN": "whole"},
    ),
    # Named by their paths: by emulation they take minutes, too long for make test.
    (
        "boots by hand",
        [PYTHON, "-m", "pytest", "-q", "tests/guest/boot_by_hand.py", "tests/guest/defects_of_a_machine.py"],
        {},
    ),
    ("bake by Docker", [PYTHON, "-m", "tests.benchmarks.bake_by_docker"], {}),
    ("task coverage", [PYTHON, "-m", "tests.benchmarks.task_coverage"], {}),
    ("upload", [PYTHON, "-m", "tests.benchmarks.upload"], {}),
    ("faults in every call", [PYTHON, "-m", "tests.benchmarks.faults"], {}),
    ("publish to many regions", [PYTHON, "-m", "tests.benchmarks.publish_regions"], {}),
    ("apply over API", [PYTHON, "-m", "tests.benchmarks.apply_over_api"], {}),
    ("requests validated", [PYTHON, "-m", "tests.benchmarks.requests_validated"], {}),
    ("limits of AppStream", [PYTHON, "-m", "tests.benchmarks.slicer_limits"], {}),
    ("failures of AppStream", [PYTHON, "-m", "tests.benchmarks.slicer_failures"], {}),
    ("Windows in rehearsal", [PYTHON, "-m", "tests.benchmarks.windows_rehearsal"], {}),
    (
        "a Windows host that fails",
        [PYTHON, "-m", "pytest", "-q", "-n", "auto", "-m", "campaign", "tests/windows"],
        {"KILN_CAMPAIGN": "whole"},
    ),
    ("figures", [PYTHON, "-m", "kiln.figures"], {}),
)


def main() -> int:
    """Run every step, also after one that failed.

    Returns
    -------
    int
        0 when all succeeded, else 1.
    """
    if sys.argv[1:]:
        print(
            "error: tests.benchmarks takes no arguments\n  fix: see its modules for one alone",
            file=sys.stderr,
        )
        return 2
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    failed = []
    for name, command, extra in STEPS:
        print(f"== {name}", flush=True)
        if subprocess.run(command, env={**environment, **extra}).returncode:
            failed.append(name)
    if failed:
        print(f"error: {', '.join(failed)} failed\n  fix: see above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
