"""An instance refresh, rolling: what AWS documents of its pace, its checkpoints, its waiting and its end.

The pages meant below are those of https://docs.aws.amazon.com/autoscaling/ec2/userguide/: *overview* is
``instance-refresh-overview``, *checkpoints* is ``asg-adding-checkpoints-instance-refresh``, *rollback* is
``instance-refresh-rollback``; *API* is botocore's model of the service, whose documentation is AWS's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from moto.cloudwatch.models import cloudwatch_backends

from tests.emulator import configuration, members, warmpool
from tests.emulator import group as groups
from tests.emulator.clock import CLOCK
from tests.emulator.configuration import Configuration
from tests.emulator.crew import Crew

HOUR = 3600.0
"""A refresh that cannot go on tries for an hour, then fails (overview, limitations: one-hour timeout)."""

LONGEST = 14 * 24 * HOUR
"""A refresh ends after fourteen days (overview, limitations)."""

ACTIVE = ("Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress")
PENDING_SECONDS = 15.0


@dataclass(kw_only=True)
class Refresh(Crew):
    """One refresh of a group.

    Parameters
    ----------
    identity, strategy:
        As they were answered or given.
    desired:
        ``DesiredConfiguration`` as given, or None.
    before:
        What the group was launched from.
    start:
        On the emulator's clock.
    """

    identity: str
    strategy: str
    desired: dict[str, Any] | None
    before: Configuration
    start: float
    status: str = "Pending"
    reason: str = ""
    end: float | None = None
    wake: float = 0.0
    checkpoints: list[int] = field(default_factory=list)
    details: dict[str, Any] | None = None
    best: int = 0
    trouble_since: float | None = None
    trouble: str = ""
    falls_seen: int = 0
    total_at_rollback: int = 0
    percent: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        self.checkpoints = list(self.preferences.get("CheckpointPercentages") or [])
        states = [*self.group.instance_states, *members.course(self.group).pool]
        self.left_alone = {each.instance.id for each in states if self.spared(each)}
        self.old = {each.instance.id for each in states} - self.left_alone
        self.falls_seen = len(members.course(self.group).falls)
        self.left = self.total()

    @property
    def active(self) -> bool:
        """Whether it is at work."""
        return self.status in ACTIVE

    def surplus(self) -> int:
        """How many instances above the desired capacity it may have."""
        if self.status not in ("InProgress", "RollbackInProgress", "Cancelling"):
            return 0
        return self.room()[1]

    # -- time

    def step(self, now: float) -> None:
        """What it does in one tick."""
        if now >= self.start + LONGEST:
            self.finish("Failed", "The instance refresh ran for 14 days.", now)
        elif self.status == "Pending":
            if now > self.start + PENDING_SECONDS:
                self.status = "InProgress"
        elif self.status == "Cancelling":
            self._cancel(now)
        elif members.suspended(self.group, "InstanceRefresh"):
            self.reason = "The InstanceRefresh process of the group is suspended."
        elif self.status in ("InProgress", "Baking") and (alarms := self.alarms()):
            self.fail(f"Alarm(s) [{', '.join(alarms)}] went into the ALARM state.", now)
        elif self.status == "Baking":
            if now >= self.wake:
                self._complete(now)
        elif now >= self.wake:
            self._go_on(now)

    def alarms(self) -> list[str]:
        """Which of its alarms are in the state ALARM."""
        names = (self.preferences.get("AlarmSpecification") or {}).get("Alarms") or []
        known = cloudwatch_backends[self.group.account_id][self.group.region].alarms
        return [name for name in names if name in known and known[name].state_value == "ALARM"]

    def _go_on(self, now: float) -> None:
        total, done = self.total(), self.done()
        self._note_percent(total, done)
        if self._stalled(now, done):
            return
        limit = self._limit(total)
        if done >= limit and self._settled(limit, total):
            if limit < total:
                self._at_checkpoint(now)
                return
            if not self._pool_left(now):
                self._bake(now)
            return
        self._end_old(limit, total, now)
        self._start_new(limit, total, now)
        self._say()

    def _limit(self, total: int) -> int:
        """How many may be new before the next checkpoint; enough to reach its percentage (checkpoints)."""
        if self.status == "RollbackInProgress" or not self.checkpoints:
            return total
        return min(total, math.ceil(total * self.checkpoints[0] / 100))

    def _settled(self, limit: int, total: int) -> bool:
        """Whether the surplus is gone, and nothing is left to replace where all is wanted."""
        leaving = any(each.lifecycle_state in members.TERMINATING for each in self.group.instance_states)
        over = members.capacity(self.alive()) - self.weight() >= (self.group.desired_capacity or 0)
        remaining = limit >= total and (self.candidates() or self.waiting())
        return not (leaving or over or remaining)

    def _at_checkpoint(self, now: float) -> None:
        """Pause, or end where the list of checkpoints does: one below 100 ends the refresh (API)."""
        while self.checkpoints and self.percent >= self.checkpoints[0]:
            self.checkpoints.pop(0)
        if not self.checkpoints:
            self._bake(now)
            return
        self.wake = now + self.preferences["CheckpointDelay"]
        self.reason = (
            f"A checkpoint was reached at {self.percent}%. The next replacement starts after "
            f"{self.preferences['CheckpointDelay']} seconds."
        )

    def _pool_left(self, now: float) -> bool:
        """Replace the warm pool after what is in service; whether there is more to do."""
        late = warmpool.outdated(self.group)
        for state in late:
            warmpool.drop(self.group, state, "an instance refresh replaced it.", now)
        coming = any(
            each.lifecycle_state.startswith("Warmed:Pending") for each in members.course(self.group).pool
        )
        return bool(late) or coming

    def _end_old(self, limit: int, total: int, now: float) -> None:
        """End instances as long as enough others serve."""
        desired, (down, _) = self.group.desired_capacity or 0, self.room()
        candidates = self.candidates()
        fresh = len(self.fresh())
        for state in candidates:
            ready = members.capacity([each for each in self.alive() if self.warm(each)])
            weight = members.life(state).choice.weight
            left = sum(1 for each in self.alive() if self.replaces(each)) + len(self.standing_by())
            may_go = total - left < limit or left + fresh > total
            enough = not self.serves(state) or ready - weight >= desired - down
            if may_go and enough:
                cause = "an instance was taken out of service in response to an instance refresh."
                groups.terminate(self.group, state, cause, now)

    def _start_new(self, limit: int, total: int, now: float) -> None:
        """Start instances before others end, as far as the maximum lets it."""
        desired, (_, up) = self.group.desired_capacity or 0, self.room()
        while True:
            alive, fresh = members.capacity(self.alive()), len(self.fresh())
            surplus = alive - desired
            if surplus >= up or fresh >= limit or members.capacity(self.candidates()) <= surplus:
                return
            cause = "an instance was launched in response to an instance refresh."
            if groups.launch(self.group, cause, now) is None:
                return

    # -- trouble

    def _stalled(self, now: float, done: int) -> bool:
        """Watch for what keeps it from going on; after an hour of it, fail."""
        its = members.course(self.group)
        if done > self.best:
            self.best, self.trouble_since, self.trouble = done, None, ""
            self.falls_seen = len(its.falls)
        known = self.old | self.left_alone
        falls = [each for each in its.falls[self.falls_seen :] if each.partition(":")[0] not in known]
        why = ""
        if its.trouble:
            why = f"Instances fail to launch: {its.trouble}"
        elif falls:
            why = f"New instances do not pass their health checks: {falls[-1]}."
        elif not self.candidates() and (waiting := self.waiting()) and self.all_warm():
            standby = waiting[0].lifecycle_state == "Standby"
            names = ", ".join(each.instance.id for each in waiting)
            why = f"Waiting for instances {'in standby' if standby else 'protected from scale in'}: {names}."
        if why:
            self.trouble = why
            self.trouble_since = now if self.trouble_since is None else self.trouble_since
        elif self.trouble_since is not None and not self.trouble.startswith("New instances"):
            self.trouble_since, self.trouble = None, ""
        if self.trouble_since is not None and now >= self.trouble_since + HOUR:
            self.fail(self.trouble, now)
            return True
        return False

    def _say(self) -> None:
        cold = [each.instance.id for each in self.fresh() if not self.warm(each)]
        said = self.trouble
        if cold and not said:
            said = (
                f"Waiting for instances to warm up before continuing. For example: {cold[0]} is warming up."
            )
        if self.details:
            self.reason = f"{self.details['RollbackReason']} {said}".strip()[:1023]
        elif said:
            self.reason = said

    def fail(self, why: str, now: float) -> None:
        """End in failure; go back first where that was asked for."""
        if self.status == "RollbackInProgress":
            self.finish("RollbackFailed", why, now)
        elif self.preferences["AutoRollback"]:
            self.roll_back(f"Automatic rollback: {why}", now)
        else:
            self.finish("Failed", why, now)

    def roll_back(self, why: str, now: float) -> None:
        """Replace what was replaced by what was before (rollback)."""
        total, done = self.total(), self.done()
        self._note_percent(total, done)
        live = {"PercentageComplete": self.percent, "InstancesToUpdate": self.left}
        self.details = {
            "RollbackReason": why[:1023],
            "RollbackStartTime": CLOCK.date(now),
            "PercentageCompleteOnRollback": self.percent,
            "InstancesToUpdateOnRollback": self.left,
            "ProgressDetailsOnRollback": {"LivePoolProgress": live},
        }
        states = [*self.group.instance_states, *members.course(self.group).pool]
        kept = self.old | self.left_alone
        self.left_alone, self.old = kept, {each.instance.id for each in states} - kept
        self.total_at_rollback = max(1, len(self.old))
        self.status, self.reason, self.target = "RollbackInProgress", why[:1023], self.before
        self.wake, self.best, self.trouble_since, self.trouble = now, 0, None, ""
        its = members.course(self.group)
        self.falls_seen, its.trouble, its.retry = len(its.falls), "", now

    # -- ends

    def _bake(self, now: float) -> None:
        seconds = self.preferences.get("BakeTime") or 0
        if self.status == "InProgress" and seconds:
            self.status, self.wake = "Baking", now + seconds
            self.reason = f"Waiting {seconds} seconds before the instance refresh is complete."
        else:
            self._complete(now)

    def _complete(self, now: float) -> None:
        if self.status == "RollbackInProgress":
            assert self.details is not None
            self.percent = 0
            self.finish("RollbackSuccessful", self.details["RollbackReason"], now)
            return
        configuration.apply(self.group, self.target)
        self.finish("Successful", "", now)

    def _cancel(self, now: float) -> None:
        """End when what is on its way has arrived."""
        moving = (*members.PENDING, *members.TERMINATING)
        if not any(each.lifecycle_state in moving for each in self.group.instance_states):
            self.finish("Cancelled", "Cancelled due to user request.", now)

    def finish(self, status: str, why: str, now: float) -> None:
        """End for good."""
        if status in ("Successful", "Failed"):
            self._note_percent(self.total(), self.done())
        self.status, self.reason, self.end = status, why[:1023], now

    def _note_percent(self, total: int, done: int) -> None:
        if self.status == "RollbackInProgress":
            assert self.details is not None
            left = sum(1 for each in self.alive() if self.replaces(each))
            self.percent = int(self.details["PercentageCompleteOnRollback"]) * left // self.total_at_rollback
        else:
            self.percent = 100 if total == 0 else 100 * done // total
            self.left = max(0, total - done)

    def view(self) -> dict[str, Any]:
        """As DescribeInstanceRefreshes answers."""
        live = {"PercentageComplete": self.percent, "InstancesToUpdate": self.left}
        progress: dict[str, Any] = {"LivePoolProgress": live}
        if self.group.warm_pool is not None:
            pool = members.course(self.group).pool
            late = len(warmpool.outdated(self.group))
            percent = 100 * (len(pool) - late) // len(pool) if pool else 100
            progress["WarmPoolProgress"] = {"PercentageComplete": percent, "InstancesToUpdate": late}
        found = {
            "InstanceRefreshId": self.identity,
            "AutoScalingGroupName": self.group.name,
            "Status": self.status,
            "StatusReason": self.reason or None,
            "StartTime": CLOCK.date(self.start),
            "EndTime": None if self.end is None else CLOCK.date(self.end),
            "PercentageComplete": self.percent,
            "InstancesToUpdate": self.left,
            "ProgressDetails": progress,
            "Preferences": {key: value for key, value in self.preferences.items() if value is not None},
            "DesiredConfiguration": self.desired,
            "RollbackDetails": self.details,
            "Strategy": self.strategy,
        }
        return {name: value for name, value in found.items() if value is not None}
