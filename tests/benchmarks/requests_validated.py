"""Which share of what kiln asks of AWS botocore's models allow: all tests of ``launch``, seen over HTTP.

boto3 looks at types and at what is missing, not at patterns, lengths and values: the emulator does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kiln import errors, figures
from kiln.errors import KilnError
from tests.emulator.recorder import RECORD

AGENT = "kiln run/"
"""In the user agent of every request of ``launch``; a test's own requests have none."""


def count(lines: list[str]) -> tuple[int, int, Counter[str]]:
    """Count the requests of kiln.

    Parameters
    ----------
    lines:
        Of the emulator's record.

    Returns
    -------
    tuple
        Valid ones, all, and what is wrong with the others, how often.
    """
    entries = [entry for entry in map(json.loads, lines) if AGENT in entry["agent"]]
    wrong = Counter(f"{entry['service']}: {line}" for entry in entries for line in entry["wrong"])
    return sum(not entry["wrong"] for entry in entries), len(entries), wrong


def run() -> None:
    """Run the tests, count, and write the figure.

    Raises
    ------
    KilnError
        A test failed, or nothing was asked.
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "requests"
        command = [sys.executable, "-m", "pytest", "-q", "tests/aws"]
        code = subprocess.run(command, env={**os.environ, RECORD: str(record)}).returncode
        lines = record.read_text().splitlines() if record.exists() else []
    valid, all_, wrong = count(lines)
    for line, times in wrong.most_common():
        print(f"{times} × {line}")
    if code or not all_:
        raise KilnError(
            f"no figure: the tests ended with {code}, after {all_} requests of kiln", "see the tests above"
        )
    print(f"{valid} of {all_} requests are valid")
    figures.write("aws.requests_validated", valid / all_, "python -m tests.benchmarks.requests_validated")


if __name__ == "__main__":
    sys.exit(errors.main(run))
