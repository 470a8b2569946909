"""A folder of Slicer as the role leaves it, made of the role's own variables, templates and files."""

from __future__ import annotations

import base64
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from kiln import paths
from tests.slicer import standin

ROLE = paths.ROOT / "ansible/roles/slicer"


def rendered(name: str, variables: Mapping[str, object], **facts: object) -> Any:
    """A variable of the role as Ansible makes it.

    Parameters
    ----------
    name:
        One of ``vars/main.yml`` or ``defaults/main.yml``.
    variables:
        Over the defaults.
    facts:
        Over those of a Debian.
    """
    loader = DataLoader()
    known: dict[str, Any] = {}
    for file in ("defaults", "vars"):
        known |= loader.load_from_file(str(ROLE / file / "main.yml"), trusted_as_template=True)
    known |= {
        "role_path": str(ROLE),
        "ansible_managed": "by Ansible",
        "ansible_search_path": [str(ROLE)],
        "ansible_facts": {"os_family": "Debian", **facts},
        **variables,
    }
    return Templar(loader, known).template(trust_as_template("{{ " + name + " }}"))


@dataclass(frozen=True)
class Home:
    """An installed Slicer.

    Parameters
    ----------
    path:
        Its folder.
    """

    path: Path

    @property
    def ini(self) -> Path:
        """Settings of every user."""
        return self.path / "slicer.org/Slicer.ini"

    @property
    def start_up(self) -> Path:
        """What Slicer runs at every start."""
        return self.path / "kiln/slicerrc.py"

    def start(self, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Start it as a user's click does, run a line of Python in it, and let it end.

        Parameters
        ----------
        code:
            Runs after the start-up file.
        environment:
            What the session says.
        """
        usual = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(
            [self.path / "kiln/slicer", "--no-main-window", "--no-splash", "--exit-after-startup",
             "--python-code", code],
            env={**usual, "HOME": str(self.path.parent), **environment}, capture_output=True, text=True,
        )  # fmt: skip

    def server(self, **environment: str) -> str:
        """The server that the module finds in its settings after a start."""
        return self.asked("MONAILabel/serverUrl", **environment)

    def asked(self, key: str, **environment: str) -> str:
        """A setting after a start."""
        done = self.start(f"print('SAID', slicer.app.settings().value({key!r}))", **environment)
        said = [line.removeprefix("SAID ") for line in done.stdout.splitlines() if line.startswith("SAID ")]
        assert done.returncode == 0 and len(said) == 1, done.stdout + done.stderr
        return said[0]


def variables(folder: Path, **more: object) -> dict[str, object]:
    """Variables of the role for a home in a folder, where nothing of this machine's is meant."""
    places = {
        "slicer_home": str(folder / "slicer"),
        "slicer_cache": str(folder / "cache"),
        "slicer_context_file": str(folder / "session-context.json"),
    }
    return {**places, **more}


def unpacked(folder: Path) -> tuple[Home, Path]:
    """A home of the stand-in without its extension, and the extension's archive where the role has it."""
    slicer, extension = standin.archive(folder), standin.extension(folder)
    home = Home(folder / "slicer")
    with tarfile.open(slicer.path) as tar:
        tar.extractall(folder)
    (folder / slicer.path.name.removesuffix(".tar.gz")).rename(home.path)
    wanted = rendered("__slicer_downloads", variables(folder))[1]["file"]
    (folder / "cache").mkdir()
    return home, extension.path.rename(folder / "cache" / wanted)


def installed(folder: Path, **more: object) -> Home:
    """Make a home as the role would.

    Parameters
    ----------
    folder:
        Where it is made.
    more:
        Variables of the role.
    """
    home, _ = unpacked(folder)
    known = variables(folder, slicer_kind="stand-in", **more)
    write(rendered("__slicer_files", known))
    arguments = [home.path / "Slicer", *rendered("__slicer_extension_arguments", known)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = base64.b64encode((home.path / "kiln/extension.json").read_bytes()).decode()
    known |= {"__slicer_report": {"content": report}, "__slicer_licences": {"files": []}}
    files = rendered("__slicer_repairs", known) + rendered("__slicer_linux_files", known)
    write(one for one in files if one["dest"].startswith(str(home.path)))
    return home


def write(files: Any) -> None:
    """Write files as the role's module does."""
    for one in files:
        path = Path(one["dest"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(one["content"])
        path.chmod(int(one.get("mode", "0644"), 8))
