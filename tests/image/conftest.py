"""Where the checks of an image look: a root folder (KILN_ROOT), or what --hosts names."""

from __future__ import annotations

import os

import pytest
import testinfra
from testinfra.host import Host

from tests.image.tree import Tree


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sealed: holds only on a root that the role seal has seen")


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Host:
    if hosts := request.config.getoption("hosts"):
        return testinfra.get_hosts([hosts], ssh_config=request.config.getoption("ssh_config"))[0]
    root = os.environ.get("KILN_ROOT")
    if not root:
        pytest.fail("name what to check: KILN_ROOT=FOLDER or --hosts=…", pytrace=False)
    return testinfra.get_host(root, connection="chroot")


@pytest.fixture(scope="session")
def tree(host: Host) -> Tree:
    """Every path of the root file system, listed once for all checks."""
    return Tree.scan(host)
