"""Channels: what stable refuses, every region, partial state and resumption, read back, history."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kiln import cli, manifest
from kiln.errors import Exit, KilnError
from launch import promote
from tests.aws import released
from tests.aws.conftest import ACCOUNT, REGIONS
from tests.aws.released import V1, V2, V3
from tests.emulator.handle import Emulator

PARAMETER = "/kiln/monai-label/stable"


@pytest.fixture(autouse=True)
def bucket(client: Callable[..., Any], kiln_toml: Path) -> None:
    released.ready(client)


def kiln(*arguments: str) -> int:
    return cli.run(list(arguments))


def value(client: Callable[..., Any], region: str, name: str = PARAMETER) -> str | None:
    ssm = client("ssm", region)
    try:
        return ssm.get_parameter(Name=name)["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        return None


def past(client: Callable[..., Any], capsys: pytest.CaptureFixture[str], channel: str = "stable") -> Any:
    capsys.readouterr()
    assert kiln("history", "monai-label", channel, "--json") == Exit.DONE
    return json.loads(capsys.readouterr().out)


def test_it_names_the_version_in_every_region_and_says_who(
    client: Callable[..., Any], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    one = released.publish(client, V1)
    two = released.publish(client, V2)
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.DONE
    assert {region: value(client, region) for region in REGIONS} == one
    assert kiln("promote", f"monai-label@{V2}", "stable") == Exit.DONE
    assert {region: value(client, region) for region in REGIONS} == two
    found = client("ssm").get_parameter(Name=PARAMETER)["Parameter"]
    assert (found["Type"], found["DataType"]) == ("String", "aws:ec2:image")
    told = past(client, capsys)
    assert [(each["from"], each["to"], each["why"]) for each in told["history"]] == [
        (None, V1, "promote"),
        (V1, V2, "promote"),
    ]
    assert all(ACCOUNT in each["who"] and each["when"] for each in told["history"])
    assert {region: now["version"] for region, now in told["now"].items()} == dict.fromkeys(REGIONS, V2)
    assert kiln("history", "monai-label", "stable") == Exit.DONE
    assert V1 in capsys.readouterr().out


def test_plan_mode_sends_nothing_that_changes_and_announces_all_that_is_sent_later(
    client: Callable[..., Any], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    released.publish(client, V1)
    since = len(emulator.requests())
    capsys.readouterr()
    assert kiln("promote", f"monai-label@{V1}", "stable", "--plan", "--json") == Exit.DONE
    plan = json.loads(capsys.readouterr().out)
    assert emulator.mutating(since) == []
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.DONE
    announced = {request for step in plan["steps"] for request in step["requests"]}
    sent = {f"{r['service']}:{r['operation']}@{r['region']}" for r in emulator.mutating(since)}
    assert sent <= announced
    assert {f"ssm:PutParameter@{region}" for region in REGIONS} <= sent
    assert all(each["valid"] for each in emulator.requests(since))
    assert kiln("promote", f"monai-label@{V1}", "stable", "--exit-code") == Exit.NOTHING_TO_DO


UNTIL = date(2026, 1, 1)
WAIVED = manifest.Check(
    id="static::test_driver_branch_is_supported", stage="static", outcome="waived", seconds=0.1,
    message="535 is past its support",
    waiver=manifest.Waiver(check="driver-support", reason="the next release", until=UNTIL),
)  # fmt: skip
NOT_STABLE = manifest.Check(
    id="static::test_weights", stage="static", outcome="not-for-stable", seconds=0.1, message="random"
)

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("random weights", {"weights": "random"}, "weights-random"),
    ("weights of a test", {"weights": "test"}, "weights-test"),
    ("a stand-in for Slicer", {"slicer": "stand-in"}, "slicer-stand-in"),
    ("no proof", {"proof": False}, "proof-missing"),
    ("a proof of something else", {"digest": "0" * 64}, "proof-stale"),
    ("a refused proof", {"verdict": "refused"}, "proof-refused"),
    ("no SBOM", {"sbom": False}, "sbom-missing"),
    ("a check that is not for stable", {"checks": [NOT_STABLE]}, "check-refused"),
]


@pytest.mark.parametrize(("name", "said", "rule"), REFUSED, ids=[each[0] for each in REFUSED])
def test_stable_refuses(
    client: Callable[..., Any],
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    name: str,
    said: dict[str, Any],
    rule: str,
) -> None:
    released.publish(client, V1, **said)
    since = len(emulator.requests())
    assert kiln("promote", f"monai-label@{V1}", "stable", "--json") == Exit.REFUSED
    assert [each["check"] for each in json.loads(capsys.readouterr().out)["refusals"]] == [rule]
    assert emulator.mutating(since) == []
    assert kiln("promote", f"monai-label@{V1}", "dev") == Exit.DONE, "another channel takes it"


WAIVERS = {
    "a waiver whose day has passed": ("until = 2020-12-31", ["waiver-expired"]),
    "a waiver that counts": ("until = 2099-12-31", []),
    "none any more": (None, ["waiver-missing"]),
}


@pytest.mark.parametrize("case", WAIVERS)
def test_the_waiver_of_kiln_toml_counts(
    client: Callable[..., Any], kiln_toml: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    until, rules = WAIVERS[case]
    text = kiln_toml.read_text()
    kiln_toml.write_text(
        text.replace("until = 2099-12-31", until) if until else text.partition("[[waiver]]")[0]
    )
    released.publish(client, V1, checks=[WAIVED])
    code = kiln("promote", f"monai-label@{V1}", "stable", "--plan", "--json")
    assert [each["check"] for each in json.loads(capsys.readouterr().out)["refusals"]] == rules
    assert code == (Exit.REFUSED if rules else Exit.DONE)


def test_back_needs_the_word(client: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    old = released.publish(client, V1)
    released.publish(client, V2)
    assert kiln("promote", f"monai-label@{V2}", "stable") == Exit.DONE
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.REFUSED
    out = capsys.readouterr().out
    assert f"{V1} is older than {V2}, which stands in" in out
    assert "--back" in out
    assert kiln("promote", f"monai-label@{V1}", "stable", "--back") == Exit.DONE
    assert {region: value(client, region) for region in REGIONS} == old


def test_what_is_in_no_region_or_nowhere_is_refused(
    client: Callable[..., Any], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kiln("promote", f"monai-label@{V1}", "dev", "--json") == Exit.REFUSED
    assert json.loads(capsys.readouterr().out)["refusals"][0]["check"] == "not-published"
    released.publish(client, V1, regions=REGIONS[:1])
    since = len(emulator.requests())
    assert kiln("promote", f"monai-label@{V1}", "dev", "--json") == Exit.REFUSED
    refusals = json.loads(capsys.readouterr().out)["refusals"]
    assert [each["check"] for each in refusals] == ["not-in-region"]
    assert REGIONS[1] in refusals[0]["what"]
    assert emulator.mutating(since) == []


def test_an_ami_that_is_gone_is_refused(
    client: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    amis = released.publish(client, V1)
    client("ec2", REGIONS[1]).deregister_image(ImageId=amis[REGIONS[1]])
    assert kiln("promote", f"monai-label@{V1}", "dev") == Exit.REFUSED
    assert f"{amis[REGIONS[1]]} is gone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["monai-label", "stable"], "given a version by name"),
        ([f"monai-lable@{V1}", "stable"], "no image 'monai-lable'"),
        ([f"monai-label@{V1}", "Stable"], "no name of a channel"),
        (["monai-label@latest", "stable"], "'latest' is no version"),
    ],
)
def test_wrong_use(
    emulator: Emulator, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    assert kiln("promote", *arguments) == Exit.WRONG_USE
    error = capsys.readouterr().err
    assert what in error
    assert len(error.strip().splitlines()) == 2
    assert emulator.mutating() == emulator.mutating()[:2], "only the bucket was made, by the test"


def test_a_region_that_fails_is_told_with_the_others_and_resumed(
    client: Callable[..., Any], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    released.publish(client, V1)
    amis = released.publish(client, V2)
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.DONE
    emulator.faults(
        [{"service": "ssm", "operation": "PutParameter", "region": REGIONS[1], "fault": "error",
          "code": "AccessDeniedException", "times": 9}]
    )  # fmt: skip
    capsys.readouterr()
    assert kiln("promote", f"monai-label@{V2}", "stable") == Exit.FAILED
    error = capsys.readouterr().err
    assert f"the channel is now: {REGIONS[0]} {V2}, {REGIONS[1]} {V1}" in error
    emulator.faults([])
    assert kiln("promote", f"monai-label@{V2}", "stable", "--plan") == Exit.DONE
    out = capsys.readouterr().out
    assert f"{REGIONS[0]} names {V2} already; {REGIONS[1]} does not" in out
    assert kiln("promote", f"monai-label@{V2}", "stable") == Exit.DONE
    assert {region: value(client, region) for region in REGIONS} == amis
    assert [each["to"] for each in past(client, capsys)["history"]] == [V1, V2]


@pytest.mark.campaign
@pytest.mark.parametrize("fault", ["throttle", "5xx", "lost"])
@pytest.mark.parametrize("operation", ["PutParameter", "GetParameter"])
def test_faults_are_survived(
    client: Callable[..., Any],
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    operation: str,
) -> None:
    amis = released.publish(client, V1)
    emulator.faults([{"service": "ssm", "operation": operation, "fault": fault, "times": 2}])
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.DONE
    assert {region: value(client, region) for region in REGIONS} == amis
    assert [each["to"] for each in past(client, capsys)["history"]] == [V1]


def test_a_value_that_is_stale_is_read_until_it_is_not(
    client: Callable[..., Any], emulator: Emulator
) -> None:
    released.publish(client, V1)
    amis = released.publish(client, V2)
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.DONE
    emulator.faults(
        [{"service": "ssm", "operation": "GetParameter", "fault": "stale", "after": 3, "times": 4}]
    )
    assert kiln("promote", f"monai-label@{V2}", "stable") == Exit.DONE
    assert {region: value(client, region) for region in REGIONS} == amis


def test_what_ssm_does_not_take_in_the_end_is_told(
    client: Callable[..., Any], emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """SSM answers 200 and validates the AMI later; one that vanished meanwhile never becomes the value."""
    released.publish(client, V1)
    amis = released.publish(client, V2)
    assert kiln("promote", f"monai-label@{V1}", "stable") == Exit.DONE
    emulator.faults(
        [
            {
                "service": "ssm",
                "operation": "PutParameter",
                "region": REGIONS[0],
                "fault": "hook",
                "when": "before",
            }
        ]
    )
    errors: list[KilnError] = []

    def promotion() -> None:
        # Not by the command line, which wants the main thread for its signals.
        try:
            promote.run(
                "monai-label", V2, "stable", back=False, only_plan=False, as_json=False, exit_code=False,
                profile=None, config=None,
            )  # fmt: skip
        except KilnError as error:
            errors.append(error)

    thread = threading.Thread(target=promotion)
    thread.start()
    assert emulator.held() is not None
    client("ec2", REGIONS[0]).deregister_image(ImageId=amis[REGIONS[0]])
    emulator.release()
    thread.join()
    assert f"{PARAMETER} in {REGIONS[0]} does not become {amis[REGIONS[0]]}" in errors[0].what


def test_slicer_s_is_the_name_of_the_appstream_image_as_text(
    client: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    released.publish(client, V1, image="slicer", regions=REGIONS[:1], weights=None, slicer="real")
    assert kiln("promote", f"slicer@{V1}", "stable") == Exit.DONE
    found = client("ssm").get_parameter(Name="/kiln/slicer/stable")["Parameter"]
    assert (found["Value"], found["DataType"]) == (f"kiln-slicer-{V1}", "text")
    assert value(client, REGIONS[1], "/kiln/slicer/stable") is None
    assert kiln("history", "slicer", "stable", "--json") == Exit.DONE
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["now"]


def test_an_unknown_channel_has_no_history(
    client: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    released.publish(client, V3)
    assert kiln("promote", f"monai-label@{V3}", "dev") == Exit.DONE
    assert kiln("history", "monai-label", "stabel") == Exit.WRONG_USE
    assert "channels of monai-label: dev" in capsys.readouterr().err
