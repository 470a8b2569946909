"""The emulator, an account in it, and a kiln.toml that fits: what every test of ``launch`` stands on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
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
from tests.emulator.handle import Emulator, Process

__all__ = ["ACCOUNT", "BUCKET", "KILN_TOML", "OTHER", "REGION", "REGIONS", "ROOT", "Seeded", "shared_key"]


@pytest.fixture(scope="session")
def _process() -> Iterator[Process]:
    with Process() as process:
        yield process


@pytest.fixture
def emulator(_process: Process, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator with nothing in it; the environment leads boto3 and kiln to it, as account 111122223333."""
    _process.reset()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", _process.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"AKIAKILN{ACCOUNT}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("KILN_POLL_SECONDS", "0")
    yield _process
    # What a hook still holds would outlive its test.
    _process.faults([])


@pytest.fixture
def client(emulator: Emulator) -> Callable[..., Any]:
    """Make a client of boto3: of our account, or of another by its number."""

    def make(service: str, region: str = REGION, account: str = ACCOUNT, **key: str) -> Any:
        return _client(
            emulator.endpoint, service, region, key.get("key", f"AKIAKILN{account}"), key.get("token")
        )

    return make


@functools.cache
def _client(endpoint: str, service: str, region: str, key: str, token: str | None) -> Any:
    """A client; to make one costs more than what a test asks of it."""
    return boto3.client(
        service,  # type: ignore[call-overload]
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key="secret",
        aws_session_token=token,
    )


@pytest.fixture
def cloud(emulator: Emulator) -> Cloud:
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
def seeded(client: Callable[..., Any], emulator: Emulator) -> Seeded:
    """See :func:`tests.aws.account.seed`."""
    return seed(client)
