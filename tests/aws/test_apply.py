"""kiln plan and kiln apply on an Auto Scaling group."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kiln import cli
from tests.aws import rollouts
from tests.aws.conftest import Seeded
from tests.aws.rollouts import FIRST, SECOND, Clients
from tests.emulator.handle import Emulator


@pytest.fixture
def ready(seeded: Seeded, kiln_toml: Path, client: Clients, emulator: Emulator) -> Seeded:
    """The group serves, a version is published, and the channel names it."""
    rollouts.settle(client)
    rollouts.promote(client, rollouts.put(client, FIRST, key=seeded.keys["us-east-1"]))
    return seeded


def kiln(*arguments: str) -> int:
    return cli.run(list(arguments))


def plan_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    kiln(*arguments, "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_group_is_brought_to_what_its_channel_names(
    ready: Seeded, client: Clients, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    since = len(emulator.requests())
    assert kiln("plan", "annotators") == 0
    assert emulator.mutating(since) == []
    shown = capsys.readouterr().out
    assert "refresh 4 instances of kiln-annotators" in shown
    assert kiln("apply", "annotators") == 0
    captured = capsys.readouterr()
    print(captured.out, captured.err)
    group = rollouts.group(client)
    number = group["LaunchTemplate"]["Version"]
    assert number == "2"
    assert {each["LaunchTemplate"]["Version"] for each in group["Instances"]} == {number}
