"""Pieces of a root folder, planted for a test."""

from __future__ import annotations

from pathlib import Path

SITE = "opt/monai-label/venv/lib/python3.11/site-packages"


def put(path: Path, data: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def add_distribution(root: Path, name: str, version: str, licence: str = "", site: str = SITE) -> Path:
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{licence}"
    return put(
        root / site / f"{name.replace('-', '_')}-{version}.dist-info/METADATA",
        f"{head}\nName: a description\n",
    )
