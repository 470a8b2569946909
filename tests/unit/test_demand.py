"""A proof is of what kiln.toml asked: another instance type or waiver asks for another proof."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import pytest

from kiln.manifest import Demand, Waiver
from scripts import checks, prove
from tests.unit import contract

DEMAND = Demand(instance_types=["g5.xlarge"], waivers=[])
WAIVER = Waiver(check="driver-support", reason="the next release has 580", until=date(2027, 3, 31))


def proven(build: Path, roles: list[str], demand: Demand | None) -> Path:
    folder = contract.put(build, verdict="passed")
    made = contract.made()
    facts = made.facts.model_copy(update={"roles": roles})
    (folder / "manifest.json").write_text(made.model_copy(update={"facts": facts}).model_dump_json())
    proof = contract.checked(folder).model_copy(update={"checks_digest": checks.digest(), "demand": demand})
    (folder / "proof.json").write_text(json.dumps(proof.model_dump(mode="json")))
    (folder / made.disk.file).touch()
    os.truncate(folder / made.disk.file, made.disk.bytes)
    return folder


@pytest.mark.parametrize(
    ("asked", "current"),
    [
        (DEMAND, True),
        (DEMAND.model_copy(update={"instance_types": ["g5.xlarge", "g4dn.xlarge"]}), False),
        (DEMAND.model_copy(update={"waivers": [WAIVER]}), False),
    ],
)
def test_a_proof_is_current_for_what_it_was_asked(build: Path, asked: Demand, current: bool) -> None:
    folder = proven(build, ["base", "nvidia", "seal"], DEMAND)
    assert prove.is_current(folder, asked) is current


def test_an_image_without_driver_and_instance_types_is_asked_nothing(build: Path) -> None:
    nothing = DEMAND.model_copy(update={"instance_types": []})
    assert prove.is_current(proven(build, ["base", "seal"], None), nothing)
    assert prove.is_current(proven(build, ["base", "seal"], None), None)


def test_an_image_without_a_driver_is_judged_for_its_instance_types(build: Path) -> None:
    assert not prove.is_current(proven(build, ["base", "seal"], None), DEMAND)
    assert prove.is_current(proven(build, ["base", "seal"], DEMAND), DEMAND)


def test_a_driver_that_nobody_judged_is_not_proven(build: Path) -> None:
    assert not prove.is_current(proven(build, ["base", "nvidia", "seal"], None), DEMAND)
