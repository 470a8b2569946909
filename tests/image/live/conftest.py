"""What a booted guest says of itself, asked once for all checks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

from tests.image.live.asked.program import program


@pytest.fixture(scope="session")
def guest(request: pytest.FixtureRequest, host: Host) -> dict[str, Any]:
    roles = sorted({item.path.stem.removeprefix("test_") for item in request.session.items})
    done = host.run("sudo python3 -c %s", program(roles))
    assert done.rc == 0, f"the guest cannot be asked: {done.stderr.strip()[-300:]}"
    said: dict[str, Any] = json.loads(done.stdout)
    return said
