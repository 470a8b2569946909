"""A builder that is a folder of this machine: real processes, a real Ansible, a stand-in of AWS's program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kiln.appstream import Builder
from launch.builder_host import Answer
from tests.aws.conftest import ACCOUNT, REGION

PROGRAM = Path(__file__).parent / "image_assistant.py"


@dataclass
class Local:
    """A host whose commands run here.

    Parameters
    ----------
    folder:
        Its state: the catalogue, what the playbook leaves.
    emulator:
        Address of the emulator.
    builder:
        Name of the builder that it stands for.
    connect:
        What it passes for.
    closed:
        How many commands fail before somebody lets us in.
    """

    folder: Path
    emulator: str
    builder: str = "kiln-slicer-builder"
    connect: Literal["winrm", "ssh"] = "ssh"
    closed: int = 0
    interrupted: str = ""

    @property
    def assistant(self) -> list[str]:
        return [sys.executable, str(PROGRAM)]

    @property
    def leave(self) -> list[str]:
        return ["touch", str(self.folder / "left")]

    @property
    def state(self) -> Path:
        return self.folder / "assistant.json"

    def tell(self, **what: Any) -> None:
        """Change what the stand-in goes by."""
        kept = json.loads(self.state.read_text()) if self.state.exists() else {"applications": []}
        self.state.write_text(json.dumps(kept | what))

    def asked(self) -> list[str]:
        """Operations of the Image Assistant, in order."""
        kept = json.loads(self.state.read_text()) if self.state.exists() else {}
        return [each[0] + (" --dry-run" if "--dry-run" in each else "") for each in kept.get("asked", [])]

    def run(self, command: list[str], seconds: float) -> Answer:
        if self.closed:
            self.closed -= 1
            return Answer(None, "", "connection refused")
        if self.interrupted and self.interrupted in command:
            raise KeyboardInterrupt
        environment = {
            "ASSISTANT_STATE": str(self.state),
            "ASSISTANT_EMULATOR": self.emulator,
            "ASSISTANT_ACCOUNT": ACCOUNT,
            "ASSISTANT_REGION": REGION,
            "ASSISTANT_BUILDER": self.builder,
        }
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        # A process that was killed has told nobody how it went.
        return Answer(done.returncode if done.returncode >= 0 else None, done.stdout, done.stderr)

    def variables(self) -> dict[str, Any]:
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "trace": str(self.folder / "trace"),
        }

    def environment(self) -> dict[str, str]:
        return {}

    def reach(self, builder: Builder, address: str, secret: str, folder: Path) -> Local:
        """The way in, as :data:`launch.builder_job.Reach` has it."""
        assert address and secret
        return self
