"""Processes of a killed run are waited for, ended when they stay, and no other process is touched."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import stragglers, workspace

RUN = secrets.token_hex(6)
"""Of this worker alone: another runs another of these tests meanwhile."""

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
)
WRITER = """
import itertools, pathlib, sys, time
folder, end = pathlib.Path(sys.argv[1]), time.monotonic() + 3
for number in itertools.count():
    folder.mkdir(parents=True, exist_ok=True)
    (folder / str(number)).touch()
    if not number:
        print(1, flush=True)
    if time.monotonic() > end:
        break
"""


@pytest.mark.parametrize("where", ["command line", "environment"])
def test_one_that_stays_is_killed_and_no_other(where: str) -> None:
    named = [RUN] if where == "command line" else []
    env = {**os.environ, **({} if named else {"TMPDIR": f"/tmp/kiln-{RUN}"})}
    program = [sys.executable, "-c", STUBBORN]
    with (
        subprocess.Popen([*program, *named], stdout=subprocess.PIPE, env=env) as child,
        subprocess.Popen(program, stdout=subprocess.PIPE) as stranger,
    ):
        for each in (child, stranger):
            assert each.stdout is not None
            each.stdout.readline()
        assert list(stragglers.of(RUN)) == [child.pid]
        stragglers.end(RUN, patience=0.3)
        assert child.wait(timeout=5) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()


def test_one_that_ends_by_itself_is_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)", RUN]) as child:
        stragglers.end(RUN, patience=20)
        assert child.wait(timeout=5) == 0


def test_a_sweep_waits_for_who_still_writes(tmp_path: Path) -> None:
    folder = tmp_path / workspace.WORK / RUN
    folder.mkdir(parents=True)
    program = [sys.executable, "-c", WRITER, str(folder / "packer/a")]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert workspace.sweep(tmp_path) == [RUN]
        assert not folder.exists()
        assert child.wait(timeout=5) == 0
