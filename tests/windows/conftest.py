"""Rehearsals that several tests look at, each run once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.windows import archives, rehearsal
from tests.windows.machine import Machine
from tests.windows.rehearsal import Rehearsal, Trouble


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one case of each campaign; ``KILN_CAMPAIGN=whole`` (``make bench``) runs them all."""
    if os.environ.get("KILN_CAMPAIGN") == "whole":
        return
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    seen: set[str] = set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        more = item.get_closest_marker("campaign") is not None and name in seen
        (left if more else kept).append(item)
        seen.add(name)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


Run = Callable[..., Rehearsal]


@pytest.fixture(scope="module")
def variables() -> dict[str, Any]:
    """Of a fresh image with everything in it; filled by the first rehearsal."""
    return {}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, variables: dict[str, Any]) -> Rehearsal:
    """The whole playbook on a fresh Windows Server, with a driver, to be imported."""
    folder = tmp_path_factory.mktemp("fresh")
    machine = Machine(folder)
    variables |= {**archives.offered(machine), **archives.driver(machine)}
    return rehearsal.run(folder, variables)


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    """A fresh Windows Server."""
    return Machine(tmp_path / "host")


@pytest.fixture
def play(host: Machine) -> Run:
    """Run the playbook on the host."""

    def run(
        variables: Mapping[str, Any] | None = None, troubles: Mapping[str, Trouble] | None = None
    ) -> Rehearsal:
        host.save()
        given = {**archives.offered(host), **(variables or {})}
        return rehearsal.run(host.folder, given, troubles)

    return run
