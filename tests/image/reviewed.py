"""What was reviewed (reviewed.toml), as the checks ask for it."""

from __future__ import annotations

import tomllib
from pathlib import Path

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())

KEYS_EVERYWHERE: dict[str, str] = _TABLES["keys"]["everywhere"]
"""Fingerprint of a key that signs for any repository → whose it is."""

KEYS_SIGNED_BY: dict[str, str] = _TABLES["keys"]["signed-by"]
"""Fingerprint of a key that signs for one repository → whose it is."""

REPOSITORIES: dict[str, str] = _TABLES["repositories"]
"""Address of a repository that is not the distribution's → why it is there."""

UNITS: dict[str, str] = _TABLES["units"]
"""Unit or generator that is enabled in /etc → role, and why."""

PRIVILEGED: dict[str, str] = _TABLES["privileged"]
"""Path of a program with set-uid or set-gid → why."""

WRITABLE: dict[str, str] = _TABLES["writable"]
"""Folder that everybody may write to → why."""
