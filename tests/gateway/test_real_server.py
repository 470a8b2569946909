"""The table of routes against the real server's own, and the user's name in its metadata."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kiln_auth import policy

from kiln import paths
from scripts import layer
from tests.defects.campaign import sealed_root
from tests.gateway.gateway import FILES

PYTHON = "/opt/monai-label/venv/bin/python"

pytestmark = [pytest.mark.slow, pytest.mark.root]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the server of the proven image says of itself."""
    place = tmp_path_factory.mktemp("layer")
    source = json.dumps((FILES / "kiln_identity.py").read_text())
    command = layer.command(
        sealed_root(), place, ["chroot", str(layer.merged(place)), PYTHON, "-", source]
    )  # fmt: skip
    done = subprocess.run(
        command, input=Path(__file__).with_name("real_server.py").read_text(), cwd=paths.ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "PYTHONWARNINGS": "ignore"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    yield found


def table() -> set[tuple[str, str]]:
    return {(route.method, route.path) for route in policy.ROUTES}


def test_every_route_of_the_server_is_classified(server: dict[str, Any]) -> None:
    found = {(method, path) for method, path in server["routes"]}
    unclassified = sorted(found - table())
    assert unclassified == [], f"closed until they have a row in kiln_auth/policy.py: {unclassified}"


def test_every_row_is_a_route_of_the_server(server: dict[str, Any]) -> None:
    found = {(method, path) for method, path in server["routes"]}
    assert sorted(table() - found) == []


def test_what_we_read_holds_all_that_its_openapi_shows(server: dict[str, Any]) -> None:
    assert server["missed"] == []
    assert len(server["openapi"]) > 25


def test_the_users_name_is_in_the_metadata_whatever_the_client_says(server: dict[str, Any]) -> None:
    assert server["told"] == [
        ["label", "a", {"label_info": [], "user": "ann"}],
        ["label", "a", {"label_info": [], "user": "local"}],
        ["label", "b", {"user": "bob"}],
        ["image", "c", {"user": "bob"}],
        ["info", "d", {"user": "bob"}],
    ]
