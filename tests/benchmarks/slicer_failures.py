"""slicer.failures_answered, slicer.failures_documented: what AWS says no by, and how many kiln answers.

``python -m tests.benchmarks.slicer_failures``. Documented is a row of the table in ``docs/appstream.md``;
answered is one whose test came to its two lines, with no image builder left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from kiln import errors, figures
from kiln.errors import KilnError
from tests.aws import slicer_failures

COMMAND = "python -m tests.benchmarks.slicer_failures"
TESTS = "tests/aws/test_slicer_failures.py"


def passed(report: Path) -> set[str]:
    """Return the failures whose test passed, from pytest's report.

    Parameters
    ----------
    report:
        As ``--junitxml`` writes it.
    """
    found = set()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name, _, failure = case.get("name", "").partition("[")
        if name == "test_it_is_answered" and not any(True for _ in case):
            found.add(failure.rstrip("]"))
    return found


def run() -> None:
    """Run the tests, count, and write the figures.

    Raises
    ------
    KilnError
        No failure was answered: the tests did not run.
    """
    documented = set(slicer_failures.documented())
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", TESTS, f"--junitxml={report}"]
        code = subprocess.run(command, env={**os.environ, "KILN_CAMPAIGN": "whole"}).returncode
        answered = passed(report) & documented if report.exists() else set()
    if not answered:
        raise KilnError(f"no figure: the tests ended with {code}", "see the tests above")
    for name in sorted(documented - answered):
        print(f"not answered: {name}")
    print(f"{len(answered)} of {len(documented)} failures are answered")
    figures.write("slicer.failures_documented", len(documented), COMMAND)
    figures.write("slicer.failures_answered", len(answered), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(run))
