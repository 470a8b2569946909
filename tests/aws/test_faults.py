"""The fault campaign in its reduced form, and that its judgement can fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.faulty import campaign
from tests.aws.faulty.campaign import Prepared
from tests.aws.faulty.cases import FAULTS, MOST, Case, cases
from tests.aws.faulty.scenarios import SCENARIOS, Scenario

STATE = {
    "images": {"1/us-east-1/kiln-monai-label-1": {"state": "available"}},
    "groups": {"1/us-east-1/kiln-annotators": {"instances": {"kiln-monai-label-1 InService Healthy": 4}}},
}


@pytest.fixture(scope="module")
def promotion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with campaign.prepared(SCENARIOS["promote"], tmp_path_factory.mktemp("faults") / "promote") as made:
        yield made


def test_a_promotion_is_resumed_whatever_meets_a_call_that_changes_something(promotion: Prepared) -> None:
    sent = [each for each in promotion.requests if each["mutating"]]
    # A kill wherever something changes, a lost answer where AWS takes no token: the rest is in make bench.
    found = [
        case
        for case in cases("promote", sent)
        if case.fault == "killed" or (case.fault, case.operation) == ("answer lost", "PutParameter")
    ]
    assert len(found) >= 6
    for number, case in enumerate(found):
        outcome = campaign.run(promotion, case, number)
        assert (outcome.wrong, outcome.leaked, outcome.wrong_image) == ((), (), ()), str(case)
        assert (outcome.codes[0] < 0) == (case.fault == "killed"), str(case)


def test_a_fault_that_no_call_meets_is_no_success(promotion: Prepared) -> None:
    case = Case("promote", "ec2", "RunInstances", "us-east-1", 0, "answer lost")
    assert campaign.run(promotion, case, 900).wrong == ("the call was not sent",)


def test_a_command_that_fails_again_is_not_resumed(promotion: Prepared) -> None:
    scenario = Scenario(
        "promote", ("promote", "monai-label@20990101T000000Z-00000000", "stable"), lambda *_: None
    )
    made = Prepared(scenario, promotion.emulator, promotion.folder, promotion.before, promotion.after)
    outcome = campaign.run(made, Case("promote", "s3", "GetObject", "us-east-1", 0, "500 twice"), 901)
    assert any(line.startswith("the command again ended with") for line in outcome.wrong)
    assert any("parameters" in line for line in outcome.wrong)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({**STATE, "images": {}}, "images 1/us-east-1/kiln-monai-label-1 is missing"),
        ({**STATE, "snapshots": {"1/us-east-1/40GiB": {}}}, "snapshots 1/us-east-1/40GiB is too much"),
        (
            {**STATE, "images": {"1/us-east-1/kiln-monai-label-1": {"state": "pending"}}},
            "images 1/us-east-1/kiln-monai-label-1 is {'state': 'pending'}, not {'state': 'available'}",
        ),
    ],
)
def test_another_end_is_seen(state: campaign.State, says: str) -> None:
    assert campaign.different(STATE, STATE) == []
    assert campaign.different(state, STATE) == [says]


def test_what_is_left_behind_is_seen() -> None:
    left = {**STATE, "key_pairs": {"1/us-east-1/packer_1": {}}}
    assert campaign.leaked(STATE, STATE) == []
    assert campaign.leaked(left, STATE) == ["key_pairs 1/us-east-1/packer_1"]


@pytest.mark.parametrize("image", ["kiln-monai-label-2", "gone:"])
def test_a_wrong_image_is_seen(image: str) -> None:
    group = {"instances": {f"{image} InService Healthy": 1, "kiln-monai-label-1 InService Healthy": 3}}
    state = {**STATE, "groups": {"1/us-east-1/kiln-annotators": group}}
    assert campaign.wrong_images(STATE, STATE, STATE) == []
    assert campaign.wrong_images(state, STATE, state) == []
    assert campaign.wrong_images(state, STATE, STATE) == [f"groups 1/us-east-1/kiln-annotators names {image}"]


def test_each_call_meets_each_fault() -> None:
    call = {"service": "ebs", "operation": "PutSnapshotBlock", "region": "eu-west-1", "mutating": True}
    look = {"service": "ec2", "operation": "DescribeImages", "region": "eu-west-1", "mutating": False}
    found = list(cases("publish", [call, look] * 9))
    assert len(found) == len(set(found)) == len(FAULTS) * (MOST + 1)
    assert found[len(FAULTS) * 2].rule() == {
        "service": "ebs", "operation": "PutSnapshotBlock", "region": "eu-west-1", "after": 1,
        **FAULTS["throttled twice"],
    }  # fmt: skip
