"""windows.arguments_checked and windows.tasks_rehearsed: what is known of the Windows tasks without Windows.

``python -m tests.benchmarks.windows_rehearsal``. The playbook runs against a host that stands in for Windows;
what arrives there is held against ansible-doc, and against a table that people have reviewed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from kiln import errors, figures
from kiln.errors import KilnError, RefusedError
from tests.windows import documented, reviewed, scenarios, tasks
from tests.windows.rehearsal import Rehearsal

CHECKED, REHEARSED = "windows.arguments_checked", "windows.tasks_rehearsed"
COMMAND = "make bench (tests/benchmarks/windows_rehearsal.py)"


def unchecked(written: list[tasks.Written], rehearsals: list[Rehearsal]) -> dict[str, str]:
    """Which arguments no specification has taken, as ``file: task: argument`` → why.

    What has a template in it counts where the host has received it: it refuses what its module does not take.
    """
    known = documented.modules(frozenset(task.module for task in written))
    took = {
        (each.file, each.line)
        for rehearsal in rehearsals
        for each in rehearsal.ran
        if {"ok", "changed"} & set(each.how)
    }
    found = {}
    for task in written:
        wrong = tasks.unfit(task, known)
        for name in wrong:
            found[f"{task.known_as}: {name}"] = wrong[name]
        for name, value in task.arguments.items():
            if name not in wrong and "{{" in str(value) and (task.file, task.line) not in took:
                found[f"{task.known_as}: {name}"] = "only known when the task runs, and it did not"
    return found


def main() -> None:
    """Rehearse, print what is missing, write both figures, and hold them against their goals.

    Raises
    ------
    KilnError
        A rehearsal did not end well.
    RefusedError
        Too little was rehearsed as it was reviewed, or an argument is none.
    """
    with tempfile.TemporaryDirectory(prefix="kiln-windows-") as folder:
        variables, rehearsals = scenarios.all_of(Path(folder))
    for rehearsal in rehearsals:
        if rehearsal.code != 0:
            print(rehearsal.output)
            raise KilnError(
                f"the rehearsal ended at {rehearsal.last.known_as}", "see above; correct the task or the host"
            )
    ran = [each for rehearsal in rehearsals for each in rehearsal.ran]
    table = reviewed.rows(variables)
    equal, listed = reviewed.equal(table, ran), reviewed.tasks()
    for line in reviewed.differences(table, ran):
        print(line)
    for task in listed:
        if (task.file, task.line) not in equal:
            print(f"not as reviewed: {task.file}:{task.line} {task.name}")
    share = sum((task.file, task.line) in equal for task in listed) / len(listed)
    print(f"{len(listed)} Windows tasks, by file and line: {share:.4f} as reviewed", flush=True)
    written = tasks.written()
    arguments, wrong = tasks.arguments(written), unchecked(written, rehearsals)
    for name, why in wrong.items():
        print(f"{name}: {why}")
    checked = 1 - len(wrong) / len(arguments)
    print(f"{len(arguments)} arguments: {checked:.4f} taken by ansible-doc's specification", flush=True)
    figures.write(REHEARSED, round(share, 4), COMMAND)
    figures.write(CHECKED, round(checked, 4), COMMAND)
    promised = figures.promises()
    for name, value in ((REHEARSED, share), (CHECKED, checked)):
        if promised[name].verdict(value) != "met":
            raise RefusedError(f"{name} is {value:.4f}, and its goal is {promised[name].goal}", "see above")


if __name__ == "__main__":
    sys.exit(errors.main(main))
