"""Prune: n stay, whatever something needs stays, the rest goes with its snapshots, in every region."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kiln import cli, config
from kiln.errors import Exit
from launch import prune
from launch.cloud import Cloud
from launch.lock import Holding
from launch.records import written
from tests.aws import released
from tests.aws.conftest import OTHER, REGION, REGIONS
from tests.aws.released import V1, V2, V3, V4
from tests.emulator.handle import Emulator

Client = Callable[..., Any]


@pytest.fixture(autouse=True)
def bucket(client: Client, kiln_toml: Path) -> None:
    released.ready(client)


def kiln(*arguments: str) -> int:
    return cli.run(list(arguments))


def amis(client: Client, region: str = REGION) -> set[str]:
    return {each["ImageId"] for each in client("ec2", region).describe_images(Owners=["self"])["Images"]}


def snapshots(client: Client, region: str = REGION) -> set[str]:
    found = client("ec2", region).describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return {each["SnapshotId"] for each in found}


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert kiln("prune", "monai-label", "--keep", "1", "--plan", "--json", *arguments) == Exit.DONE
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    return plan


def test_what_nothing_needs_goes_with_its_snapshots_in_every_region(
    client: Client, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = released.publish(client, V1), released.publish(client, V2)
    foreign, _ = released.register(client, name="somebody-else-s", tags={})
    other_project, _ = released.register(
        client,
        name="other-monai-label",
        tags={"kiln:project": "other", "kiln:image": "monai-label", "kiln:version": V1},
    )
    since = len(emulator.requests())
    plan = planned(capsys)
    assert emulator.mutating(since) == []
    assert plan["kept"] == [V2]
    assert plan["removed"] == [V1]
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.DONE
    assert amis(client) == {new[REGION], foreign, other_project}
    assert amis(client, REGIONS[1]) == {new[REGIONS[1]]}
    assert len(snapshots(client)) == 3
    assert len(snapshots(client, REGIONS[1])) == 1
    announced = {request for step in plan["steps"] for request in step["requests"]}
    sent = {f"{r['service']}:{r['operation']}@{r['region']}" for r in emulator.mutating(since)}
    assert sent <= announced
    assert {f"ec2:DeregisterImage@{region}" for region in REGIONS} <= sent
    assert all(each["valid"] for each in emulator.requests(since))
    s3 = client("s3")
    keys = {each["Key"] for each in s3.list_objects_v2(Bucket="kiln-records-111122223333")["Contents"]}
    folder = f"kiln/images/monai-label/{V1}"
    assert {f"{folder}/manifest.json", f"{folder}/proof.json", f"{folder}/pruned.json"} <= keys
    assert f"kiln/images/monai-label/{V2}/pruned.json" not in keys
    assert old[REGION] not in amis(client)
    assert kiln("prune", "monai-label", "--keep", "1", "--exit-code") == Exit.NOTHING_TO_DO
    assert kiln("promote", f"monai-label@{V1}", "dev", "--back") == Exit.REFUSED


# What needs the AMI of V1, in the words in which it must be told.
def instance(client: Client, ami: str) -> str:
    made = client("ec2").run_instances(ImageId=ami, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    return f"instance {made['Instances'][0]['InstanceId']}"


def stopped(client: Client, ami: str) -> str:
    what = instance(client, ami)
    client("ec2").stop_instances(InstanceIds=[what.split()[1]])
    return what


def template(client: Client, ami: str) -> str:
    client("ec2").create_launch_template(LaunchTemplateName="used", LaunchTemplateData={"ImageId": ami})
    return "version 1 of launch template used, its "


def resolved_template(client: Client, ami: str) -> str:
    client("ssm").put_parameter(Name="/mine", Value=ami, Type="String")
    template(client, "resolve:ssm:/mine")
    return "version 1 of launch template used, its "


def _group(client: Client, name: str, **more: Any) -> None:
    client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=1,
        DesiredCapacity=0,
        AvailabilityZones=[f"{REGION}a"],
        **more,
    )


def _versions(client: Client, ami: str, name: str = "used") -> str:
    """A template whose version 1 names the AMI, and neither its default nor its latest does."""
    ec2 = client("ec2")
    other, _ = released.register(client, name=f"other-{name}", tags={})
    made = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": ami})
    ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"ImageId": other})
    ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion="2")
    template: str = made["LaunchTemplate"]["LaunchTemplateId"]
    return template


def group(client: Client, ami: str) -> str:
    _group(client, "g", LaunchTemplate={"LaunchTemplateId": _versions(client, ami), "Version": "1"})
    return "version 1 of launch template used, which group g names"


def group_with_a_pool(client: Client, ami: str) -> str:
    group(client, ami)
    client("autoscaling").put_warm_pool(AutoScalingGroupName="g", MinSize=0)
    return "which group g with a warm pool names"


def mixed_override(client: Client, ami: str) -> str:
    main = _versions(client, released.register(client, name="main", tags={})[0], "main")
    spec = {"LaunchTemplateId": _versions(client, ami), "Version": "1"}
    policy = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": main, "Version": "2"},
            "Overrides": [{"InstanceType": "t3.micro", "LaunchTemplateSpecification": spec}],
        }
    }
    _group(client, "g", MixedInstancesPolicy=policy)
    return "which group g (override for t3.micro) names"


def channel(client: Client, ami: str) -> str:
    assert kiln("promote", f"monai-label@{V1}", "dev") == Exit.DONE
    return f"channel dev names {ami}"


def way_back(client: Client, ami: str) -> str:
    assert kiln("promote", f"monai-label@{V1}", "dev") == Exit.DONE
    assert kiln("promote", f"monai-label@{V2}", "dev") == Exit.DONE
    return "channel dev goes back to it"


def protected(client: Client, ami: str) -> str:
    client("ec2").create_tags(Resources=[ami], Tags=[{"Key": "kiln:protected", "Value": "audit"}])
    return f"{ami} has the tag kiln:protected"


NEEDS = [
    instance,
    stopped,
    template,
    resolved_template,
    group,
    group_with_a_pool,
    mixed_override,
    channel,
    way_back,
    protected,
]


@pytest.mark.parametrize("need", NEEDS, ids=lambda each: each.__name__)
def test_what_something_needs_stays(
    client: Client,
    capsys: pytest.CaptureFixture[str],
    need: Callable[[Client, str], str],
) -> None:
    old = released.publish(client, V1)
    released.publish(client, V2)
    what = need(client, old[REGION])
    plan = planned(capsys)
    assert plan["removed"] == []
    assert plan["steps"] == []
    assert any(what in note for note in plan["notes"]), plan["notes"]
    assert V1 in plan["needed"]


def test_a_version_of_a_template_that_nothing_uses_keeps_nothing(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    old = released.publish(client, V1)
    released.publish(client, V2)
    _versions(client, old[REGION])
    what = instance(client, old[REGION])
    client("ec2").terminate_instances(InstanceIds=[what.split()[1]])
    assert planned(capsys)["removed"] == [V1]


def test_another_account_is_asked_for_by_a_report(
    client: Client, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    old = released.publish(client, V1, share=[OTHER])
    released.publish(client, V2)
    plan = planned(capsys)
    assert "ask EC2 which other accounts use" in plan["steps"][1]["does"]
    # The other account runs it, in one of the regions: there it stays, and is not called pruned.
    there = client("ec2", REGION, OTHER).run_instances(
        ImageId=old[REGION], MinCount=1, MaxCount=1, InstanceType="t3.micro"
    )
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.DONE
    assert old[REGION] in amis(client)
    plan = planned(capsys)
    assert f"account {OTHER} runs {old[REGION]}: 1 ec2:Instance" in plan["notes"][0]
    assert plan["steps"] == []
    client("ec2", REGION, OTHER).terminate_instances(InstanceIds=[there["Instances"][0]["InstanceId"]])
    emulator.admin("age_usage_reports", hours=25)
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.DONE
    assert old[REGION] not in amis(client)
    assert kiln("prune", "monai-label", "--keep", "1", "--exit-code") == Exit.NOTHING_TO_DO


def test_a_revoked_version_takes_nobody_s_place(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    for version in (V1, V2, V3):
        released.publish(client, version)
    assert kiln("revoke", f"monai-label@{V3}", "--why", "it is bad") == Exit.DONE
    plan = planned(capsys)
    assert (plan["kept"], sorted(plan["removed"])) == ([V2], [V1, V3])


def test_kiln_toml_says_how_many(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    for version in (V1, V2, V3, V4):
        released.publish(client, version, regions=REGIONS[:1])
    assert kiln("prune", "monai-label", "--exit-code") == Exit.NOTHING_TO_DO
    assert kiln("prune", "monai-label", "--keep", "3", "--plan", "--json") == Exit.DONE
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["removed"] == [V1]


def test_what_is_begun_to_be_used_after_the_plan_stays(client: Client, cloud: Cloud) -> None:
    """Between plan and step somebody starts an instance: the step looks again."""
    old = released.publish(client, V1, regions=REGIONS[:1])
    released.publish(client, V2, regions=REGIONS[:1])
    plan = prune.plan(cloud, config.load(), "monai-label", keep=1)
    what = instance(client, old[REGION])
    said: list[str] = []
    for step in plan.steps:
        with cloud.permit(step.requests):
            step.run(said.append)
    assert any(what in line for line in said), said
    assert old[REGION] in amis(client)
    assert any("not marked" in line for line in said)


def test_a_rollout_of_the_image_makes_it_wait(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    released.publish(client, V1, regions=REGIONS[:1])
    released.publish(client, V2, regions=REGIONS[:1])
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=3)
    holding = Holding(
        name="annotators", who="ada", doing="kiln apply annotators", machine="m", process="", nonce="1",
        since=until - timedelta(minutes=5), until=until,
    )  # fmt: skip
    released.put(client, "locks/annotators.json", written(holding))
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.REFUSED
    assert "annotators runs monai-label and is locked by ada" in capsys.readouterr().out


@pytest.mark.campaign
@pytest.mark.parametrize("fault", ["throttle", "5xx", "lost"])
@pytest.mark.parametrize("operation", ["DeregisterImage", "DeleteSnapshot", "DescribeInstances"])
def test_faults_are_survived(client: Client, emulator: Emulator, fault: str, operation: str) -> None:
    released.publish(client, V1, regions=REGIONS[:1])
    new = released.publish(client, V2, regions=REGIONS[:1])
    emulator.faults([{"service": "ec2", "operation": operation, "fault": fault, "times": 2}])
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.DONE
    assert amis(client) == set(new.values())
    assert len(snapshots(client)) == 1


def test_a_snapshot_whose_ami_is_gone_goes_too(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """As a run leaves it that was killed between the two."""
    old = released.publish(client, V1, regions=REGIONS[:1])
    released.publish(client, V2, regions=REGIONS[:1])
    client("ec2").deregister_image(ImageId=old[REGION])
    assert len(snapshots(client)) == 2
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.DONE
    assert len(snapshots(client)) == 1
    assert kiln("prune", "monai-label", "--keep", "1", "--exit-code") == Exit.NOTHING_TO_DO


def test_what_cannot_be_found_out_is_no_permission(
    client: Client, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    old = released.publish(client, V1, regions=REGIONS[:1])
    released.publish(client, V2, regions=REGIONS[:1])
    emulator.faults(
        [{"service": "autoscaling", "operation": "DescribeAutoScalingGroups", "fault": "error",
          "code": "AccessDenied", "status": 403, "times": 99}]
    )  # fmt: skip
    assert kiln("prune", "monai-label", "--keep", "1") == Exit.FAILED
    assert old[REGION] in amis(client)
    assert len(capsys.readouterr().err.strip().splitlines()) == 2
