"""Every documented failure of an AppStream image gets its two lines, and leaves no builder running."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.cloud import Cloud
from tests.aws import slicer_failures, streaming
from tests.aws.builder_local import Local
from tests.aws.slicer_failures import FAILURES, Failure, World
from tests.emulator.handle import Emulator


@pytest.fixture
def world(
    cloud: Cloud,
    client: Callable[..., Any],
    emulator: Emulator,
    kiln_toml: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    monkeypatch.setenv("KILN_TEST_SECRET", "a key")
    monkeypatch.setenv("KILN_CACHE", str(tmp_path / "cache"))
    # Each look at AppStream lets five minutes go by: a test need not look as often as a run does.
    emulator.settings(describe_seconds=300)
    (tmp_path / "builder").mkdir()
    host = Local(tmp_path / "builder", emulator.endpoint)
    return World(cloud, client, emulator, streaming.ground(client), kiln_toml, host)


def test_the_document_has_the_same_failures() -> None:
    names = [failure.name for failure in FAILURES]
    assert sorted(slicer_failures.documented()) == sorted(names) and len(set(names)) == len(names)


@pytest.mark.campaign
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_it_is_answered(failure: Failure, world: World) -> None:
    assert slicer_failures.answered(failure, world) == ""


def test_an_answer_that_does_not_fit_is_found(world: World) -> None:
    wrong = Failure(
        "none", "import", lambda world: world.ami(inside="internal"), "Windows updates", "the AMI"
    )
    assert "not answered" in slicer_failures.answered(wrong, world)


def test_a_builder_that_is_left_is_found(world: World) -> None:
    def left(world: World) -> None:
        world.client("appstream").create_image_builder(
            Name="kiln-other", ImageName=streaming.NATIVE, InstanceType="stream.standard.medium"
        )
        world.builder = ""

    failure = Failure("none", "builder", left, "no account for Ansible", "seed")
    assert "kiln-other" in slicer_failures.answered(failure, world)
