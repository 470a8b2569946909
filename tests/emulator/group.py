"""What an Auto Scaling group does by itself as time goes by: launch, wait for hooks, judge health, replace.

Moto starts instances at once and for good. Here each tick of :data:`TICK` seconds moves every instance on by
at most one state, so that what a launcher sees does not depend on how often it looks.
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling.models import InstanceState
from moto.core.exceptions import ServiceException

from tests.emulator import activities, configuration, health, launching, lifecycle
from tests.emulator.activities import Activity
from tests.emulator.clock import CLOCK
from tests.emulator.members import (
    PENDING,
    Life,
    active,
    capacity,
    counted,
    course,
    life,
    source,
    suspended,
    targets,
)

TICK = 5.0
LAUNCH_SECONDS = 10.0
"""From RunInstances to a running instance."""

RETRY_SECONDS = 60.0
"""After a launch that EC2 refused."""


def work_out(group: Any, until: float) -> None:
    """Let a group do what it does until a moment."""
    its = course(group)
    while its.time + TICK <= until and group.autoscaling_backend.autoscaling_groups.get(group.name) is group:
        its.time += TICK
        tick(group, its.time)


def tick(group: Any, now: float) -> None:
    """One step of everything."""
    from tests.emulator import warmpool

    lifecycle.expire(now)
    for state in list(group.instance_states):
        if state.lifecycle_state in PENDING:
            _come(group, state, now)
        elif state.lifecycle_state in ("Terminating", "Terminating:Proceed"):
            _leave(group, state, now)
        elif state.lifecycle_state == "InService" and (why := health.judge(group, state, now)):
            cause = f"an instance was taken out of service in response to {why}."
            terminate(group, state, cause, now)
    if refresh := active(group):
        refresh.step(now)
    balance(group, now)
    warmpool.tend(group, now)


def balance(group: Any, now: float) -> None:
    """Launch what the group lacks, end what it has too many of."""
    refresh = active(group)
    desired, states = group.desired_capacity or 0, counted(group)
    surplus = refresh.surplus() if refresh else 0
    while capacity(states) < desired and not suspended(group, "Launch"):
        have = capacity(states)
        cause = (
            "an instance was launched in response to an instance refresh."
            if refresh
            else "an instance was started in response to a difference between desired and actual capacity, "
            f"increasing the capacity from {have} to {have + 1}."
        )
        if launch(group, cause, now) is None:
            break
        states = counted(group)
    extra = capacity(states) - desired - surplus
    for state in sorted(states, key=lambda each: _first_to_go(group, each)):
        weight = life(state).choice.weight
        if extra < weight or suspended(group, "Terminate") or state.protected_from_scale_in:
            continue
        cause = (
            "an instance was taken out of service in response to a difference between desired and actual "
            f"capacity, shrinking the capacity from {desired + extra} to {desired + extra - weight}."
        )
        terminate(group, state, cause, now)
        extra -= weight


def _first_to_go(group: Any, state: Any) -> tuple[Any, ...]:
    """AWS's default: the oldest version of the launch template first, then the oldest instance."""
    template = life(state).choice.template
    return (int(template["Version"]) if template else 0, life(state).born, state.instance.id)


def launch(group: Any, cause: str, now: float, pooled: bool = False) -> Any:
    """Start an instance, from the warm pool where that has one.

    Returns
    -------
    InstanceState or None
        None where EC2 refused, which the activities say, or where the last refusal is too recent.
    """
    from tests.emulator import warmpool

    its = course(group)
    if now < its.retry:
        return None
    wanted = source(group)
    if not pooled and (drawn := warmpool.draw(group, cause, now)):
        return drawn
    trouble, instance = "", None
    try:
        choice = configuration.choice(group, wanted)
        trouble = launching.refused(group, choice)
        instance = None if trouble else launching.run(group, wanted, choice)
    except ServiceException as error:
        trouble = launching.message(error)
    if instance is None:
        its.retry, its.trouble = now + RETRY_SECONDS, trouble
        description = f"Launching a new EC2 instance.  Status Reason: {trouble}"
        activities.begin(group, description, cause, now).close(now, "Failed", trouble)
        return None
    details = {"Subnet ID": instance.subnet_id or "", "Availability Zone": instance.placement.zone}
    activity = activities.begin(group, f"Launching a new EC2 instance: {instance.id}", cause, now, **details)
    state = InstanceState(instance, "Warmed:Pending" if pooled else "Pending", autoscaling_group=group)
    state.protected_from_scale_in = bool(group.new_instances_protected_from_scale_in) and not pooled
    said, doomed = launching.health_tag(group, choice), launching.doomed(group, choice, instance)
    state.kiln = Life(choice, now, activity, health=said, doomed=doomed, pooled=pooled)
    (its.pool if pooled else group.instance_states).append(state)
    return state


def _come(group: Any, state: Any, now: float) -> None:
    """Bring an instance into service, as far as it may."""
    its = life(state)
    if now < its.born + LAUNCH_SECONDS or state.lifecycle_state == "Pending:Wait":
        return
    if its.doomed or state.instance.state != "running":
        end_before_service(group, state, its.doomed or launching.CLIENT_ERROR, now)
        return
    hooks = lifecycle.hooks_of(group.autoscaling_backend, group.name, lifecycle.LAUNCHING)
    if state.lifecycle_state == "Pending" and hooks:
        state.lifecycle_state = "Pending:Wait"
        if its.activity:
            its.activity.status = "MidLifecycleAction"
        lifecycle.wait(state.instance.id, hooks, lambda result: _hooked(group, state, result))
        return
    state.lifecycle_state, its.serving = "InService", now
    course(group).trouble = ""
    if its.activity:
        its.activity.close(now)
    _register(group, state)


def _hooked(group: Any, state: Any, result: str) -> None:
    """A launching hook was completed, or ran out."""
    if result == "CONTINUE":
        state.lifecycle_state = "Pending:Proceed"
    else:
        why = "Instance failed to complete user's Lifecycle Action: the Lifecycle Action was abandoned."
        end_before_service(group, state, why, CLOCK.now())


def end_before_service(group: Any, state: Any, why: str, now: float) -> None:
    """An instance never came into service: it goes, and its launch is called cancelled."""
    from moto.ec2.models.instances import StateReason

    if life(state).doomed:
        state.instance.state_reason = StateReason("Client error on launch", "Client.InternalError")
    if activity := life(state).activity:
        activity.close(now, "Cancelled", why)
    course(group).trouble = why
    course(group).retry = max(course(group).retry, now + RETRY_SECONDS)
    group.instance_states = [each for each in group.instance_states if each is not state]
    _end_in_ec2(group, state)


def terminate(group: Any, state: Any, cause: str, now: float) -> Activity:
    """Take an instance out of service, and end it when its hooks are done."""
    instance = state.instance
    if (launched := life(state).activity) and launched.end is None:
        launched.close(now, "Cancelled", "The instance was terminated before it came into service.")
    activity = activities.begin(group, f"Terminating EC2 instance: {instance.id}", cause, now)
    life(state).activity = activity
    lifecycle.forget(instance.id)
    _deregister(group, state)
    state.lifecycle_state = "Terminating"
    lifecycle.RECORD.on_terminating(instance.id)
    hooks = lifecycle.hooks_of(group.autoscaling_backend, group.name, lifecycle.TERMINATING)
    if hooks and instance.state == "running":
        state.lifecycle_state, activity.status = "Terminating:Wait", "MidLifecycleAction"
        lifecycle.wait(instance.id, hooks, lambda _: setattr(state, "lifecycle_state", "Terminating:Proceed"))
    return activity


def stand_by(group: Any, state: Any) -> None:
    """Take an instance out of service without ending it."""
    _deregister(group, state)
    state.lifecycle_state = "Standby"


def go(group: Any, state: Any, now: float) -> None:
    """End an instance at once, without its hooks."""
    _deregister(group, state)
    lifecycle.forget(state.instance.id)
    _leave(group, state, now)


def _leave(group: Any, state: Any, now: float) -> None:
    """Let an instance go for good."""
    group.instance_states = [each for each in group.instance_states if each is not state]
    _end_in_ec2(group, state)
    if activity := life(state).activity:
        activity.close(now)


def _end_in_ec2(group: Any, state: Any) -> None:
    if state.instance.state not in ("terminated", "shutting-down"):
        reason = state.instance.state_reason
        group.ec2_backend.terminate_instances([state.instance.id])
        if getattr(reason, "code", None) == "Client.InternalError":
            state.instance.state_reason = reason


def _register(group: Any, state: Any) -> None:
    if not suspended(group, "AddToLoadBalancer"):
        for target in targets(group):
            target.register([{"Id": state.instance.id, "Port": target.port}])


def _deregister(group: Any, state: Any) -> None:
    for target in targets(group):
        if state.instance.id in target.targets:
            target.deregister([{"Id": state.instance.id}])
