"""The steps of make test that run side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lanes import Lane, Step, side_by_side


def step(name: str, code: str) -> Step:
    return Step(name, [sys.executable, "-c", f"import signal, sys, time, pathlib\n{code}"])


def waits_for(path: Path) -> str:
    return f"while not pathlib.Path({str(path)!r}).exists(): time.sleep(0.01)\n"


def touches(path: Path) -> str:
    return f"pathlib.Path({str(path)!r}).touch()\n"


def test_lanes_run_at_once_and_the_steps_of_one_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lanes = (
        Lane([step("a", touches(first) + waits_for(second))]),
        Lane([step("b", waits_for(first)), step("c", touches(second))], shown=False),
    )
    assert side_by_side(lanes) == 0


def test_what_is_not_shown_is_printed_whole_when_it_ended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said, seen = tmp_path / "said", tmp_path / "seen"
    hidden = "print(1, flush=True)\n" + touches(said) + waits_for(seen) + "print(2, file=sys.stderr)\n"
    lanes = (
        Lane([step("hidden", hidden)], shown=False),
        Lane([step("shown", waits_for(said) + "print(0, flush=True)\n" + touches(seen))]),
    )
    assert side_by_side(lanes) == 0
    assert capfd.readouterr().out == "== shown\n0\n== hidden\n1\n2\n"


@pytest.mark.parametrize("shown", [True, False])
def test_a_failure_interrupts_the_others_and_names_the_command(
    shown: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    up, tidied = tmp_path / "up", tmp_path / "tidied"
    other = f"try:\n    {touches(up)}    time.sleep(60)\nexcept KeyboardInterrupt:\n    {touches(tidied)}"
    lanes = (
        Lane([step("fails", waits_for(up) + "sys.exit(3)"), step("never", "")], shown=shown),
        Lane([step("other", other)]),
    )
    assert side_by_side(lanes) == 3
    assert tidied.exists()
    out, err = capfd.readouterr()
    assert err.startswith("error: fails failed\n  fix: see above; once more by: ")
    assert "never" not in out


def test_a_step_that_a_signal_ended_failed() -> None:
    killed = "import os\nos.kill(os.getpid(), signal.SIGKILL)"
    assert side_by_side((Lane([step("killed", killed)]),)) == 137
