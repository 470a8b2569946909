"""Application Auto Scaling of a fleet: what a new fleet takes over from an old one."""

from __future__ import annotations

from typing import Any

from launch import pages
from launch.cloud import Cloud
from launch.plan import Request, Say, requests
from launch.trouble import told

SERVICE = "application-autoscaling"
NAMESPACE = "appstream"
DIMENSION = "appstream:fleet:DesiredCapacity"

KINDS = {
    "StepScaling": "StepScalingPolicyConfiguration",
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
    "PredictiveScaling": "PredictiveScalingPolicyConfiguration",
}
"""Kind of a policy → what configures it."""

ALARM_KEYS = [
    "AlarmDescription",
    "ActionsEnabled",
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Dimensions",
    "Period",
    "Unit",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
]


def resource(fleet: str) -> str:
    """Name of a fleet, as Application Auto Scaling calls it."""
    return f"fleet/{fleet}"


def announced(region: str) -> tuple[Request, ...]:
    """What :func:`copy` sends."""
    return (
        *requests(SERVICE, region, "RegisterScalableTarget", "PutScalingPolicy", "PutScheduledAction"),
        *requests("cloudwatch", region, "PutMetricAlarm"),
    )


def read(cloud: Cloud, region: str, fleet: str) -> dict[str, list[dict[str, Any]]]:
    """Return what scales a fleet.

    Parameters
    ----------
    cloud, region:
        Where.
    fleet:
        Its name.

    Returns
    -------
    dict
        ``targets``, ``policies`` and ``actions``, each as it is described; empty where nothing scales it.

    Raises
    ------
    KilnError
        It could not be found out.
    """
    client = cloud.client(SERVICE, region)
    common: dict[str, Any] = {"ServiceNamespace": NAMESPACE, "ScalableDimension": DIMENSION}
    with told(f"asking what scales fleet {fleet}"):

        def listed(operation: str, key: str, **which: Any) -> list[dict[str, Any]]:
            every = pages.every(client, operation, key, **common, **which)
            return [each for each in every if each["ResourceId"] == resource(fleet)]

        return {
            "targets": listed("describe_scalable_targets", "ScalableTargets", ResourceIds=[resource(fleet)]),
            "policies": listed("describe_scaling_policies", "ScalingPolicies", ResourceId=resource(fleet)),
            "actions": listed("describe_scheduled_actions", "ScheduledActions", ResourceId=resource(fleet)),
        }


def copy(cloud: Cloud, region: str, old: str, new: str, say: Say) -> None:
    """Scale a fleet as another one is; each request overwrites what an earlier run has made.

    Parameters
    ----------
    cloud, region:
        Where.
    old, new:
        Names of the fleets.
    say:
        Is told.

    Raises
    ------
    KilnError
        It was refused.
    """
    found = read(cloud, region, old)
    client = cloud.client(SERVICE, region)
    where = {"ServiceNamespace": NAMESPACE, "ResourceId": resource(new), "ScalableDimension": DIMENSION}
    with told(f"scaling fleet {new} as {old}"):
        for target in found["targets"]:
            say(f"scaling fleet {new} between {target['MinCapacity']} and {target['MaxCapacity']}")
            keys = ("MinCapacity", "MaxCapacity", "SuspendedState")
            client.register_scalable_target(**where, **{key: target[key] for key in keys if key in target})
        for policy in found["policies"]:
            say(f"policy {policy['PolicyName']} for fleet {new}")
            configured = KINDS[policy["PolicyType"]]
            arn = client.put_scaling_policy(
                **where,
                PolicyName=policy["PolicyName"],
                PolicyType=policy["PolicyType"],
                **{configured: policy[configured]},
            )["PolicyARN"]
            if policy["PolicyType"] == "StepScaling":
                # Of the other kinds Application Auto Scaling makes the alarms itself.
                _alarms(cloud, region, policy, arn, old, new)
        for action in found["actions"]:
            say(f"schedule {action['ScheduledActionName']} for fleet {new}")
            given = ("Schedule", "Timezone", "StartTime", "EndTime", "ScalableTargetAction")
            client.put_scheduled_action(
                **where,
                ScheduledActionName=action["ScheduledActionName"],
                **{key: action[key] for key in given if action.get(key) is not None},
            )


def _alarms(cloud: Cloud, region: str, policy: dict[str, Any], arn: str, old: str, new: str) -> None:
    """Copy the alarms that trigger a policy of steps, watching the new fleet."""
    alarms = [alarm["AlarmName"] for alarm in policy.get("Alarms") or []]
    client = cloud.client("cloudwatch", region)
    if not alarms:
        # Not every endpoint tells them with the policy; an alarm itself names the policy.
        found = list(pages.every(client, "describe_alarms", "MetricAlarms", ActionPrefix=policy["PolicyARN"]))
    else:
        found = client.describe_alarms(AlarmNames=alarms)["MetricAlarms"]
    for alarm in found:
        copied = {key: alarm[key] for key in ALARM_KEYS if alarm.get(key) not in (None, [], "")}
        copied["Dimensions"] = [
            {**each, "Value": new} if each["Name"] == "Fleet" and each["Value"] == old else each
            for each in alarm.get("Dimensions", [])
        ]
        name = alarm["AlarmName"].replace(old, new)
        client.put_metric_alarm(
            AlarmName=name if name != alarm["AlarmName"] else f"{name}-{new}",
            AlarmActions=[
                arn if action == policy["PolicyARN"] else action for action in alarm["AlarmActions"]
            ],
            **copied,
        )
