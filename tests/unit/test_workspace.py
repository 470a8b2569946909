"""Work folders: held while a run lives, cleared when it is dead, never with something mounted in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kiln.errors import KilnError
from scripts import workspace


def test_a_work_folder_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), workspace.workspace(tmp_path) as work:
        (work / "half").mkdir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_leaves_a_living_run_alone_and_clears_a_dead_one(tmp_path: Path) -> None:
    dead = tmp_path / ".work/0123456789ab"
    (dead / "root").mkdir(parents=True)
    with workspace.workspace(tmp_path) as living:
        assert workspace.sweep(tmp_path) == [dead.name]
        assert living.is_dir()
    assert not dead.exists()


@pytest.mark.root
def test_a_mount_is_unmounted_before_its_folder_goes(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("kept")
    point = tmp_path / "work/with spáce"
    point.mkdir(parents=True)
    subprocess.run(["mount", "--bind", precious, point], check=True)
    workspace.remove_tree(tmp_path / "work")
    assert not (tmp_path / "work").exists()
    assert (precious / "data").read_text() == "kept"


def test_one_run_at_a_time(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from scripts import workspace\n"
        "with workspace.claim(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(KilnError, match=str(holder.pid)), workspace.claim(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with workspace.claim(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
