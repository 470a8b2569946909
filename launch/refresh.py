"""An instance refresh: how it is asked for, begun or found running, taken back, described."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from kiln.config import GroupTarget
from kiln.errors import KilnError
from launch.cloud import Cloud
from launch.group import Group
from launch.trouble import AGAIN, code, told

FORWARD = ("Pending", "InProgress", "Baking")
"""States in which a refresh goes towards what it was asked for, and can be rolled back."""

BACK = ("RollbackInProgress",)
LIVE = (*FORWARD, "Cancelling", *BACK)
"""States in which a refresh works; AWS begins no second one meanwhile."""


@dataclass(frozen=True)
class Refresh:
    """An instance refresh as AWS describes it.

    Parameters
    ----------
    id, status, reason:
        As AWS has them; the reason is empty where it gives none.
    percent:
        Of the instances that are replaced, of the rollback where it rolls back.
    started:
        When.
    number:
        Version of the launch template that it was asked for; None for another kind of refresh.
    template:
        Id of that template.
    checkpoints:
        Percentages at which it pauses.
    alarms:
        That roll it back.
    rollback:
        Why it rolls back, empty where it does not.
    """

    id: str
    status: str
    reason: str
    percent: int
    started: datetime | None
    number: int | None
    template: str
    checkpoints: tuple[int, ...]
    alarms: tuple[str, ...]
    rollback: str

    @property
    def lives(self) -> bool:
        """Whether it works."""
        return self.status in LIVE

    def goes_to(self, group: Group, number: int | None) -> bool:
        """Tell whether it goes towards a version of the group's template."""
        return (
            self.status in FORWARD
            and number is not None
            and self.number == number
            and group.ref is not None
            and self.template in ("", group.ref.template)
        )


def _refresh(data: dict[str, Any]) -> Refresh:
    wanted = data.get("DesiredConfiguration") or {}
    mixed = (wanted.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
    spec = wanted.get("LaunchTemplate") or mixed.get("LaunchTemplateSpecification") or {}
    version = str(spec.get("Version") or "")
    preferences = data.get("Preferences") or {}
    return Refresh(
        id=data["InstanceRefreshId"],
        status=data["Status"],
        reason=" ".join((data.get("StatusReason") or "").split()),
        percent=int(data.get("PercentageComplete") or 0),
        started=data.get("StartTime"),
        number=int(version) if version.isdecimal() else None,
        template=spec.get("LaunchTemplateId") or "",
        checkpoints=tuple(preferences.get("CheckpointPercentages") or ()),
        alarms=tuple((preferences.get("AlarmSpecification") or {}).get("Alarms") or ()),
        rollback=" ".join(((data.get("RollbackDetails") or {}).get("RollbackReason") or "").split()),
    )


def latest(cloud: Cloud, region: str, group: str, most: int = 10) -> list[Refresh]:
    """Return the newest refreshes of a group, newest first.

    Parameters
    ----------
    cloud, region, group:
        Where, and whose.
    most:
        How many at most.
    """
    with told(f"reading the refreshes of {group}"):
        answer = cloud.client("autoscaling", region).describe_instance_refreshes(
            AutoScalingGroupName=group, MaxRecords=most
        )
    return [_refresh(each) for each in answer["InstanceRefreshes"]]


def running(cloud: Cloud, region: str, group: str) -> Refresh | None:
    """Return the refresh that works on a group now, None where none does."""
    return next((each for each in latest(cloud, region, group) if each.lives), None)


def read(cloud: Cloud, region: str, group: str, number: str) -> Refresh:
    """Describe one refresh by its id.

    Raises
    ------
    KilnError
        It is not there, or AWS did not tell.
    """
    with told(f"reading the refresh {number} of {group}"):
        answer = cloud.client("autoscaling", region).describe_instance_refreshes(
            AutoScalingGroupName=group, InstanceRefreshIds=[number]
        )["InstanceRefreshes"]
    if not answer:
        raise KilnError(f"{group} has no refresh {number}", AGAIN)
    return _refresh(answer[0])


def preferences(target: GroupTarget, back: bool = False) -> dict[str, Any]:
    """Return what a refresh is asked to keep to; every value is given, since AWS's defaults are not ours.

    Parameters
    ----------
    target:
        What kiln.toml says.
    back:
        Whether it goes back to what ran before. Then it does not pause, and no alarm stops it: the alarm is
        often why one goes back. Nor does it turn round to what it was to get away from.

    Returns
    -------
    dict
        ``Preferences`` of ``StartInstanceRefresh``. An instance that is protected from scale-in, as one that
        trains, is waited for: AWS gives it an hour, then the refresh fails and rolls back.
    """
    asked: dict[str, Any] = {
        "MinHealthyPercentage": target.min_healthy,
        "MaxHealthyPercentage": target.max_healthy,
        "InstanceWarmup": target.warmup_minutes * 60,
        "SkipMatching": True,
        "AutoRollback": not back,
        "ScaleInProtectedInstances": "Wait",
        "StandbyInstances": "Wait",
        "BakeTime": 0 if back else target.bake_minutes * 60,
    }
    if back:
        return asked
    if target.checkpoints != [100]:
        asked["CheckpointPercentages"] = target.checkpoints
        asked["CheckpointDelay"] = target.checkpoint_minutes * 60
    if target.alarms:
        asked["AlarmSpecification"] = {"Alarms": target.alarms}
    return asked


def start(cloud: Cloud, group: Group, number: int, target: GroupTarget, back: bool = False) -> Refresh:
    """Begin a refresh, or attach to the one that already goes there; the request is ``StartInstanceRefresh``.

    The request has no client token: where its answer is lost and it is sent again, AWS says that a refresh
    works, and that is ours.

    Parameters
    ----------
    cloud:
        The account.
    group:
        As it was read.
    number:
        Version of its template to go to.
    target, back:
        How; see :func:`preferences`.

    Raises
    ------
    KilnError
        Another refresh works on the group.
    """
    client = cloud.client("autoscaling", group.region)
    now = running(cloud, group.region, group.name)
    if now is None:
        try:
            begun = client.start_instance_refresh(
                AutoScalingGroupName=group.name,
                Strategy="Rolling",
                DesiredConfiguration=group.desired_configuration(number),
                Preferences=preferences(target, back),
            )
            return read(cloud, group.region, group.name, begun["InstanceRefreshId"])
        except ClientError as error:
            if code(error) != "InstanceRefreshInProgress":
                raise
            now = running(cloud, group.region, group.name)
    if now is None:
        raise KilnError(f"a refresh of {group.name} was in the way and is gone", AGAIN)
    if not now.goes_to(group, number):
        raise KilnError(
            f"another refresh works on {group.name}: {now.id} ({now.status}, {now.percent} %)",
            "let it end, or take it back with kiln rollback; then run the same command again",
        )
    return now


def take_back(cloud: Cloud, group: Group, number: str) -> bool:
    """Roll a refresh back in the middle; the request is ``RollbackInstanceRefresh``.

    Parameters
    ----------
    cloud, group:
        Where, and whose.
    number:
        Id of the refresh.

    Returns
    -------
    bool
        False where it rolls back already, or has ended: look at it again.

    Raises
    ------
    KilnError
        AWS cannot roll it back.
    """
    try:
        cloud.client("autoscaling", group.region).rollback_instance_refresh(AutoScalingGroupName=group.name)
    except ClientError as error:
        name = code(error)
        if name == "IrreversibleInstanceRefresh":
            raise KilnError(
                f"AWS cannot roll the refresh {number} of {group.name} back: it was begun without a numbered "
                "template version and an AMI to go back to",
                f"end it: aws autoscaling cancel-instance-refresh --auto-scaling-group-name {group.name};"
                " then kiln apply --version",
            ) from error
        if name not in ("ActiveInstanceRefreshNotFound", "InstanceRefreshInProgress"):
            raise
        return False
    return True
