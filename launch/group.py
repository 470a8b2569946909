"""An Auto Scaling group as it is: instances, template, mixed policy, warm pool."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from botocore.model import ListShape, Shape, StructureShape

from kiln.errors import KilnError
from kiln.mistakes import suggest
from launch import pages
from launch.cloud import Cloud, service_model
from launch.trouble import told

IN_SERVICE = "InService"

NEEDED = ("Launch", "Terminate", "HealthCheck", "ReplaceUnhealthy")
"""Processes without which a refresh replaces nothing, or notices nothing."""


@dataclass(frozen=True)
class Ref:
    """A launch template and a version of it, as a group names it.

    Parameters
    ----------
    template:
        Its id.
    name:
        Its name.
    version:
        A number, ``$Latest`` or ``$Default``.
    """

    template: str
    name: str
    version: str

    @property
    def number(self) -> int | None:
        """The version, None where it is none of its own."""
        return int(self.version) if self.version.isdecimal() else None


@dataclass(frozen=True)
class Instance:
    """An instance of a group.

    Parameters
    ----------
    id, type, zone:
        As EC2 has them.
    lifecycle:
        ``InService``, ``Pending``, ``Terminating``, ``Warmed:Stopped`` and so on.
    health:
        ``Healthy`` or ``Unhealthy``.
    ref:
        Template and version that it was launched from; None for one of a launch configuration.
    protected:
        Whether it is protected from scale-in.
    """

    id: str
    type: str
    zone: str
    lifecycle: str
    health: str
    ref: Ref | None
    protected: bool

    @property
    def serves(self) -> bool:
        """Whether the group counts it as in service and healthy."""
        return self.lifecycle == IN_SERVICE and self.health.lower() == "healthy"


@dataclass(frozen=True)
class Group:
    """An Auto Scaling group.

    Parameters
    ----------
    name, region:
        Where it is.
    desired:
        Number of instances.
    instances, warm:
        In the group, and in its warm pool.
    warm_pool:
        The pool's configuration, None without one.
    ref:
        The launch template; None where the group has a launch configuration.
    mixed:
        The mixed instances policy as AWS answers it, None without one.
    service_role:
        ARN of the service-linked role by which instances are launched.
    target_groups:
        ARNs.
    suspended:
        Names of suspended processes.
    """

    name: str
    region: str
    desired: int
    instances: tuple[Instance, ...]
    warm: tuple[Instance, ...]
    warm_pool: dict[str, Any] | None
    ref: Ref | None
    mixed: dict[str, Any] | None
    service_role: str | None
    target_groups: tuple[str, ...]
    suspended: tuple[str, ...] = field(default=())

    @property
    def overrides(self) -> list[dict[str, Any]]:
        """Instance types that the mixed policy puts in place of the template's."""
        return list(((self.mixed or {}).get("LaunchTemplate") or {}).get("Overrides") or [])

    def by_version(self) -> Counter[int | None]:
        """How many instances run each version of our template; None counts those of others."""
        mine = self.ref.template if self.ref else None
        return Counter(
            each.ref.number if each.ref is not None and each.ref.template == mine else None
            for each in self.instances
        )

    def desired_configuration(self, number: int) -> dict[str, Any]:
        """Return what a refresh or an update is given: this group with another version of its template.

        Parameters
        ----------
        number:
            Version of the template.

        Returns
        -------
        dict
            ``LaunchTemplate``, or ``MixedInstancesPolicy`` with overrides and distribution as they are.
        """
        assert self.ref is not None
        spec = {"LaunchTemplateId": self.ref.template, "Version": str(number)}
        if self.mixed is None:
            return {"LaunchTemplate": spec}
        members = (service_model("autoscaling").operation_model("StartInstanceRefresh").input_shape.members)[
            "DesiredConfiguration"
        ]
        policy = only_known(self.mixed, members.members["MixedInstancesPolicy"])
        policy["LaunchTemplate"]["LaunchTemplateSpecification"] = spec
        return {"MixedInstancesPolicy": policy}


def only_known(value: Any, shape: Shape) -> Any:
    """Cut an answer of AWS down to what a request of the same shape may carry.

    Parameters
    ----------
    value:
        From an answer; None values are dropped.
    shape:
        Of the request, from botocore's model.
    """
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return {
            key: only_known(inner, shape.members[key])
            for key, inner in value.items()
            if key in shape.members and inner is not None
        }
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [only_known(inner, shape.member) for inner in value]
    return value


def _ref(spec: dict[str, Any] | None) -> Ref | None:
    if not spec:
        return None
    # Without a version AWS takes the template's default.
    return Ref(
        spec["LaunchTemplateId"], spec.get("LaunchTemplateName", ""), spec.get("Version") or "$Default"
    )


def _instance(data: dict[str, Any]) -> Instance:
    return Instance(
        id=data["InstanceId"],
        type=data.get("InstanceType", ""),
        zone=data.get("AvailabilityZone", ""),
        lifecycle=data["LifecycleState"],
        health=data.get("HealthStatus", ""),
        ref=_ref(data.get("LaunchTemplate")),
        protected=bool(data.get("ProtectedFromScaleIn")),
    )


def find(cloud: Cloud, region: str, name: str) -> Group | None:
    """Read a group.

    Parameters
    ----------
    cloud, region:
        Where.
    name:
        Its name.

    Returns
    -------
    Group or None
        None where there is none.

    Raises
    ------
    KilnError
        AWS did not tell.
    """
    client = cloud.client("autoscaling", region)
    with told(f"reading the group {name} in {region}"):
        found = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        if not found:
            return None
        data = found[0]
        warm: list[dict[str, Any]] = []
        if data.get("WarmPoolConfiguration"):
            warm = client.describe_warm_pool(AutoScalingGroupName=name).get("Instances", [])
    mixed = data.get("MixedInstancesPolicy")
    spec = data.get("LaunchTemplate") or (mixed or {}).get("LaunchTemplate", {}).get(
        "LaunchTemplateSpecification"
    )
    return Group(
        name=name,
        region=region,
        desired=data["DesiredCapacity"],
        instances=tuple(map(_instance, data.get("Instances", []))),
        warm=tuple(map(_instance, warm)),
        warm_pool=data.get("WarmPoolConfiguration"),
        ref=_ref(spec),
        mixed=mixed,
        service_role=data.get("ServiceLinkedRoleARN"),
        target_groups=tuple(data.get("TargetGroupARNs", [])),
        suspended=tuple(each["ProcessName"] for each in data.get("SuspendedProcesses", [])),
    )


def read(cloud: Cloud, region: str, name: str) -> Group:
    """Read a group that must be there; parameters as of :func:`find`.

    Raises
    ------
    KilnError
        There is no such group, or AWS did not tell.
    """
    group = find(cloud, region, name)
    if group is None:
        with told(f"listing the groups in {region}"):
            client = cloud.client("autoscaling", region)
            groups = pages.every(client, "describe_auto_scaling_groups", "AutoScalingGroups")
            names = [each["AutoScalingGroupName"] for each in groups]
        raise KilnError(
            f"there is no Auto Scaling group {name} in {region} of account {cloud.account}",
            suggest(name, names, "groups there"),
        )
    return group


def pinned(cloud: Cloud, group: Group, number: int) -> None:
    """Let a group name a version of its template by its number; the request is ``UpdateAutoScalingGroup``.

    Parameters
    ----------
    cloud:
        The account.
    group:
        As it was read; its mixed policy is kept.
    number:
        The version.
    """
    cloud.client("autoscaling", group.region).update_auto_scaling_group(
        AutoScalingGroupName=group.name, **group.desired_configuration(number)
    )
    for _ in range(20):
        now = read(cloud, group.region, group.name)
        if now.ref is not None and now.ref.number == number:
            return
        cloud.wait(2)
    raise KilnError(
        f"{group.name} does not name version {number} of its template after the update",
        "run the same command again; if it stays so, somebody else changes the group: look into CloudTrail",
    )
