"""Requests about groups and their instances that moto answers in another way than AWS, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult, EmptyResult

from tests.emulator import activities, configuration, health, lifecycle, members, warmpool
from tests.emulator import group as groups
from tests.emulator.clock import CLOCK
from tests.emulator.refresh_calls import group_of

ORIGINAL: dict[str, Callable[[Any], Any]] = {}
"""Moto's own methods, which these call."""

KEPT = {
    "DefaultInstanceWarmup": "default_instance_warmup",
    "InstanceMaintenancePolicy": "instance_maintenance_policy",
    "TerminationPolicies": "termination_policies",
    "DefaultCooldown": "default_cooldown",
    "CapacityRebalance": "capacity_rebalance",
}
"""What moto forgets at an update, or always: parameter → attribute, as DescribeAutoScalingGroups shows it."""


def state_of(call: Any, instance: str) -> Any:
    """An instance of a group, not of a warm pool."""
    found = lifecycle.state_of(call.autoscaling_backend, instance)
    if found is None:
        raise ValidationError(
            f"Instance Id not found - No managed instance found for instance ID: {instance}"
        )
    return found


def keep(call: Any, group: Any) -> None:
    """Keep what moto does not."""
    for parameter, attribute in KEPT.items():
        if (value := call.params.get(parameter)) is not None:
            setattr(group, attribute, configuration.plain(value))


def create(call: Any) -> Any:
    """CreateAutoScalingGroup: a name is taken once."""
    name, backend = call.params["AutoScalingGroupName"], call.autoscaling_backend
    if name in backend.autoscaling_groups:
        raise AutoscalingClientError(
            "AlreadyExists",
            "AutoScalingGroup by this name already exists - A group with the name already exists",
        )
    answer = ORIGINAL["CreateAutoScalingGroup"](call)
    keep(call, backend.autoscaling_groups[name])
    return answer


def update(call: Any) -> Any:
    """UpdateAutoScalingGroup: what a refresh with a desired configuration is to change cannot be changed
    beside it."""
    group = group_of(call)
    refresh = members.active(group)
    named = ("LaunchTemplate", "MixedInstancesPolicy", "LaunchConfigurationName")
    if refresh and refresh.desired and any(call.params.get(each) for each in named):
        raise ValidationError(
            "An active instance refresh with a desired configuration exists. All configuration options "
            "derived from the desired configuration are not available for update while the instance refresh "
            "is active."
        )
    for each in named[:2]:
        if given := call.params.get(each):
            key = "LaunchTemplate" if each == named[0] else "MixedInstancesPolicy"
            configuration.fully_formed(group, configuration.desired({key: given}))
    answer = ORIGINAL["UpdateAutoScalingGroup"](call)
    keep(call, group)
    least, most = int(group.min_size or 0), int(group.max_size or 0)
    group.desired_capacity = min(max(int(group.desired_capacity or 0), least), most)
    return answer


def delete(call: Any) -> Any:
    """DeleteAutoScalingGroup: with instances only by force."""
    group, backend, now = group_of(call), call.autoscaling_backend, CLOCK.now()
    its = members.course(group)
    if (group.instance_states or its.pool) and not call.params.get("ForceDelete"):
        raise AutoscalingClientError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance "
            "request(s) still in the group.",
        )
    for state in list(group.instance_states):
        groups.go(group, state, now)
    for state in list(its.pool):
        warmpool.drop(group, state, "its group was deleted.", now)
    for hook in backend.describe_lifecycle_hooks(group.name):
        backend.delete_lifecycle_hook(group.name, hook.name)
    del backend.autoscaling_groups[group.name]
    return EmptyResult()


def set_desired_capacity(call: Any) -> Any:
    """SetDesiredCapacity: between the group's sizes."""
    group, wanted = group_of(call), int(call.params["DesiredCapacity"])
    for limit, word, broken in (
        (group.max_size, "above max", wanted > group.max_size),
        (group.min_size, "below min", wanted < group.min_size),
    ):
        if broken:
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is {word} value {limit} for the AutoScalingGroup."
            )
    group.desired_capacity = wanted
    return EmptyResult()


def terminate(call: Any) -> Any:
    """TerminateInstanceInAutoScalingGroup: a request; hooks are waited for."""
    state, now = state_of(call, call.params["InstanceId"]), CLOCK.now()
    group = state.auto_scaling_group
    if call.params.get("ShouldDecrementDesiredCapacity"):
        if group.desired_capacity <= group.min_size:
            raise ValidationError(
                f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without "
                "replacement will violate group's min size constraint. Either set "
                "shouldDecrementDesiredCapacity flag to false or lower group's min size."
            )
        group.desired_capacity -= 1
    cause = f"instance {state.instance.id} was taken out of service in response to a user request."
    return ActionResult({"Activity": groups.terminate(group, state, cause, now).view()})


def set_health(call: Any) -> Any:
    """SetInstanceHealth: in the grace period ``Unhealthy`` counts only where that is not respected."""
    state, said, now = state_of(call, call.params["InstanceId"]), call.params["HealthStatus"], CLOCK.now()
    if said not in ("Healthy", "Unhealthy"):
        raise ValidationError("Valid instance health states are: [Healthy, Unhealthy].")
    group, its = state.auto_scaling_group, members.life(state)
    grace = (its.serving or now) + float(group.health_check_grace_period or 0)
    if said == "Healthy":
        state.health_status, its.ill = "Healthy", ""
    elif call.params.get("ShouldRespectGracePeriod") is False or now >= grace:
        health.fall(group, state, "a user health-check", now)
    return EmptyResult()


def enter_standby(call: Any) -> Any:
    """EnterStandby: a group that does not shrink starts others in their place."""
    group, now = group_of(call), CLOCK.now()
    shrink, found = call.params["ShouldDecrementDesiredCapacity"], []
    states = [state_of(call, each) for each in call.params.get("InstanceIds") or []]
    if any(state.lifecycle_state != "InService" for state in states):
        raise ValidationError("The instances are not in InService.")
    if shrink and group.desired_capacity - len(states) < group.min_size:
        raise ValidationError(
            f"AutoScalingGroup {group.name} has min-size={group.min_size}, and cannot shrink below it."
        )
    for state in states:
        groups.stand_by(group, state)
        cause = f"instance {state.instance.id} was moved to standby in response to a user request."
        activity = activities.begin(group, f"Moving EC2 instance to Standby: {state.instance.id}", cause, now)
        activity.close(now)
        found.append(activity.view())
    if shrink:
        group.desired_capacity -= len(states)
    return ActionResult({"Activities": found})


def exit_standby(call: Any) -> Any:
    """ExitStandby: the desired capacity grows by them."""
    group, now, found = group_of(call), CLOCK.now(), []
    states = [state_of(call, each) for each in call.params.get("InstanceIds") or []]
    for state in states:
        if state.lifecycle_state != "Standby":
            raise ValidationError(f"The instance {state.instance.id} is not in Standby.")
        state.lifecycle_state, members.life(state).serving = "Pending", None
        cause = f"instance {state.instance.id} was moved out of standby in response to a user request."
        description = f"Moving EC2 instance out of Standby: {state.instance.id}"
        members.life(state).activity = activities.begin(group, description, cause, now)
        found.append(members.life(state).activity.view())  # type: ignore[union-attr]
    group.desired_capacity += len(states)
    return ActionResult({"Activities": found})


def describe_activities(call: Any) -> Any:
    """DescribeScalingActivities: the newest first."""
    name, ids = call.params.get("AutoScalingGroupName"), call.params.get("ActivityIds") or []
    found = [
        each
        for each in activities.of(call.autoscaling_backend)
        if (not name or each.group.name == name) and (not ids or each.identity in ids)
    ]
    first, size = int(call.params.get("NextToken") or 0), int(call.params.get("MaxRecords") or 100)
    answer: dict[str, Any] = {"Activities": [each.view() for each in found[first : first + size]]}
    if len(found) > first + size:
        answer["NextToken"] = str(first + size)
    return ActionResult(answer)


def describe_instances(call: Any) -> Any:
    """DescribeAutoScalingInstances: those of warm pools too."""
    ids = call.params.get("InstanceIds") or []
    found = [
        state
        for group in call.autoscaling_backend.autoscaling_groups.values()
        for state in (*group.instance_states, *members.course(group).pool)
        if not ids or state.instance.id in ids
    ]
    return ActionResult({"AutoScalingInstances": found})


def put_warm_pool(call: Any) -> Any:
    """PutWarmPool: −1 takes the largest size away again."""
    group_of(call)
    return ORIGINAL["PutWarmPool"](call)


def describe_warm_pool(call: Any) -> Any:
    """DescribeWarmPool, with its instances."""
    group = group_of(call)
    answer: dict[str, Any] = {"Instances": members.course(group).pool}
    if group.warm_pool is not None:
        answer["WarmPoolConfiguration"] = group.warm_pool
    return ActionResult(answer)


def delete_warm_pool(call: Any) -> Any:
    """DeleteWarmPool: with instances only by force."""
    group, its = group_of(call), members.course(group_of(call))
    if its.pool and not call.params.get("ForceDelete"):
        raise AutoscalingClientError(
            "ResourceInUse", "You cannot delete a warm pool while there are instances in it."
        )
    for state in list(its.pool):
        warmpool.drop(group, state, "its warm pool was deleted.", CLOCK.now())
    group.warm_pool = None
    return EmptyResult()


CALLS: dict[str, Callable[[Any], Any]] = {
    "CreateAutoScalingGroup": create,
    "UpdateAutoScalingGroup": update,
    "DeleteAutoScalingGroup": delete,
    "SetDesiredCapacity": set_desired_capacity,
    "TerminateInstanceInAutoScalingGroup": terminate,
    "SetInstanceHealth": set_health,
    "EnterStandby": enter_standby,
    "ExitStandby": exit_standby,
    "DescribeScalingActivities": describe_activities,
    "DescribeAutoScalingInstances": describe_instances,
    "PutWarmPool": put_warm_pool,
    "DescribeWarmPool": describe_warm_pool,
    "DeleteWarmPool": delete_warm_pool,
}
