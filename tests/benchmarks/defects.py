"""proof.defects_planted, _caught, _recorded and proof.checks_without_defect: every row of tests/defects.

``python -m tests.benchmarks.defects``, on the latest proven images. A row is caught when the checks that it
names fail with its words, and no other check does. Each is planted by itself, but for those of the one guest.
Planted is what was done to a root, a container, a guest or a file; a recorded row only edits what a guest
would answer, and is counted apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kiln import errors, figures, paths
from kiln.errors import KilnError, UsageError
from kiln.progress import Progress
from scripts import workspace
from scripts.guest import Guest
from tests.defects import boot_rows, boots, campaign, client, guests, live, proof, rows, tables
from tests.defects.defect import Defect, Row, wrong

COMMAND = "make bench (tests/benchmarks/defects.py)"


def recorded(work: Path) -> Iterator[tuple[Row, str]]:
    """Edit what a sound guest answers, and what was seen of two boots."""
    known = rows.ROLES["base"]
    (work / "root/etc/ssh").mkdir(parents=True)
    (work / "root/usr/lib/modules" / known.KERNEL).mkdir(parents=True)
    with live.image(work / "root", known.VERSION):
        judged = [(answer, wrong(answer, live.refused(answer))) for answer in rows.LIVE]
    yield from judged
    for answer in proof.BOOTS:
        yield answer, wrong(answer, proof.refused_boots(answer))


def files(work: Path) -> Iterator[tuple[Row, str]]:
    """Plant in the files of a version, and of a client's session."""
    planters: tuple[tuple[list[Defect], Callable[[Defect, Path], Mapping[str, str]]], ...] = (
        (proof.FILES, proof.refused_files),
        (proof.DISK, proof.refused_disk),
        (client.DEFECTS, client.refused),
    )
    for kind, (table, refused) in enumerate(planters):
        for number, row in enumerate(table):
            yield row, wrong(row, refused(row, work / f"{kind}-{number}"))


def booted(root: Path, work: Path) -> Iterator[tuple[Row, str]]:
    """Plant what a container shows that boots the root."""
    sound = boots.refused([], root, work / "sound", work.name)
    for number, row in enumerate(boot_rows.DEFECTS):
        refused = boots.refused([row], root, work / str(number), work.name)
        yield row, wrong(row, {name: said for name, said in refused.items() if name not in sound})


def running(root: Path, work: Path) -> Iterator[tuple[Row, str]]:
    """Plant what a guest shows that runs the image."""
    work.mkdir()
    with Guest(root.parent / "image.qcow2", work, work / "serial.log", online=True) as guest:
        guest.wait_ssh()
        guest.wait_running()
        sound, judged = guests.campaign(guest, campaign.roles(root), root, work / "another")
    if unsound := sound.keys() - guests.ONLINE:
        raise KilnError(f"the guest was not left sound: {min(unsound)}", "run: pytest tests/guest")
    yield from judged


def static(work: Path) -> Iterator[tuple[Row, str]]:
    """Plant in layers over the root of each image."""
    for run in campaign.every_run(work, whole=True):
        for row in run.planted:
            yield row, run.verdict(row)


def main() -> None:
    """Plant, print what is not caught, write the figures."""
    if sys.argv[1:]:
        raise UsageError(
            "tests.benchmarks.defects takes no arguments", "one row: pytest tests/defects -k WORD"
        )
    root, folder = campaign.sealed_root(), paths.build_dir() / "bench"
    seen: dict[str, list[tuple[Row, str]]] = {}
    with workspace.claim(folder), Progress("planted defects") as progress:
        workspace.sweep(folder)
        with workspace.workspace(folder) as work:
            for stage, judged in (
                ("recorded", recorded(work / "recorded")),
                ("files", files(work / "files")),
                ("booted", booted(root, work)),
                ("running", running(root, work / "running")),
                ("static", static(work / "static")),
            ):
                with progress.stage(stage):
                    seen[stage] = []
                    for row, said in judged:
                        seen[stage].append((row, said))
                        progress.detail(f"{len(seen[stage])} rows")
                        if said:
                            progress.say(f"not caught  {said}")
    answers = seen.pop("recorded")
    planted = [judged for stage in seen.values() for judged in stage]
    caught = [row for row, said in planted if not said]
    covered = {check for row in caught for check in row.checks}
    # Of a check that is listed as not to be planted, the recorded row stands for it.
    covered |= tables.listed() & {check for row, said in answers if not said for check in row.checks}
    without = sorted(tables.CHECKS - covered)
    for name in without:
        print(f"without a defect  {name}")
    print(
        f"{len(planted)} planted, {len(caught)} caught, {len(answers)} recorded,"
        f" {len(without)} of {len(tables.CHECKS)} checks without a defect"
    )
    figures.write("proof.defects_planted", len(planted), COMMAND)
    figures.write("proof.defects_caught", len(caught), COMMAND)
    figures.write("proof.defects_recorded", len(answers), COMMAND)
    figures.write("proof.checks_without_defect", len(without), COMMAND)


if __name__ == "__main__":
    sys.exit(errors.main(main))
