"""An account whose group serves and whose channel names a version, copied for each test.

To make it takes longer than most of what a test does with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.aws import rollouts
from tests.aws.account import ACCOUNT, REGION, Seeded, seed
from tests.aws.rollouts import FIRST, Clients, Put
from tests.emulator.fixtures import _client
from tests.emulator.handle import Copy, Process


def maker(endpoint: str) -> Clients:
    """Return what makes clients of an emulator, as the fixture ``client`` does."""

    def make(service: str, region: str = REGION, account: str = ACCOUNT) -> object:
        return _client(endpoint, service, region, f"AKIAKILN{account}", None)

    return make


@dataclass(frozen=True)
class Ground:
    """The account, and what there is in it."""

    process: Process
    seeded: Seeded
    put: Put


@pytest.fixture(scope="session")
def _ground() -> Iterator[Ground]:
    with Process() as process:
        process.reset()
        client = maker(process.endpoint)
        seeded = seed(client)
        rollouts.settle(client)
        put = rollouts.put(client, FIRST, key=seeded.keys[REGION])
        rollouts.promote(client, put)
        # AWS's time goes by in steps of two minutes.
        process.settings(describe_seconds=120)
        yield Ground(process, seeded, put)


@pytest.fixture
def emulator(_ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copy]:
    """A copy of the account; the environment leads kiln to it."""
    with _ground.process.fork() as copy:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_CONFIG_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", copy.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKIAKILN{ACCOUNT}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("KILN_POLL_SECONDS", "0")
        yield copy


@pytest.fixture
def client(emulator: Copy) -> Clients:
    """Make a client of the copy: of our account, or of another by its number."""
    return maker(emulator.endpoint)


@pytest.fixture
def seeded(_ground: Ground) -> Seeded:
    """What the account has; see :func:`tests.aws.account.seed`."""
    return _ground.seeded


@pytest.fixture
def ready(_ground: Ground, emulator: Copy, kiln_toml: Path) -> Put:
    """The version that the channel names and the group does not run yet; a refresh has short pauses."""
    rollouts.hurry(kiln_toml)
    return _ground.put
