"""Terminating lifecycle hooks that wait, on moto's autoscaling: there a hook is kept and never asked.

An instance that is terminated while its group has such hooks is in ``Terminating:Wait`` until each was
completed or its time was up; a heartbeat starts that time anew, up to a hundred times the timeout or 48
hours, as AWS documents.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import botocore.session
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from tests.emulator import modelcheck

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
GLOBAL_SECONDS = 48 * 3600.0

SERVICE = botocore.session.get_session().get_service_model("autoscaling")


@dataclass
class Action:
    """A hook that waits for an instance.

    Parameters
    ----------
    hook:
        Its name.
    timeout:
        Seconds until it ends by itself.
    began, ends:
        On the monotonic clock.
    """

    hook: str
    timeout: float
    began: float
    ends: float


@dataclass
class Record:
    """What was asked, and which instances wait.

    Parameters
    ----------
    calls:
        Operation, request and when, in order.
    waiting:
        Instance → its hooks.
    decrement:
        Instance → whether the group shrinks with it.
    ended:
        Instance → how it ended: ``CONTINUE``, ``ABANDON`` or ``timeout``.
    on_terminating:
        Called with an instance that begins to end, as its metadata service would hear of it.
    """

    calls: list[tuple[str, dict[str, Any], float]] = field(default_factory=list)
    waiting: dict[str, list[Action]] = field(default_factory=dict)
    decrement: dict[str, bool] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    on_terminating: Callable[[str], None] = lambda _: None
    fail: dict[str, int] = field(default_factory=dict)

    def made(self, operation: str) -> list[dict[str, Any]]:
        """Requests of one operation."""
        return [request for name, request, _ in self.calls if name == operation]

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.calls, self.waiting, self.decrement, self.ended, self.fail):
            kept.clear()


RECORD = Record()


def state_of(backend: Any, instance: str) -> Any:
    """An instance as its group has it; None where none has it."""
    states = (state for group in backend.autoscaling_groups.values() for state in group.instance_states)
    return next((state for state in states if state.instance.id == instance), None)


def end(backend: Any, instance: str, how: str) -> None:
    """Let an instance go."""
    RECORD.waiting.pop(instance, None)
    RECORD.ended[instance] = how
    backend.terminate_instance(instance, RECORD.decrement.pop(instance, False))


def expire(backend: Any) -> None:
    """End what has waited for too long."""
    for instance, actions in list(RECORD.waiting.items()):
        if any(time.monotonic() >= action.ends for action in actions):
            end(backend, instance, "timeout")


def action(request: dict[str, Any]) -> Action:
    """The action that a request is about; refused where there is none."""
    actions = RECORD.waiting.get(request.get("InstanceId", ""), [])
    for each in actions:
        if each.hook == request["LifecycleHookName"]:
            return each
    raise ValidationError(f"No active Lifecycle Action found with instance ID {request.get('InstanceId')}")


def terminate(self: Any) -> Any:
    """TerminateInstanceInAutoScalingGroup."""
    request, backend = dict(self.params), self.autoscaling_backend
    instance = request["InstanceId"]
    state = state_of(backend, instance)
    if state is None:
        raise ValidationError(
            f"Instance Id not found - No managed instance found for instance ID: {instance}"
        )
    hooks = [
        hook
        for hook in backend.describe_lifecycle_hooks(state.auto_scaling_group_name)
        if hook.lifecycle_transition == TERMINATING
    ]
    if not hooks:
        return ORIGINAL["TerminateInstanceInAutoScalingGroup"](self)
    now = time.monotonic()
    state.lifecycle_state = "Terminating:Wait"
    RECORD.decrement[instance] = bool(request.get("ShouldDecrementDesiredCapacity"))
    RECORD.waiting[instance] = [
        Action(hook.name, hook.heartbeat_timeout, now, now + hook.heartbeat_timeout) for hook in hooks
    ]
    RECORD.on_terminating(instance)
    activity = {
        "ActivityId": "1",
        "AutoScalingGroupName": state.auto_scaling_group_name,
        "Cause": "asked for",
        "StatusCode": "InProgress",
        "StartTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return ActionResult({"Activity": activity})


def heartbeat(self: Any) -> Any:
    """RecordLifecycleActionHeartbeat."""
    found, now = action(dict(self.params)), time.monotonic()
    found.ends = min(now + found.timeout, found.began + min(100 * found.timeout, GLOBAL_SECONDS))
    return EmptyResult()


def complete(self: Any) -> Any:
    """CompleteLifecycleAction."""
    request = dict(self.params)
    found = action(request)
    result = request["LifecycleActionResult"]
    if result not in ("CONTINUE", "ABANDON"):
        raise ValidationError(f"Lifecycle action result {result} is not CONTINUE or ABANDON")
    actions = RECORD.waiting[request["InstanceId"]]
    actions.remove(found)
    if not actions:
        end(self.autoscaling_backend, request["InstanceId"], result)
    return EmptyResult()


EXTENDED: dict[str, Callable[[Any], Any]] = {
    "TerminateInstanceInAutoScalingGroup": terminate,
    "RecordLifecycleActionHeartbeat": heartbeat,
    "CompleteLifecycleAction": complete,
}
"""Operation → what it does here; every one is in botocore's model, and the test of this file asks for
that."""

WATCHED = (
    "DescribeAutoScalingInstances",
    "DescribeLifecycleHooks",
    "SetInstanceHealth",
    "SetInstanceProtection",
)
"""Of moto's own: recorded, and held against the model as well."""

ORIGINAL: dict[str, Callable[[Any], Any]] = {}


def method(operation: str) -> str:
    """Name of moto's method for an operation."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")


def checked(operation: str, act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An operation whose request and answer are held against botocore's model."""
    model = SERVICE.operation_model(operation)

    def run(self: Any) -> Any:
        request = dict(self.params)
        expire(self.autoscaling_backend)
        RECORD.calls.append((operation, request, time.monotonic()))
        if RECORD.fail.get(operation, 0) > 0:
            RECORD.fail[operation] -= 1
            raise ValidationError("a fault that a test asked for")
        if lines := modelcheck.wrong(model.input_shape, request, operation):
            raise ValidationError("; ".join(lines))
        answer = act(self)
        if operation in EXTENDED and model.output_shape is not None:
            body = getattr(answer, "result", {}) or {}
            assert not modelcheck.wrong(model.output_shape, body, operation)
        return answer

    return run


def install() -> None:
    """Extend moto, once for the process."""
    if ORIGINAL:
        return
    for operation in (*EXTENDED, *WATCHED):
        ORIGINAL[operation] = getattr(AutoScalingResponse, method(operation), None)  # type: ignore[assignment]
        act = EXTENDED.get(operation) or ORIGINAL[operation]
        setattr(AutoScalingResponse, method(operation), checked(operation, act))
