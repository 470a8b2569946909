"""What an image of a builder is made from, as a digest: a run finds by it what an earlier one has made."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from kiln import paths
from kiln.appstream import Appstream
from kiln.config import Image
from kiln.errors import UsageError
from kiln.manifest import sha256_file

ROLES = paths.ROOT / "ansible/roles"
_IGNORED = {"__pycache__", ".pytest_cache"}


def roles(playbook: Path) -> list[str]:
    """Return the roles that a playbook names, sorted.

    Raises
    ------
    UsageError
        It is no playbook.
    """
    try:
        plays = yaml.safe_load(playbook.read_text(encoding="utf-8")) or []
        entries = [role for play in plays for role in play.get("roles") or []]
        return sorted(
            {
                str(entry.get("role") or entry["name"]) if isinstance(entry, dict) else str(entry)
                for entry in entries
            }
        )
    except (OSError, UnicodeError, yaml.YAMLError, TypeError, AttributeError, KeyError) as error:
        what = " ".join(str(error).split())[:200]
        raise UsageError(f"{playbook} is no playbook: {what}", "correct it, or name another one") from None


def digest(image: Image, said: Appstream, base: str) -> str:
    """Return the digest of everything that goes into an image of a builder.

    Parameters
    ----------
    image, said:
        Its section of kiln.toml, and the part about AppStream.
    base:
        Name of the AppStream image that the builder starts from.

    Returns
    -------
    str
        sha256, over the playbook, its roles, our modules of Ansible, the sections, the base.

    Raises
    ------
    UsageError
        The playbook is none.
    """
    found = [image.playbook, paths.ROOT / "ansible.cfg", *(paths.ROOT / "ansible/library").glob("*.py")]
    for role in roles(image.playbook):
        found += [p for p in (ROLES / role).rglob("*") if p.is_file() and not _IGNORED & set(p.parts)]
    files = {
        str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path.name): sha256_file(path)
        for path in found
    }
    settings: dict[str, Any] = image.model_dump(mode="json", exclude={"publish", "playbook", "template"})
    body = {"files": files, "image": settings, "appstream": said.model_dump(mode="json"), "base": base}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def version(of: str) -> str:
    """Return a new version for a digest: the time, and its first eight digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{of[:8]}"
