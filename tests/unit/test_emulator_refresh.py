"""The emulated instance refresh: each rule with the page of AWS that says it.

The pages are those of https://docs.aws.amazon.com/autoscaling/ec2/userguide/: *overview* is
``instance-refresh-overview``, *checkpoints* ``asg-adding-checkpoints-instance-refresh``, *rollback*
``instance-refresh-rollback``; *API* is the documentation in botocore's model of the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.emulator.handle import Process
from tests.unit import emulated
from tests.unit.emulated import GROUP, World
from tests.unit.test_emulator_scaling import answer, hook, mixed, refused, target_group


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with emulated.serve() as process:
        yield process


@pytest.fixture
def world(server: Process) -> Iterator[World]:
    """An account with two versions of a template; at the end every request and answer fits its model."""
    server.reset()
    found = World(server)
    found.version(found.ami())
    found.version(found.ami())
    yield found
    wrong = [each for each in server.requests() if not each["valid_answer"]]
    assert not wrong, [(each["operation"], each["wrong_answer"]) for each in wrong[:3]]


def percents(seen: list[dict[str, Any]]) -> list[int]:
    found: list[int] = []
    for each in seen:
        if not found or found[-1] != each["PercentageComplete"]:
            found.append(each["PercentageComplete"])
    return found


def statuses(seen: list[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    for each in seen:
        if not found or found[-1] != each["Status"]:
            found.append(each["Status"])
    return found


def least_serving(world: World, seconds: float = 600) -> tuple[int, int]:
    """Fewest instances in service and most at all while a refresh runs."""
    fewest, most = 99, 0
    world.server.settings(describe_seconds=0)
    for _ in range(int(seconds / 5)):
        world.advance(5)
        states = world.states()
        fewest = min(fewest, states.count("InService"))
        alive = [each for each in states if not each.startswith("Terminat")]
        most = max(most, len(alive))
        if world.look()["Status"] in emulated.OVER:
            return fewest, most
    raise AssertionError("not over")


# -- the whole of it


def test_a_refresh_replaces_all_and_changes_the_group_when_it_succeeded(world: World) -> None:
    """overview: "automatically updates the Auto Scaling group settings" after a success."""
    world.group()
    world.refresh()
    assert world.look()["Status"] == "Pending"
    assert world.described()["LaunchTemplate"]["Version"] == "1"
    seen = world.follow()
    assert seen[-1]["Status"] == "Successful" and seen[-1]["PercentageComplete"] == 100
    assert seen[-1]["InstancesToUpdate"] == 0 and seen[-1]["EndTime"] > seen[-1]["StartTime"]
    assert world.versions() == ["2"] * 4
    assert world.described()["LaunchTemplate"]["Version"] == "2"
    assert any("warming up" in each.get("StatusReason", "") for each in seen)
    causes = [each["Cause"] for each in world.activities()]
    assert sum("in response to an instance refresh" in each for each in causes) == 8


def test_new_instances_serve_before_old_ones_end(world: World) -> None:
    """overview: with a minimum of 100 per cent instances are launched before others end."""
    world.group()
    world.refresh(MinHealthyPercentage=100, MaxHealthyPercentage=150)
    assert least_serving(world) == (4, 6)


def test_a_minimum_below_100_ends_instances_first(world: World) -> None:
    """API, MinHealthyPercentage: the share of the group that stays in service."""
    world.group()
    world.refresh(MinHealthyPercentage=50, MaxHealthyPercentage=100)
    assert least_serving(world) == (2, 4)


def test_a_maximum_of_100_that_is_given_starts_one_first(world: World) -> None:
    """API, MaxHealthyPercentage: explicitly 100 with a minimum of 100 exceeds the capacity by one."""
    world.group(2)
    world.refresh(MinHealthyPercentage=100, MaxHealthyPercentage=100)
    assert least_serving(world) == (2, 3)


def test_a_maximum_that_is_left_out_ends_and_starts_together(world: World) -> None:
    """API, MaxHealthyPercentage: omitted, an instance ends while its replacement is launched."""
    world.group(2)
    world.refresh(MaxHealthyPercentage=None)
    assert least_serving(world) == (1, 2)


def test_defaults_are_those_of_the_sdks(world: World) -> None:
    """understand-instance-refresh-default-values."""
    world.group(1, DefaultInstanceWarmup=77)
    world.scaling.start_instance_refresh(AutoScalingGroupName=GROUP)
    assert world.look()["Preferences"] == {
        "MinHealthyPercentage": 90,
        "InstanceWarmup": 77,
        "SkipMatching": False,
        "AutoRollback": False,
        "ScaleInProtectedInstances": "Wait",
        "StandbyInstances": "Wait",
        "BakeTime": 0,
    }


def test_only_warm_instances_count(world: World) -> None:
    """API, PercentageComplete: healthy, and past the warm-up."""
    world.server.settings(describe_seconds=0)
    world.group(1)
    world.refresh(InstanceWarmup=600)
    world.advance(500)
    assert world.look()["PercentageComplete"] == 0 and world.states() == ["InService"] * 2
    world.advance(200)
    assert world.look()["Status"] == "Successful"


def test_skip_matching_leaves_what_already_is_right(world: World) -> None:
    """asg-instance-refresh-skip-matching."""
    world.group(2, version="2")
    kept = {each["InstanceId"] for each in world.instances()}
    template = {"LaunchTemplateId": world.template, "Version": "1"}
    world.scaling.update_auto_scaling_group(
        AutoScalingGroupName=GROUP, LaunchTemplate=template, DesiredCapacity=4
    )
    world.advance(30)
    world.refresh(SkipMatching=True)
    assert world.look()["InstancesToUpdate"] == 2
    assert world.follow()[-1]["Status"] == "Successful"
    now = {each["InstanceId"] for each in world.instances()}
    assert kept < now and world.versions() == ["2"] * 4


def test_what_matches_altogether_is_successful_at_once(world: World) -> None:
    world.group(2, version="2")
    world.refresh(SkipMatching=True)
    assert len(world.follow()) < 5
    assert len(world.activities()) == 2


# -- checkpoints and bake time


def test_a_refresh_pauses_at_checkpoints(world: World) -> None:
    """checkpoints: reached when that share is new; then it waits."""
    world.server.settings(describe_seconds=0)
    world.group()
    world.refresh(CheckpointPercentages=[25, 100], CheckpointDelay=600)
    world.advance(200)
    found = world.look()
    assert found["PercentageComplete"] == 25 and "checkpoint" in found["StatusReason"]
    assert world.versions() == ["1", "1", "1", "2"]
    world.advance(400)
    assert world.look()["PercentageComplete"] == 25
    world.advance(300)
    assert world.look()["Status"] == "Successful"


def test_checkpoints_that_end_below_100_end_the_refresh_there(world: World) -> None:
    """API, CheckpointPercentages: to replace all, the last must be 100."""
    world.group()
    world.refresh(CheckpointPercentages=[50], CheckpointDelay=60)
    last = world.follow()[-1]
    assert (last["Status"], last["PercentageComplete"], last["InstancesToUpdate"]) == ("Successful", 50, 2)
    assert world.versions() == ["1", "1", "2", "2"]


def test_a_checkpoint_that_another_covers_is_passed_over(world: World) -> None:
    """checkpoints: of two instances the first is 50 per cent, past 10 and 40."""
    world.group(2)
    world.refresh(CheckpointPercentages=[10, 40, 100], CheckpointDelay=300)
    seen = world.follow()
    assert percents(seen) == [0, 50, 100]
    reasons = {each.get("StatusReason", "") for each in seen}
    assert sum("checkpoint" in each for each in reasons) == 1


def test_the_delay_of_checkpoints_is_an_hour_where_none_is_given(world: World) -> None:
    """API, CheckpointDelay."""
    world.group(1)
    world.refresh(CheckpointPercentages=[100])
    assert world.look()["Preferences"]["CheckpointDelay"] == 3600


def test_a_refresh_bakes_before_it_is_over(world: World) -> None:
    """API, BakeTime; Status Baking."""
    world.server.settings(describe_seconds=0)
    world.group(1)
    world.refresh(BakeTime=600)
    world.advance(300)
    assert world.look()["Status"] == "Baking"
    assert world.described()["LaunchTemplate"]["Version"] == "1"
    world.advance(600)
    assert world.look()["Status"] == "Successful"


# -- what is refused


@pytest.mark.parametrize(
    ("preferences", "words"),
    [
        ({"MinHealthyPercentage": None}, "MinHealthyPercentage must be specified"),
        ({"MinHealthyPercentage": 50}, "cannot be greater than 100"),
        ({"CheckpointDelay": 60}, "CheckpointDelay needs"),
        ({"CheckpointPercentages": [50, 20, 100]}, "ascending"),
        ({"CheckpointPercentages": [50, 50, 100]}, "unique"),
        ({"CheckpointPercentages": [50, 101]}, "out of range"),
        ({"AlarmSpecification": {"Alarms": ["nobody"]}}, "nobody"),
    ],
)
def test_preferences_that_cannot_be_meant(world: World, preferences: dict[str, Any], words: str) -> None:
    """API, RefreshPreferences."""
    world.group(1)
    with refused("ValidationError", words):
        world.refresh(**preferences)
    assert world.scaling.describe_instance_refreshes(AutoScalingGroupName=GROUP)["InstanceRefreshes"] == []


def test_one_refresh_at_a_time(world: World) -> None:
    """API, InstanceRefreshInProgressFault."""
    world.group(1)
    world.refresh()
    with refused("InstanceRefreshInProgress"):
        world.refresh()


def test_a_version_that_is_not_there(world: World) -> None:
    world.group(1)
    with refused("ValidationError", "no version 9"):
        world.refresh("9")


def test_nothing_to_cancel_or_to_roll_back(world: World) -> None:
    """API, ActiveInstanceRefreshNotFoundFault."""
    world.group(1)
    for call in (world.scaling.cancel_instance_refresh, world.scaling.rollback_instance_refresh):
        with refused("ActiveInstanceRefreshNotFound"):
            call(AutoScalingGroupName=GROUP)


def test_a_group_that_is_not_there(world: World) -> None:
    with refused("ValidationError", "not found"):
        world.refresh()


def test_the_configuration_is_not_changed_beside_a_refresh_that_wants_another(world: World) -> None:
    """UpdateAutoScalingGroup during a refresh with a desired configuration; sizes may change."""
    world.group(2)
    world.refresh()
    template = {"LaunchTemplateId": world.template, "Version": "1"}
    with refused("ValidationError", "active instance refresh"):
        world.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, LaunchTemplate=template)
    world.scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, DesiredCapacity=3)
    assert world.follow()[-1]["Status"] == "Successful"
    assert world.versions() == ["2"] * 3


# -- going back


@pytest.mark.parametrize(
    ("version", "image", "desired"),
    [("$Latest", "", "2"), ("$Default", "", "2"), ("3", "resolve:ssm:/kiln/stable", "2"), ("1", "", None)],
)
def test_what_cannot_be_rolled_back(world: World, version: str, image: str, desired: str | None) -> None:
    """rollback, considerations: a desired configuration, a numbered version, and no AMI by a parameter."""
    world.client("ssm").put_parameter(Name="/kiln/stable", Type="String", Value=world.ami())
    if image:
        world.version(image)
    world.group(1, version=version)
    with refused("ValidationError", "cannot be rolled back"):
        world.refresh(desired, AutoRollback=True)
    world.refresh(desired)
    with refused("IrreversibleInstanceRefresh"):
        world.scaling.rollback_instance_refresh(AutoScalingGroupName=GROUP)


def test_a_bad_image_is_rolled_back_after_an_hour_and_the_old_one_serves_throughout(world: World) -> None:
    """overview, one-hour timeout; rollback: by itself where it was asked for."""
    world.version(world.ami(health="unhealthy"))
    world.group(2)
    kept = {each["InstanceId"] for each in world.instances()}
    world.server.settings(describe_seconds=60)
    world.refresh("3", InstanceWarmup=120, AutoRollback=True)
    seen = []
    for _ in range(200):
        seen.append(world.look())
        served = {each["InstanceId"] for each in world.instances() if each["LifecycleState"] == "InService"}
        assert kept <= served
        if seen[-1]["Status"] in emulated.OVER:
            break
    assert statuses(seen)[-1] == "RollbackSuccessful"
    details = seen[-1]["RollbackDetails"]
    assert "health checks" in details["RollbackReason"] and details["PercentageCompleteOnRollback"] == 0
    assert 3600 <= (seen[-1]["EndTime"] - seen[-1]["StartTime"]).total_seconds() < 4500
    assert world.described()["LaunchTemplate"]["Version"] == "1"
    assert world.versions() == ["1", "1"]


def test_without_rollback_it_fails_and_leaves_things_as_they_are(world: World) -> None:
    """API, StartInstanceRefresh: a failed refresh is not taken back by itself."""
    world.version(world.ami(health="unhealthy"))
    world.group(2)
    world.server.settings(describe_seconds=120)
    world.refresh("3", InstanceWarmup=120)
    last = world.follow()[-1]
    assert last["Status"] == "Failed" and "RollbackDetails" not in last
    assert world.described()["LaunchTemplate"]["Version"] == "1"


def test_a_rollback_by_hand_replaces_what_was_replaced(world: World) -> None:
    """rollback: the the new ones match the configuration that was saved; API: the share falls to 0."""
    world.group()
    kept = {each["InstanceId"] for each in world.instances()}
    world.refresh(CheckpointPercentages=[50, 100], CheckpointDelay=3600)
    while world.look()["PercentageComplete"] < 50:
        pass
    world.scaling.rollback_instance_refresh(AutoScalingGroupName=GROUP)
    seen = world.follow()
    assert seen[0]["Status"] == "RollbackInProgress" and seen[-1]["Status"] == "RollbackSuccessful"
    assert seen[-1]["PercentageComplete"] == 0
    assert seen[-1]["RollbackDetails"]["PercentageCompleteOnRollback"] == 50
    assert seen[-1]["RollbackDetails"]["InstancesToUpdateOnRollback"] == 2
    now = {each["InstanceId"] for each in world.instances()}
    assert world.versions() == ["1"] * 4 and len(kept & now) == 2


def test_a_rollback_to_an_image_that_cannot_start_fails(world: World) -> None:
    """API, Status RollbackFailed; EC2's DisableImage forbids launches."""
    image = world.ami()
    world.version(image)
    world.group(2, version="3")
    world.server.settings(describe_seconds=60)
    world.refresh(CheckpointPercentages=[50, 100])
    while world.look()["PercentageComplete"] < 50:
        pass
    world.client("ec2").disable_image(ImageId=image)
    world.scaling.rollback_instance_refresh(AutoScalingGroupName=GROUP)
    last = world.follow()[-1]
    assert last["Status"] == "RollbackFailed" and "not available" in last["StatusReason"]


@pytest.mark.parametrize("rollback", [True, False])
@pytest.mark.parametrize("when", ["InProgress", "Baking"])
def test_an_alarm_ends_it(world: World, rollback: bool, when: str) -> None:
    """rollback: an alarm in ALARM fails it, or rolls it back; the bake time is watched too."""
    world.group(2)
    watch = world.client("cloudwatch")
    watch.put_metric_alarm(
        AlarmName="5xx",
        Namespace="n",
        MetricName="m",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
    )
    world.refresh(AutoRollback=rollback, AlarmSpecification={"Alarms": ["5xx"]}, BakeTime=1800)
    while world.look()["Status"] != when:
        pass
    watch.set_alarm_state(AlarmName="5xx", StateValue="ALARM", StateReason="test")
    last = world.follow()[-1]
    assert last["Status"] == ("RollbackSuccessful" if rollback else "Failed")
    assert "5xx" in last["StatusReason"] and "ALARM" in last["StatusReason"]
    assert world.described()["LaunchTemplate"]["Version"] == "1"


def test_a_cancelled_refresh_ends_when_what_moves_has_arrived(world: World) -> None:
    """API, CancelInstanceRefresh: nothing is rolled back; in-flight launches and terminations complete."""
    world.server.settings(describe_seconds=0)
    world.group()
    world.refresh(MaxHealthyPercentage=125)
    world.advance(25)
    world.scaling.cancel_instance_refresh(AutoScalingGroupName=GROUP)
    assert world.look()["Status"] == "Cancelling"
    world.advance(60)
    assert world.look()["Status"] == "Cancelled"
    assert world.described()["LaunchTemplate"]["Version"] == "1"
    assert len(world.instances()) == 4


def test_a_refresh_cancelled_without_waiting_is_cancelled_at_once(world: World) -> None:
    """API, WaitForTransitioningInstances."""
    world.group()
    world.refresh()
    world.scaling.cancel_instance_refresh(AutoScalingGroupName=GROUP, WaitForTransitioningInstances=False)
    assert world.look()["Status"] == "Cancelled"


# -- what holds it up


def protect(world: World, protected: bool = True, number: int = 1) -> list[str]:
    ids = [each["InstanceId"] for each in world.instances()][:number]
    asked = {"InstanceIds": ids, "AutoScalingGroupName": GROUP, "ProtectedFromScaleIn": protected}
    world.scaling.set_instance_protection(**asked)
    return ids


def test_protected_instances_are_waited_for_an_hour(world: World) -> None:
    """API, ScaleInProtectedInstances Wait: an hour, then it fails."""
    world.group(2)
    (protected,) = protect(world)
    world.server.settings(describe_seconds=60)
    world.refresh()
    seen = world.follow()
    assert seen[-1]["Status"] == "Failed" and protected in seen[-1]["StatusReason"]
    assert 3600 <= (seen[-1]["EndTime"] - seen[-1]["StartTime"]).total_seconds() < 4500
    assert world.versions() == ["1", "2"]


def test_a_protection_that_is_taken_away_in_time_lets_it_go_on(world: World) -> None:
    world.group(2)
    (protected,) = protect(world)
    world.server.settings(describe_seconds=60)
    world.refresh()
    while "protected from scale in" not in world.look().get("StatusReason", ""):
        pass
    world.scaling.set_instance_protection(
        InstanceIds=[protected], AutoScalingGroupName=GROUP, ProtectedFromScaleIn=False
    )
    assert world.follow()[-1]["Status"] == "Successful"
    assert world.versions() == ["2", "2"]


@pytest.mark.parametrize(("choice", "versions"), [("Ignore", ["1", "2"]), ("Refresh", ["2", "2"])])
def test_protected_instances_are_left_or_replaced_where_that_is_said(
    world: World, choice: str, versions: list[str]
) -> None:
    """API, ScaleInProtectedInstances Ignore and Refresh."""
    world.group(2)
    protect(world)
    world.refresh(ScaleInProtectedInstances=choice)
    last = world.follow()[-1]
    assert last["Status"] == "Successful" and last["PercentageComplete"] == 100
    assert world.versions() == versions


@pytest.mark.parametrize(
    ("choice", "status", "left"),
    [("Wait", "Failed", 1), ("Ignore", "Successful", 1), ("Terminate", "Successful", 0)],
)
def test_instances_in_standby(world: World, choice: str, status: str, left: int) -> None:
    """API, StandbyInstances."""
    world.group(2)
    first = world.instances()[0]["InstanceId"]
    world.scaling.enter_standby(
        InstanceIds=[first], AutoScalingGroupName=GROUP, ShouldDecrementDesiredCapacity=True
    )
    world.server.settings(describe_seconds=60)
    world.refresh(StandbyInstances=choice)
    last = world.follow()[-1]
    assert last["Status"] == status
    assert world.states().count("Standby") == left
    assert world.versions() == ["2"]
    if choice == "Wait":
        assert "standby" in last["StatusReason"]


def test_a_quota_stalls_it_with_a_reason(world: World) -> None:
    """ec2-on-demand-instances; overview, one-hour timeout: launch-before-terminate needs more vCPUs."""
    world.server.settings(quotas={"ec2/L-DB2E81BA": 8})
    world.group(2)
    world.refresh(AutoRollback=True)
    for _ in range(6):
        found = world.look()
    assert found["Status"] == "InProgress" and "vCPU limit of 8" in found["StatusReason"]
    assert any(each["StatusCode"] == "Failed" for each in world.activities())
    world.server.settings(quotas={"ec2/L-DB2E81BA": 16})
    assert world.follow()[-1]["Status"] == "Successful"


def test_hooks_are_waited_for(world: World) -> None:
    """overview and lifecycle-hooks: an instance that waits is neither new yet nor gone yet."""
    world.server.settings(describe_seconds=0)
    world.group(1)
    hook(world, "LAUNCHING")
    hook(world, "TERMINATING", result="CONTINUE")
    world.refresh()
    world.advance(120)
    assert world.states() == ["InService", "Pending:Wait"]
    new = next(each["InstanceId"] for each in world.instances() if each["LifecycleState"] == "Pending:Wait")
    answer(world, "LAUNCHING", new)
    world.advance(120)
    assert world.states() == ["InService", "Terminating:Wait"]
    assert world.look()["Status"] == "InProgress"
    old = next(
        each["InstanceId"] for each in world.instances() if each["LifecycleState"] == "Terminating:Wait"
    )
    answer(world, "TERMINATING", old)
    world.advance(30)
    assert world.look()["Status"] == "Successful"


def test_the_refresh_process_can_be_suspended(world: World) -> None:
    """as-suspend-resume-processes: InstanceRefresh."""
    world.group(1)
    world.scaling.suspend_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["InstanceRefresh"])
    world.refresh()
    world.advance(600)
    assert world.look()["PercentageComplete"] == 0 and "suspended" in world.look()["StatusReason"]
    world.scaling.resume_processes(AutoScalingGroupName=GROUP, ScalingProcesses=["InstanceRefresh"])
    assert world.follow()[-1]["Status"] == "Successful"


# -- the group beside it


def test_a_group_that_grows_meanwhile_grows_by_the_new_version(world: World) -> None:
    """overview: while it runs, new instances match the desired configuration."""
    world.group(2)
    world.refresh(CheckpointPercentages=[50, 100], CheckpointDelay=600)
    while world.look()["PercentageComplete"] < 50:
        pass
    world.scaling.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=4)
    world.advance(30)
    assert world.versions() == ["1", "2", "2", "2"]
    assert world.follow()[-1]["Status"] == "Successful"


def test_a_warm_pool_is_replaced_after_what_serves(world: World) -> None:
    """overview: instances of the warm pool are replaced after those in service."""
    world.group(2, MaxSize=4)
    world.scaling.put_warm_pool(AutoScalingGroupName=GROUP, PoolState="Stopped")
    world.advance(60)
    world.refresh()
    seen = world.follow()
    assert seen[-1]["Status"] == "Successful"
    early = next(each for each in seen if each["PercentageComplete"] == 0)["ProgressDetails"]
    assert early["WarmPoolProgress"] == {"PercentageComplete": 0, "InstancesToUpdate": 2}
    assert seen[-1]["ProgressDetails"]["WarmPoolProgress"]["PercentageComplete"] == 100
    pool = world.scaling.describe_warm_pool(AutoScalingGroupName=GROUP)
    assert [each["LaunchTemplate"]["Version"] for each in pool["Instances"]] == ["2", "2"]
    assert pool["WarmPoolConfiguration"]["PoolState"] == "Stopped"


def test_a_mixed_instances_policy_is_kept_where_it_is_desired(world: World) -> None:
    """API, DesiredConfiguration: a mixed instances policy, or a launch template that takes its place."""
    world.group(2, MixedInstancesPolicy=mixed(world, "1"))
    world.scaling.start_instance_refresh(
        AutoScalingGroupName=GROUP,
        DesiredConfiguration={"MixedInstancesPolicy": mixed(world, "2")},
        Preferences={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200, "AutoRollback": True},
    )
    assert world.follow()[-1]["Status"] == "Successful"
    policy = world.described()["MixedInstancesPolicy"]["LaunchTemplate"]
    assert policy["LaunchTemplateSpecification"]["Version"] == "2" and len(policy["Overrides"]) == 2
    assert {each["InstanceType"] for each in world.instances()} == {"g5.2xlarge"}
    world.refresh("1")
    world.follow()
    assert "MixedInstancesPolicy" not in world.described()


def test_weights_count_as_capacity(world: World) -> None:
    """ec2-auto-scaling-mixed-instances-groups-instance-weighting: capacity is the sum of weights."""
    policy = mixed(world, "1")
    policy["LaunchTemplate"]["Overrides"] = [{"InstanceType": "g5.2xlarge", "WeightedCapacity": "2"}]
    world.group(3, MixedInstancesPolicy=policy)
    assert world.states() == ["InService"] * 2
    policy["LaunchTemplate"]["LaunchTemplateSpecification"]["Version"] = "2"
    world.scaling.start_instance_refresh(
        AutoScalingGroupName=GROUP,
        DesiredConfiguration={"MixedInstancesPolicy": policy},
        Preferences={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200},
    )
    assert world.follow()[-1]["Status"] == "Successful"
    assert world.versions() == ["2", "2"]


def test_a_groups_own_policy_of_maintenance_is_the_default(world: World) -> None:
    """understand-instance-refresh-default-values: the instance maintenance policy, where there is one."""
    policy = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150}
    world.group(4, InstanceMaintenancePolicy=policy)
    world.refresh(MinHealthyPercentage=None, MaxHealthyPercentage=None)
    assert world.look()["Preferences"].items() >= policy.items()
    assert least_serving(world) == (4, 6)


def test_targets_are_healthy_throughout(world: World) -> None:
    targets = target_group(world)
    world.group(2, TargetGroupARNs=[targets])
    world.refresh()
    while True:
        found = world.client("elbv2").describe_target_health(TargetGroupArn=targets)[
            "TargetHealthDescriptions"
        ]
        assert sum(each["TargetHealth"]["State"] == "healthy" for each in found) >= 2
        if world.look()["Status"] in emulated.OVER:
            break
    assert world.look()["Status"] == "Successful"


def test_refreshes_are_told_newest_first_and_paged(world: World) -> None:
    """API, DescribeInstanceRefreshes."""
    world.group(1)
    first = world.refresh()
    world.scaling.cancel_instance_refresh(AutoScalingGroupName=GROUP, WaitForTransitioningInstances=False)
    second = world.refresh()
    ask = world.scaling.describe_instance_refreshes
    page = ask(AutoScalingGroupName=GROUP, MaxRecords=1)
    assert [each["InstanceRefreshId"] for each in page["InstanceRefreshes"]] == [second]
    rest = ask(AutoScalingGroupName=GROUP, MaxRecords=1, NextToken=page["NextToken"])
    assert [each["InstanceRefreshId"] for each in rest["InstanceRefreshes"]] == [first]
    one = ask(AutoScalingGroupName=GROUP, InstanceRefreshIds=[first])["InstanceRefreshes"]
    assert [each["InstanceRefreshId"] for each in one] == [first]
