"""Names and tags that are derived, never chosen: a second run finds by them what the first has made."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime

PREFIX = "kiln:"
PROJECT = f"{PREFIX}project"
IMAGE = f"{PREFIX}image"
VERSION = f"{PREFIX}version"
INPUT_DIGEST = f"{PREFIX}input-digest"
MANIFEST_DIGEST = f"{PREFIX}manifest-digest"
PARENT = f"{PREFIX}parent"
RUN = f"{PREFIX}run"
REVOKED = f"{PREFIX}revoked"
PROTECTED = f"{PREFIX}protected"
TARGET = f"{PREFIX}target"
SEEN = f"{PREFIX}seen"
"""When a sweep first saw something whose age AWS does not tell."""


def ami(project: str, image: str, version: str) -> str:
    """Name of an AMI; unique per account and region, as AWS asks."""
    return f"{project}-{image}-{version}"


def channel(project: str, image: str, name: str) -> str:
    """Name of the SSM parameter of a channel."""
    return f"/{project}/{image}/{name}"


def token(*parts: str) -> str:
    """A client token: the same for the same parts, so that a request sent twice acts once.

    Returns
    -------
    str
        64 hexadecimal digits, the most that EC2 takes.
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def tags(given: dict[str, str]) -> list[dict[str, str]]:
    """Tags as most of AWS's services take them, sorted by key."""
    return [{"Key": key, "Value": value} for key, value in sorted(given.items())]


def read(found: list[dict[str, str]] | None) -> dict[str, str]:
    """Tags as a mapping; an answer without any has none."""
    return {tag["Key"]: tag["Value"] for tag in found or []}


def run_id(prefix: str = "aws") -> str:
    """Make the id of a run, for its tags and user agent; :func:`started` reads the time out of it.

    Parameters
    ----------
    prefix:
        What runs, a word.
    """
    return f"{prefix}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


def started(run: str) -> datetime | None:
    """Return when a run began, by its id; None where the id does not tell."""
    found = re.search(r"\d{8}T\d{6}Z", run)
    if found is None:
        return None
    try:
        return datetime.strptime(found[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
