"""What a group and its instances have beside what moto keeps of them, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.emulator import configuration
from tests.emulator.activities import Activity
from tests.emulator.clock import CLOCK
from tests.emulator.configuration import Choice, Configuration

COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")
"""States that count as the group's capacity; Standby does not."""

PENDING = COUNTED[:3]
TERMINATING = ("Terminating", "Terminating:Wait", "Terminating:Proceed")


@dataclass
class Life:
    """What moto's instance of a group does not keep.

    Parameters
    ----------
    choice:
        What it was launched from: it keeps its version whatever the group's is.
    born, serving:
        When it was launched, and came into service.
    activity:
        Its launch, and later its end.
    health:
        Of its AMI's tag at the launch.
    doomed:
        Why it ends as it begins.
    ill, ill_since:
        Why it is unhealthy, and since when.
    pooled:
        Whether it belongs to the warm pool.
    """

    choice: Choice
    born: float
    activity: Activity | None = None
    serving: float | None = None
    health: str = ""
    doomed: str = ""
    ill: str = ""
    ill_since: float = 0.0
    pooled: bool = False


@dataclass
class Course:
    """What a group's own object of moto does not keep.

    Parameters
    ----------
    time:
        Up to when it was worked out.
    retry:
        When a launch is tried again.
    trouble:
        Why the last launch failed; empty after one that did not.
    refreshes:
        The newest first.
    pool:
        Instances of the warm pool.
    falls:
        How many instances were found unhealthy.
    """

    time: float
    retry: float = 0.0
    trouble: str = ""
    refreshes: list[Any] = field(default_factory=list)
    pool: list[Any] = field(default_factory=list)
    falls: list[str] = field(default_factory=list)


def course(group: Any) -> Course:
    """A group's course; begun when it is first asked for."""
    if "kiln" not in group.__dict__:
        group.kiln = Course(CLOCK.now())
    found: Course = group.kiln
    return found


def life(state: Any) -> Life:
    """An instance's life; of one that was attached, made up from what EC2 knows of it."""
    if "kiln" not in state.__dict__:
        instance = state.instance
        state.kiln = Life(Choice(instance.image_id, instance.instance_type, None), 0.0, serving=0.0)
    found: Life = state.kiln
    return found


def active(group: Any) -> Any:
    """The refresh that is at work; None where none is."""
    return next((each for each in course(group).refreshes if each.active), None)


def suspended(group: Any, *processes: str) -> bool:
    """Whether a process of the group is suspended."""
    names = [each["ProcessName"] for each in group.suspended_processes]
    return any(process in names for process in processes)


def counted(group: Any) -> list[Any]:
    """Instances that count as capacity."""
    return [state for state in group.instance_states if state.lifecycle_state in COUNTED]


def capacity(states: list[Any]) -> int:
    """Capacity of instances, by their weights."""
    return sum(life(state).choice.weight for state in states)


def source(group: Any) -> Configuration:
    """What the group launches from now: while a refresh runs, what that wants
    (https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html)."""
    refresh = active(group)
    return refresh.target if refresh else configuration.of(group)


def targets(group: Any) -> list[Any]:
    """Target groups that it is attached to, as far as they still are there."""
    groups = group.autoscaling_backend.elbv2_backend.target_groups
    return [groups[arn] for arn in group.target_group_arns if arn in groups]
