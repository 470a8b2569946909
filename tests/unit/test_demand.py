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


NOTHING = DEMAND.model_copy(update={"instance_types": []})


@pytest.mark.parametrize(
    ("asked", "proven_for", "current"),
    [
        (NOTHING, None, True),
        (None, None, True),
        # Without a driver, but it is to run on a GPU: the judge has to have said so.
        (DEMAND, None, False),
        (DEMAND, DEMAND, True),
    ],
)
def test_an_image_without_a_driver_is_judged_for_its_instance_types(
    build: Path, asked: Demand | None, proven_for: Demand | None, current: bool
) -> None:
    assert prove.is_current(proven(build, ["base", "seal"], proven_for), asked) is current


def test_a_driver_that_nobody_judged_is_not_proven(build: Path) -> None:
    assert not prove.is_current(proven(build, ["base", "nvidia", "seal"], None), DEMAND)
