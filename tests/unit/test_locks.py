"""Locks: what is left out of the image's, and that it agrees with the plain one in everything else."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
import yaml

from kiln import paths
from scripts import locks

REQUIREMENTS = paths.ROOT / "requirements"
LEFT_OUT = (paths.ROOT / locks.LEFT_OUT).read_text()


def locked(name: str) -> dict[str, str]:
    """Distribution → version and hashes of a lock."""
    text = (REQUIREMENTS / f"{name}.lock").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+(?: \\\n    --hash=\S+)+)", text, re.MULTILINE))


def overridden(text: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+); sys_platform == 'never'$", text, re.MULTILINE))


def test_locks_differ_in_what_is_left_out_and_in_nothing_else() -> None:
    plain, trimmed = locked("monai-label-plain"), locked("monai-label")
    assert len(plain) > 100
    assert {name: plain[name] for name in trimmed} == trimmed
    assert plain.keys() - trimmed.keys() == overridden(LEFT_OUT)


def test_plain_lock_says_what_it_is_for() -> None:
    head = (REQUIREMENTS / "monai-label-plain.lock").read_text().splitlines()[1]
    assert "make locks" in head and "for tests and benchmarks, in no image" in head


def test_what_is_left_out_has_a_reason_and_a_day() -> None:
    assert {name for _, name in locks.REVIEW.findall(LEFT_OUT)} == overridden(LEFT_OUT)
    # Nothing else stands in the file: what follows no such comment would be left out without a reason.
    rest = [line for line in LEFT_OUT.splitlines() if line and not line.startswith("#")]
    assert len(rest) == len(overridden(LEFT_OUT))


def test_a_review_is_overdue_from_the_day_after() -> None:
    text = "# why. Review by 2027-06-30\na-b; x\n# why. Review by 2028-06-30\nc>=1\n"
    assert locks.overdue(text, date(2027, 6, 30)) == []
    assert locks.overdue(text, date(2027, 7, 1)) == ["a-b"]


@pytest.mark.parametrize("lock", locks.LOCKS, ids=lambda lock: lock.name)
def test_lock_is_made_of_what_is_there(lock: locks.Lock) -> None:
    named = [Path(word) for word in locks.command(lock) if word.startswith("requirements/")]
    assert [path for path in named if not (paths.ROOT / path).exists()] == []
    assert (REQUIREMENTS / f"{lock.name}.lock").read_text().splitlines()[1].strip("# ") == locks.header(lock)


def test_executed_names_each_part_that_no_gpu_has_done_without() -> None:
    text = (paths.ROOT / "docs/executed.md").read_text()
    assert [name for name in overridden(LEFT_OUT) if f"`{name}`" not in text] == []
    role = yaml.safe_load((paths.ROOT / "ansible/roles/monai_label/vars/main.yml").read_text())
    removed = role["__monai_label_left_out"]
    assert [row["glob"] for row in removed if f"`{row['glob']}`" not in text] == []
    assert [row["glob"] for row in removed if not row["reason"]] == []
