"""faults.cases, .resumed, .leaked, .wrong_image: every call of six commands with every fault, then again.

``python -m tests.benchmarks.faults [SCENARIO ...]``. With names of scenarios it only prints; whole it writes
the figures. Each case runs on a copy of the emulator in which its scenario was prepared, kills included by
SIGKILL on a process of its own; its end is compared with that of an undisturbed run, resource by resource.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kiln import errors, figures
from kiln.errors import UsageError
from kiln.progress import Progress
from tests.aws.faulty import campaign
from tests.aws.faulty.campaign import Outcome, Prepared
from tests.aws.faulty.cases import Case, cases
from tests.aws.faulty.scenarios import SCENARIOS

COMMAND = "make bench (tests/benchmarks/faults.py)"

_MADE: Prepared | None = None
"""The scenario at hand, inherited by the workers."""


def _one(numbered: tuple[int, Case]) -> Outcome:
    assert _MADE is not None
    return campaign.run(_MADE, numbered[1], numbered[0])


def outcomes(made: Prepared) -> Iterator[Outcome]:
    """Run every case of a scenario, one per core side by side."""
    global _MADE
    _MADE = made
    # Forked, each with one thread: a case forks kiln in turn.
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(_one, enumerate(cases(made.scenario.name, made.requests)))


def main() -> None:
    """Run the campaign, print what fails and the counts, write the figures.

    Raises
    ------
    UsageError
        There is no such scenario.
    """
    names = sys.argv[1:] or list(SCENARIOS)
    if unknown := sorted(set(names) - set(SCENARIOS)):
        raise UsageError(f"there is no scenario {unknown[0]}", f"there are {', '.join(SCENARIOS)}")
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="kiln-faults-") as work, Progress("faults") as progress:
        for name in names:
            with progress.stage(name), campaign.prepared(SCENARIOS[name], Path(work) / name) as made:
                for number, outcome in enumerate(outcomes(made), 1):
                    found.append(outcome)
                    progress.detail(f"{number} cases")
                    for line in outcome.wrong[:3] + outcome.wrong_image:
                        progress.say(f"{outcome.case}: {line}")
    counts = Counter(outcome.case.scenario for outcome in found)
    resumed = sum(not outcome.wrong for outcome in found)
    leaked = sum(len(outcome.leaked) for outcome in found)
    wrong = sum(len(outcome.wrong_image) for outcome in found)
    for name in names:
        print(f"{name}: {counts[name]} cases")
    print(f"{len(found)} cases, {resumed} resumed, {leaked} leaked, {wrong} with a wrong image")
    if not sys.argv[1:]:
        figures.write("faults.cases", len(found), COMMAND)
        figures.write("faults.resumed", resumed, COMMAND)
        figures.write("faults.leaked", leaked, COMMAND)
        figures.write("faults.wrong_image", wrong, COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
