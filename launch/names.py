"""Names and tags that are derived, never chosen: a second run finds by them what the first has made."""

from __future__ import annotations

import hashlib

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
