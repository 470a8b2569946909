"""StartInstanceRefresh, DescribeInstanceRefreshes, CancelInstanceRefresh, RollbackInstanceRefresh: moto has
none of them."""

from __future__ import annotations

from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.responses import ActionResult
from moto.moto_api._internal import mock_random

from tests.emulator import configuration, members
from tests.emulator.clock import CLOCK
from tests.emulator.refresh import Refresh

DEFAULTS: dict[str, Any] = {
    "MinHealthyPercentage": 90,
    "MaxHealthyPercentage": None,
    "SkipMatching": False,
    "AutoRollback": False,
    "ScaleInProtectedInstances": "Wait",
    "StandbyInstances": "Wait",
    "BakeTime": 0,
}
"""Of the preferences, for SDKs (``understand-instance-refresh-default-values`` in AWS's user guide)."""

ROLLBACK_NEEDS = (
    "The instance refresh cannot be rolled back. It needs a desired configuration, and an Auto Scaling group "
    "whose launch template has a version number instead of $Latest or $Default and an AMI ID instead of a "
    "Systems Manager parameter."
)


def group_of(call: Any) -> Any:
    """The group that a request names."""
    name = call.params.get("AutoScalingGroupName")
    found = call.autoscaling_backend.autoscaling_groups.get(name)
    if found is None:
        raise ValidationError("AutoScalingGroup name not found - null")
    return found


def reversible(group: Any, desired: Any) -> bool:
    """Whether a refresh of the group could be rolled back (API, RollbackInstanceRefresh)."""
    now = configuration.of(group)
    if not desired or now.specification is None or not now.version.isdigit():
        return False
    return not str(configuration.version(group, now.specification).image_id).startswith("resolve:ssm:")


def preferences(group: Any, given: dict[str, Any], desired: Any) -> dict[str, Any]:
    """Preferences with their defaults; refused where AWS's documentation of them forbids a combination."""
    least, most = given.get("MinHealthyPercentage"), given.get("MaxHealthyPercentage")
    checkpoints = given.get("CheckpointPercentages")
    alarms = (given.get("AlarmSpecification") or {}).get("Alarms") or []
    known = cloudwatch_backends[group.account_id][group.region].alarms
    rules = {
        "MinHealthyPercentage must be specified when MaxHealthyPercentage is.": most is not None
        and least is None,
        "The difference between MaxHealthyPercentage and MinHealthyPercentage cannot be greater than 100.": (
            most is not None and least is not None and most - least > 100
        ),
        "CheckpointDelay needs CheckpointPercentages.": given.get("CheckpointDelay") is not None
        and not checkpoints,
        "CheckpointPercentages must be unique, in ascending order, and between 1 and 100.": bool(checkpoints)
        and (
            sorted(set(checkpoints)) != list(checkpoints) or not 1 <= checkpoints[0] <= checkpoints[-1] <= 100
        ),
        "You can specify up to 10 alarms.": len(alarms) > 10,
        f"Alarm(s) {[each for each in alarms if each not in known]} do not exist.": any(
            each not in known for each in alarms
        ),
        ROLLBACK_NEEDS: bool(given.get("AutoRollback")) and not reversible(group, desired),
    }
    for message, broken in rules.items():
        if broken:
            raise ValidationError(message)
    warmup = getattr(group, "default_instance_warmup", None)
    if warmup is None:
        warmup = group.health_check_grace_period or 0
    policy = getattr(group, "instance_maintenance_policy", None) or {}
    kept = {
        "MinHealthyPercentage": policy.get("MinHealthyPercentage"),
        "MaxHealthyPercentage": policy.get("MaxHealthyPercentage"),
    }
    own = {key: value for key, value in kept.items() if value is not None and value >= 0}
    filled = {**DEFAULTS, "InstanceWarmup": int(warmup), **own, **given}
    if checkpoints:
        filled.setdefault("CheckpointDelay", 3600)
    return filled


def start(call: Any) -> Any:
    """StartInstanceRefresh."""
    group, now = group_of(call), CLOCK.now()
    if members.active(group):
        raise AutoscalingClientError(
            "InstanceRefreshInProgress",
            "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.",
        )
    if call.params.get("Strategy", "Rolling") != "Rolling":
        raise ValidationError("The emulator knows the strategy Rolling only.")
    desired = configuration.plain(call.params.get("DesiredConfiguration") or {}) or None
    given = configuration.plain(call.params.get("Preferences") or {})
    before = configuration.of(group)
    target = configuration.desired(desired) if desired else before
    configuration.fully_formed(group, target)
    refresh = Refresh(
        identity=str(mock_random.uuid4()),
        group=group,
        strategy="Rolling",
        preferences=preferences(group, given, desired),
        desired=desired,
        before=before,
        target=target,
        start=now,
    )
    members.course(group).refreshes.insert(0, refresh)
    return ActionResult({"InstanceRefreshId": refresh.identity})


def describe(call: Any) -> Any:
    """DescribeInstanceRefreshes: the newest first."""
    found = members.course(group_of(call)).refreshes
    ids = call.params.get("InstanceRefreshIds") or []
    found = [each for each in found if not ids or each.identity in ids]
    first, size = int(call.params.get("NextToken") or 0), int(call.params.get("MaxRecords") or 50)
    answer: dict[str, Any] = {"InstanceRefreshes": [each.view() for each in found[first : first + size]]}
    if len(found) > first + size:
        answer["NextToken"] = str(first + size)
    return ActionResult(answer)


def _active(call: Any) -> Any:
    found = members.active(group_of(call))
    if found is None:
        raise AutoscalingClientError(
            "ActiveInstanceRefreshNotFound",
            "No in progress or pending Instance Refresh found for Auto Scaling group "
            f"{call.params['AutoScalingGroupName']}",
        )
    return found


def cancel(call: Any) -> Any:
    """CancelInstanceRefresh: of a refresh or of a rollback; nothing is taken back."""
    found = _active(call)
    if call.params.get("WaitForTransitioningInstances") is False:
        found.finish("Cancelled", "Cancelled due to user request.", CLOCK.now())
    else:
        found.status, found.reason = "Cancelling", "Waiting for launches and terminations to complete."
    return ActionResult({"InstanceRefreshId": found.identity})


def roll_back(call: Any) -> Any:
    """RollbackInstanceRefresh."""
    group, found = group_of(call), _active(call)
    if found.status not in ("Pending", "InProgress", "Baking"):
        raise AutoscalingClientError(
            "ActiveInstanceRefreshNotFound", f"The instance refresh is {found.status}."
        )
    if not reversible(group, found.desired):
        raise AutoscalingClientError("IrreversibleInstanceRefresh", ROLLBACK_NEEDS)
    found.roll_back("The rollback was requested by a user.", CLOCK.now())
    return ActionResult({"InstanceRefreshId": found.identity})


CALLS = {
    "StartInstanceRefresh": start,
    "DescribeInstanceRefreshes": describe,
    "CancelInstanceRefresh": cancel,
    "RollbackInstanceRefresh": roll_back,
}
