"""Whether an instance of a group is healthy, by EC2, by its load balancer, and by whoever says so."""

from __future__ import annotations

from typing import Any

from tests.emulator import launching
from tests.emulator.members import course, life, suspended

UNHEALTHY_SECONDS = 15.0
"""An unhealthy instance is shown as such for so long before it is replaced."""


def judge(group: Any, state: Any, now: float) -> str:
    """Look at the health of an instance in service.

    EC2's and the load balancer's word counts only after the grace period, except for an instance that does
    not run any more (https://docs.aws.amazon.com/autoscaling/ec2/userguide/health-check-grace-period.html).

    Returns
    -------
    str
        Why it is to be replaced now; empty where it is not.
    """
    its = life(state)
    if state.instance.state != "running":
        fall(group, state, "an EC2 health check indicating it has been terminated or stopped", now)
    elif now >= (its.serving or 0.0) + float(group.health_check_grace_period or 0):
        if ec2_ill(state):
            fall(group, state, "an EC2 instance status checks failure", now)
        elif "ELB" in str(group.health_check_type) and group.target_group_arns and target_ill(state, now):
            fall(group, state, "an ELB system health check failure", now)
    shown = now >= its.ill_since + UNHEALTHY_SECONDS or state.instance.state != "running"
    replaced = state.health_status == "Unhealthy" and not suspended(group, "ReplaceUnhealthy", "Terminate")
    return its.ill if shown and replaced else ""


def fall(group: Any, state: Any, why: str, now: float) -> None:
    """Call an instance unhealthy."""
    if state.health_status == "Unhealthy" or suspended(group, "HealthCheck"):
        return
    state.health_status = "Unhealthy"
    life(state).ill, life(state).ill_since = why, now
    course(group).falls.append(f"{state.instance.id}: {why}")


def own_health(state: Any) -> str:
    """What the instance's own tag says of it, or its AMI's."""
    tags = state.instance.ec2_backend.tags.get(state.instance.id, {})
    return str(tags.get(launching.HEALTH_TAG, life(state).health))


def ec2_ill(state: Any) -> bool:
    """Whether EC2's status checks fail."""
    return own_health(state) == "unhealthy"


def target_ill(state: Any, now: float) -> bool:
    """Whether a target group calls it unhealthy."""
    health = own_health(state)
    if health.startswith("after:"):
        return now < life(state).born + float(health.removeprefix("after:"))
    return health in ("unhealthy", "target-unhealthy")
