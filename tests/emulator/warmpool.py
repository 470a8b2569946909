"""A group's warm pool: instances that were started once and wait, stopped or running, until the group grows.

Its size is what PutWarmPool documents: the difference of ``MaxGroupPreparedCapacity``, or of the group's
maximum, and the desired capacity, and at least ``MinSize``. A refresh replaces its instances after those in
service (https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html).
"""

from __future__ import annotations

from typing import Any

from tests.emulator import activities, lifecycle, members
from tests.emulator import group as groups

WAITING = {"Stopped": "Warmed:Stopped", "Running": "Warmed:Running", "Hibernated": "Warmed:Hibernated"}
"""``PoolState`` → state of an instance that waits."""


def size(group: Any) -> int:
    """How many instances the pool should have."""
    pool, desired = group.warm_pool, group.desired_capacity or 0
    if pool is None:
        return 0
    most = pool.max_group_prepared_capacity
    most = group.max_size if most in (None, -1) else int(most)
    return max(int(pool.min_size or 0), most - desired)


def outdated(group: Any) -> list[Any]:
    """Instances of the pool that the refresh at work has yet to replace."""
    refresh = members.active(group)
    return [state for state in members.course(group).pool if refresh and refresh.replaces(state)]


def tend(group: Any, now: float) -> None:
    """Move the pool's instances on, and keep their number."""
    its = members.course(group)
    for state in list(its.pool):
        if state.lifecycle_state in ("Warmed:Pending", "Warmed:Pending:Proceed"):
            _come(group, state, now)
    wanted = size(group)
    for state in its.pool[wanted:]:
        drop(group, state, "an instance was taken out of the warm pool, which has too many.", now)
    while len(its.pool) < wanted and not members.suspended(group, "Launch"):
        cause = "an instance was started for the warm pool, whose size differs from its desired capacity."
        if groups.launch(group, cause, now, pooled=True) is None:
            return


def _come(group: Any, state: Any, now: float) -> None:
    its = members.life(state)
    if now < its.born + groups.LAUNCH_SECONDS:
        return
    hooks = lifecycle.hooks_of(group.autoscaling_backend, group.name, lifecycle.LAUNCHING)
    if state.lifecycle_state == "Warmed:Pending" and hooks:
        state.lifecycle_state = "Warmed:Pending:Wait"
        lifecycle.wait(state.instance.id, hooks, lambda result: _hooked(group, state, result, now))
        return
    kind = group.warm_pool.pool_state if group.warm_pool else "Stopped"
    if kind != "Running":
        group.ec2_backend.stop_instances([state.instance.id])
    state.lifecycle_state = WAITING[kind]
    if its.activity:
        its.activity.close(now)


def _hooked(group: Any, state: Any, result: str, now: float) -> None:
    if result == "CONTINUE":
        state.lifecycle_state = "Warmed:Pending:Proceed"
    else:
        drop(group, state, "its lifecycle action was abandoned.", now)


def drop(group: Any, state: Any, cause: str, now: float) -> None:
    """End an instance of the pool."""
    its = members.course(group)
    its.pool = [each for each in its.pool if each is not state]
    group.ec2_backend.terminate_instances([state.instance.id])
    activities.begin(
        group, f"Terminating EC2 instance from warm pool: {state.instance.id}", cause, now
    ).close(now)


def draw(group: Any, cause: str, now: float) -> Any:
    """Take an instance of the pool into the group; None where none is ready that a refresh would keep."""
    its = members.course(group)
    late = {id(state) for state in outdated(group)}
    ready = [each for each in its.pool if each.lifecycle_state in WAITING.values() and id(each) not in late]
    if not ready:
        return None
    state = ready[0]
    its.pool.remove(state)
    if state.instance.state == "stopped":
        group.ec2_backend.start_instances([state.instance.id])
    description = f"Launching a new EC2 instance from warm pool: {state.instance.id}"
    its_life = members.life(state)
    its_life.pooled, its_life.born = False, now
    its_life.activity = activities.begin(group, description, cause, now)
    state.lifecycle_state = "Pending"
    state.protected_from_scale_in = bool(group.new_instances_protected_from_scale_in)
    group.instance_states.append(state)
    return state
