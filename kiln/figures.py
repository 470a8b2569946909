"""Figures: what we promise in numbers, written by the program that measured it, held against its goal.

``python -m kiln.figures`` prints them; ``--readme`` writes the table into README.md, ``--check`` fails
where the README says something else. The check is no part of ``make lint``: it passes on a fresh clone, but
every proof and every ``make bench`` measures anew, so lint would fail on each machine that has done its work.
"""

from __future__ import annotations

import argparse
import operator
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from kiln import errors, paths
from kiln.errors import KilnError, RefusedError
from kiln.manifest import Strict

NAME_PATTERN = r"^[a-z_]+(\.[a-z0-9_]+)+$"

# A limit is a number or another figure: as many caught as there were.
GOAL_PATTERN = r"^(reported|(<=|>=|=) (\d+(\.\d+)?|[a-z_]+(\.[a-z0-9_]+)+))$"

START, END = "<!-- figures: make figures -->", "<!-- end of figures -->"
"""Between these lines of README.md stands the table."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
}

_COLUMNS = ("figure", "measured", "goal", "verdict", "on", "what it is")


class Promise(Strict):
    """An entry of ``tests/benchmarks/figures.toml``."""

    name: str = Field(pattern=NAME_PATTERN, description="what is measured, as group.figure")
    goal: str = Field(
        pattern=GOAL_PATTERN, description='"<= N", ">= N", "= N" or "reported"; N a number or a figure'
    )
    measured: str = Field(min_length=1, description="how it is measured")

    @property
    def bound_by(self) -> str | None:
        """The figure that is the limit, None where that is a number or there is none."""
        limit = self.goal.split()[-1]
        return limit if "." in limit and not limit[0].isdigit() else None

    def verdict(self, value: float | None, limit: float | None = None) -> str:
        """Say whether a value keeps the promise: met, missed, reported or not measured.

        Parameters
        ----------
        value:
            What was measured, in the unit of the goal; None where nothing was.
        limit:
            What was measured of the figure that is the limit; None where nothing was, or it is a number.

        Returns
        -------
        str
            ``met``, ``missed``, ``reported`` or ``not measured``.
        """
        if value is None:
            return "not measured"
        if self.goal == "reported":
            return "reported"
        sign, written = self.goal.split()
        if self.bound_by is None:
            limit = float(written)
        if limit is None:
            return "not measured"
        return "met" if _COMPARE[sign](value, limit) else "missed"


class Figure(Strict):
    """``build/figures/<name>.json``: one measurement."""

    name: str = Field(description="as in figures.toml")
    value: float = Field(allow_inf_nan=False, description="what was measured")
    goal: str = Field(pattern=GOAL_PATTERN, description="the goal at the time")
    command: str = Field(min_length=1, description="what measures it again")
    time: datetime = Field(description="when, UTC")
    machine: str = Field(description="cores and memory")


def promises() -> dict[str, Promise]:
    """Return what is promised, by name, in the order of the file.

    Returns
    -------
    dict of str to Promise
        Name of the figure → its entry.

    Raises
    ------
    KilnError
        The file is missing, broken, names a figure twice, or binds one to a figure that is not there.
    """
    path = paths.ROOT / "tests/benchmarks/figures.toml"
    try:
        listed = [Promise.model_validate(entry) for entry in tomllib.loads(path.read_text())["figure"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        # pydantic's and tomllib's errors are both ValueErrors.
        what = " ".join(str(error).split())
        raise KilnError(f"{path}: {what}", "an entry is [[figure]] with name, goal and measured") from None
    named = {promise.name: promise for promise in listed}
    if len(named) != len(listed):
        raise KilnError(f"{path} names a figure twice", "give each figure one entry")
    if loose := [promise for promise in listed if (promise.bound_by or promise.name) not in named]:
        raise KilnError(
            f"{path}: the goal of {loose[0].name} is {loose[0].goal}, which is no figure",
            "name one of the same file",
        )
    return named


def folder() -> Path:
    """Where the measurements lie.

    Returns
    -------
    Path
        ``build/figures``; it need not be there.
    """
    return paths.build_dir() / "figures"


def machine() -> str:
    """Return cores and memory of this machine.

    Returns
    -------
    str
        Such as ``2 cores, 24 GiB``: the cores that we may use, all of the memory.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{len(os.sched_getaffinity(0))} cores, {memory / 2**30:.0f} GiB"


def write(name: str, value: float, command: str) -> Path:
    """Keep a measurement.

    Parameters
    ----------
    name:
        A figure of figures.toml.
    value:
        What was measured.
    command:
        What measures it again.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    KilnError
        Nothing of that name is promised: such a figure would never be shown.
    """
    promised = promises()
    if name not in promised:
        raise KilnError(f"no figure is called {name!r}", "add it to tests/benchmarks/figures.toml")
    figure = Figure(
        name=name,
        value=value,
        goal=promised[name].goal,
        command=command,
        time=datetime.now(UTC).replace(microsecond=0),
        machine=machine(),
    )
    folder().mkdir(parents=True, exist_ok=True)
    path = folder() / f"{name}.json"
    new = path.with_suffix(".new")
    new.write_text(figure.model_dump_json(indent=1) + "\n")
    new.replace(path)
    return path


def read(name: str) -> Figure | None:
    """Return the last measurement of a figure, None where there is none.

    Parameters
    ----------
    name:
        A figure of figures.toml.

    Returns
    -------
    Figure or None
        As it was written.

    Raises
    ------
    KilnError
        The file is not what :func:`write` writes.
    """
    path = folder() / f"{name}.json"
    try:
        return Figure.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise KilnError(f"{path} is no figure", "remove it and measure again: make bench") from None


def rows() -> list[tuple[str, ...]]:
    """Return the table: each promise with its last measurement.

    Returns
    -------
    list of tuple of str
        A row a figure, a cell for each of the table's columns.

    Raises
    ------
    KilnError
        The list of promises or a measurement cannot be read.
    """
    table: list[tuple[str, ...]] = []
    for promise in promises().values():
        found = read(promise.name)
        value = f"{found.value:.4g}" if found else "–"
        on = f"{found.machine}, {found.time:%Y-%m-%d}" if found else "–"
        # Judged by the goal of today: a goal that was tightened may have turned met into missed.
        bound = read(promise.bound_by) if promise.bound_by else None
        verdict = promise.verdict(found.value if found else None, bound.value if bound else None)
        table.append((promise.name, value, promise.goal, verdict, on, promise.measured))
    return table


def markdown() -> str:
    """Return the table for the README.

    A figure that was not measured on this machine keeps the row that the README has.

    Returns
    -------
    str
        Lines of Markdown, without the markers.

    Raises
    ------
    KilnError
        The README has no markers, or the promises or a measurement cannot be read.
    """
    kept = _readme_rows()
    lines = [_line(_COLUMNS), _line("---" for _ in _COLUMNS)]
    for row in rows():
        old = kept.get(row[0])
        if old and row[3] == "not measured" and (old[2], old[5]) == (row[2], row[5]):
            row = old
        lines.append(_line((f"`{row[0]}`", *row[1:])))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _readme() -> Path:
    return paths.ROOT / "README.md"


def _parts() -> tuple[str, str, str]:
    """Return the README before, within and after the markers."""
    path = _readme()
    text = path.read_text() if path.exists() else ""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise KilnError(f"{path} has no place for the figures", f"put two lines there: {START} and {END}")
    before, _, rest = text.partition(START)
    table, _, after = rest.partition(END)
    return before, table.strip(), after


def _readme_rows() -> dict[str, tuple[str, ...]]:
    found = (re.fullmatch(r"\| `([^`]+)` \| (.*) \|", line) for line in _parts()[1].splitlines())
    rows = ((match[1], *match[2].split(" | ")) for match in found if match)
    return {row[0]: row for row in rows if len(row) == len(_COLUMNS)}


def write_readme() -> None:
    """Write the table between the markers of README.md.

    Raises
    ------
    KilnError
        The README has no markers.
    """
    before, _, after = _parts()
    _readme().write_text(f"{before}{START}\n{markdown()}\n{END}{after}")


def check_readme() -> None:
    """Hold the README's table against the goals and the measurements of this machine.

    Raises
    ------
    RefusedError
        It says something else.
    KilnError
        The README has no markers.
    """
    if _parts()[1] != markdown():
        raise RefusedError("the figures in README.md are not those that were measured", "run: make figures")


def print_table() -> None:
    """Print the table for people.

    Raises
    ------
    KilnError
        The list of promises or a measurement cannot be read.
    """
    table = [_COLUMNS, *rows()]
    widths = [max(len(row[at]) for row in table) for at in range(len(_COLUMNS) - 1)]
    for row in table:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments:
        As on the command line, by default its own.

    Returns
    -------
    int
        The exit code; a missed goal is not an error here.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kiln.figures", description="Figures against their goals."
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--readme", action="store_true", help="also write the table into README.md")
    choice.add_argument("--check", action="store_true", help="fail where README.md says something else")
    options = parser.parse_args(arguments)

    def run() -> None:
        if options.check:
            check_readme()
            return
        print_table()
        if options.readme:
            write_readme()

    return errors.main(run)


if __name__ == "__main__":
    sys.exit(main())
