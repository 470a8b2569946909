"""The host that stands in for Windows: what is on it, kept in a folder between the calls of a run."""

from __future__ import annotations

import hashlib
import json
import ntpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FACTS: dict[str, Any] = {
    "ansible_architecture": "64-bit",
    "ansible_architecture2": "x86_64",
    "ansible_distribution": "Microsoft Windows Server 2022 Datacenter",
    "ansible_distribution_major_version": "10",
    "ansible_distribution_version": "10.0.20348.0",
    "ansible_env": {"ProgramData": "C:\\ProgramData", "SystemRoot": "C:\\Windows"},
    "ansible_hostname": "EC2AMAZ-KILN",
    "ansible_os_family": "Windows",
    "ansible_os_installation_type": "Server",
    "ansible_os_name": "Microsoft Windows Server 2022 Datacenter",
    "ansible_os_product_type": "server",
    "ansible_powershell_version": 5,
    "ansible_system": "Win32NT",
    "ansible_user_id": "Administrator",
}
"""What ``ansible.windows.setup`` gathers of such a host, as far as anything of ours reads it."""

NDP = "HKLM:\\SOFTWARE\\Microsoft\\NET Framework Setup\\NDP\\v4\\Full"
POWERSHELL = "HKLM:\\SOFTWARE\\Microsoft\\PowerShell\\3\\PowerShellEngine"

FRESH: dict[str, Any] = {
    "facts": FACTS,
    "folders": ["C:\\", "C:\\ProgramData", "C:\\Program Files", "C:\\Windows"],
    "files": {"C:\\Program Files\\Amazon\\EC2Launch\\EC2Launch.exe": ""},
    "registry": {
        f"{NDP}|Release": {"type": "REG_DWORD", "value": 528449},
        f"{POWERSHELL}|PowerShellVersion": {"type": "REG_SZ", "value": "5.1.20348.2849"},
    },
    "environment": {},
    "rights": {},
    "inherits": {},
    "features": ["FileAndStorage-Services", "NET-Framework-45-Core", "PowerShell"],
    "listens": [135, 445, 3389, 5985, 5986],
    "updates": [["KB5044281"], []],
    "serves": {},
    "applications": [],
    "jobs": {},
    "boots": 1,
    "away": 0,
    "off": False,
}
"""A Windows Server 2022 of AWS, as it is before a playbook has run: one round of updates is due."""


@dataclass
class Machine:
    """A host, as the calls of one run see it.

    Parameters
    ----------
    folder:
        Where it is kept: ``machine.json``, and the contents of its files by their sha256.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._path = self.folder / "machine.json"
        self._contents = self.folder / "contents"
        self._contents.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            self.state: dict[str, Any] = json.loads(json.dumps(FRESH))
            self.state["files"] = {key(name): self.keep(b"") for name in FRESH["files"]}
            self.state["folders"] = [key(name) for name in FRESH["folders"]]
            self.state["registry"] = {key(name): value for name, value in FRESH["registry"].items()}
            self.save()
        self.state = json.loads(self._path.read_text())

    def save(self) -> None:
        """Keep the state for the next call."""
        self._path.write_text(json.dumps(self.state, indent=1, sort_keys=True))

    # ---- files

    def keep(self, content: bytes) -> str:
        """Keep a content and return its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        (self._contents / digest).write_bytes(content)
        return digest

    def put(self, path: str, content: bytes) -> None:
        """Write a file; its folder has to be there, as on Windows."""
        if not self.is_folder(ntpath.dirname(path)):
            raise FileNotFoundError(f"Could not find a part of the path '{path}'.")
        self.state["files"][key(path)] = self.keep(content)

    def read(self, path: str) -> bytes | None:
        """Return what is in a file, None where there is none."""
        digest = self.state["files"].get(key(path))
        return (self._contents / digest).read_bytes() if digest else None

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder."""
        inside = key(path).rstrip("\\") + "\\"
        return key(path) in self.state["folders"] or any(self.under(inside))

    def under(self, folder: str) -> Iterator[str]:
        """Yield the files below a folder, as they are keyed."""
        inside = key(folder).rstrip("\\") + "\\"
        return (name for name in sorted(self.state["files"]) if name.startswith(inside))

    def make(self, folder: str) -> bool:
        """Make a folder with those above it; return whether it was not there."""
        if self.is_folder(folder):
            return False
        self.state["folders"].append(key(folder))
        parent = ntpath.dirname(folder)
        if parent != folder:
            self.make(parent)
        return True

    def remove(self, path: str) -> bool:
        """Remove a file or a folder with all in it; return whether it was there."""
        gone = [name for name in (key(path), *self.under(path)) if name in self.state["files"]]
        inside = key(path).rstrip("\\") + "\\"
        folders = [name for name in self.state["folders"] if name == key(path) or name.startswith(inside)]
        for name in gone:
            del self.state["files"][name]
        for name in folders:
            self.state["folders"].remove(name)
        return bool(gone or folders)

    # ---- the rest

    def serve(self, url: str, content: bytes) -> str:
        """Let the network have a file at an address; return its sha256."""
        self.state["serves"][url] = self.keep(content)
        self.save()
        return str(self.state["serves"][url])

    def served(self, url: str) -> bytes | None:
        """Return what the network has at an address."""
        digest = self.state["serves"].get(url)
        return (self._contents / digest).read_bytes() if digest else None

    def reboot(self) -> None:
        """Start again; what was running is gone."""
        self.state["boots"] += 1

    def left(self) -> dict[str, Any]:
        """What a run leaves: all but what only counts or serves."""
        kept = ("files", "registry", "environment", "applications", "rights", "inherits")
        folders = sorted(name for name in self.state["folders"] if "\\ansible-tmp-" not in name)
        return {**{name: self.state[name] for name in kept}, "folders": folders}


def key(path: str) -> str:
    """Return the one spelling of a path or of a key of the registry: Windows looks at no case."""
    return ntpath.normpath(path.replace("/", "\\")).lower()
