"""The emulator, an account in it, and a kiln.toml that fits: what every test of ``launch`` stands on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.cloud import Cloud
from tests.aws.account import (
    ACCOUNT,
    BUCKET,
    KILN_TOML,
    OTHER,
    REGION,
    REGIONS,
    ROOT,
    Seeded,
    seed,
    shared_key,
)
from tests.emulator.fixtures import _process, acting_as, client, emulator  # noqa: F401 - fixtures
from tests.emulator.handle import Emulator

__all__ = ["ACCOUNT", "BUCKET", "KILN_TOML", "OTHER", "REGION", "REGIONS", "ROOT", "Seeded", "shared_key"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one case of each campaign; ``KILN_CAMPAIGN=whole`` (``make bench``) runs them all."""
    if os.environ.get("KILN_CAMPAIGN") == "whole":
        return
    kept, dropped, seen = [], [], set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        more = item.get_closest_marker("campaign") is not None and name in seen
        (dropped if more else kept).append(item)
        seen.add(name)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


@pytest.fixture
def cloud(emulator: Emulator) -> Cloud:  # noqa: F811
    """Our account, as ``launch`` has it."""
    return Cloud(REGION, "test-run")


@pytest.fixture
def kiln_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The design's kiln.toml: an image for AMIs, one for AppStream, a target each; KILN_CONFIG names it."""
    path = tmp_path / "kiln.toml"
    path.write_text(KILN_TOML)
    monkeypatch.setenv("KILN_CONFIG", str(path))
    return path


@pytest.fixture
def seeded(client: Callable[..., Any], emulator: Emulator) -> Seeded:  # noqa: F811
    """See :func:`tests.aws.account.seed`."""
    return seed(client)
