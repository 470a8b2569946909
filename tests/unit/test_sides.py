"""The two workers of ``make test``: guests and servers on one, all else on the other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kiln import paths

NOTE = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_one(number):
    with pathlib.Path("seen").open("a") as seen:
        seen.write(f"{pathlib.Path(__file__).parent.name} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


FOLDERS = ("guest", "gateway", "server", "molecule", "defects", "coverage")
"""As make test names them: coverage is judged when the others have run."""


@pytest.mark.parametrize("options", [["--dist", "loadscope"], ["--dist", "load"]], ids=" ".join)
def test_what_shares_containers_shares_a_worker(tmp_path: Path, options: list[str]) -> None:
    for name in FOLDERS:
        (tmp_path / "tests" / name).mkdir(parents=True)
        (tmp_path / "tests" / name / f"test_{name}.py").write_text(NOTE)
    shutil.copy(paths.ROOT / "tests/conftest.py", tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", *options, *(f"tests/{name}" for name in FOLDERS)],
        cwd=tmp_path, env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "24 passed" in done.stdout, done.stdout + done.stderr
    rows = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    processes = {worker for folder, worker in rows if folder in FOLDERS[:3]}
    containers = {worker for folder, worker in rows if folder in FOLDERS[3:]}
    apart = len(processes) == len(containers) == 1 and processes.isdisjoint(containers)
    assert apart is ("loadscope" in options)
    if apart:
        order = [folder for folder, _ in rows if folder in FOLDERS[3:]]
        assert order == sorted(order, key=FOLDERS.index)
