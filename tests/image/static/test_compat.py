"""Driver, CUDA, torch and the GPUs of the instance types go together: a check by each rule of kiln/compat.

The facts are read from the root again and not from the manifest: what holds, holds of these bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kiln import compat
from kiln.manifest import Demand
from scripts import facts

Hold = Callable[[str], None]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, compat.Verdict]:
    root, demand = os.environ.get("KILN_ROOT"), os.environ.get("KILN_DEMAND")
    if not root or not demand:
        pytest.fail("name what to check and for what: KILN_ROOT=FOLDER KILN_DEMAND=JSON", pytrace=False)
    found = compat.judge(
        facts.stack(Path(root)), Demand.model_validate_json(demand), datetime.now(UTC).date()
    )
    return {verdict.name: verdict for verdict in found}


@pytest.fixture
def hold(
    verdicts: dict[str, compat.Verdict], record_property: Callable[[str, object], None]
) -> Callable[[str], None]:
    """Asserts that a rule refuses nothing; what else it says goes into the proof."""

    def held(rule: str) -> None:
        verdict = verdicts[rule]
        assert verdict.outcome != "refused", verdict.sentence
        told: dict[str, object] = {"outcome": verdict.outcome, "message": verdict.sentence}
        if verdict.waiver is not None:
            told["waiver"] = verdict.waiver.model_dump(mode="json")
        record_property("check", json.dumps(told))

    return held


def test_instance_types_are_known_and_usable(hold: Hold) -> None:
    hold("instance-types")


def test_torch_has_code_for_every_gpu(hold: Hold) -> None:
    hold("wheel-gpu")


def test_modules_and_libraries_are_one_version(hold: Hold) -> None:
    hold("driver-versions")


def test_modules_are_for_the_kernel(hold: Hold) -> None:
    hold("driver-kernel")


def test_firmware_of_the_driver_is_there(hold: Hold) -> None:
    hold("driver-firmware")


def test_driver_runs_the_cuda_of_torch(hold: Hold) -> None:
    hold("driver-cuda")


def test_driver_drives_every_gpu(hold: Hold) -> None:
    hold("driver-gpu")


def test_driver_branch_is_supported(hold: Hold) -> None:
    hold("driver-support")
