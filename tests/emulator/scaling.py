"""Auto Scaling as it behaves over time, in place of moto's, whose groups are finished at once.

:mod:`tests.emulator.group` says what a group does by itself, :mod:`tests.emulator.refresh` what a refresh
does, :mod:`tests.emulator.group_calls` and :mod:`tests.emulator.refresh_calls` what the requests do; here
they are put in moto's place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from moto.autoscaling.models import (
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
    autoscaling_backends,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.ec2.models.instances import Instance
from moto.elbv2.models import FakeHealthStatus, FakeTargetGroup
from moto.elbv2.responses import ELBV2Response

from tests.emulator import (
    configuration,
    control,
    group_calls,
    health,
    launching,
    lifecycle,
    members,
    refresh_calls,
)
from tests.emulator import group as groups
from tests.emulator.clock import CLOCK

TAKES_TIME = (
    "DescribeAutoScalingGroups",
    "DescribeAutoScalingInstances",
    "DescribeInstanceRefreshes",
    "DescribeScalingActivities",
    "DescribeWarmPool",
)
"""Requests that let time go by: what a launcher asks while it waits."""

INSTALLED: list[bool] = []


def every_group() -> list[Any]:
    """All groups of all accounts and regions."""
    return [
        group
        for account in list(autoscaling_backends.values())
        for backend in list(account.values())
        for group in list(backend.autoscaling_groups.values())
    ]


def work_out(now: float) -> None:
    """Let every group do what it does until now."""
    for group in every_group():
        groups.work_out(group, now)


@control.state("autoscaling")
def state() -> dict[str, Any]:
    """Every group, as far as two runs can be compared by it: no ids that are drawn by lot."""
    return {f"{group.account_id}/{group.region}/{group.name}": _told(group) for group in every_group()}


def _told(group: Any) -> dict[str, Any]:
    used = configuration.of(group)
    return {
        "sizes": [group.min_size, group.desired_capacity, group.max_size],
        "version": used.version,
        "mixed": bool(used.mixed),
        "instances": sorted(_counts(group.instance_states).items()),
        "pool": sorted(_counts(members.course(group).pool).items()),
        "refreshes": [each.status for each in members.course(group).refreshes],
    }


def _counts(states: list[Any]) -> Counter[str]:
    lives = [(each, members.life(each).choice) for each in states]
    return Counter(
        f"{each.lifecycle_state} {each.health_status} version {(choice.template or {}).get('Version')}"
        for each, choice in lives
    )


@control.action
def instance_health(instance: str, health: str) -> None:
    """Set the tag of an instance that says how healthy it is; see :data:`launching.HEALTH_TAG`."""
    for group in every_group():
        for each in group.instance_states:
            if each.instance.id == instance:
                group.ec2_backend.tags[instance][launching.HEALTH_TAG] = health


def _numbers_only(self: Any, new_capacity: int | None) -> None:
    self.desired_capacity = self.min_size if new_capacity is None else new_capacity


def _launch_template(self: Any) -> Any:
    """Of a group; none where it has a mixed instances policy, which names it itself."""
    if self.ec2_launch_template is None or self.mixed_instances_policy:
        return None
    template, version = self.ec2_launch_template, getattr(self, "provided_launch_template_version", None)
    return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": version}


def _suspended(self: Any) -> list[dict[str, str]]:
    """With a reason: the model allows no empty one."""
    told = [(process, "User suspended") for process in self._suspended_processes]
    return [{"ProcessName": process, "SuspensionReason": reason} for process, reason in told]


def _update(original: Any) -> Any:
    def update(self: Any, *args: Any, **given: Any) -> None:
        """What is not given stays: moto drops the mixed instances policy with each update."""
        kept, renewed = (
            self.mixed_instances_policy,
            given.get("launch_config_name") or given.get("launch_template"),
        )
        original(self, *args, **given)
        if renewed:
            self.launch_config = self.launch_config if given.get("launch_config_name") else None
        elif not given.get("mixed_instances_policy"):
            self.mixed_instances_policy = kept

    return update


def _create(original: Any) -> Any:
    def create(self: Any, *args: Any, **given: Any) -> Any:
        group = original(self, *args, **given)
        members.course(group)
        groups.balance(group, CLOCK.now())
        return group

    return create


def _attached(self: Any, group_name: str) -> None:
    """Register what is in service, not what is on its way."""
    group = self.autoscaling_groups[group_name]
    for target in members.targets(group):
        for each in group.instance_states:
            if each.lifecycle_state == "InService" and each.instance.state == "running":
                target.register([{"Id": each.instance.id, "Port": target.port}])


def _health_for(original: Any) -> Any:
    def health_for(self: Any, target: dict[str, Any], ec2: Any) -> Any:
        found = original(self, target, ec2)
        owner = next((g for g in every_group() if g.ec2_backend is ec2), None)
        if found.status != "healthy" or owner is None:
            return found
        states = (each for group in every_group() for each in group.instance_states)
        state = next((each for each in states if each.instance.id == target["Id"]), None)
        if state is not None and health.target_ill(state, CLOCK.now()):
            told = ("unhealthy", "Target.FailedHealthChecks", "Health checks failed")
            return FakeHealthStatus(found.instance_id, found.port, found.health_check_port, *told)
        return found

    return health_for


def _status(original: Any) -> Any:
    def instance_status(self: Any) -> Any:
        tags = self.ec2_backend.tags
        own = tags.get(self.id, {}).get(launching.HEALTH_TAG)
        health = own or tags.get(self.image_id, {}).get(launching.HEALTH_TAG)
        if health == "unhealthy" and self.state == "running":
            return {"Details": [{"Name": "reachability", "Status": "failed"}], "Status": "impaired"}
        return original.fget(self)

    return property(instance_status)


def _timed(original: Any) -> Any:
    def call_action(self: Any) -> Any:
        if self._get_action() in TAKES_TIME:
            CLOCK.described()
        return original(self)

    return call_action


def _targets_timed(original: Any) -> Any:
    def describe_target_health(self: Any) -> Any:
        CLOCK.described()
        return original(self)

    return describe_target_health


def install() -> None:
    """Extend moto, once for the process."""
    if INSTALLED:
        return
    INSTALLED.append(True)
    lifecycle.install()
    CLOCK.virtual = True
    CLOCK.listeners.append(work_out)
    group: Any = FakeAutoScalingGroup
    group.set_desired_capacity = _numbers_only
    group.replace_autoscaling_group_instances = lambda *_: None
    group.launch_template = property(_launch_template)
    group.update = _update(group.update)
    group.suspended_processes = property(_suspended, group.suspended_processes.fset)
    group.warm_pool_size = property(lambda self: len(members.course(self).pool) if self.warm_pool else None)
    backend: Any = AutoScalingBackend
    backend.create_auto_scaling_group = _create(backend.create_auto_scaling_group)
    backend.update_attached_target_groups = _attached
    backend.notify_terminate_instances = lambda *_: None
    instance: Any = InstanceState
    instance.launch_template = property(lambda self: members.life(self).choice.template)
    instance.image_id = property(lambda self: members.life(self).choice.image_id)
    instance.launch_configuration_name = property(_launch_configuration)
    ec2_instance: Any = Instance
    ec2_instance.instance_status = _status(ec2_instance.instance_status)
    target_group: Any = FakeTargetGroup
    target_group.health_for = _health_for(target_group.health_for)
    balancing: Any = ELBV2Response
    balancing.describe_target_health = _targets_timed(balancing.describe_target_health)
    response: Any = AutoScalingResponse
    response.call_action = _timed(response.call_action)
    for operation, act in {**group_calls.CALLS, **refresh_calls.CALLS}.items():
        name = lifecycle.method(operation)
        group_calls.ORIGINAL[operation] = getattr(response, name, None)
        setattr(response, name, lifecycle.checked(operation, act))


def _launch_configuration(self: Any) -> Any:
    own = members.life(self).choice
    config = self.auto_scaling_group.launch_config
    return config.name if config and own.template is None else None
