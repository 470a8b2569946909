"""Children: their output, their failure, and their end with ours."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kiln.errors import KilnError
from scripts import proc


def test_lines_come_as_they_are_written_and_stay_in_the_log(tmp_path: Path) -> None:
    seen: list[str] = []
    proc.run(["sh", "-c", "echo one; echo two >&2"], tmp_path / "log", what="talking", on_line=seen.append)
    assert seen == ["one", "two"]
    assert "one\ntwo" in (tmp_path / "log").read_text()


def test_a_failure_names_the_step_its_code_and_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match=r"baking failed \(exit code 7\): no flour") as caught:
        proc.run(["sh", "-c", "echo no flour; exit 7"], tmp_path / "log", what="baking")
    assert str(tmp_path / "log") in caught.value.hint


def test_a_missing_program_is_told(tmp_path: Path) -> None:
    with pytest.raises(KilnError, match="no-such-program is not installed"):
        proc.run(["no-such-program"], tmp_path / "log", what="baking")
    with pytest.raises(KilnError, match="no-such-program is not installed"):
        proc.output(["no-such-program"], what="baking")


def test_a_silent_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(KilnError, match="took longer than 1 s"):
        proc.run(["sleep", "60"], tmp_path / "log", what="waiting", timeout=1)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_no_child_outlives_kiln(tmp_path: Path, sig: signal.Signals) -> None:
    program = (
        "import sys; from pathlib import Path; from scripts import proc\n"
        "proc.run(['sh', '-c', 'echo $$; exec sleep 300'], Path(sys.argv[1]), what='x', on_line=print)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-u", "-c", program, tmp_path / "log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(sig)
    parent.wait(30)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_output_tells_what_the_program_said() -> None:
    with pytest.raises(KilnError, match="asking failed: it is raining"):
        proc.output(["sh", "-c", "echo it is raining >&2; exit 1"], what="asking")
    assert proc.output(["echo", "fine"], what="asking") == "fine\n"
