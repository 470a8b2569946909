"""The reviewed table, and what a rehearsal has to say to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from scripts import coverage
from scripts.coverage import Task
from tests.windows.rehearsal import Ran

TABLE = Path(__file__).with_name("reviewed.yml")

Rows = dict[str, list[dict[str, Any]]]
"""``file: task`` → modules with their arguments."""


def rows(variables: Mapping[str, Any], table: Path = TABLE) -> Rows:
    """Return the table.

    Parameters
    ----------
    variables:
        Of the rehearsal: what stands in the table as ``<name>``.
    table:
        Its file.
    """
    said = yaml.safe_load(table.read_text(encoding="utf-8"))
    return {
        f"{file}: {task}": [_filled(call, variables) for call in calls]
        for file, tasks in said.items()
        for task, calls in tasks.items()
    }


def _filled(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each, variables) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, variables) for each in value]
    if isinstance(value, str) and value.startswith("<") and value.endswith(">"):
        return variables[value[1:-1]]
    return value


def tasks() -> list[Task]:
    """Every Windows task of the roles, by file and line."""
    return coverage.tasks(coverage.roles(), windows=True)


def equal(table: Rows, ran: Iterable[Ran]) -> set[tuple[str, int]]:
    """Which tasks ran with the arguments of their row, by file and line.

    A task that ran more than once, in several rehearsals, has to be equal each time.
    """
    judged: dict[tuple[str, int], bool] = {}
    for each in ran:
        if each.skipped or not each.how:
            continue
        place = (each.file, each.line)
        judged[place] = judged.get(place, True) and list(each.calls) == table.get(each.known_as)
    return {place for place, same in judged.items() if same}


def differences(table: Rows, ran: Iterable[Ran]) -> list[str]:
    """What arrived and what the table has where they differ, for people to read."""
    windows = {task.file for task in tasks()}
    return [
        f"{each.known_as}\n  arrived  {list(each.calls)}\n  reviewed {table.get(each.known_as)}"
        for each in ran
        if each.file in windows and not each.skipped and list(each.calls) != table.get(each.known_as)
    ]
