"""Our programs as processes of their own, beside a stand-in of the server, in a folder of a test."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kiln import paths

FOLDERS = [paths.ROOT / "ansible/roles" / each for each in ("health/files", "monai_label/files")]
PATH = os.pathsep.join(str(folder) for folder in FOLDERS)

for _folder in FOLDERS:
    sys.path.insert(0, str(_folder))


def until(what: Callable[[], object], seconds: float = 40.0) -> None:
    """Wait until something is so; the test fails where it does not come."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


class Bench:
    """A server and our programs.

    Parameters
    ----------
    folder:
        Of the test.
    """

    def __init__(self, folder: Path) -> None:
        self.runtime = folder / "monai-label"
        self.drain = folder / "kiln-drain"
        self.health = folder / "kiln-health"
        self.state = folder / "state"
        for each in (self.runtime, self.drain, self.health, self.state):
            each.mkdir()
        (folder / "weights.json").write_text('{"models": ["segmentation_spleen"]}')
        self.processes: list[subprocess.Popen[str]] = []
        self.port = 0
        self.settings = {
            "TABLE": str(self.runtime / "inflight"),
            "STOPPING": str(self.runtime / "closed"),
            "DRAINING": str(self.drain / "closed"),
            "CGROUP": str(self.runtime / "cgroup.procs"),
            "MODELS": str(folder / "weights.json"),
            "EFS": str(folder / "efs.env"),
            "EFS_STATUS": str(folder / "efs.json"),
            "NGINX": str(folder / "nginx.sock"),
            "SOCKET": str(self.health / "http.sock"),
            "SMI": str(folder / "nvidia-smi"),
            "GPU_WANTED": "none",
            "DISK_FREE": "1",
            "METADATA": "127.0.0.1:9",
            "IMDS": "0.5",
            "PYTHON": sys.executable,
        }

    def environment(self) -> dict[str, str]:
        """Of our programs."""
        ours = {f"KILN_HEALTH_{name}": value for name, value in self.settings.items()}
        more = {"RUNTIME_DIRECTORY": str(self.health), "STATE_DIRECTORY": str(self.state)}
        return {**os.environ, "PYTHONPATH": PATH, **ours, **more}

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a program."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=self.environment(), cwd=paths.ROOT,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def serve(self) -> subprocess.Popen[str]:
        """Start the stand-in of the server."""
        process = self.start("tests.emulator.standin", str(self.runtime), "0")
        assert process.stdout
        self.port = int(process.stdout.readline())
        self.settings["PORT"] = str(self.port)
        return process

    def ask(self, method: str, path: str, seconds: float = 30.0) -> tuple[int, str]:
        """Ask the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def ask_health(self, path: str) -> tuple[int, bytes]:
        """Ask kiln-health; 0 where it does not listen yet."""
        from kiln_instance import wire

        try:
            return wire.exchange(self.settings["SOCKET"], "GET", path, seconds=5.0)
        except (TimeoutError, FileNotFoundError, ConnectionError):
            return 0, b""

    def end(self) -> None:
        """End everything that was started, trainings too."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(10)
            if process.stdout:
                process.stdout.close()
