"""The watcher: looks what is wanted of this instance, and does what its state asks for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from kiln_instance.aws import Aws
from kiln_instance.imds import Metadata, NobodyError
from kiln_instance.settings import Settings
from kiln_instance.systemd import notify, say

from kiln_drain.gate import Gate
from kiln_drain.hook import Hook
from kiln_drain.machine import Facts, State, late, state
from kiln_drain.work import Work

LEAVING = {"Terminated": "termination", "Warmed:Terminated": "termination"}
"""Target of Auto Scaling → why the instance leaves; the second is of a warm pool. In standby and detached it
stays, and somebody decides."""


class Watcher:
    """Watches.

    Parameters
    ----------
    settings:
        Limits and places.
    state_folder:
        Folder that outlives a boot.
    """

    def __init__(self, settings: Settings, state_folder: Path) -> None:
        self.settings = settings
        self.record = state_folder / "protection.json"
        self.metadata = Metadata(settings.metadata, settings.imds)
        self.gate = Gate(Path(settings.draining))
        self.status_file = Path(settings.draining).with_name("status.json")
        self.work = Work(settings)
        self.hook: Hook | None = None
        self.where = "not asked yet"
        self.target = ""
        self._spot_end: float | None = self.gate.said.get("spot_end")
        self._state = ""

    def _metadata(self) -> str:
        """Why the instance leaves, as the metadata service has it now; empty where it stays or nobody
        says."""
        try:
            instance, region = self.metadata.instance()
            self.target, spot_end = self.metadata.target(), self.metadata.spot_end()
        except NobodyError as error:
            self.where = f"not on EC2: {error}"
            # A drain that began goes on without it: the gate knows whose it is.
            if known := self.gate.said.get("hook"):
                self._reach(*known)
            return ""
        self.where = f"{instance} in {region}, target {self.target or 'of no Auto Scaling group'}"
        self._spot_end = spot_end or self._spot_end
        # Outside a group there is neither protection nor a hook.
        if self.target:
            self._reach(instance, region)
        return "spot" if spot_end else LEAVING.get(self.target, "")

    def _reach(self, instance: str, region: str) -> None:
        """Have a way to tell Auto Scaling of this instance."""
        if self.hook is None or self.hook.instance != instance:
            known = self.settings
            aws = Aws(known.python, region, known.aws, known.endpoint, known.metadata)
            self.hook = Hook(self.settings, aws, instance, self.record)

    def look(self) -> State:
        """Look once, and act."""
        leaving = self._metadata()
        if leaving and (not self.gate.reason or (leaving == "spot" and not self.gate.said.get("spot_end"))):
            # Before anything is counted: what comes in after the count would be cut off.
            known = [self.hook.instance, self.hook.aws.region] if self.hook else None
            self.gate.note(reason=leaving, spot_end=self._spot_end, hook=known)
        if leaving and self.target in LEAVING and not self.gate.said.get("hooked"):
            # Spot's notice may come first, and what was completed then was no action of the hook.
            self.gate.note(hooked=True, completed=False)
        self.work.look()
        facts = Facts(
            leaving=self.gate.reason,
            waited=self.gate.waited,
            left=self._spot_end - time.time() if self._spot_end else None,
            requests=self.work.requests,
            tasks=self.work.tasks,
            idle=self.work.idle,
            completed=self.gate.completed,
        )
        found = state(facts, self.settings)
        self._act(found)
        self._report(found, facts)
        return found

    def _act(self, found: State) -> None:
        if self.hook is None:
            if found.complete:
                self.gate.note(completed=True)
            return
        if found.protected is not None:
            self.hook.learn()
            self.hook.protect(found.protected)
        if found.heartbeat:
            self.hook.heartbeat()
        if found.complete and self.hook.complete():
            self.gate.note(completed=True)

    def _report(self, found: State, facts: Facts) -> None:
        why = late(facts, self.settings) if found.name == "overdue" else ""
        words = "; ".join(part for part in (found.means, why, self.work.words()) if part)
        if found.name != self._state:
            self._state = found.name
            say(f"{found.name}: {words}", 4 if found.name == "overdue" else 6)
        body: dict[str, Any] = {
            "state": found.name,
            "means": found.means,
            "leaving": facts.leaving,
            "waited_seconds": round(facts.waited, 1),
            "requests": facts.requests,
            "trainings": self.work.trainings,
            "batch_inferences": self.work.batches,
            "where": self.where,
            "heartbeats": self.hook.heartbeats if self.hook else 0,
            "aws": self.hook.aws.report() if self.hook else {},
        }
        half = self.status_file.with_suffix(".part")
        half.write_text(json.dumps(body, indent=1) + "\n")
        half.replace(self.status_file)
        notify(f"WATCHDOG=1\nSTATUS={found.name}: {words}")

    def run(self) -> None:
        """Watch until killed; whenever that is, the next start goes on from the gate and from what AWS
        says."""
        self.look()
        notify("READY=1")
        while True:
            time.sleep(self.settings.interval)
            self.look()
