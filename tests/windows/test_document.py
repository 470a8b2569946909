"""docs/executed.md says of every Windows task that it never met Windows."""

from __future__ import annotations

import re

from kiln import paths
from tests.windows import reviewed

HEADING = "## What never met Windows\n"


def section() -> str:
    text = (paths.ROOT / "docs/executed.md").read_text(encoding="utf-8")
    _, found, rest = text.partition(HEADING)
    assert found, f"docs/executed.md has no heading {HEADING.strip()!r}"
    return rest.partition("\n## ")[0]


def test_it_counts_every_task() -> None:
    counted = re.search(r"none of the (\d+) tasks for Windows", section())
    assert counted and int(counted[1]) == len(reviewed.tasks())


def test_it_names_every_file_with_a_task() -> None:
    said = section()
    files = {task.file for task in reviewed.tasks()}
    # A role's file is named whole, or after another of its folder.
    missing = [
        file
        for file in sorted(files)
        if not re.search(rf"`({re.escape(file)}|{file.rpartition('/')[2]})`", said)
    ]
    assert missing == []
