"""Fixtures of the emulator, for tests of ``launch`` and of itself: a conftest imports them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.handle import Emulator, Process

ACCOUNT = "111122223333"
OTHER = "222233334444"
REGION = "us-east-1"


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
    import boto3

    return boto3.client(
        service,  # type: ignore[call-overload]
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key="secret",
        aws_session_token=token,
    )


@pytest.fixture
def acting_as(client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Let what is started from here on act as a role, with policies: paths of documents, or documents.

    A :class:`Cloud` that was made before keeps its credentials. What is returned is the role's ARN.
    """

    def act(*policies: Path | dict[str, Any], name: str = "kiln-operator") -> str:
        iam = client("iam")
        trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
        role: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        for number, policy in enumerate(policies):
            text = policy.read_text() if isinstance(policy, Path) else json.dumps(policy)
            iam.put_role_policy(RoleName=name, PolicyName=f"p{number}", PolicyDocument=text)
        given = client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", given["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", given["SessionToken"])
        return role

    return act
