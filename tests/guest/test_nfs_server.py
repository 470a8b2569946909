"""The stand-in for EFS: it answers, goes and comes back, and a killed program leaves nothing of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kiln import paths
from kiln.errors import KilnError
from scripts import nfs_server

pytestmark = [pytest.mark.slow, pytest.mark.root]


def processes(work: str) -> list[str]:
    """Command lines of processes whose root or arguments lie in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if work in (path / "mountinfo").read_text() and path.joinpath("root").readlink() != Path("/"):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_it_answers_goes_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    with nfs_server.serve(tmp_path / "export", tmp_path) as server:
        port = server.port
        assert len(processes(str(server.work))) == 2
        server.stop()
        assert processes(str(server.work)) == []
        server.start()
        assert server.port == port
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_killed_program_leaves_nothing_running(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    program = (
        "import time; from pathlib import Path; from scripts import nfs_server\n"
        f"with nfs_server.serve(Path({str(tmp_path / 'export')!r}), Path({str(tmp_path)!r})):\n"
        "    print('up', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=paths.ROOT
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    assert len(processes(str(tmp_path))) == 2
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 10
    while processes(str(tmp_path)):
        assert time.monotonic() < deadline, processes(str(tmp_path))
        time.sleep(0.1)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "export"):
        (tmp_path / name).mkdir()
    options = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "export"], check=True)
    try:
        with (
            pytest.raises(KilnError, match="is on an overlay"),
            nfs_server.serve(tmp_path / "export", tmp_path),
        ):
            pass
    finally:
        subprocess.run(["umount", tmp_path / "export"], check=True)
