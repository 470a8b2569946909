"""proof.defects_planted, _caught and proof.checks_without_defect: every row of tests/defects, each by itself.

``python -m tests.benchmarks.defects``, on the latest proven image. A row is caught when the checks that it
names fail with its words, and no other check does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kiln import errors, figures, paths
from kiln.errors import UsageError
from scripts import workspace
from scripts.progress import Progress
from tests.defects import boots, campaign, client, live, proof, rows
from tests.defects.defect import Answer, Defect, wrong

COMMAND = "make bench (tests/benchmarks/defects.py)"
Row = Defect | Answer


def recorded(work: Path) -> Iterator[tuple[Row, str]]:
    """Plant what needs no root: in a guest's answers, a version's files, its boots, a client's session."""
    known = rows.ROLES["base"]
    (work / "root/etc/ssh").mkdir(parents=True)
    (work / "root/usr/lib/modules" / known.KERNEL).mkdir(parents=True)
    with live.image(work / "root", known.VERSION):
        judged = [(answer, wrong(answer, live.refused(answer))) for answer in rows.LIVE]
    yield from judged
    for answer in proof.BOOTS:
        yield answer, wrong(answer, proof.refused_boots(answer))
    planters: tuple[tuple[list[Defect], Callable[[Defect, Path], Mapping[str, str]]], ...] = (
        (proof.FILES, proof.refused_files),
        (client.DEFECTS, client.refused),
    )
    for table, refused in planters:
        for number, row in enumerate(table):
            yield row, wrong(row, refused(row, work / refused.__module__ / str(number)))


def booted(root: Path, work: Path) -> Iterator[tuple[Row, str]]:
    """Plant what a container shows that boots the root."""
    sound = boots.refused(None, root, work / "sound", work.name)
    for number, row in enumerate(boots.DEFECTS):
        refused = boots.refused(row, root, work / str(number), work.name)
        yield row, wrong(row, {name: said for name, said in refused.items() if name not in sound})


def main() -> None:
    """Plant, print what is not caught, write the figures."""
    if sys.argv[1:]:
        raise UsageError(
            "tests.benchmarks.defects takes no arguments", "one row: pytest tests/defects -k WORD"
        )
    root, folder = campaign.sealed_root(), paths.build_dir() / "bench"
    planted, caught, covered = 0, 0, set[str]()
    with workspace.claim(folder), Progress("planted defects") as progress:
        workspace.sweep(folder)
        with workspace.workspace(folder) as work:
            static = (
                (row, run.verdict(row))
                for run in campaign.runs(root, work / "static", whole=True)
                for row in run.planted
            )
            for stage, seen in (
                ("recorded", recorded(work / "recorded")),
                ("booted", booted(root, work)),
                ("static", static),
            ):
                with progress.stage(stage):
                    for row, said in seen:
                        planted += 1
                        if said:
                            progress.say(f"not caught  {said}")
                            continue
                        caught += 1
                        covered |= row.checks
                        progress.detail(f"{planted} planted, {caught} caught")
    checks = campaign.written("static") | campaign.written("client") | live.CHECKS.keys() | proof.CHECKS
    without = sorted((checks | {client.SESSION}) - covered)
    for name in without:
        print(f"without a defect  {name}")
    print(f"{planted} planted, {caught} caught, {len(without)} of {len(checks) + 1} checks without a defect")
    figures.write("proof.defects_planted", planted, COMMAND)
    figures.write("proof.defects_caught", caught, COMMAND)
    figures.write("proof.checks_without_defect", len(without), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
