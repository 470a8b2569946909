"""Runs kiln on the tiny image, and looks for what a run left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from kiln import paths
from scripts import engine, workspace

KILN = Path(sys.executable).parent / "kiln"
CONFIG = paths.ROOT / "tests/fixtures/tiny/kiln.toml"
IMAGE = "tiny"
BAKE = {"inputs": 0.3, "base": 0.7, "packer": 5.0, "facts": 0.05, "disk": 0.7, "sbom": 0.05}
PROOF = {"static": 0.7, "files": 0.05, "boot": 5.0, "live": 0.7, "shutdown": 0.1, "second boot": 5.0}
STAGES = {**BAKE, **PROOF}
"""Every stage in order, and how far into it a signal is sent, in seconds: its middle, on an idle machine."""


def stages(said: str) -> set[str]:
    """Stages that begin in the output of a bake."""
    return set(re.findall(r"^\[[\d:]+\] (\S.*) …$", said, re.MULTILINE))


@dataclass
class Bakery:
    """A build folder of its own.

    Parameters
    ----------
    build:
        Stands for ``build/``.
    env:
        Variables beside ours.
    """

    build: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the versions of the tiny image lie."""
        return self.build / IMAGE

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KILN_BUILD": str(self.build), **self.env}

    def kiln(self, *arguments: str | Path, config: Path = CONFIG) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [KILN, *(str(a) for a in arguments), *(("--config", str(config)) if "bake" in arguments else ())],
            capture_output=True,
            text=True,
            env=self._environment(),
            timeout=1200,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; what it says comes line by line."""
        return subprocess.Popen(
            [KILN, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )

    def interrupt(
        self, stage: str, sig: signal.Signals, after: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Bake, and send a signal to kiln alone some seconds after a stage began."""
        if stage in BAKE:
            # A signal that came just after its stage left a whole version, which would only be proven.
            for version in self.folder.glob("2*"):
                workspace.remove_tree(version)
        child = self.start("bake", IMAGE, "--config", str(CONFIG))
        assert child.stdout is not None
        said = []
        for line in child.stdout:
            said.append(line)
            if line.rstrip().endswith(f"] {stage} …"):
                time.sleep(STAGES[stage] if after is None else after)
                child.send_signal(sig)
                break
        rest, _ = child.communicate(timeout=120)
        self.stages |= stages("".join(said))
        return subprocess.CompletedProcess(child.args, child.returncode, "".join(said) + rest, "")

    def containers(self) -> list[str]:
        """Containers of any run of kiln in this build folder."""
        listing = ["ps", "--all", "--format", "{{.Names}}", "--filter", f"label={engine.LABEL}"]
        said = [found.call(*listing) for found in engine.answering()]
        assert not any(done.returncode for done in said), said
        names = [name for done in said for name in done.stdout.split()]
        runs = {path.name for path in (self.folder / ".work").glob("*")} | self.runs
        return [name for name in names if name.rpartition("-")[2] in runs]

    stages: set[str] = field(default_factory=set)
    """Stages that were seen to begin."""

    runs: set[str] = field(default_factory=set)
    """Ids of runs seen so far: their containers must be gone though their folders are."""

    def remember(self) -> None:
        """Note the runs whose work folders are there now."""
        self.runs |= {path.name for path in (self.folder / ".work").glob("*")}

    def mounts(self) -> list[str]:
        """Mount points below the build folder."""
        table = Path("/proc/self/mounts").read_text().splitlines()
        return [p for p in (line.split()[1] for line in table) if p.startswith(f"{self.folder}/")]

    def processes(self) -> list[str]:
        """Command lines of processes that work on the build folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in line:
                found.append(line[:200])
        return found

    def half_made(self) -> list[str]:
        """What lies in the image's folder that is neither a whole version, nor logs, nor the lock."""
        whole = {p.parent.name for p in self.folder.glob("*/manifest.json")} | {"logs", ".lock", "latest"}
        return sorted(p.name for p in self.folder.iterdir() if p.name not in whole)

    def left(self) -> dict[str, list[str]]:
        """Everything that a run left behind; empty lists when it left nothing."""
        return {
            "containers": self.containers(),
            "mounts": self.mounts(),
            "processes": self.processes(),
            "half-made": self.half_made(),
        }


NOTHING: dict[str, list[str]] = {"containers": [], "mounts": [], "processes": [], "half-made": []}
