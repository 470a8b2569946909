"""The Windows tasks as they stand in their files, and each of their arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts import coverage
from tests.windows.documented import Module

BLOCKS = ("block", "rescue", "always")


@dataclass(frozen=True)
class Written:
    """A task as it stands in its file.

    Parameters
    ----------
    file, line, name:
        Where it stands below the roles.
    module:
        With its collection.
    arguments:
        As they stand there, with their templates.
    """

    file: str
    line: int
    name: str
    module: str
    arguments: Mapping[str, Any]

    @property
    def known_as(self) -> str:
        """File and name."""
        return f"{self.file}: {self.name}"


def written(at: Path | None = None) -> list[Written]:
    """Return every Windows task of the roles.

    Parameters
    ----------
    at:
        The folder of the roles, by default the checkout's.
    """
    roles = at or coverage.roles()
    lines = {(task.file, task.name): task.line for task in coverage.tasks(roles, windows=True)}
    found = []
    for file in sorted({file for file, _ in lines}):
        for task in _leaves(yaml.safe_load((roles / file).read_text(encoding="utf-8"))):
            place = (file, task.get("name", ""))
            if place in lines:
                module = next(key for key in task if "." in key)
                found.append(Written(file, lines[place], task["name"], module, task[module] or {}))
    return found


def _leaves(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        if any(name in entry for name in BLOCKS):
            for name in BLOCKS:
                yield from _leaves(entry.get(name) or [])
        else:
            yield entry


def arguments(tasks: list[Written]) -> list[tuple[Written, str]]:
    """Return each argument of each task; a task without any counts as one, since its module is checked."""
    return [(task, name) for task in tasks for name in (task.arguments or {"": None})]


def unfit(task: Written, known: Mapping[str, Module]) -> dict[str, str]:
    """Which arguments of a task ansible-doc does not take, and why.

    What has a template in it is checked by its name here, and by its value as a rehearsal's host receives it.
    """
    module = known.get(task.module)
    if module is None:
        return dict.fromkeys(task.arguments or {"": None}, f"ansible-doc knows no {task.module}")
    found = {}
    for name, value in task.arguments.items():
        wrong = module.judge(name, value, templated="{{" in str(value))
        if wrong:
            found[name] = wrong
    return found
