"""A planted defect: what is done to an image or to what a guest says, and which checks refuse it how."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Plant = Callable[[Path], object]


@dataclass(frozen=True)
class Defect:
    """A defect of a root.

    Parameters
    ----------
    name:
        What a reader calls it; no two rows share one.
    plant:
        Does it to the root whose folder it is given.
    checks:
        Those that must fail, and no other may; of a parametrised check the name without ``[…]``.
    named:
        Words that the messages of these checks must hold.
    """

    name: str
    plant: Plant
    checks: frozenset[str]
    named: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A defect of a booted guest, as its answers would tell it.

    Parameters
    ----------
    name:
        What a reader calls it; no two rows share one.
    where:
        Keys that lead to the place in the answers.
    says:
        What stands there in place of the sound answer.
    checks, named:
        As of a :class:`Defect`.
    """

    name: str
    where: tuple[str, ...]
    says: Any
    checks: frozenset[str]
    named: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """A defect of a guest that runs, planted and taken away again by commands of root's shell.

    Parameters
    ----------
    name:
        What a reader calls it; no two rows share one.
    plant, restore:
        The commands; they write nothing.
    checks, named:
        As of a :class:`Defect`.
    """

    name: str
    plant: str
    restore: str
    checks: frozenset[str]
    named: tuple[str, ...]


Row = Defect | Answer | Running


def static(*names: str) -> frozenset[str]:
    """Ids of checks of the root, from ``test_<role>::test_<name>``."""
    return frozenset(f"static::{name}" for name in names)


def live(*names: str) -> frozenset[str]:
    """Ids of checks of the booted guest, from ``test_<role>::test_<name>``."""
    return frozenset(f"live::{name}" for name in names)


def found(root: Path, *patterns: str) -> list[Path]:
    """Paths of a root that match; no link is followed out of it, and there must be some."""
    # The last letter as a class: glob follows a link that is named plainly.
    last = (one if one[-1] in "*]" else f"{one[:-1]}[{one[-1]}]" for one in patterns)
    paths = sorted({path for one in last for path in root.glob(one)})
    assert paths, f"nothing matches {patterns}"
    return paths


def write(name: str, text: str = "x\n", mode: int = 0o644) -> Plant:
    """Put a file where none should be, or another text where it should be."""

    def plant(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)

    return plant


def folder(name: str, mode: int = 0o755) -> Plant:
    """Make an empty folder."""

    def plant(root: Path) -> None:
        (root / name).mkdir(parents=True)
        (root / name).chmod(mode)

    return plant


def link(name: str, target: str) -> Plant:
    """Put a link, in place of what is there."""

    def plant(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return plant


def change(name: str, pattern: str, to: str) -> Plant:
    """Change a text in place; the defect must have something to change."""

    def plant(root: Path) -> None:
        text = (root / name).read_text()
        changed = re.sub(pattern, to, text, flags=re.MULTILINE)
        assert changed != text, f"{name} has no {pattern}"
        (root / name).write_text(changed)

    return plant


def gone(*patterns: str) -> Plant:
    """Take away every path that matches."""

    def plant(root: Path) -> None:
        for path in found(root, *patterns):
            path.unlink()

    return plant


def mode(name: str, bits: int) -> Plant:
    """Give a path other permissions."""

    def plant(root: Path) -> None:
        (root / name).chmod(bits)

    return plant


def owner(name: str, uid: int) -> Plant:
    """Give a path to another user and group."""

    def plant(root: Path) -> None:
        os.chown(root / name, uid, uid)

    return plant


def several(*plants: Plant) -> Plant:
    """Plant more than one defect for a check that looks in more than one place."""

    def plant(root: Path) -> None:
        for each in plants:
            each(root)

    return plant


def wrong(row: Row, refused: Mapping[str, str], beside: Collection[Row] = ()) -> str:
    """What is not as the row has it, empty where all is.

    Parameters
    ----------
    row:
        The defect that was planted.
    refused:
        Checks that failed, by id without ``[…]`` → what they said.
    beside:
        Defects that were planted together with it.
    """
    expected = row.checks.union(*(other.checks for other in beside))
    if missing := row.checks - refused.keys():
        return f"{row.name}: passed {', '.join(sorted(missing))}"
    if others := refused.keys() - expected:
        first = min(others)
        return f"{row.name}: also refused by {', '.join(sorted(others))}: {refused[first]}"
    said = " | ".join(refused[check] for check in sorted(row.checks))
    if "could not run" in said:
        return f"{row.name}: {said}"
    absent = [words for words in row.named if words not in said]
    return f"{row.name}: nothing says {', '.join(absent)}: {said}" if absent else ""
