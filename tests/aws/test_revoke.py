"""Revoke: record and mark, channels go back, who runs it is listed, only what nothing needs is disabled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiln import cli
from kiln.errors import Exit
from tests.aws import released
from tests.aws.conftest import BUCKET, OTHER, REGION, REGIONS
from tests.aws.released import V1, V2, V3
from tests.emulator.handle import Emulator

Client = Callable[..., Any]
NAME = "monai-label"


@pytest.fixture(autouse=True)
def bucket(client: Client, kiln_toml: Path) -> None:
    released.ready(client)


def kiln(*arguments: str) -> int:
    return cli.run(list(arguments))


def revoke(version: str, *more: str) -> int:
    return kiln("revoke", f"{NAME}@{version}", "--why", "CVE-2026-1: a hole", *more)


def stands(client: Client, channel: str = "stable") -> dict[str, str]:
    return {
        region: client("ssm", region).get_parameter(Name=f"/kiln/{NAME}/{channel}")["Parameter"]["Value"]
        for region in REGIONS
    }


def image(client: Client, ami: str, region: str = REGION) -> dict[str, Any]:
    found: dict[str, Any] = client("ec2", region).describe_images(ImageIds=[ami], IncludeDisabled=True)[
        "Images"
    ][0]
    return found


def run(client: Client, ami: str) -> str:
    made = client("ec2").run_instances(ImageId=ami, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    identity: str = made["Instances"][0]["InstanceId"]
    return identity


def test_it_marks_moves_the_channel_and_disables(
    client: Client, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = released.publish(client, V1), released.publish(client, V2)
    for version in (V1, V2):
        assert kiln("promote", f"{NAME}@{version}", "stable") == Exit.DONE
    since = len(emulator.requests())
    capsys.readouterr()
    assert revoke(V2, "--plan", "--json") == Exit.DONE
    plan = json.loads(capsys.readouterr().out)
    assert emulator.mutating(since) == []
    assert revoke(V2) == Exit.DONE
    assert stands(client) == one
    for region in REGIONS:
        bad = image(client, two[region], region)
        assert bad["State"] == "disabled"
        assert {"Key": "kiln:revoked", "Value": "CVE-2026-1: a hole"} in bad["Tags"]
    record = json.loads(
        client("s3").get_object(Bucket=BUCKET, Key=f"kiln/images/{NAME}/{V2}/revoked.json")["Body"].read()
    )
    assert record["why"] == "CVE-2026-1: a hole"
    assert record["who"] and record["when"]
    announced = {request for step in plan["steps"] for request in step["requests"]}
    sent = {f"{r['service']}:{r['operation']}@{r['region']}" for r in emulator.mutating(since)}
    assert sent <= announced
    assert all(each["valid"] for each in emulator.requests(since))
    capsys.readouterr()
    assert kiln("history", NAME, "stable", "--json") == Exit.DONE
    last = json.loads(capsys.readouterr().out)["history"][-1]
    assert (last["from"], last["to"]) == (V2, V1)
    assert last["why"] == f"{V2} was revoked: CVE-2026-1: a hole"
    assert revoke(V2, "--exit-code") == Exit.NOTHING_TO_DO
    assert kiln("promote", f"{NAME}@{V2}", "dev") == Exit.REFUSED
    assert "was revoked on" in capsys.readouterr().out


def test_who_still_runs_it_is_listed_and_can_go_on(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    amis = released.publish(client, V1)
    identity = run(client, amis[REGION])
    ec2 = client("ec2")
    ec2.create_launch_template(LaunchTemplateName="used", LaunchTemplateData={"ImageId": amis[REGION]})
    client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName="g", MinSize=0, MaxSize=1, DesiredCapacity=0,
        AvailabilityZones=[f"{REGION}a"], LaunchTemplate={"LaunchTemplateName": "used", "Version": "1"},
    )  # fmt: skip
    assert revoke(V1) == Exit.DONE
    out = capsys.readouterr().out
    assert f"still needs it: instance {identity}" in out
    assert "version 1 of launch template used, which group g names" in out
    assert f"{amis[REGION]} in {REGION} stays usable" in out
    assert image(client, amis[REGION])["State"] == "available"
    assert image(client, amis[REGIONS[1]], REGIONS[1])["State"] == "disabled", "nothing needs it there"
    capsys.readouterr()
    assert revoke(V1, "--now", "--plan") == Exit.DONE
    assert f"--now breaks in {REGION}" in capsys.readouterr().out
    assert revoke(V1, "--now") == Exit.DONE
    assert image(client, amis[REGION])["State"] == "disabled"


def test_the_last_good_version_is_not_a_revoked_nor_a_removed_one(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    one = released.publish(client, V1)
    two = released.publish(client, V2)
    released.publish(client, V3)
    for version in (V1, V2, V3):
        assert kiln("promote", f"{NAME}@{version}", "stable") == Exit.DONE
    client("ec2", REGIONS[1]).deregister_image(ImageId=two[REGIONS[1]])
    assert revoke(V3) == Exit.DONE
    assert stands(client) == one


def test_nothing_good_to_go_back_to_is_told(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    amis = released.publish(client, V1)
    assert kiln("promote", f"{NAME}@{V1}", "stable") == Exit.DONE
    assert revoke(V1) == Exit.DONE
    assert "the channel stable has no good version to go back to" in capsys.readouterr().out
    assert stands(client) == amis


def test_every_channel_that_names_it_moves(client: Client) -> None:
    one = released.publish(client, V1)
    two = released.publish(client, V2)
    for channel in ("dev", "stable"):
        assert kiln("promote", f"{NAME}@{V1}", channel) == Exit.DONE
    assert kiln("promote", f"{NAME}@{V2}", "dev") == Exit.DONE
    assert revoke(V2) == Exit.DONE
    assert stands(client, "dev") == stands(client) == one
    assert two != one


def test_whether_another_account_runs_it_is_asked_for(
    client: Client, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    amis = released.publish(client, V1, regions=REGIONS[:1], share=[OTHER])
    client("ec2", REGION, OTHER).run_instances(
        ImageId=amis[REGION], MinCount=1, MaxCount=1, InstanceType="t3.micro"
    )
    assert revoke(V1) == Exit.DONE
    assert image(client, amis[REGION])["State"] == "available"
    capsys.readouterr()
    assert revoke(V1) == Exit.DONE
    assert f"still needs it: account {OTHER} runs {amis[REGION]}: 1 ec2:Instance" in capsys.readouterr().out


@pytest.mark.campaign
@pytest.mark.parametrize("operation", ["ssm:PutParameter", "ec2:CreateTags", "ec2:DisableImage"])
@pytest.mark.parametrize("fault", ["throttle", "5xx", "lost"])
def test_faults_are_survived(client: Client, emulator: Emulator, operation: str, fault: str) -> None:
    one, two = released.publish(client, V1), released.publish(client, V2)
    for version in (V1, V2):
        assert kiln("promote", f"{NAME}@{version}", "stable") == Exit.DONE
    service, name = operation.split(":")
    emulator.faults([{"service": service, "operation": name, "fault": fault, "times": 2}])
    assert revoke(V2) == Exit.DONE
    assert stands(client) == one
    assert all(image(client, two[region], region)["State"] == "disabled" for region in REGIONS)


def test_a_run_that_failed_in_between_is_gone_on_with(
    client: Client, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = released.publish(client, V1), released.publish(client, V2)
    for version in (V1, V2):
        assert kiln("promote", f"{NAME}@{version}", "stable") == Exit.DONE
    emulator.faults(
        [{"service": "ssm", "operation": "PutParameter", "region": REGIONS[1], "fault": "error",
          "code": "AccessDeniedException", "times": 9}]
    )  # fmt: skip
    assert revoke(V2) == Exit.FAILED
    emulator.faults([])
    assert revoke(V2) == Exit.DONE
    assert stands(client) == one
    capsys.readouterr()
    assert kiln("history", NAME, "stable", "--json") == Exit.DONE
    assert [each["to"] for each in json.loads(capsys.readouterr().out)["history"]] == [V1, V2, V1]
    assert image(client, two[REGION])["State"] == "disabled"


def test_wrong_use(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    released.publish(client, V1)
    assert revoke(V2) == Exit.WRONG_USE
    assert f"newest versions of {NAME} there: {V1}" in capsys.readouterr().err
    assert kiln("revoke", f"{NAME}@{V1}", "--why", "  ") == Exit.WRONG_USE
    assert "a revocation needs a reason" in capsys.readouterr().err
