"""What each instance of a group is to a refresh: to be replaced, left alone, waited for, new, warm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tests.emulator import configuration, members
from tests.emulator.configuration import Configuration


@dataclass(kw_only=True)
class Crew:
    """The instances of a group, as a refresh sees them.

    Parameters
    ----------
    group:
        Of moto.
    preferences:
        With AWS's defaults filled in.
    target:
        What the instances are to be launched from.
    old:
        Ids of the instances that are replaced.
    left_alone:
        Ids of those that are not.
    """

    group: Any
    preferences: dict[str, Any]
    target: Configuration
    old: set[str] = field(default_factory=set)
    left_alone: set[str] = field(default_factory=set)

    def spared(self, state: Any) -> bool:
        """Whether an instance is not to be replaced at all."""
        kept = self.preferences
        if state.lifecycle_state == "Standby" and kept["StandbyInstances"] == "Ignore":
            return True
        if state.protected_from_scale_in and kept["ScaleInProtectedInstances"] == "Ignore":
            return True
        return bool(kept["SkipMatching"]) and self.matches(state)

    def matches(self, state: Any) -> bool:
        """Whether an instance already is what is wanted: same template and version, same type where the
        policy lists types (``asg-instance-refresh-skip-matching``)."""
        chosen, own = configuration.choice(self.group, self.target), members.life(state).choice
        listed = ((self.target.mixed or {}).get("LaunchTemplate") or {}).get("Overrides") or []
        types = {each.get("InstanceType") for each in listed} or {chosen.instance_type}
        return own.template == chosen.template and own.instance_type in types

    def replaces(self, state: Any) -> bool:
        """Whether an instance is yet to be replaced."""
        return state.instance.id in self.old

    def alive(self) -> list[Any]:
        """Instances that count as the group's capacity."""
        return members.counted(self.group)

    def waiting(self) -> list[Any]:
        """Instances that it would replace and may not: protected or in standby, with ``Wait``."""
        found = []
        for state in self.group.instance_states:
            if not self.replaces(state) or state.lifecycle_state in members.TERMINATING:
                continue
            standby = state.lifecycle_state == "Standby"
            if (standby and self.preferences["StandbyInstances"] == "Wait") or (
                state.protected_from_scale_in and self.preferences["ScaleInProtectedInstances"] == "Wait"
            ):
                found.append(state)
        return found

    def candidates(self) -> list[Any]:
        """Instances that it may end now: those that serve nobody first."""
        waiting = {id(state) for state in self.waiting()}
        standby = ("Standby",) if self.preferences["StandbyInstances"] == "Terminate" else ()
        found = [
            state
            for state in self.group.instance_states
            if self.replaces(state)
            and state.lifecycle_state in (*members.COUNTED, *standby)
            and id(state) not in waiting
        ]
        return sorted(found, key=lambda each: (self.serves(each), members.life(each).born, each.instance.id))

    def serves(self, state: Any) -> bool:
        """Whether an instance is in service and healthy."""
        return state.lifecycle_state == "InService" and state.health_status == "Healthy"

    def warm(self, state: Any) -> bool:
        """In service, healthy and past its warm-up: only then it is updated (API, PercentageComplete)."""
        if not self.serves(state):
            return False
        if state.instance.id in self.old | self.left_alone:
            return True
        since = members.life(state).serving or 0.0
        return members.course(self.group).time >= since + float(self.preferences["InstanceWarmup"])

    def fresh(self) -> list[Any]:
        """Instances that came since it began."""
        known = self.old | self.left_alone
        return [state for state in self.alive() if state.instance.id not in known]

    def total(self) -> int:
        """How many instances it is about, at the group's present size."""
        spared = sum(1 for state in self.alive() if state.instance.id in self.left_alone)
        remaining = [each for each in self.group.instance_states if self.replaces(each)]
        remaining = [each for each in remaining if each.lifecycle_state not in members.TERMINATING]
        standby = sum(1 for each in remaining if each.lifecycle_state == "Standby")
        # Percentages are of instances; where these have weights, of as many as make up the capacity.
        most = math.ceil((self.group.desired_capacity or 0) / self.weight()) - spared + standby
        return max(0, min(len(remaining) + len(self.fresh()), most))

    def done(self) -> int:
        """How many are updated."""
        return min(self.total(), sum(1 for state in self.fresh() if self.warm(state)))

    def room(self) -> tuple[int, int]:
        """How far the group may go below, and above, its desired capacity.

        A maximum that was left out is 100 and lets an instance end while its replacement starts; one that was
        given, and leaves no room together with the minimum, lets one start first (API, MaxHealthyPercentage).
        """
        desired, one = self.group.desired_capacity or 0, self.weight()
        down = desired - math.ceil(desired * self.preferences["MinHealthyPercentage"] / 100)
        if self.preferences["MaxHealthyPercentage"] is None:
            return max(one, down), 0
        up = desired * self.preferences["MaxHealthyPercentage"] // 100 - desired
        return down, max(one, up) if up or down < one else up

    def weight(self) -> int:
        """Capacity of the heaviest instance."""
        return max((members.life(each).choice.weight for each in self.alive()), default=1)

    def standing_by(self) -> list[Any]:
        """Those of the ones that are waited for that are in standby."""
        return [each for each in self.waiting() if each.lifecycle_state == "Standby"]

    def all_warm(self) -> bool:
        """Whether no new instance is on its way."""
        return all(self.warm(each) for each in self.fresh())
