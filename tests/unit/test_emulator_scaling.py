"""The emulated Auto Scaling: each rule with the page of AWS that says it.

The pages are those of https://docs.aws.amazon.com/autoscaling/ec2/userguide/; *API* is the documentation in
botocore's model of the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.handle import Process
from tests.unit import emulated
from tests.unit.emulated import GROUP, OTHER, World


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with emulated.serve() as process:
        yield process


@pytest.fixture
def world(server: Process) -> Iterator[World]:
    """An empty account; at the end every request and answer was what botocore's model says."""
    server.reset()
    yield World(server)
    wrong = [each for each in server.requests() if not each["valid_answer"]]
    assert not wrong, [(each["operation"], each["wrong_answer"]) for each in wrong[:3]]


def refused(code: str, words: str = "") -> Any:
    """A request that is refused with a code, and a message with certain words."""
    return pytest.raises(ClientError, match=rf"\({code}\).*{words}")


# -- groups by themselves


def test_a_group_brings_its_instances_into_service(world: World) -> None:
    """ec2-auto-scaling-lifecycle: Pending, then InService."""
    world.version(world.ami())
    world.server.settings(describe_seconds=0)
    world.group()
    assert world.states() == ["InService"] * 4
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=5)
    world.advance(5)
    assert world.states() == [*["InService"] * 4, "Pending"]
    world.advance(10)
    assert world.states() == ["InService"] * 5


def test_time_goes_by_with_each_describe_and_nothing_else(world: World) -> None:
    world.group()
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=5)
    world.client("ec2").describe_instances()
    assert (
        len(world.server.state()["autoscaling"]["111122223333/us-east-1/kiln-annotators"]["instances"]) == 1
    )
    world.described()
    assert world.states() == ["InService"] * 5


def test_instances_keep_the_version_that_they_were_launched_with(world: World) -> None:
    """API, UpdateAutoScalingGroup: existing instances run on with what they were launched with."""
    world.group()
    world.version(world.ami())
    template = {"LaunchTemplateId": world.template, "Version": "2"}
    world.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, LaunchTemplate=template)
    assert world.versions() == ["1"] * 4
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=6)
    world.advance(30)
    assert world.versions() == ["1"] * 4 + ["2"] * 2
    assert world.described()["LaunchTemplate"]["Version"] == "2"


def test_an_instance_that_ends_is_replaced(world: World) -> None:
    """ec2-auto-scaling-health-checks: one that does not run is replaced at once."""
    world.group(HealthCheckGracePeriod=3600)
    first = world.instances()[0]["InstanceId"]
    world.client("ec2").terminate_instances(InstanceIds=[first])
    world.advance(60)
    now = [each["InstanceId"] for each in world.instances()]
    assert len(now) == 4 and first not in now
    assert any("terminated or stopped" in each["Cause"] for each in world.activities())


@pytest.mark.parametrize(("kind", "replaced"), [("EC2", False), ("ELB", True)])
def test_target_health_counts_only_for_groups_of_type_elb(world: World, kind: str, replaced: bool) -> None:
    """health-checks-overview: the load balancer's word counts where the group asks for it."""
    targets = target_group(world)
    world.version(world.ami(health="target-unhealthy"))
    world.group(2, TargetGroupARNs=[targets], HealthCheckType=kind)
    health = world.client("elbv2").describe_target_health(TargetGroupArn=targets)["TargetHealthDescriptions"]
    assert {each["TargetHealth"]["State"] for each in health} == {"unhealthy"}
    before = {each["InstanceId"] for each in world.instances()}
    world.advance(120)
    after = {each["InstanceId"] for each in world.instances()}
    assert (before & after == set()) is replaced


def target_group(world: World) -> str:
    vpc = world.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    made = world.client("elbv2").create_target_group(Name="t", Protocol="HTTP", Port=80, VpcId=vpc)
    return str(made["TargetGroups"][0]["TargetGroupArn"])


def test_targets_follow_the_instances(world: World) -> None:
    """attach-load-balancer-asg: registered as they come into service, deregistered as they go."""
    targets = target_group(world)
    world.group(2, TargetGroupARNs=[targets])
    first, second = (each["InstanceId"] for each in world.instances())
    asked = {"TargetGroupArn": targets}
    health = world.client("elbv2").describe_target_health(**asked)["TargetHealthDescriptions"]
    assert {each["Target"]["Id"]: each["TargetHealth"]["State"] for each in health} == {
        first: "healthy",
        second: "healthy",
    }
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=1)
    world.advance(30)
    health = world.client("elbv2").describe_target_health(**asked)["TargetHealthDescriptions"]
    assert len(health) == 1


def test_health_counts_after_the_grace_period(world: World) -> None:
    """health-check-grace-period: health checks are not acted upon before it is over."""
    world.version(world.ami(health="unhealthy"))
    world.group(1, HealthCheckGracePeriod=300)
    first = world.instances()[0]["InstanceId"]
    world.advance(200)
    assert world.instances()[0]["InstanceId"] == first
    world.advance(200)
    assert world.instances()[0]["InstanceId"] != first
    assert any("EC2 instance status checks failure" in each["Cause"] for each in world.activities())


def test_an_unhealthy_instance_shows_in_ec2s_status(world: World) -> None:
    world.version(world.ami(health="unhealthy"))
    world.group(1, HealthCheckGracePeriod=3600)
    found = world.client("ec2").describe_instance_status()["InstanceStatuses"]
    assert [each["InstanceStatus"]["Status"] for each in found] == ["impaired"]


def test_set_instance_health_respects_the_grace_period_unless_told_not_to(world: World) -> None:
    """API, SetInstanceHealth.ShouldRespectGracePeriod."""
    world.group(1, HealthCheckGracePeriod=3600)
    (first,) = [each["InstanceId"] for each in world.instances()]
    world.scaling.set_instance_health(InstanceId=first, HealthStatus="Unhealthy")
    assert world.instances()[0]["HealthStatus"] == "Healthy"
    world.server.settings(describe_seconds=0)
    asked = {"InstanceId": first, "HealthStatus": "Unhealthy", "ShouldRespectGracePeriod": False}
    world.scaling.set_instance_health(**asked)
    assert world.instances()[0]["HealthStatus"] == "Unhealthy"
    world.advance(60)
    assert [each["InstanceId"] for each in world.instances()] != [first]
    assert any("user health-check" in each["Cause"] for each in world.activities())


def test_a_suspended_process_does_nothing(world: World) -> None:
    """as-suspend-resume-processes: ReplaceUnhealthy, Launch."""
    world.group(2)
    first = world.instances()[0]["InstanceId"]
    world.scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    world.tag(first, "unhealthy")
    world.advance(300)
    assert [each["HealthStatus"] for each in world.instances()].count("Unhealthy") == 1
    world.scaling.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["ReplaceUnhealthy"])
    world.scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["Launch"])
    world.advance(300)
    assert world.states() == ["InService"]


def test_scale_in_ends_the_oldest_version_first_and_nothing_protected(world: World) -> None:
    """ec2-auto-scaling-termination-policies; ec2-auto-scaling-instance-protection."""
    world.group(2)
    world.version(world.ami())
    template = {"LaunchTemplateId": world.template, "Version": "2"}
    world.scaling.update_auto_scaling_group(
        AutoScalingGroupName=GROUP, LaunchTemplate=template, DesiredCapacity=4
    )
    world.advance(30)
    old = [each["InstanceId"] for each in world.instances() if each["LaunchTemplate"]["Version"] == "1"]
    protect = {"InstanceIds": old[:1], "AutoScalingGroupName": GROUP, "ProtectedFromScaleIn": True}
    world.scaling.set_instance_protection(**protect)
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=2)
    world.advance(30)
    assert world.versions() == ["1", "2"]
    assert old[0] in [each["InstanceId"] for each in world.instances()]


def test_desired_capacity_stays_between_the_sizes(world: World) -> None:
    """API, SetDesiredCapacity: between the group's minimum and maximum."""
    world.group(2, MinSize=1, MaxSize=3)
    for wanted, word in ((4, "above max"), (0, "below min")):
        with refused("ValidationError", word):
            world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=wanted)


def test_a_group_with_instances_is_deleted_only_by_force(world: World) -> None:
    """API, DeleteAutoScalingGroup."""
    world.group(2)
    with refused("ResourceInUse"):
        world.scaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP)
    world.scaling.delete_auto_scaling_group(AutoScalingGroupName=GROUP, ForceDelete=True)
    assert world.scaling.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    found = world.client("ec2").describe_instances()["Reservations"]
    assert {each["State"]["Name"] for some in found for each in some["Instances"]} == {"terminated"}


def test_an_update_keeps_what_it_does_not_name(world: World) -> None:
    """API, UpdateAutoScalingGroup: what is not specified is not changed; moto drops the mixed policy."""
    world.version(world.ami())
    world.group(2, MixedInstancesPolicy=mixed(world, "1"), DefaultInstanceWarmup=120)
    world.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MaxSize=7)
    found = world.described()
    assert found["MaxSize"] == 7 and found["DefaultInstanceWarmup"] == 120
    overrides = found["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert [each["InstanceType"] for each in overrides] == ["g5.2xlarge", "g5.xlarge"]
    assert "LaunchTemplate" not in found


def mixed(world: World, version: str) -> dict[str, Any]:
    specification = {"LaunchTemplateId": world.template, "Version": version}
    types = [{"InstanceType": "g5.2xlarge"}, {"InstanceType": "g5.xlarge"}]
    return {"LaunchTemplate": {"LaunchTemplateSpecification": specification, "Overrides": types}}


def test_a_group_needs_an_image_that_is_there(world: World) -> None:
    """ts-as-launch-template: "You must use a valid fully-formed launch template"."""
    world.group(1)
    data = {"ImageId": "ami-00000000000000000", "InstanceType": "g5.xlarge"}
    made = world.client("ec2").create_launch_template_version
    made(LaunchTemplateId=world.template, LaunchTemplateData=data)
    with refused("ValidationError", "fully-formed"):
        world.refresh()


# -- launches that fail


def test_a_disabled_image_starts_nothing(world: World) -> None:
    """EC2's DisableImage; ts-as-instancelaunchfailure: the failure stands in the activities."""
    image = world.ami()
    world.version(image)
    world.group(1)
    world.client("ec2").disable_image(ImageId=image)
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=2)
    world.advance(300)
    assert world.states() == ["InService"]
    failed = [each for each in world.activities() if each["StatusCode"] == "Failed"]
    assert len(failed) > 1 and "is not available" in failed[0]["StatusMessage"]
    assert "Status Reason" in failed[0]["Description"]


def test_a_quota_of_vcpus_stops_launches_and_says_so(world: World) -> None:
    """ec2-on-demand-instances: a limit of vCPUs per class of instances; VcpuLimitExceeded."""
    world.server.settings(quotas={"ec2/L-DB2E81BA": 10})
    world.version(world.ami())
    world.group(4)
    assert world.states() == ["InService"] * 2
    failed = next(each for each in world.activities() if each["StatusCode"] == "Failed")
    assert "current vCPU limit of 10" in failed["Description"]
    world.server.settings(quotas={"ec2/L-DB2E81BA": 100})
    world.advance(120)
    assert world.states() == ["InService"] * 4


@pytest.mark.parametrize("granted", [False, True])
def test_a_key_that_auto_scaling_may_not_use_ends_instances_as_they_begin(
    world: World, granted: bool
) -> None:
    """key-policy-requirements-EBS-encryption; ts-as-launch-template: Client.InternalError."""
    kms = world.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    role = (
        f"arn:aws:iam::{emulated.ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/"
        "AWSServiceRoleForAutoScaling"
    )
    if granted:
        operations = ["CreateGrant", "Decrypt", "GenerateDataKeyWithoutPlaintext"]
        kms.create_grant(KeyId=key, GranteePrincipal=role, Operations=operations)
    world.version(world.ami(key=key))
    world.group(1)
    if granted:
        assert world.states() == ["InService"]
        return
    assert "InService" not in world.states()
    cancelled = next(each for each in world.activities() if each["StatusCode"] == "Cancelled")
    assert "Client.InternalError" in cancelled["StatusMessage"]
    found = world.client("ec2").describe_instances()["Reservations"]
    reasons = {each.get("StateReason", {}).get("Code") for some in found for each in some["Instances"]}
    assert "Client.InternalError" in reasons


# -- lifecycle hooks


def hook(world: World, transition: str, seconds: int = 600, result: str = "ABANDON") -> None:
    world.scaling.put_lifecycle_hook(
        LifecycleHookName=transition.lower(),
        AutoScalingGroupName=GROUP,
        LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}",
        HeartbeatTimeout=seconds,
        DefaultResult=result,
    )


def answer(world: World, transition: str, instance: str, result: str = "CONTINUE") -> None:
    world.scaling.complete_lifecycle_action(
        LifecycleHookName=transition.lower(),
        AutoScalingGroupName=GROUP,
        LifecycleActionResult=result,
        InstanceId=instance,
    )


def test_a_launching_hook_waits_until_it_is_completed(world: World) -> None:
    """lifecycle-hooks-overview: Pending:Wait, Pending:Proceed, InService."""
    world.group(1)
    hook(world, "LAUNCHING")
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=2)
    world.advance(60)
    waiting = next(each for each in world.instances() if each["LifecycleState"] == "Pending:Wait")
    assert world.activities()[0]["StatusCode"] == "MidLifecycleAction"
    answer(world, "LAUNCHING", waiting["InstanceId"])
    world.advance(10)
    assert world.states() == ["InService"] * 2


def test_an_abandoned_launch_is_ended_and_tried_again(world: World) -> None:
    """lifecycle-hooks-overview: ABANDON ends the instance, and the group starts another."""
    world.group(1)
    hook(world, "LAUNCHING", seconds=120)
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=2)
    world.advance(60)
    first = next(each["InstanceId"] for each in world.instances() if each["LifecycleState"] == "Pending:Wait")
    answer(world, "LAUNCHING", first, "ABANDON")
    world.advance(90)
    second = next(
        each["InstanceId"] for each in world.instances() if each["LifecycleState"] == "Pending:Wait"
    )
    assert first != second
    assert any("abandoned" in each.get("StatusMessage", "") for each in world.activities())


def test_a_terminating_hook_waits_beats_and_runs_out(world: World) -> None:
    """lifecycle-hooks-overview: the timeout, the heartbeat; a termination goes on either way."""
    world.group(1)
    hook(world, "TERMINATING", seconds=100)
    (instance,) = [each["InstanceId"] for each in world.instances()]
    world.server.settings(describe_seconds=0)
    world.scaling.terminate_instance_in_auto_scaling_group(
        InstanceId=instance, ShouldDecrementDesiredCapacity=True
    )
    assert world.states() == ["Terminating:Wait"]
    world.advance(90)
    world.scaling.record_lifecycle_action_heartbeat(
        LifecycleHookName="terminating", AutoScalingGroupName=GROUP, InstanceId=instance
    )
    world.advance(90)
    assert world.states() == ["Terminating:Wait"]
    world.advance(30)
    assert world.states() == []
    with refused("ValidationError", "No active Lifecycle Action"):
        answer(world, "TERMINATING", instance)


# -- standby, warm pool


def test_standby_serves_nobody_and_comes_back(world: World) -> None:
    """as-enter-exit-standby."""
    world.group(2)
    first = world.instances()[0]["InstanceId"]
    asked = {"InstanceIds": [first], "AutoScalingGroupName": GROUP}
    world.scaling.enter_standby(**asked, ShouldDecrementDesiredCapacity=True)
    assert world.states() == ["InService", "Standby"]
    assert world.described()["DesiredCapacity"] == 1
    world.scaling.exit_standby(**asked)
    world.advance(30)
    assert world.states() == ["InService"] * 2 and world.described()["DesiredCapacity"] == 2


def test_a_warm_pool_has_the_documented_size_and_feeds_the_group(world: World) -> None:
    """API, PutWarmPool.MaxGroupPreparedCapacity; ec2-auto-scaling-warm-pools."""
    world.group(2, MaxSize=5)
    world.scaling.put_warm_pool(AutoScalingGroupName=GROUP, PoolState="Stopped")
    world.advance(60)
    pool = world.scaling.describe_warm_pool(AutoScalingGroupName=GROUP)["Instances"]
    assert [each["LifecycleState"] for each in pool] == ["Warmed:Stopped"] * 3
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=3)
    world.advance(30)
    warm = {each["InstanceId"] for each in pool}
    assert len(warm & {each["InstanceId"] for each in world.instances()}) == 1
    assert len(world.scaling.describe_warm_pool(AutoScalingGroupName=GROUP)["Instances"]) == 2
    world.scaling.put_warm_pool(AutoScalingGroupName=GROUP, MaxGroupPreparedCapacity=3, MinSize=1)
    world.advance(30)
    assert len(world.scaling.describe_warm_pool(AutoScalingGroupName=GROUP)["Instances"]) == 1
    with refused("ResourceInUse"):
        world.scaling.delete_warm_pool(AutoScalingGroupName=GROUP)
    world.scaling.delete_warm_pool(AutoScalingGroupName=GROUP, ForceDelete=True)
    assert "WarmPoolConfiguration" not in world.scaling.describe_warm_pool(AutoScalingGroupName=GROUP)


def test_activities_are_paged_and_found_by_id(world: World) -> None:
    """API, DescribeScalingActivities: the newest first."""
    world.group(5)
    first = world.scaling.describe_scaling_activities(AutoScalingGroupName=GROUP, MaxRecords=3)
    rest = world.scaling.describe_scaling_activities(AutoScalingGroupName=GROUP, NextToken=first["NextToken"])
    found = first["Activities"] + rest["Activities"]
    assert len({each["ActivityId"] for each in found}) == 5 and "NextToken" not in rest
    one = world.scaling.describe_scaling_activities(ActivityIds=[found[0]["ActivityId"]])["Activities"]
    assert [each["ActivityId"] for each in one] == [found[0]["ActivityId"]]
    assert "Availability Zone" in json.loads(found[0]["Details"])


def test_groups_of_other_accounts_are_not_seen(world: World) -> None:
    world.group(1)
    assert world.client("autoscaling", OTHER).describe_auto_scaling_groups()["AutoScalingGroups"] == []
