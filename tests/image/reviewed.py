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
"""Address and suite of a repository that is not the distribution's → why it is there."""

UNITS: dict[str, str] = _TABLES["units"]
"""Unit or generator that is enabled in /etc → role, and why."""

WRITTEN: dict[str, str] = _TABLES["written"]
"""Unit file in /etc/systemd/system → role, and why."""

ALIASES: dict[str, str] = _TABLES["aliases"]
"""``other name = unit`` in /etc/systemd/system → role, and why."""

DROP_INS: dict[str, str] = _TABLES["drop-ins"]
"""``unit.d/file.conf`` in /etc/systemd/system → role, and why."""

PRIVILEGED: dict[str, dict[str, str]] = _TABLES["privileged"]
"""Path of a program with set-uid or set-gid → what it ``is``, mode and owners, and ``why``."""

CAPABILITIES: dict[str, dict[str, str]] = _TABLES["capabilities"]
"""Path of a program with capabilities → what ``is`` said of them, and ``why``."""

MATCHES: dict[str, str] = _TABLES["matches"]
"""Block of sshd's settings that is for some alone → why."""

WRITABLE: dict[str, str] = _TABLES["writable"]
"""Folder that everybody may write to → why."""
