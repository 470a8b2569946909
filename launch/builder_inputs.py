"""What an image of a builder is made from, as a digest: a run finds by it what an earlier one has made."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from kiln import appstream, paths, slicer
from kiln.appstream import Appstream, Builder
from kiln.config import Image
from kiln.errors import UsageError
from kiln.manifest import Inputs, sha256_file

ROLES = paths.ROOT / "ansible/roles"

SYSTEMS: dict[str, slicer.System] = {"winrm": "windows", "ssh": "linux"}
"""Way into a builder → what it runs."""

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


def variables(image: Image, said: Appstream, builder: Builder) -> dict[str, Any]:
    """Return the variables that the playbook gets for its roles, and no other role's.

    Parameters
    ----------
    image, said, builder:
        Its section of kiln.toml, the part about AppStream, and the builder's.

    Raises
    ------
    UsageError
        The playbook is none, or kiln.toml does not say what a role needs.
    """
    system = SYSTEMS[builder.connect]
    of_role: dict[str, Callable[[], dict[str, Any]]] = {
        "slicer": lambda: slicer.variables(image.slicer, system),
        "appstream": lambda: {"appstream_way": "builder", **appstream.variables(said)},
    }
    found = set(roles(image.playbook))
    return {key: value for role, of in of_role.items() if role in found for key, value in of().items()}


def resolve(image: Image, said: Appstream, builder: Builder, base: str) -> Inputs:
    """Return everything that goes into an image of a builder.

    Parameters
    ----------
    image, said, builder:
        Its section of kiln.toml, the part about AppStream, and the builder's.
    base:
        Name of the AppStream image that the builder starts from.

    Returns
    -------
    Inputs
        The playbook, its roles and our modules of Ansible; the variables and the sections; the base.

    Raises
    ------
    UsageError
        The playbook is none, or kiln.toml does not say what a role needs.
    """
    found = [image.playbook, paths.ROOT / "ansible.cfg", *(paths.ROOT / "ansible/library").glob("*.py")]
    for role in roles(image.playbook):
        found += [p for p in (ROLES / role).rglob("*") if p.is_file() and not _IGNORED & set(p.parts)]
    files = {
        str(path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path.name): sha256_file(path)
        for path in sorted(set(found))
    }
    # How the image is called and tested counts too: it is part of what AppStream keeps.
    sections = {
        "image": image.model_dump(mode="json", exclude={"publish", "playbook", "template", "appstream"}),
        "appstream": said.model_dump(mode="json"),
    }
    return Inputs(
        destination="builder",
        files=files,
        variables={**variables(image, said, builder), **sections},
        base_lock=hashlib.sha256(base.encode()).hexdigest(),
        tools={"ansible-core": importlib.metadata.version("ansible-core")},
    )


def version(of: str) -> str:
    """Return a new version for a digest: the time, and its first eight digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{of[:8]}"
