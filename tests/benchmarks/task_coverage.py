"""ansible.task_coverage: tasks and handlers of the roles that ran ÷ all of them, over bakes and molecule.

``python -m tests.benchmarks.task_coverage``. A task counts as run when some bake or scenario on this machine
ran it in the file as it is now. What did not run has to stand in docs/executed.md, by name and with the
reason, and what stands there has to be so. However good the reasons, a share below the goal is refused.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

from kiln import errors, figures, paths
from kiln.errors import KilnError, RefusedError
from scripts import coverage
from scripts.coverage import Task

FIGURE = "ansible.task_coverage"
COMMAND = "make test (tests/benchmarks/task_coverage.py)"
DOCUMENT = "docs/executed.md"
HEADING = "## Tasks of the roles that did not run"


def excused(text: str) -> dict[str, str]:
    """The tasks that the document lists below its heading → the reason it gives.

    Raises
    ------
    KilnError
        The document has no such heading.
    """
    _, found, rest = text.partition(f"{HEADING}\n")
    if not found:
        raise KilnError(
            f"{DOCUMENT} has no heading {HEADING!r}", "put it there, a table `task` | why below it"
        )
    section = rest.partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \|\s*(.*?)\s*\|$", section, re.M))


def silent(tasks: Iterable[Task], done: set[tuple[str, int]]) -> list[str]:
    """Roles of which nothing ran at all: then nobody looked."""
    looked = {file.partition("/")[0] for file, _ in done}
    return sorted({task.file.partition("/")[0] for task in tasks} - looked)


def complaints(tasks: list[Task], done: set[tuple[str, int]], listed: Mapping[str, str]) -> list[str]:
    """What is wrong with the list of tasks that did not run, a line each."""
    known = {task.known_as: task for task in tasks}
    ran = {name for name, task in known.items() if (task.file, task.line) in done}
    untold = known.keys() - ran - listed.keys()
    return [
        *(f"{name} did not run, and {DOCUMENT} does not say why" for name in sorted(untold)),
        *(f"{name} runs, and {DOCUMENT} lists it" for name in listed if name in ran),
        *(f"{name} is no task, and {DOCUMENT} lists it" for name in listed if name not in known),
        *(f"{name} stands in {DOCUMENT} without a reason" for name, why in listed.items() if not why),
    ]  # fmt: skip


def missed(share: float) -> str:
    """What is wrong with a share of tasks that ran, empty where it keeps the goal of figures.toml."""
    promise = figures.promises()[FIGURE]
    if promise.verdict(share) == "met":
        return ""
    return f"{FIGURE} is {share:.4f}, and its goal is {promise.goal}"


def main() -> None:
    """Print what did not run, write the figure, hold it against its goal and the list against it.

    Raises
    ------
    KilnError
        Of some role nothing was noted at all.
    RefusedError
        Too little ran, or the list says something else.
    """
    tasks = coverage.tasks(coverage.roles())
    done = coverage.ran(coverage.folder(), coverage.roles())
    if missing := silent(tasks, done):
        raise KilnError(
            f"no run of the role {', '.join(missing)} is noted as its files are now",
            "run: .venv/bin/pytest tests/molecule, after a bake",
        )
    left = [task for task in tasks if (task.file, task.line) not in done]
    for task in left:
        print(f"did not run: {task.file}:{task.line} {task.name}")
    share = (len(tasks) - len(left)) / len(tasks)
    print(f"{len(tasks) - len(left)} of {len(tasks)} tasks and handlers ran: {share:.4f}", flush=True)
    figures.write(FIGURE, round(share, 4), COMMAND)
    if short := missed(share):
        raise RefusedError(short, "have a scenario of molecule run the tasks named above")
    if wrong := complaints(tasks, done, excused((paths.ROOT / DOCUMENT).read_text(encoding="utf-8"))):
        raise RefusedError("; ".join(wrong), f"mend the table in {DOCUMENT}, or have a scenario run the task")


if __name__ == "__main__":
    sys.exit(errors.main(main))
