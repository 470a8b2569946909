"""What a long command shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from kiln.progress import Progress, clock


def _progress() -> tuple[Progress, io.StringIO]:
    said = io.StringIO()
    return Progress("title", Console(file=said, width=60)), said


def test_each_stage_and_each_detail_is_one_line_without_a_terminal() -> None:
    progress, said = _progress()
    with progress, progress.stage("packer"):
        progress.detail("base : [a task] " + "x" * 90)
    lines = said.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[1] == "[0:00] packer …"
    assert "base : [a task]" in lines[2]
    assert set(progress.seconds) == {"packer"}


def test_a_failed_stage_says_where_it_was() -> None:
    progress, said = _progress()
    with pytest.raises(RuntimeError), progress, progress.stage("disk"):
        progress.detail("root file system")
        raise RuntimeError
    assert "✗ disk" in said.getvalue().splitlines()[-1]
    assert "root file system" in said.getvalue().splitlines()[-1]
    assert progress.seconds == {}


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.9, 61, 3600)] == ["0:00", "0:59", "1:01", "60:00"]
