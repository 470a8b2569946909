"""Auto Scaling's side of a drain: protection, heartbeats, completion; each is asked for again until it went
well."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kiln_instance.aws import Answer, Aws, Call
from kiln_instance.settings import Settings
from kiln_instance.systemd import say

RETRY = 10.0
"""Seconds after a call that failed; a hook's timeout is 30 at least."""

SHARE = 3
"""Heartbeats in a hook's timeout: two of them may fail."""

LEARN = 300.0
"""Seconds after which a group without the hook is asked again: somebody may give it one."""

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"

OVER = "No active Lifecycle Action"
"""What AWS says of an action that has ended: it was completed, or its time was up."""


SURE = 3
"""Times that AWS must say so: the metadata service may hear of a termination before its action has begun."""


class Hook:
    """Makes the calls for one instance.

    Parameters
    ----------
    settings:
        The hook's name.
    aws:
        Makes calls.
    instance:
        Its id.
    record:
        File that says which protection is ours; one that somebody else has set stays.
    """

    def __init__(
        self,
        settings: Settings,
        aws: Aws,
        instance: str,
        record: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.aws = aws
        self.instance = instance
        self.record = record
        self.clock = clock
        self.heartbeats = 0
        self.group = ""
        self.timeout = 0.0
        self._next: dict[str, float] = {}
        self._foreign = False
        self._over = 0
        self._warned = False

    def _due(self, what: str) -> bool:
        return self.clock() >= self._next.get(what, float("-inf"))

    def _call(self, what: str, operation: str, arguments: dict[str, Any]) -> Answer:
        (answer,) = self.aws.make(Call("autoscaling", operation, arguments))
        self._next[what] = self.clock() + (0.0 if answer.ok else RETRY)
        if not answer.ok:
            say(f"{operation}: {answer.code}: {answer.message}; tried again", 4)
        return answer

    def _describe(self, what: str) -> dict[str, Any] | None:
        """The instance as its group has it; None where that cannot be had now."""
        answer = self._call(what, "describe_auto_scaling_instances", {"InstanceIds": [self.instance]})
        found = answer.body.get("AutoScalingInstances", [])
        if not found:
            self._next[what] = self.clock() + RETRY
            return None
        self.group = found[0]["AutoScalingGroupName"]
        return dict(found[0])

    def _ours(self) -> bool:
        """Whether the protection is ours; a record of another instance came with an image of its disk."""
        try:
            found = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return False
        return bool(found == {"protected": self.instance})

    def protect(self, wanted: bool) -> None:
        """See that a scale-in may not take the instance, or may again."""
        ours = self._ours()
        if not wanted:
            self._foreign = False
        if wanted == ours or (wanted and self._foreign) or not self._due("protect"):
            return
        found = self._describe("protect")
        if found is None:
            return
        if wanted and found["ProtectedFromScaleIn"]:
            self._foreign = True
            return
        if wanted:
            # First: killed in between, the next start takes away what is not there, which harms nobody.
            self.record.write_text(json.dumps({"protected": self.instance}))
        answer = self._call(
            "protect",
            "set_instance_protection",
            {
                "InstanceIds": [self.instance],
                "AutoScalingGroupName": self.group,
                "ProtectedFromScaleIn": wanted,
            },
        )
        if answer.ok != wanted:
            self.record.unlink(missing_ok=True)
        if answer.ok:
            say(f"scale-in protection is {'on: a task runs' if wanted else 'off'}")

    def _known(self, what: str) -> bool:
        """Whether the hook's timeout is known; asks for it where it is not."""
        if self.timeout:
            return True
        if not self.group and self._describe(what) is None:
            return False
        answer = self._call(what, "describe_lifecycle_hooks", {"AutoScalingGroupName": self.group})
        if not answer.ok:
            return False
        for hook in answer.body.get("LifecycleHooks", []):
            if hook["LifecycleHookName"] == self.settings.hook and hook["LifecycleTransition"] == TERMINATING:
                self.timeout = float(hook["HeartbeatTimeout"])
        if not self.timeout:
            if not self._warned:
                say(f"{self.group} has no lifecycle hook {self.settings.hook}: nobody waits for a drain", 4)
            self._warned = True
            self._next[what] = self.clock() + 6 * RETRY
        return bool(self.timeout)

    def learn(self) -> None:
        """Find group and hook before they are needed: a hook's time may be short, and each call takes a
        second."""
        if self._due("learn") and not self._known("learn"):
            self._next["learn"] = self.clock() + LEARN

    def _arguments(self) -> dict[str, Any]:
        return {
            "LifecycleHookName": self.settings.hook,
            "AutoScalingGroupName": self.group,
            "InstanceId": self.instance,
        }

    def heartbeat(self) -> None:
        """Ask Auto Scaling to wait on, a few times in each timeout of the hook."""
        if not self._due("heartbeat") or not self._known("heartbeat"):
            return
        if self._call("heartbeat", "record_lifecycle_action_heartbeat", self._arguments()).ok:
            self.heartbeats += 1
            self._next["heartbeat"] = self.clock() + self.timeout / SHARE

    def complete(self) -> bool:
        """Let Auto Scaling go on; whether nothing is left to be done."""
        if not self._due("complete"):
            return False
        if not self._known("complete"):
            # A group without the hook waits for nobody; one that could not be asked is asked again.
            return bool(self.group) and self._next["complete"] > self.clock() + RETRY
        arguments = {**self._arguments(), "LifecycleActionResult": "CONTINUE"}
        answer = self._call("complete", "complete_lifecycle_action", arguments)
        self._over = self._over + 1 if OVER in answer.message else 0
        done = answer.ok or self._over >= SURE
        if done:
            self._over = 0  # another may begin: see the watcher
        return done
